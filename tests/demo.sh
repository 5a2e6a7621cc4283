#!/bin/sh
# The main job, live: demo.sh [DIRECTORY OF THE PROGRAMS].
#
# As root on Linux: two network namespaces joined by a virtual cable, a machine with sshd and
# posternd in the one, an administrator and a stranger in the other, and real packets, rules and
# sessions. Nothing outside the namespaces and a temporary directory is touched. Ends with
# status 1 if anything shown is not as it should be.
#
# Elsewhere: a capture of the same scene, replayed.
set -eu

cd "$(dirname "$0")/.."
bin=$(cd "${1:-target/release}" && pwd)
PATH=$PATH:/usr/sbin:/sbin

title() {
    printf '\n* %s\n' "$*"
}

# What a command says, indented.
indent() {
    sed 's/^/    /'
}

if [ "$(uname -s)" != Linux ] || [ "$(id -u)" -ne 0 ]; then
    title "Not root on Linux, so nothing can be guarded here: a recorded scene instead"
    cat <<'END'
  tests/demo.pcap was captured at 192.0.2.1 and 2001:db8::1, with tests/demo.toml in mind.
  posternctl takes the same way through it as posternd; no packet filter is touched.
    192.0.2.7    knocks: a stage for each right step, then port 22 opens, for that address and
                 until the time given; later it knocks again, and only the end moves
    192.0.2.8    runs over the ports upwards: after the first step it hits a trap and fails
    192.0.2.9    knows two steps only and runs out of time
    2001:db8::7  knocks by IPv6

END
    events=$("$bin/posternctl" -c tests/demo.toml replay tests/demo.pcap)
    printf '%s\n' "$events" | indent
    if [ "$events" != "$(cat tests/demo.expected)" ]; then
        printf '\nNot as it should be: tests/demo.expected says otherwise\n' >&2
        exit 1
    fi
    printf '\nAll as it should be.\n'
    exit
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/postern-demo.XXXXXX")
chmod 700 "$dir"
wall=postern-wall-$$
road=postern-road-$$
server=192.0.2.1
admin=192.0.2.7
stranger=192.0.2.8
pids=

cleanup() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $pids; do
        wait "$pid" 2>/dev/null || true
    done
    ip netns del $wall 2>/dev/null || true
    ip netns del $road 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

fail() {
    printf '\nNot as it should be: %s\n' "$*" >&2
    for log in posternd.log posternd.err sshd.log early.err late.err; do
        if [ -s "$dir/$log" ]; then
            printf '%s:\n' "$log" >&2
            tail -n 20 "$dir/$log" | indent >&2
        fi
    done
    exit 1
}

at_wall() {
    ip netns exec $wall "$@"
}

on_road() {
    ip netns exec $road "$@"
}

# background NAMESPACE OUTPUT ERRORS COMMAND...: sets $started to its process.
background() {
    namespace=$1 output=$2 errors=$3
    shift 3
    ip netns exec "$namespace" "$@" </dev/null >"$output" 2>"$errors" &
    started=$!
    pids="$pids $started"
}

# until SECONDS COMMAND...: waits for it to succeed.
until_true() {
    tries=$(($1 * 20))
    shift
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.05
    done
}

# Port 22 as nmap sees it from an address: open, filtered, ...
port_22_from() {
    on_road nmap -n -Pn -sS -S "$1" -e road0 --max-retries 1 -p 22 -oG - $server |
        sed -n 's|.*Ports: 22/\([a-z|]*\)/.*|\1|p'
}

# expect STATE ADDRESS WHO
expect() {
    state=$(port_22_from "$2")
    printf '    nmap -sS -p 22 %s, from %s (%s): %s\n' "$server" "$2" "$3" "$state"
    [ "$state" = "$1" ] || fail "port 22 should be $1 to $2"
}

# session NAME: an ssh session of the administrator's that prints a line every 0.2 s.
session() {
    background $road "$dir/$1" "$dir/$1.err" ssh -F none -n -b $admin -i "$dir/key" \
        -o UserKnownHostsFile="$dir/known_hosts" -o StrictHostKeyChecking=accept-new \
        -o IdentitiesOnly=yes -o BatchMode=yes root@$server 'while sleep 0.2; do echo; done'
}

lines() {
    wc -l <"$dir/$1"
}

has_lines() {
    [ "$(lines "$1")" -ge "$2" ]
}

# goes_on NAME WHICH: whether a session still prints.
goes_on() {
    before=$(lines "$1")
    until_true 10 has_lines "$1" $((before + 3)) || fail "the session $2 was cut"
    echo "    the ssh session begun $2 goes on: $before lines, then $(lines "$1")"
}

# --- The two namespaces -----------------------------------------------------------------------

ip netns add $wall
ip netns add $road
ip link add gate0 netns $wall type veth peer name road0 netns $road
ip -n $wall link set lo up
ip -n $wall address add $server/24 dev gate0
ip -n $wall link set gate0 up
ip -n $road address add $admin/24 dev road0
ip -n $road address add $stranger/24 dev road0
ip -n $road link set road0 up

# An sshd that knows one user, root with one key, and shares nothing with the host's: users,
# passwords and /run are its own.
ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
cp "$dir/key.pub" "$dir/authorized_keys"
cat >"$dir/passwd" <<END
root:x:0:0::$dir:/bin/sh
sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
END
echo 'root:*:1::::::' >"$dir/shadow"
cat >"$dir/sshd_config" <<END
ListenAddress $server
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
END
# shellcheck disable=SC2016 # $0 is for the inner shell
background $wall /dev/null "$dir/sshd.log" sh -euc '
    mount -t tmpfs -o mode=755 none /run
    mkdir /run/sshd
    mount --bind "$0/passwd" /etc/passwd
    mount --bind "$0/shadow" /etc/shadow
    exec "$(command -v sshd)" -D -e -f "$0/sshd_config"
' "$dir"
until_true 10 on_road nc.openbsd -z -w 1 $server 22 || fail "sshd does not answer"

title "A machine, $server, with sshd. Outside: its administrator, $admin, and a stranger, $stranger"
expect open $stranger "the stranger"
session early
until_true 10 has_lines early 3 || fail "no ssh session came about"

# --- posternd -----------------------------------------------------------------------------------

listener=nobody
getent passwd _postern >/dev/null && listener=_postern
"$bin/posternctl" keygen --sequence >"$dir/sequence"
grep -q '^sequence = ' "$dir/sequence" || fail "posternctl keygen printed no sequence"
cat >"$dir/postern.toml" <<END
interface = "gate0"
log = "$dir/posternd.log"
firewall = "nft"
user = "$listener"
control = "$dir/control"
state = "$dir/state"

[door.ssh]
opens = ["22/tcp"]
open_for = "7s"
guard = true

[[door.ssh.knock]]
$(grep '^sequence = ' "$dir/sequence")
seq_timeout = "5s"
tcpflags = ["syn"]
END
steps=$(sed -n 's/^sequence = \[\(.*\)\]/\1/p' "$dir/postern.toml" | tr -d '" ' | tr , ' ')

title "posternd starts with a fresh sequence and guards port 22"
sed -n '/^\[door/,$p' "$dir/postern.toml" | indent
background $wall /dev/null "$dir/posternd.err" "$bin/posternd" -c "$dir/postern.toml"
posternd=$started

ctl() {
    at_wall "$bin/posternctl" -c "$dir/postern.toml" "$@"
}

listening() {
    ctl status --json | grep -q '"listening":true'
}
until_true 10 listening || fail "posternd does not listen"

title "Nobody is let in"
expect filtered $admin "the administrator"
expect filtered $stranger "the stranger"
goes_on early "before posternd was started"
echo "    posternctl list:"
ctl list | indent | indent

# --- The knock ------------------------------------------------------------------------------------

# The door is tried all the while and everything is recorded at the machine's end of the cable,
# so the time is told by the packets, not by any program of ours.
title "The administrator knocks"
# shellcheck disable=SC2086 # one word a step
set -- $steps
for last; do :; done
case $last in
    */udp) last_step="udp and dst port ${last%/udp}" ;;
    *) last_step="tcp and dst port ${last%/tcp}" ;;
esac
background $wall /dev/null "$dir/tcpdump.err" tcpdump -i gate0 -n --immediate-mode -U -B 8192 \
    -w "$dir/knock.pcap" "(src $admin and $last_step) or tcp port 22"
tcpdump=$started
until_true 10 grep -q 'listening on' "$dir/tcpdump.err" || fail "tcpdump does not start"
probes=
for _ in 1 2 3 4; do
    background $road /dev/null /dev/null nping --tcp -p 22 --rate 1000 -c 2000 -q -N -e road0 \
        --source-ip $admin $server
    probes="$probes $started"
done
tried() {
    [ "$(tcpdump -n -r "$dir/knock.pcap" "src $admin and dst port 22" 2>/dev/null | head -n 50 |
        wc -l)" -ge 50 ]
}
until_true 10 tried || fail "nping sends nothing"
echo "    postern knock $server $*"
on_road "$bin/postern" knock --source $admin $server "$@" || fail "postern knock failed"

let_in() {
    ctl list | grep -q " $admin "
}
until_true 5 let_in || fail "the knock opened nothing"
# shellcheck disable=SC2086 # one word a process
kill $probes $tcpdump
session late
expect open $admin "the administrator"
expect filtered $stranger "the stranger, at the same moment"
echo "    posternctl list:"
ctl list | indent | indent

until_true 5 has_lines late 3 || fail "no ssh session came about"
echo "    ssh root@$server: a session begins"

title "What stands in the packet filter: nft list table inet postern"
at_wall nft list table inet postern >"$dir/table" || fail "there is no table inet postern"
indent <"$dir/table"

title "How long it took from the last knock to the opening"
wait "$tcpdump" 2>/dev/null || true
tcpdump -n -tt -r "$dir/knock.pcap" 2>/dev/null | awk -v admin=$admin -v server=$server '
    $3 ~ "^" admin "\\." && $5 !~ "^" server "\\.22:" { knock = $1; opened = 0; next }
    !knock || opened { next }
    $5 ~ "^" server "\\.22:" && /Flags \[S\]/ { before = last; last = $1 }
    $3 == server ".22" && /Flags \[S\.\]/ { opened = $1; shut = before }
    END {
        if (!knock || !opened) exit 1
        printf "    the first SYN let in was answered %.1f ms after the last knock came in", \
            (opened - knock) * 1000
        if (shut) printf ",\n    the one before it, at %.1f ms, still was not", (shut - knock) * 1000
        printf "\n    (by the time stamps of tcpdump at the machine; four senders try port 22,\n" \
            "    each every 2 ms)\n"
    }' || fail "the packets do not show the door opening"

# --- The end --------------------------------------------------------------------------------------

title "Seven seconds after the knock"
shut() {
    ctl list | grep -q '^no leases'
}
until_true 12 shut || fail "the lease does not end"
echo "    posternctl list:"
ctl list | indent | indent
expect filtered $admin "the administrator"
expect filtered $stranger "the stranger"
goes_on late "through the open door"
goes_on early "before posternd was started"

title "What the log says"
indent <"$dir/posternd.log"
kill -0 "$posternd" || fail "posternd died"
printf '\nAll as it should be.\n'
