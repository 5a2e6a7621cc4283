# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# pf: its anchor, from beginning to end.

# pf_line NAME [ADDRESS]: a line of `pfctl -P -a postern -s rules`, as FreeBSD 12.1 prints it.
pf_line() {
    case $1 in
        pass) echo "pass in quick on $srv_if proto tcp from <door_ssh> to (self) port = 22" \
            "flags S/SA keep state label \"postern:ssh\"" ;;
        limit) echo "pass in quick on $srv_if proto tcp from <door_ssh> to (self) port = 22" \
            "flags S/SA keep state (source-track rule, max-src-states 1)" \
            "label \"postern:ssh\"" ;;
        running4) echo "pass in quick on $srv_if inet proto tcp from $friend4 port = $2" \
            "to $srv4 port = 22 flags any keep state (sloppy) label \"postern: running\"" ;;
        running6) echo "pass in quick on $srv_if inet6 proto tcp from $friend6 port = $2" \
            "to $srv6 port = 22 flags any keep state (sloppy) label \"postern: running\"" ;;
        always) echo "pass in quick on $srv_if proto tcp from <always> to (self) port = 22" \
            "flags S/SA keep state label \"postern: always\"" ;;
        guard) echo "block drop in quick on $srv_if proto tcp from any to (self) port = 22" \
            "label \"postern: guard\"" ;;
    esac
}

pf_lines() {
    for each; do
        pf_line "$each"
    done
}

pf_ours() {
    srv pfctl -P -a postern -s rules 2>/dev/null
}

# pf_lists NAME...: those lines, and no other, now or soon.
pf_lists() {
    comes_to "pfctl -P -a postern -s rules" "$(pf_lines "$@")" pf_ours
}

# pf_table NAME: its addresses.
pf_table() {
    srv pfctl -a postern -t "$1" -T show | tr -d ' '
}

pf_in_table() {
    pf_table "$1" | grep -F -x -e "$2"
}

pf_empty_table() {
    pf_table "$1"
    [ -z "$(pf_table "$1")" ]
}

# Short memories, so that connections that are over do not count.
pf_conf() {
    {
        echo 'set timeout { interval 1, tcp.closing 1, tcp.finwait 1, tcp.closed 1 }'
        cat
    } >"$work/pf.conf"
}

pf_load() {
    must srv pfctl -q -f "$work/pf.conf"
}

# pf_on: enabled, with our anchor and nothing in the way.
pf_on() {
    printf 'anchor "postern"\npass\n' | pf_conf
    pf_load
    must srv pfctl -q -e
}

# pf_door OPEN_FOR [LINES]
pf_door() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "$1"
guard = true
${2:-}
$(knock_at ssh)
EOF
}

# A door that has let somebody in, who is talking.
pf_begun() {
    pf_on
    pf_door 1h "${1:-}" | configure pf
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    kept_out $stranger4
}

# All that a door promises. A session that lost its state has a running rule, others may have.
pf_as_before() {
    comes_to "pfctl -P -a postern -s rules, without running ones" "$(pf_lines pass guard)" \
        pf_not_running
    wait_for 30 "$friend4 is in the table" pf_in_table door_ssh $friend4
    goes_on first
    opens $friend4
    kept_out $stranger4
}

pf_not_running() {
    pf_ours | grep -v 'postern: running'
}

pf_anchor() {
    pf_on
    pf_door 1h | configure pf
    start
    pf_lists pass guard
    must says door_ssh srv pfctl -a postern -s Tables
    same "table door_ssh" "" "$(pf_table door_ssh)"
    kept_out $friend4
    kept_out $friend6
}

pf_whole_door() {
    from=$1
    pf_on
    pf_door "${lease}s" | configure pf
    start
    kept_out "$from"
    earliest=$(($(date +%s) + lease))
    knock "$from"
    opens "$from"
    must pf_in_table door_ssh "$from"
    talk first "$from"
    kept_out "$2"
    wait_for $((lease + 30)) "table door_ssh is empty" pf_empty_table door_ssh
    past $((earliest - 2)) || fail "the lease ended before its time"
    kept_out "$from"
    goes_on first
}

pf_door_4() {
    pf_whole_door $friend4 $stranger4
}

pf_door_6() {
    pf_whole_door $friend6 $stranger6
}

pf_running() {
    # Begun where pf is not enabled, so that it has no state of them.
    talk four $friend4
    talk six $friend6
    pf_on
    pf_door 1h | configure pf
    start
    comes_to "pfctl -P -a postern -s rules" "$(
        pf_line pass
        pf_line running4 "$(port_of $friend4)"
        pf_line running6 "$(port_of $friend6)"
        pf_line guard
    )" pf_ours
    goes_on four
    goes_on six
    kept_out $friend4
    kept_out $friend6
    hang_up four
    wait_for 60 "the rule of the IPv4 session is gone" not says $friend4 pf_ours
    must says $friend6 pf_ours
    goes_on six
}

pf_close() {
    pf_begun
    must ctl close $friend4
    shut $friend4
    goes_on first
    fails_with 1 ctl close $friend4
}

pf_kill_states() {
    pf_begun 'kill_states = true'
    knock $friend6
    opens $friend6
    talk second $friend6
    must ctl close $friend4
    wait_for 20 "no state of $friend4 is left" not says "$friend4:" ssh_states
    before=$(heard first)
    shut $friend4
    wait_for 40 "posternd has looked around since" past $(($(date +%s) + 12))
    same "words of the first session" "$before" "$(heard first)"
    goes_on second
}

ssh_states() {
    srv pfctl -s states | grep -F -e "$srv4:22 "
}

pf_always() {
    pf_on
    pf_door 1h | configure pf "always = [\"$stranger4\", \"$stranger6\"]"
    start
    pf_lists pass always guard
    must connects $stranger4
    must connects $stranger6
    kept_out $friend4
}

pf_connections() {
    pf_on
    pf_door 1h 'connections = 1' | configure pf
    start
    pf_lists limit guard
    knock $friend4
    talk only $friend4
    kept_out $friend4
    goes_on only
    hang_up only
    opens $friend4
}

pf_idle() {
    pf_on
    pf_door "${lease}s" "idle = \"${lease}s\"" | configure pf
    start
    must says "-pa-r-C" srv pfctl -a postern -v -s Tables
    knock $friend4
    opens $friend4
    first=$(date +%s)
    talk first $friend4
    wait_for $((3 * lease + 60)) "the lease would be over twice" past $((first + 2 * lease + 12))
    must pf_in_table door_ssh $friend4
    said_once "traffic keeps it open for $friend4"
    hang_up first
    wait_for $((lease + 60)) "table door_ssh is empty" pf_empty_table door_ssh
    kept_out $friend4
}

# friend6 and stranger6 have 127 bits in common.
pf_prefix6() {
    pf_on
    pf_door 1h 'prefix6 = 127' | configure pf
    start
    also_from $other6
    kept_out $stranger6
    knock $friend6
    opens $friend6
    opens $stranger6
    kept_out $other6
    must pf_in_table door_ssh "$friend6/127"
    must says "$friend6/127" ctl list
    talk first $stranger6
    must ctl close $stranger6
    shut $friend6
    shut $stranger6
    goes_on first
    not_from $other6
}

pf_own_table() {
    pf_conf <<EOF
table <friends> persist { 192.0.2.1 }
pass in quick proto tcp from <friends> to any port 22
block drop in quick proto tcp from any to any port 22
pass
EOF
    pf_load
    must srv pfctl -q -e
    configure pf <<EOF
[door.ssh]
table = "friends"
open_for = "1h"
$(knock_at ssh)
EOF
    start
    kept_out $friend4
    knock $friend4
    opens $friend4
    kept_out $stranger4
    must ctl close $friend4
    shut $friend4
    same "table friends" 192.0.2.1 "$(srv pfctl -t friends -T show | tr -d ' ')"
}

pf_reload() {
    pf_begun
    pf_load
    pf_as_before
}

# The script itself, in the jail: pf forgets its rules and all states.
pf_service() {
    pf_begun
    rc_d pf restart "pf_enable=YES pf_rules=$work/pf.conf"
    pf_as_before
    rc_d pf reload "pf_enable=YES pf_rules=$work/pf.conf"
    pf_as_before
}

pf_stopped() {
    pf_begun
    rc_d pf stop "pf_enable=YES pf_rules=$work/pf.conf"
    said_once "pf is disabled"
    rc_d pf start "pf_enable=YES pf_rules=$work/pf.conf"
    pf_as_before
}

# The main rules go, and with them the line that names our anchor: that is the administrator's,
# and is asked for.
pf_flush_all() {
    pf_begun
    must srv pfctl -q -F all
    said_once 'pf.conf has no anchor "postern"'
    goes_on first
    pf_load
    pf_as_before
}

# Our anchor with its tables.
pf_flush_anchor() {
    pf_begun
    must srv pfctl -q -a postern -F all
    pf_as_before
    said_once 'anchor postern was gone'
    goes_on first
}

# One that comes before the daemon has looked by itself.
pf_at_grant() {
    pf_begun
    must srv pfctl -q -a postern -F all
    knock $friend6
    opens $friend6
    pf_as_before
}

# What a restart does, step by step.
pf_restart() {
    pf_begun
    must srv pfctl -q -d
    must srv pfctl -q -F all
    pf_load
    must srv pfctl -q -e
    pf_as_before
}

pf_flush() {
    pf_begun
    must srv pfctl -q -a postern -F rules
    pf_as_before
    must srv pfctl -q -a postern -t door_ssh -T flush
    pf_as_before
    logged "firewall: "
}

pf_flush_states() {
    pf_begun
    must srv pfctl -q -F states
    pf_as_before
}

pf_crash() {
    pf_begun
    end_daemon KILL
    pf_lists pass guard
    kept_out $stranger4
    must connects $friend4
    start
    must pf_in_table door_ssh $friend4
    must says $friend4 ctl list
    pf_as_before
}

pf_unguard() {
    pf_begun
    end_daemon KILL
    must ctl unguard
    must not says 'postern: guard' pf_ours
    must connects $stranger4
    goes_on first
}

pf_reap() {
    pf_on
    pf_door "${lease}s" | configure pf
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    end_daemon KILL
    wait_for $((lease + 30)) "the lease is overdue" past $(($(date +%s) + lease))
    must pf_in_table door_ssh $friend4
    must ctl reap
    same "table door_ssh" "" "$(pf_table door_ssh)"
    kept_out $friend4
    goes_on first
}

pf_trial() {
    trial=$((10 * slow))
    pf_on
    pf_door 1h | configure pf "trial = \"${trial}s\""
    start
    pf_lists pass guard
    kept_out $stranger4
    wait_for $((trial + 30)) "the guard is withdrawn" not says 'postern: guard' pf_ours
    opens $stranger4
}

it "pf: the anchor stands as the manual shows it" pf_anchor
it "pf: a door from knock to end, IPv4" pf_door_4
it "pf: a door from knock to end, IPv6" pf_door_6
it "pf: sessions older than the guard go on, and their rules go when they end" pf_running
it "pf: posternctl close" pf_close
it "pf: kill_states ends the sessions that the door let in, and no others" pf_kill_states
it "pf: always" pf_always
it "pf: connections = 1" pf_connections
it "pf: idle: traffic keeps a door open, silence closes it" pf_idle
it "pf: prefix6 lets in the network of who knocked" pf_prefix6
it "pf: a table of the administrator's" pf_own_table
it "pf: pf.conf loaded again" pf_reload
it "pf: a restart, step by step" pf_restart
it "pf: service pf restart and reload" pf_service
it "pf: service pf stop, said once, and start" pf_stopped
it "pf: pfctl -F all: the anchor's line is asked for, once" pf_flush_all
it "pf: pfctl -a postern -F all: all is made anew, said once" pf_flush_anchor
it "pf: the anchor flushed: all is made anew before a knock is acted on" pf_at_grant
it "pf: anchor and table flushed" pf_flush
it "pf: a flush of all states leaves the session" pf_flush_states
it "pf: posternd killed and started again" pf_crash
it "pf: posternctl unguard, while posternd is dead" pf_unguard
it "pf: posternctl reap, while posternd is dead" pf_reap
it "pf: a guard on trial that nobody comes through is withdrawn" pf_trial
