# shellcheck shell=sh disable=SC2154,SC2086,SC2034 # lab.sh has the names; addresses are words
# ipfw: a door from beginning to end.

ipfw_list() {
    must connects $friend4
    ssh_door 1h | configure ipfw
    start
    lists pass running guard
    same "ipfw -S list, all in set 31" "set 31 set 31 set 31" "$(
        srv ipfw -S list | grep '// postern' | sed 's/^[0-9]* \(set [0-9]*\) .*/\1/' |
            paste -s -d ' ' -
    )"
    must in_table all 'table(postern_running)'
    same "table postern_ssh" "" "$(table postern_ssh)"
    kept_out $friend4
    kept_out $friend6
}

ipfw_door() {
    from=$1
    stranger=$2
    ssh_door "${lease}s" | configure ipfw
    start
    kept_out "$from"
    earliest=$(($(date +%s) + lease))
    knock "$from"
    opens "$from"
    latest=$(($(date +%s) + lease))
    entry=$(table postern_ssh)
    ends=${entry##* }
    case $from in
        *:*) same "table postern_ssh" "$from/128 $ends" "$entry" ;;
        *) same "table postern_ssh" "$from/32 $ends" "$entry" ;;
    esac
    if [ "$ends" -lt $((earliest - 1)) ] || [ "$ends" -gt $((latest + 1)) ]; then
        fail "the lease ends at $ends, not from $earliest to $latest"
    fi
    talk first "$from"
    kept_out "$stranger"
    lists pass running guard
    wait_for $((lease + 30)) "table postern_ssh is empty" empty_table postern_ssh
    past "$((ends - 1))" || fail "the lease ended before its time, $ends"
    kept_out "$from"
    goes_on first
    lists pass running guard
}

ipfw_door_4() {
    ipfw_door $friend4 $stranger4
}

ipfw_door_6() {
    ipfw_door $friend6 $stranger6
}

ipfw_by_hand() {
    ssh_door 1h | configure ipfw
    start
    kept_out $friend4
    knock_by_hand $friend4
    opens $friend4
    kept_out $stranger4
}

ipfw_running() {
    talk four $friend4
    talk six $friend6
    ssh_door 1h | configure ipfw
    start
    wait_for 20 "the IPv4 session is in the table" in_table postern_running \
        "$friend4,6,$(port_of $friend4),$srv4,22 "
    wait_for 20 "the IPv6 session is in the table" in_table postern_running \
        "$friend6,6,$(port_of $friend6),$srv6,22 "
    goes_on four
    goes_on six
    kept_out $friend4
    kept_out $friend6
    hang_up four
    wait_for 60 "the IPv4 session has left the table" not in_table postern_running $friend4,
    goes_on six
    must in_table postern_running $friend6,
}

ipfw_extend() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    first=$(table postern_ssh)
    wait_for 10 "the clock goes on" past "$(($(date +%s) + 1))"
    knock $friend4
    logged "extended for $friend4"
    second=$(table postern_ssh)
    if [ "${second#* }" -le "${first#* }" ]; then
        fail "the end did not move: $first, then $second"
    fi
    same "entries" 1 "$(table postern_ssh | wc -l | tr -d ' ')"
}

ipfw_idle() {
    ssh_door "${lease}s" "idle = \"${lease}s\"" | configure ipfw
    start
    knock $friend4
    opens $friend4
    first=$(date +%s)
    talk first $friend4
    wait_for $((3 * lease + 60)) "the lease would be over twice" past $((first + 2 * lease + 12))
    must in_table postern_ssh "$friend4/32 "
    said_once "traffic keeps it open for $friend4"
    hang_up first
    wait_for $((lease + 60)) "table postern_ssh is empty" empty_table postern_ssh
    kept_out $friend4
}

# friend6 and stranger6 have 127 bits in common.
ipfw_prefix6() {
    ssh_door 1h 'prefix6 = 127' | configure ipfw
    start
    also_from $other6
    kept_out $stranger6
    knock $friend6
    opens $friend6
    opens $stranger6
    kept_out $other6
    must in_table postern_ssh "$friend6/127 "
    must says "$friend6/127" ctl list
    talk first $stranger6
    must ctl close $stranger6
    shut $friend6
    shut $stranger6
    goes_on first
    not_from $other6
}

ipfw_prefix6_rules() {
    configure ipfw <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "1h"
prefix6 = 127
rules = "101-199"
guard = 200
$(knock_at ssh)
EOF
    start
    also_from $other6
    knock $friend6
    opens $friend6
    opens $stranger6
    kept_out $other6
    must says "from $friend6/127 to me" srv ipfw list 101
    # It reads back as it was made: nothing is made anew.
    wait_for 30 "posternd has looked around since" past $(($(date +%s) + 12))
    must not grep -q 'made anew' "$work/log"
    must ctl close $stranger6
    shut $friend6
    not_from $other6
}

ipfw_close() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    knock $friend6
    opens $friend4
    opens $friend6
    talk first $friend4
    must ctl list
    grep -q "^ssh  *$friend4 .*in force$" "$work/last" || fail "posternctl list: not so"
    grep -q "^ssh  *$friend6 .*in force$" "$work/last" || fail "posternctl list: not so"
    must ctl close $friend4
    shut $friend4
    must connects $friend6
    goes_on first
    fails_with 1 ctl close $friend4
}

ipfw_always() {
    ssh_door 1h | configure ipfw "always = [\"$stranger4\", \"$stranger6\"]"
    start
    lists pass always running guard
    same "table postern_always" "$stranger4/32 0
$stranger6/128 0" "$(table postern_always)"
    must connects $stranger4
    must connects $stranger6
    kept_out $friend4
}

ipfw_connections() {
    ssh_door 1h 'connections = 1' | configure ipfw
    start
    lists limit running guard
    knock $friend4
    # A try takes the one place for as long as ipfw remembers it.
    talk only $friend4
    kept_out $friend4
    goes_on only
    hang_up only
    opens $friend4
}

ipfw_udp() {
    configure ipfw <<EOF
[door.dns]
opens = ["53/udp"]
open_for = "1h"
rule = 101
guard = 102
$(knock_at dns)
EOF
    start
    lists udp-pass udp-guard
    for family in 4 6; do
        : >"$work/udp"
        jexec "$srv_jail" nc -$family -d -l -k -u 53 >>"$work/udp" 2>"$work/nc.err" </dev/null &
        echo $! >"$work/nc.pid"
        eval "from=\$friend$family to=\$srv$family"
        wait_for 20 "nc listens" says :53 srv sockstat -$family -l -P udp -p 53
        datagram "$from" "$to" early
        knock "$from"
        wait_for 30 "a datagram arrives" datagram_arrives "$from" "$to" late
        # What was sent before it would have come before it.
        grep -q early "$work/udp" && fail "a datagram came through the guard"
        kill "$(cat "$work/nc.pid")"
        wait "$(cat "$work/nc.pid")" 2>/dev/null
        rm -f "$work/nc.pid"
    done
}

datagram() {
    echo "$3" | cli nc -n -u -w 1 -s "$1" "$2" 53 >/dev/null 2>&1
}

datagram_arrives() {
    datagram "$@"
    grep -q "$3" "$work/udp"
}

ipfw_own_table() {
    must srv ipfw table friends create type addr
    must srv ipfw -q table friends add 192.0.2.1
    must srv ipfw -q add 101 allow tcp from 'table(friends)' to me 22 in
    must srv ipfw -q add 102 deny tcp from any to me 22 in
    configure ipfw <<EOF
[door.ssh]
table = "friends"
open_for = "1h"
$(knock_at ssh)
EOF
    start
    same "ipfw list" "" "$(ours)"
    kept_out $friend4
    knock $friend4
    opens $friend4
    kept_out $stranger4
    must ctl close $friend4
    shut $friend4
    comes_to "table friends" "192.0.2.1/32 0" table friends
    end_daemon TERM
    same "table friends" "192.0.2.1/32 0" "$(table friends)"
}

ipfw_shared_port() {
    {
        ssh_door 1h
        cat <<EOF
[door.mail]
opens = ["22/tcp", "80/tcp"]
open_for = "1h"
rule = 100
[[door.mail.knock]]
sequence = ["5143", "4912", "6001", "8044"]
seq_timeout = "2m"
EOF
    } | configure ipfw
    start
    lists mail pass running guard
    knock $friend4
    opens $friend4
    kept_out $stranger4
    steps='5143 4912 6001 8044'
    knock $stranger4
    opens $stranger4
    must connects $friend4
}

ipfw_reload() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    ssh_door 1h 'connections = 1' | configure ipfw
    must ctl reload
    lists limit running guard
    goes_on first
    must in_table postern_ssh $friend4/32
    kept_out $stranger4
    configure ipfw <<EOF
[door.other]
opens = ["443/tcp"]
open_for = "1h"
rule = 101
$(knock_at other)
EOF
    must ctl reload
    wait_for 20 "port 22 is nobody's business any more" connects $stranger4
    goes_on first
    comes_to "rules of the door that is gone" "" rules_with postern_ssh
}

# As an article of 2008 has it: a rule from a command, and a guard of the administrator's.
ipfw_article() {
    must srv ipfw -q add 00102 deny tcp from any to any 22
    configure none <<EOF
[door.ssh]
start_command = "/sbin/ipfw -q add 00101 pass proto tcp src-ip %IP% dst-port 22"
stop_command = "/sbin/ipfw -q delete 00101 pass proto tcp src-ip %IP% dst-port 22"
start_command_6 = ""
stop_command_6 = ""
cmd_timeout = "${lease}s"
$(knock_at ssh)
EOF
    start
    kept_out $friend4
    knock $friend4
    opens $friend4
    same "ipfw list 101" "00101 allow proto tcp src-ip $friend4 dst-port 22" \
        "$(srv ipfw list 101)"
    kept_out $stranger4
    wait_for $((lease + 30)) "rule 101 is gone" not srv ipfw list 101
    shut $friend4
    must says '00102 deny tcp from any to any 22' srv ipfw list
}

it "ipfw: rules and tables stand as the manual shows them" ipfw_list
it "ipfw: a door from knock to end, IPv4" ipfw_door_4
it "ipfw: a door from knock to end, IPv6" ipfw_door_6
it "ipfw: a knock by nc" ipfw_by_hand
it "ipfw: sessions older than the guard go on, and leave its table when they end" ipfw_running
it "ipfw: a second knock moves the end" ipfw_extend
it "ipfw: idle: a connection keeps a door open, silence closes it" ipfw_idle
it "ipfw: prefix6 lets in the network of who knocked" ipfw_prefix6
it "ipfw: prefix6 by rules" ipfw_prefix6_rules
it "ipfw: posternctl list and close" ipfw_close
it "ipfw: always" ipfw_always
it "ipfw: connections = 1" ipfw_connections
it "ipfw: a door to a UDP port" ipfw_udp
it "ipfw: a table of the administrator's" ipfw_own_table
it "ipfw: doors that share a port" ipfw_shared_port
it "ipfw: reload" ipfw_reload
it "ipfw: the lines of the article of 2008, as commands" ipfw_article
