#!/bin/sh
# shellcheck disable=SC1091,SC2115,SC3043 # lib.sh is checked by itself; work is set; sh has local
# The port and the scripts that start the daemon, as far as they can be tried on Linux: port.sh DIR,
# where DIR holds the programs. FreeBSD's make, rc.subr and daemon(8) are stood in for by what is
# in tests/port.
set -u
umask 077
export LC_ALL=C

cd "$(dirname "$0")/.." || exit 1
top=$PWD
built=$(cd "$1" && pwd) || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/postern-port.XXXXXX") || exit 1
chmod 755 "$work"
. "$top/tests/freebsd/lib.sh"

before_each() {
    rm -rf "$work/stage" "$work/etc"
}

explain() {
    for file in "$work"/run/*.said "$work/log"; do
        [ ! -s "$file" ] || shown "${file##*/}" tail -n 20 "$file"
    done
}

# port FLAVOR OPTIONS TARGET: make in the port, as FreeBSD's would.
port() {
    (cd "$top/port" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
        MAKESYSPATH="$top/tests/port" \
        bmake FLAVOR="$1" WITH="$2" SETENV=env MAKE_CMD=bmake PATH="$PATH" PREFIX=/usr/local \
        STAGEDIR="$work/stage" WRKSRC="$top" CARGO_TARGET_DIR="${built%/*}" \
        CARGO_BUILD_TARGET=. WITH_DEBUG="$([ "${built##*/}" = debug ] && echo yes)" "$3")
}

# What the plist promises: MODE PATH a line; - where it leaves the mode to what is staged.
promised() {
    port "$1" "$2" plist | grep -v '^@comment ' | while read -r first rest; do
        case $first in
            @sample*,*) mode=${first##*,} mode=${mode%)} path=$rest ;;
            @sample) mode=644 path=$rest ;;
            @\(*) mode=${first##*,} mode=${mode%)} path=$rest ;;
            */share/man/* | share/man/*) mode=644 path=${first%.gz} ;;
            bin/knock | sbin/knockd) mode=777 path=$first ;;
            bin/* | sbin/*) mode=755 path=$first ;;
            *) mode=644 path=$first ;;
        esac
        echo "$mode $path"
    done | sort
}

staged() {
    (cd "$work/stage/usr/local" && find . ! -type d -printf '%m %P\n' | sort)
}

plist_of() {
    must port "$1" "$2" stage
    same "what flavor $1 with '$2' stages" "$(promised "$1" "$2")" "$(staged)"
    same "what lies elsewhere" "" "$(cd "$work/stage" && find . ! -type d ! -path './usr/local/*')"
    same "directories for all" "" "$(find "$work/stage" -mindepth 1 -type d ! -perm 755)"
    rm -rf "$work/stage"
}

plist() {
    local flavor options
    for flavor in default knockd; do
        for options in '' DOCS EXAMPLES COMPLETIONS 'COMPLETIONS DOCS EXAMPLES'; do
            plist_of "$flavor" "$options"
        done
    done
}

makefile() {
    must port default '' facts
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    same "facts" "postern-$version postern-$version.tar.gz
features --no-default-features daemon client
conflicts postern-knockd
users _postern _postern" "$(port default '' facts)"
    same "facts of knockd" "postern-knockd-$version postern-$version.tar.gz
features --no-default-features daemon client completions
conflicts knock postern
users _postern _postern" "$(port knockd COMPLETIONS facts)"
    fails_with 1 port nonesuch '' facts
    same "user" "$(cut -d : -f 1,3,4 port/UIDs)" "_postern:606:606"
    same "group" "$(cut -d : -f 1,3 port/GIDs)" "_postern:606"
    # pkg(8) tells by these what is shown when; the braces are UCL's.
    same "messages" "install upgrade remove" \
        "$(sed -n 's/^{ type: \([a-z]*\)$/\1/p' port/pkg-message | xargs)"
    same "ends of messages" "3 3" \
        "$(grep -c '<<EOM$' port/pkg-message) $(grep -c '^EOM$' port/pkg-message)"
    same "lines of the description over 80 columns" "" "$(grep -E '.{81}' port/pkg-descr)"
}

crates() {
    must tests/port/crates.sh --check
    # A line less, another size: each is found.
    mkdir "$work/etc"
    cp -R Cargo.lock port tests "$work/etc/"
    (cd "$work/etc" && sed -i '$d' port/Makefile.crates)
    fails_with 1 "$work/etc/tests/port/crates.sh" --check
    cp port/Makefile.crates "$work/etc/port"
    sed -i 's/\(SIZE.*= \)[0-9]*/\11/' "$work/etc/port/distinfo"
    fails_with 1 "$work/etc/tests/port/crates.sh" --check
    must "$work/etc/tests/port/crates.sh"
    must "$work/etc/tests/port/crates.sh" --check
    must cmp port/Makefile.crates "$work/etc/port/Makefile.crates"
}

# The last commit twice; what is in it; that the port would believe it.
dist() {
    git rev-parse --verify --quiet HEAD >/dev/null || skip "this is no clone"
    git clone --quiet --no-hardlinks . "$work/etc" 2>"$work/last" || fail "git clone"
    must "$work/etc/tests/port/dist.sh"
    first=$(sha256sum "$work"/etc/target/dist/*.tar.gz)
    must "$work/etc/tests/port/dist.sh"
    same "a second one" "$first" "$(sha256sum "$work"/etc/target/dist/*.tar.gz)"
    file=$(basename "$work"/etc/target/dist/*.tar.gz)
    must grep -F "SHA256 ($file) = ${first%% *}" "$work/etc/target/dist/distinfo"
    same "the port in it" "" "$(tar tzf "$work/etc/target/dist/$file" | grep /port/pkg)"
    must says "${file%.tar.gz}/Cargo.lock" tar tzf "$work/etc/target/dist/$file"
    # The others are the port's own.
    same "its other lines" "$(cat "$work/etc/port/distinfo")" \
        "$(grep -v -F "($file)" "$work/etc/target/dist/distinfo")"
}

scripts() {
    for script in rc.d/*.in etc/rc.firewall; do
        must dash -n "$script"
        must sh -n "$script"
    done
}

linux() {
    must make -s install-base install-knockd SYSTEM=Linux BUILT="$built" DESTDIR="$work/stage"
    unit=$work/stage/usr/local/lib/systemd/system/postern.service
    must test -x "$work/stage/usr/local/sbin/knockd"
    must test -f "$work/stage/etc/postern.toml.sample"
    fails_with 1 grep %% "$unit"
    command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
    # It looks for the programs by their paths, and cannot have them here.
    sed -i "s|/usr/local/sbin|$built|g; /^Documentation=/d" "$unit"
    same "systemd-analyze verify" "" "$(systemd-analyze verify "$unit" 2>&1)"
}

# The sample as installed says what is missing and what to type; that done it is sound.
sample() {
    mkdir "$work/etc"
    file=$work/etc/postern.toml
    install -m 600 etc/postern.toml.sample "$file"
    fails_with 78 "$built/posternctl" check "$file"
    grep -qF 'posternctl keygen --sequence' "$work/last" || fail "check does not say what to type"
    line=$("$built/posternctl" keygen --sequence | grep '^sequence')
    sed -i -e 's/^#interface = .*/interface = "em0"/' -e 's/^#firewall = .*/firewall = "ipfw"/' \
        -e 's/^#rule = /rule = /' -e 's/^#guard = /guard = /' "$file"
    awk -v line="$line" '/^#sequence/ && !done { print line; done = 1; next } { print }' "$file" \
        >"$file.new"
    mv "$file.new" "$file"
    must "$built/posternctl" check "$file"
    must says "sound, 1 door" "$built/posternctl" check "$file"
    same "warnings" "" "$("$built/posternctl" check "$file" | grep warning)"
}

# service ARGUMENT...: the script under the stand-in for rc.subr.
service() {
    RC_CONF=$work/rc.conf "$work/usr/etc/rc.d/posternd" "$@"
}

knockd() {
    RC_CONF=$work/rc.conf "$work/usr/etc/rc.d/knockd" "$@"
}

# fresh_rc: the scripts in a place of their own, a daemon's configuration, nothing running.
fresh_rc() {
    rm -rf "$work/usr" "$work/run" "$work/etc" "$work/state" "$work/log"
    mkdir "$work/run" "$work/etc"
    must make -s install-base install-knockd SYSTEM=FreeBSD BUILT="$built" PREFIX="$work/usr"
    chmod u+w "$work"/usr/etc/rc.d/*
    sed -i -e "s|/etc/rc.subr|$top/tests/port/rc.subr|" \
        -e "s|/usr/sbin/daemon|$top/tests/port/daemon|" \
        -e "s|/var/run/|$work/run/|" "$work"/usr/etc/rc.d/*
    ip link set d0 up
    echo posternd_enable=YES >"$work/rc.conf"
    conf=$work/usr/etc/postern.toml
    configure "$conf" main
}

# configure FILE NAME
configure() {
    cat >"$1" <<EOF
interface = "d0"
firewall = "nft"
user = "nobody"
log = "$work/log"
control = "$work/run/$2.sock"
state = "$work/state/$2"
trial = "off"

[door.ssh]
opens = ["22/tcp"]
open_for = "30s"
guard = true

[[door.ssh.knock]]
sequence = ["7143", "2912/udp", "29001", "16044"]
EOF
}

child() {
    cat "$work/run/posternd.pid"
}

# The daemon has ended and another runs.
is_another() {
    [ "$(child)" != "$1" ] && kill -0 "$(child)" && answers
}

answers() {
    "$work/usr/sbin/posternctl" -c "$conf" status
}

gone() {
    case $(ps -o state= -p "$1") in
        '' | Z*) ;;
        *) return 1 ;;
    esac
}

guarded() {
    nft list ruleset | grep 'postern: guard 22/tcp'
}

rc_life() {
    fresh_rc
    fails_with 1 service status
    must says "posternd is not running." service status
    must says "sound, 1 door" service configtest
    must service start
    grep -q "guard nft 22/tcp to me on d0: stands" "$work/last" || fail "start says no guard"
    # It has come up when start returns.
    must answers
    must guarded
    fails_with 1 service start
    must says "posternd is running as pid $(child), supervised by $(cat "$work/run/"*.supervisor.pid)." \
        service status

    # What is not sound is refused, with its place.
    before=$(child)
    sed -i 's/30s/40s/' "$conf"
    must service reload
    must grep "reloaded: 1 door" "$work/log"
    must says "supervised" service status
    sed -i 's/^opens = /opens : /' "$conf"
    fails_with 1 service configtest
    fails_with 1 service reload
    grep -q "postern.toml:10:" "$work/last" || fail "reload does not say where"
    fails_with 1 service restart
    same "the daemon" "$before" "$(child)"
    must answers
    sed -i 's/^opens : /opens = /' "$conf"
    must service restart
    must gone "$before"
    must answers

    # A daemon that dies is started again; so is one whose supervisor has died.
    before=$(child)
    kill -KILL "$before"
    wait_for 20 "it is started again" is_another "$before"
    must guarded
    kill -KILL "$(cat "$work/run/posternd.supervisor.pid")"
    before=$(child)
    must says "without a supervisor" service status
    must service start
    must gone "$before"
    must answers

    # stop ends both, and leaves the guard.
    before="$(child) $(cat "$work/run/posternd.supervisor.pid")"
    must service stop
    for pid in $before; do
        must gone "$pid"
    done
    must guarded
    fails_with 1 service stop
    must service faststop
}

rc_refusals() {
    fresh_rc
    chmod 666 "$conf"
    fails_with 1 service start
    grep -q 'chmod go-w' "$work/last" || fail "it does not say how to mend it"
    chmod 600 "$conf"
    mv "$conf" "$conf.away"
    fails_with 1 service start
    must says "postern.toml is not readable" service start
    mv "$conf.away" "$conf"
    echo posternd_enable=NO >"$work/rc.conf"
    must says "Set posternd_enable" service start
    must not answers
    # No interface need exist for the guard.
    ip link del d0
    must service onestart
    must guarded
    ip link add d0 type veth peer name p0
    must service onestop
}

# The guard needs no daemon that comes up; one that nobody has come through waits for it.
rc_guard() {
    fresh_rc
    nft flush ruleset
    echo posternd_program=/bin/true >>"$work/rc.conf"
    must service start
    must guarded
    must service stop
    nft flush ruleset
    rm -rf "$work/state"
    sed -i 's/"off"/"10m"/' "$conf"
    must service start
    grep -q "it comes when posternd runs" "$work/last" || fail "it does not say so"
    must not guarded
    must service stop
}

# What keeps the packet filter from doing its work now may not later: the daemon is started.
rc_without_filter() {
    fresh_rc
    sed -i 's/"nft"/"ipfw"/; s/^guard = true/rule = 101\nguard = 102/' "$conf"
    must service start
    grep -q "the guards could not be raised" "$work/last" || fail "it does not warn"
    must says "posternd" service status
    must service stop
}

rc_variables() {
    fresh_rc
    ip link add d1 type veth peer name p1
    cat >>"$work/rc.conf" <<EOF
posternd_conf=$work/etc/other.toml
posternd_interface="d0 d1"
posternd_flags="-v"
posternd_program=$work/etc/posternd
EOF
    ln -s "$built/posternd" "$work/etc/posternd"
    sed '/^interface/d' "$conf" >"$work/etc/other.toml"
    conf=$work/etc/other.toml
    must service start
    must says "interfaces d0 d1" cat "$work/log"
    must says "iifname { \"d0\", \"d1\" }" nft list ruleset
    same "arguments" "$work/etc/posternd -c $conf -i d0 -i d1 -v" \
        "$(tr '\0' ' ' <"/proc/$(child)/cmdline" | sed 's/ $//')"
    must service stop
    ip link del d1
}

rc_profiles() {
    fresh_rc
    configure "$work/usr/etc/postern-one.toml" one
    configure "$work/etc/two.toml" two
    sed -i 's/"nft"/"memory"/' "$work/etc/two.toml"
    cat >>"$work/rc.conf" <<EOF
posternd_profiles="one two"
posternd_two_conf=$work/etc/two.toml
EOF
    must service start
    for profile in one two; do
        must service status "$profile"
        must test -S "$work/run/$profile.sock"
    done
    must service stop one
    fails_with 1 service status one
    must service status two
    fails_with 1 service status
    fails_with 1 service start three
    must service restart
    must service stop
}

rc_knockd() {
    fresh_rc
    conf=$work/usr/etc/knockd.conf
    cat >"$conf" <<EOF
[options]
    LogFile = $work/log
    PidFile = $work/run/of-its-own.pid
    Interface = d0
[ssh]
    Sequence = 7143,2912:udp,29001,16044
    Command = /bin/true
EOF
    echo knockd_enable=YES >"$work/rc.conf"
    must knockd start
    wait_for 20 "it has written its number" test -s "$work/run/of-its-own.pid"
    must knockd status
    wait_for 20 "it listens" grep "starting up, listening on d0" "$work/log"
    before=$(cat "$work/run/of-its-own.pid")
    echo "Interface = d0" >>"$conf"
    fails_with 1 knockd reload
    sed -i '$d' "$conf"
    must knockd reload
    wait_for 20 "it reads its file" grep "re-reading config file" "$work/log"
    must knockd stop
    must gone "$before"
    fails_with 1 knockd status
    printf '[options]\nnonsense = 1\n' >"$conf"
    fails_with 1 knockd start
    fails_with 1 knockd configtest
}

cleanup() {
    trap '' HUP INT TERM
    for file in "$work"/run/*.pid; do
        [ ! -s "$file" ] || kill -KILL "$(cat "$file")" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

if [ -z "${POSTERN_PORT_INSIDE:-}" ] && unshare --net true 2>/dev/null; then
    export POSTERN_PORT_INSIDE=yes
    rm -rf "$work"
    exec unshare --net "$0" "$@"
fi
mkdir -p "$work/run"

it "the port: its Makefile" makefile
it "the port: the crates of Cargo.lock" crates
it "the port: the distfile" dist
it "the port: pkg-plist is what is staged" plist
it "start scripts: syntax" scripts
it "Linux: the unit" linux
it "the sample" sample
if [ -n "${POSTERN_PORT_INSIDE:-}" ]; then
    ip link set lo up
    ip link add d0 type veth peer name p0
    it "rc.d: a life" rc_life
    it "rc.d: refusals" rc_refusals
    it "rc.d: guards before the daemon" rc_guard
    it "rc.d: a packet filter that is not there yet" rc_without_filter
    it "rc.d: variables" rc_variables
    it "rc.d: profiles" rc_profiles
    it "rc.d: knockd" rc_knockd
fi
summary
