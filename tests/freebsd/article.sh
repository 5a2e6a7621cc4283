# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# The article of 2008, "Add Port Knocking to SSH for Extra Security", as its FreeBSD part walks
# through it: its file, its commands, its interface, `knockd` as it is typed, `ipfw list`.

# A root directory with /var and /usr/local of its own; the rest is the host's, for reading. Not
# in $work, which is removed whole.
article_root() {
    [ -d /usr/local ] || skip "there is no /usr/local"
    root=$(mktemp -d "${TMPDIR:-/tmp}/postern-article.XXXXXX") || fail "no directory can be made"
    trap article_end EXIT
    must mount -t nullfs -o ro / "$root"
    [ -d "$root/usr/bin" ] || must mount -t nullfs -o ro /usr "$root/usr"
    must mount -t devfs devfs "$root/dev"
    must mount -t tmpfs tmpfs "$root/var"
    must mount -t tmpfs tmpfs "$root/usr/local"
    must mkdir -p "$root/var/db" "$root/var/log" "$root/var/run" "$root/var/tmp"
    must mkdir -p "$root/usr/local/bin" "$root/usr/local/etc" "$root/usr/local/sbin"
    must cp "$bin/posternd" "$root/usr/local/sbin/posternd"
    must cp "$bin/postern" "$root/usr/local/bin/postern"
    # As posternd(8) and postern(1) say.
    must ln -s posternd "$root/usr/local/sbin/knockd"
    must ln -s postern "$root/usr/local/bin/knock"
    must srv ifconfig "$srv_if" name xl0
}

article_end() {
    if [ -s "$work/article.pid" ]; then
        kill "$(cat "$work/article.pid")"
        wait "$(cat "$work/article.pid")"
        rm -f "$work/article.pid"
    fi
    srv ifconfig xl0 name "$srv_if"
    for mounted in usr/local var dev usr ''; do
        umount "$root/$mounted" || umount -f "$root/$mounted"
    done
    rmdir "$root"
} >/dev/null 2>&1

# What firewall_type="open" has made of ipfw, below the last rule.
article_rules() {
    must srv ipfw -q add 00100 allow ip from any to any via lo0
    must srv ipfw -q add 00200 deny ip from any to 127.0.0.0/8
    must srv ipfw -q add 00300 deny ip from 127.0.0.0/8 to any
}

article_list() {
    srv ipfw list | grep -v '^65535 '
}

# article_shows [ADDRESS...]: `ipfw list` with these let in, now or soon.
article_shows() {
    comes_to "ipfw list" "$(
        echo "00100 allow ip from any to any via lo0"
        for address; do
            echo "00101 allow proto tcp src-ip $address dst-port 22"
        done
        echo "00102 deny tcp from any to any 22"
        echo "00200 deny ip from any to 127.0.0.0/8"
        echo "00300 deny ip from 127.0.0.0/8 to any"
        echo "65000 allow ip from any to any"
    )" article_list
}

# The article's file, as it prints it.
article_file() {
    cat <<'EOF'
[options]
        logfile = /var/log/knockd.log
        interface = xl0

[openSSH]
        sequence    = 7000,8000,9000
        seq_timeout = 5
        command     = /sbin/ipfw -q add 00101 pass proto tcp src-ip %IP% dst-port 22
        tcpflags    = syn

[closeSSH]
        sequence    = 9000,8000,7000
        seq_timeout = 5
        command     = /sbin/ipfw -q delete 00101 pass proto tcp src-ip %IP% dst-port 22
        tcpflags    = syn
EOF
}

article_knock() {
    must jexec "$cli_jail" chroot "$root" /usr/local/bin/knock -v $srv4 "$@"
    same "knock -v" "$(printf "hitting tcp $srv4:%s\n" "$@")" "$(cat "$work/last")"
}

article_logged() {
    grep -q -F -e "$1" "$root/var/log/knockd.log"
}

# The log from its second line on, without stamps.
article_log() {
    sed -e 's/^\[[-0-9]* [0-9:]*\] //' -e '/starting up/d' -e '/posternctl check/d' \
        -e '/there is no user/d' "$root/var/log/knockd.log"
}

article_walk() {
    article_root
    article_rules
    article_file >"$root/usr/local/etc/knockd.conf"
    must connects $friend4
    must srv ipfw -q add 00102 deny tcp from any to any 22
    kept_out $friend4
    kept_out $friend6

    # Typed as the article types it, its directory being in root's path.
    jexec "$srv_jail" chroot "$root" /usr/local/sbin/knockd >>"$work/out" 2>&1 </dev/null &
    echo $! >"$work/article.pid"
    wait_for 30 "knockd listens at xl0" article_logged "starting up, listening on xl0"
    article_shows
    kept_out $friend4

    for time in first second; do
        article_knock 7000 8000 9000
        article_shows $friend4
        opens $friend4
        kept_out $stranger4
        talk "$time" $friend4
        article_knock 9000 8000 7000
        article_shows
        kept_out $friend4
        hang_up "$time"
    done

    add="/sbin/ipfw -q add 00101 pass proto tcp src-ip $friend4 dst-port 22"
    delete="/sbin/ipfw -q delete 00101 pass proto tcp src-ip $friend4 dst-port 22"
    same "the log" "$(
        for time in first second; do
            printf "$friend4: openSSH: %s\n" "Stage 1" "Stage 2" "Stage 3" "OPEN SESAME"
            echo "openSSH: running command: $add"
            printf "$friend4: closeSSH: %s\n" "Stage 1" "Stage 2" "Stage 3" "OPEN SESAME"
            echo "closeSSH: running command: $delete"
        done
    )" "$(article_log)"
}

# What the article does not say: its delete looks at the number alone, and shuts out everybody.
article_delete() {
    article_root
    article_rules
    article_file >"$root/usr/local/etc/knockd.conf"
    must srv ipfw -q add 00102 deny tcp from any to any 22
    must srv ipfw -q add 00101 pass proto tcp src-ip $stranger4 dst-port 22
    jexec "$srv_jail" chroot "$root" /usr/local/sbin/knockd >>"$work/out" 2>&1 </dev/null &
    echo $! >"$work/article.pid"
    wait_for 30 "knockd listens at xl0" article_logged "starting up, listening on xl0"
    article_knock 7000 8000 9000
    article_shows $stranger4 $friend4
    article_knock 9000 8000 7000
    article_shows
}

it "article: opens, closes and opens again, as it says" article_walk
it "article: its delete takes everybody's rule" article_delete
