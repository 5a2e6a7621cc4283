# shellcheck shell=sh disable=SC3043,SC2154,SC2034 # sh has local; run.sh sets bin and work
# Two machines: vnet jails joined by an epair, the server with posternd and the filters, and a
# client with two addresses of each family, the friend's and the stranger's. The host's own
# filters are not touched.

srv_jail=posternsrv$$
cli_jail=posterncli$$
srv_if=
cli_if=
srv4=10.9.0.1
srv6=fd00:9::1
friend4=10.9.0.2
friend6=fd00:9::2
stranger4=10.9.0.3
stranger6=fd00:9::3
other6=fd00:9::4
steps='7143 2912/udp 9001 6044'
# How long nc tries. An open port takes far less.
try=$((2 + slow))
# A lease whose end is waited for.
lease=$((20 * slow))
# What configurations say of how tables are driven, if anything, and what posternd runs under.
drive=
under=

# srv COMMAND...: on the server.
srv() {
    jexec "$srv_jail" "$@"
}

# cli COMMAND...: on the client.
cli() {
    jexec "$cli_jail" "$@"
}

# bail WHY: nothing can be tested.
bail() {
    printf 'Bail out! %s\n' "$*"
    exit 1
}

# made COMMAND...: part of setting up.
made() {
    "$@" >"$work/last" 2>&1 || bail "failed: $*: $(cat "$work/last")"
}

# module NAME: there from now on.
module() {
    kldstat -q -m "$1" && return
    note "loads $1.ko, which stays loaded"
    made kldload "$1"
}

build_lab() {
    module if_epair
    if ! kldstat -q -m ipfw; then
        # ipfw.ko reads this when it is loaded; without it, it would cut this host off.
        before=$(kenv -q net.inet.ip.fw.default_to_accept 2>/dev/null)
        made kenv net.inet.ip.fw.default_to_accept=1
        module ipfw
        if [ -n "$before" ]; then
            kenv net.inet.ip.fw.default_to_accept="$before" >/dev/null
        else
            kenv -q -u net.inet.ip.fw.default_to_accept >/dev/null
        fi
    fi
    module pf
    srv_if=$(ifconfig epair create) || bail "no epair can be made"
    cli_if=${srv_if%a}b
    made jail -c name="$srv_jail" host.hostname="$srv_jail" path=/ persist vnet \
        vnet.interface="$srv_if"
    made jail -c name="$cli_jail" host.hostname="$cli_jail" path=/ persist vnet \
        vnet.interface="$cli_if"
    # Where ipfw denies by default it does so in new jails, too.
    made srv ipfw -q add 65000 allow ip from any to any
    made cli ipfw -q add 65000 allow ip from any to any
    machine srv "$srv_if" "$srv4/24" "$srv6/64"
    machine cli "$cli_if" "$friend4/24" "$friend6/64"
    made cli ifconfig "$cli_if" inet "$stranger4/32" alias
    made cli ifconfig "$cli_if" inet6 "$stranger6/128" alias

    # Port 22 is the one that is guarded; 80 never is, and tells whether the network is well.
    # Both echo, so that a session that is heard from goes both ways.
    for service in ssh http; do
        for protocol in tcp4 tcp6; do
            echo "$service stream $protocol nowait root /bin/cat cat"
        done
    done >"$work/inetd.conf"
    made srv inetd -R 0 -p "$work/inetd.pid" "$work/inetd.conf"
    for from in $friend4 $friend6 $stranger4 $stranger6; do
        for port in 22 80; do
            (wait_for 30 "$from reaches port $port, nothing guarded" connects "$from" "$port") ||
                bail "$(cat "$work/why"): $(cat "$work/last")"
        done
    done
}

# machine srv|cli INTERFACE IPV4 IPV6
machine() {
    made "$1" ifconfig lo0 127.0.0.1/8 up
    made "$1" ifconfig "$2" up
    made "$1" ifconfig "$2" inet6 no_dad -ifdisabled
    made "$1" ifconfig "$2" inet "$3"
    made "$1" ifconfig "$2" inet6 "$4"
}

raze_lab() {
    stop_all
    [ ! -s "$work/near" ] || raze_far
    if srv true 2>/dev/null; then
        srv pfctl -q -d
        # Interfaces go home before their jails end: later it happens at a time of the kernel's.
        ifconfig "$srv_if" -vnet "$srv_jail"
        jail -r "$srv_jail"
    fi
    if cli true 2>/dev/null; then
        ifconfig "$cli_if" -vnet "$cli_jail"
        jail -r "$cli_jail"
    fi
    [ -z "$srv_if" ] || destroy "$srv_if"
} >/dev/null 2>&1

# destroy INTERFACE: it may be a moment until a jail has given it back.
destroy() {
    local tries
    tries=0
    until ifconfig "$1" destroy; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || return
        sleep 0.2
    done
}

# stop_all: posternd and all sessions, whoever began them.
stop_all() {
    local file pid end
    for file in "$work"/*.pid; do
        [ "$file" != "$work/inetd.pid" ] || continue
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        rm -f "$file"
        kill "$pid" 2>/dev/null || continue
        end=$(($(date +%s) + 10 * slow))
        while alive "$pid"; do
            [ "$(date +%s)" -lt "$end" ] || kill -KILL "$pid" 2>/dev/null
            sleep 0.1
        done
    done
}

# alive PID: whether it runs; one that nobody has waited for does not.
alive() {
    case $(ps -o state= -p "$1" 2>/dev/null) in
        '' | Z*) return 1 ;;
    esac
}

# clean_slate: no daemon, no sessions, neither filter with a rule but the one that lets all pass.
clean_slate() {
    stop_all
    rm -rf "$work/state" "$work/log" "$work/out" "$work/control" "$work"/*.heard "$work"/*.err
    rm -f "$work/postern.toml" "$work/udp"
    srv ipfw -q -f flush
    srv ipfw -q delete set 31
    srv ipfw -q add 65000 allow ip from any to any
    srv ipfw -q table all destroy
    srv sysctl net.inet.ip.fw.tables_sets=0
    srv sysctl net.inet.ip.fw.enable=1 net.inet6.ip6.fw.enable=1
    srv pfctl -q -d
    srv pfctl -q -a postern -F all
    srv pfctl -q -a postern-kernel -F all
    srv pfctl -q -F all
} >/dev/null 2>&1

before_each() {
    clean_slate
}

# What stands, for whoever reads a failure.
explain() {
    [ ! -f "$work/postern.toml" ] || shown "the configuration" cat "$work/postern.toml"
    shown "ipfw -aS list" srv ipfw -aS list
    shown "ipfw -D list" srv ipfw -D list
    shown "ipfw table all list" srv ipfw table all list
    if srv pfctl -s info 2>/dev/null | grep -q 'Status: Enabled'; then
        shown "pfctl -s rules" srv pfctl -P -s rules
        shown "pfctl -a postern -s rules" srv pfctl -P -a postern -s rules
        for table in $(srv pfctl -a postern -s Tables 2>/dev/null); do
            shown "pfctl -a postern -t $table -T show" srv pfctl -a postern -t "$table" -T show
        done
        shown "pfctl -s states" srv pfctl -s states
    fi
    shown "sockstat -46 -p 22" srv sockstat -46 -p 22
    for file in "$work"/*.err "$work/out"; do
        [ ! -s "$file" ] || shown "${file##*/}" tail -n 20 "$file"
    done
    [ ! -f "$work/log" ] || shown "the log" tail -n 60 "$work/log"
}

# configure FIREWALL [LINES]: writes the configuration; the doors are read from standard input,
# and lines at the top can be given. No trial unless they say so.
configure() {
    {
        printf 'interface = "%s"\nfirewall = "%s"\n' "$srv_if" "$1"
        printf 'log = "%s"\nstate = "%s"\ncontrol = "%s"\n' \
            "$work/log" "$work/state" "$work/control"
        case ${2:-} in
            *trial*) ;;
            *) echo 'trial = "off"' ;;
        esac
        [ -z "$drive" ] || printf 'drive = "%s"\n' "$drive"
        printf '%s\n\n' "${2:-}"
        cat
    } >"$work/postern.toml"
}

# knock_at DOOR: the lines of the configuration that tell its knock.
knock_at() {
    cat <<EOF
[[door.$1.knock]]
sequence = ["7143", "2912/udp", "9001", "6044"]
seq_timeout = "2m"
EOF
}

# ctl ARGUMENT...: posternctl.
ctl() {
    srv "$bin/posternctl" -c "$work/postern.toml" "$@"
}

# start: posternd, until it listens.
start() {
    must ctl check
    # shellcheck disable=SC2086 # one word an argument
    jexec "$srv_jail" $under "$bin/posternd" -v -c "$work/postern.toml" >>"$work/out" 2>&1 </dev/null &
    echo $! >"$work/posternd.pid"
    wait_for 30 "posternd listens at $srv_if" listening
}

listening() {
    alive "$(cat "$work/posternd.pid")" || fail "posternd ended: $(tail -n 5 "$work/out")"
    ctl status | grep "^interface $srv_if: listening"
}

# end_daemon SIGNAL: ends posternd.
end_daemon() {
    local pid
    pid=$(cat "$work/posternd.pid")
    rm -f "$work/posternd.pid"
    kill "-$1" "$pid" || fail "posternd had ended already"
    wait "$pid" 2>/dev/null
    wait_for 20 "posternd is gone" not alive "$pid"
}

# server_of ADDRESS: the server's address of the same family.
server_of() {
    case $1 in
        *:*) echo $srv6 ;;
        *) echo $srv4 ;;
    esac
}

# knock FROM: by our own client.
knock() {
    # shellcheck disable=SC2086 # one word a step
    must cli "$bin/postern" knock --source "$1" "$(server_of "$1")" $steps
}

# knock_by_hand FROM: by what every system has.
knock_by_hand() {
    local step to
    to=$(server_of "$1")
    for step in $steps; do
        case $step in
            */udp) echo | cli nc -n -u -w 1 -s "$1" "$to" "${step%/udp}" ;;
            *) cli nc -n -z -w 1 -s "$1" "$to" "$step" ;;
        esac
    done >"$work/last" 2>&1
}

# connects FROM [PORT]: whether a connection can be made.
connects() {
    cli nc -n -z -v -w "$try" -s "$1" "$(server_of "$1")" "${2:-22}"
}

# also_from ADDRESS: the client has another IPv6 address from now on, until it gives it back.
also_from() {
    must cli ifconfig "$cli_if" inet6 "$1/128" alias
}

not_from() {
    must cli ifconfig "$cli_if" inet6 "$1" -alias
}

# opens FROM [PORT]: the port lets this address in, now or soon.
opens() {
    wait_for 20 "port ${2:-22} lets $1 in" connects "$@"
}

# kept_out FROM [PORT]: it does not, without a word, while port 80 does.
kept_out() {
    if connects "$@" >"$work/last" 2>&1; then
        fail "$1 was let in at port ${2:-22}"
    fi
    grep -q 'timed out' "$work/last" || fail "$1 got an answer at port ${2:-22}"
    must connects "$1" 80
}

# shut FROM [PORT]: it keeps this address out, now or soon.
shut() {
    wait_for 30 "port ${2:-22} keeps $1 out" not connects "$@"
    kept_out "$@"
}

# talk NAME FROM [PORT]: begins a session whose client says a word every second and hears it
# again. It has to speak: a guard on what comes in does not stop what the server says.
talk() {
    begin_talk "$@"
    wait_for 20 "session $1 from $2 is heard from" heard_more "$1" 0
}

begin_talk() {
    rm -f "$work/$1.heard"
    (while sleep 1; do echo word || exit; done) 2>/dev/null |
        exec jexec "$cli_jail" nc -n -s "$2" "$(server_of "$2")" "${3:-22}" \
            >"$work/$1.heard" 2>"$work/$1.err" &
    echo $! >"$work/$1.pid"
}

heard() {
    echo $(($(wc -l <"$work/$1.heard")))
}

heard_more() {
    alive "$(cat "$work/$1.pid")" || fail "session $1 has ended: $(cat "$work/$1.err")"
    [ "$(heard "$1")" -gt "$2" ]
}

# goes_on NAME: more is heard, and more than what was under way.
goes_on() {
    wait_for 60 "session $1 goes on" heard_more "$1" $(($(heard "$1") + 2))
}

# hang_up NAME: the client ends the session.
hang_up() {
    local pid
    pid=$(cat "$work/$1.pid")
    rm -f "$work/$1.pid"
    kill "$pid"
    wait "$pid" 2>/dev/null
    wait_for 20 "the client of session $1 is gone" not alive "$pid"
}

# logged TEXT: the log tells of it.
logged() {
    wait_for 20 "the log says: $1" grep -F -e "$1" "$work/log"
}

# said_once TEXT: the log tells of it, and does not again when posternd has looked twice more, as
# it does every ten seconds.
said_once() {
    logged "$1"
    wait_for 60 "posternd has looked around since" past $(($(date +%s) + 22))
    same "lines of the log with: $1" 1 "$(grep -c -F -e "$1" "$work/log")"
}

# rc_d SCRIPT COMMAND SETTINGS: runs a script of the base system's rc.d on the server, with the
# defaults of rc.conf and these settings. rc.subr and rc.firewall take the host's own rc.conf for
# read: _rc_conf_loaded, source_rc_confs_defined.
rc_d() {
    local file
    [ -r "/etc/rc.d/$1" ] || skip "there is no /etc/rc.d/$1"
    for file in "/etc/rc.conf.d/$1" "/usr/local/etc/rc.conf.d/$1"; do
        [ ! -e "$file" ] || skip "the host's $file would be read"
    done
    # shellcheck disable=SC2016 # the shell there expands it
    must srv env source_rc_confs_defined=yes _rc_conf_loaded=true sh -c '
        set -a
        . /etc/defaults/rc.conf
        eval "$3"
        exec sh "/etc/rc.d/$1" "one$2"' rc_d "$1" "$2" "$3"
}
