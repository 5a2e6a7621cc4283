# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# ipfw: rules changed under posternd, and posternd gone from behind its rules.

# A door that has let somebody in, who is talking.
begun() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    kept_out $stranger4
}

# All that a door promises.
as_before() {
    lists pass running guard
    wait_for 30 "$friend4 is in table postern_ssh" in_table postern_ssh "$friend4/32 "
    goes_on first
    opens $friend4
    kept_out $stranger4
}

repair_flush() {
    begun
    must srv sh -c 'ipfw -q -f flush; ipfw -q add 65000 allow ip from any to any'
    lists pass running guard
    as_before
}

# A flush that takes anybody's keep-state rule takes every state with it, ours too.
repair_flush_states() {
    must srv ipfw -q add 300 allow tcp from any to me 80 in setup keep-state
    must connects $friend4 80
    begun
    must srv sh -c 'ipfw -q -f flush; ipfw -q add 65000 allow ip from any to any'
    as_before
}

repair_set_31() {
    begun
    must srv ipfw -q delete set 31
    as_before
    said_once 'rule 00102 "postern: guard" was gone'
    goes_on first
}

# ipfw -f flush spares set 31; whoever wants all of it gone does both, and the tables as well.
repair_flush_all() {
    begun
    must srv sh -c 'ipfw -q -f flush; ipfw -q delete set 31; ipfw -q table all destroy
        ipfw -q add 65000 allow ip from any to any'
    as_before
    said_once 'table postern_ssh was gone'
    goes_on first
}

# Knocks that come while somebody flushes open all the same.
repair_flush_knocks() {
    begun
    for _ in 1 2 3; do
        must srv sh -c 'ipfw -q -f flush; ipfw -q delete set 31
            ipfw -q add 65000 allow ip from any to any'
        knock $friend6
        lists pass running guard
        wait_for 30 "$friend6 is in table postern_ssh" in_table postern_ssh "$friend6/128 "
        opens $friend6
        kept_out $stranger6
        must ctl close $friend6
        shut $friend6
    done
    as_before
}

# The script itself, in the jail.
repair_service() {
    [ -r /etc/rc.firewall ] || skip "there is no /etc/rc.firewall"
    begun
    rc_d ipfw restart 'firewall_enable=YES firewall_type=open firewall_quiet=YES'
    must says '65000 allow ip from any to any' srv ipfw list
    must says '00100 allow ip from any to any via lo0' srv ipfw list
    as_before
    rc_d ipfw stop 'firewall_enable=YES'
    must connects $stranger4
    rc_d ipfw start 'firewall_enable=YES firewall_type=open firewall_quiet=YES'
    as_before
}

# One that comes before the daemon has looked by itself.
repair_at_grant() {
    begun
    must srv ipfw -q delete set 31
    knock $friend6
    opens $friend6
    as_before
}

repair_restart() {
    [ -r /etc/rc.firewall ] || skip "there is no /etc/rc.firewall"
    begun
    # What `service ipfw restart` does where rc.conf says firewall_type="open". The two variables
    # keep the host's rc.conf out of it.
    must srv sysctl net.inet.ip.fw.enable=0 net.inet6.ip6.fw.enable=0
    srv env source_rc_confs_defined=yes _rc_conf_loaded=true sh /etc/rc.firewall open \
        >"$work/last" 2>&1
    must srv sysctl net.inet.ip.fw.enable=1 net.inet6.ip6.fw.enable=1
    must says '65000 allow ip from any to any' srv ipfw list
    must says '00100 allow ip from any to any via lo0' srv ipfw list
    as_before
}

repair_guard() {
    begun
    must srv ipfw -q set 31 delete 102
    as_before
    must srv ipfw -q table postern_ssh flush
    as_before
    must srv ipfw -q table postern_ssh add $stranger4 0
    wait_for 20 "an entry without an end is a stranger's" connects $stranger4
    must in_table postern_ssh "$stranger4/32 0"
}

repair_stranger() {
    must srv ipfw -q add 90 set 31 count tcp from any to me 22
    must srv ipfw -q add 101 set 31 count tcp from any to me 22
    begun
    must srv ipfw -q set 31 delete 102
    as_before
    end_daemon TERM
    same "the rules of somebody else in set 31" "00090 count tcp from any to me 22
00101 count tcp from any to me 22" "$(rules_with ' count tcp ')"
}

guard_count() {
    srv ipfw -a list | awk '/postern: guard/ { print $2 }'
}

repair_crash() {
    begun
    counted=$(guard_count)
    [ "$counted" -gt 0 ] || fail "the guard has stopped nothing: $counted"
    entry=$(table postern_ssh)
    end_daemon KILL
    lists pass running guard
    kept_out $stranger4
    must connects $friend4
    start
    lists pass running guard
    [ "$(guard_count)" -ge "$counted" ] || fail "the guard was made anew"
    same "table postern_ssh" "$entry" "$(table postern_ssh)"
    must says $friend4 ctl list
    goes_on first
    kept_out $stranger4
    must connects $friend4
}

# While nobody looks.
repair_crash_flush() {
    begun
    end_daemon KILL
    must srv ipfw -q delete set 31
    must srv ipfw -q table all destroy
    must connects $stranger4
    start
    as_before
}

repair_term() {
    begun
    end_daemon TERM
    lists pass running guard
    kept_out $stranger4
    goes_on first
}

repair_tables_sets() {
    srv sysctl net.inet.ip.fw.tables_sets=1 >"$work/last" 2>&1 ||
        skip "net.inet.ip.fw.tables_sets cannot be set here"
    begun
    must says 'table(postern_ssh), set(31)' srv ipfw table all info
    must says 'table(postern_running), set(31)' srv ipfw table all info
    lists pass running guard
    must ctl close $friend4
    shut $friend4
    goes_on first
    knock $friend4
    opens $friend4
}

it "ipfw: a flush leaves door and session" repair_flush
it "ipfw: a flush that takes all states leaves the session" repair_flush_states
it "ipfw: set 31 deleted: all is made anew, said once" repair_set_31
it "ipfw: everything flushed, deleted, destroyed: all is made anew, said once" repair_flush_all
it "ipfw: knocks while somebody flushes" repair_flush_knocks
it "ipfw: set 31 deleted: all is made anew before a knock is acted on" repair_at_grant
it "ipfw: rc.firewall, as a restart runs it" repair_restart
it "ipfw: service ipfw restart, stop and start" repair_service
it "ipfw: a guard deleted, a table flushed, a stranger's entry" repair_guard
it "ipfw: somebody else's rules in set 31 stay" repair_stranger
it "ipfw: posternd killed and started again: no rule is touched" repair_crash
it "ipfw: rules deleted while posternd is dead" repair_crash_flush
it "ipfw: posternd ended by SIGTERM: the guard stands" repair_term
it "ipfw: net.inet.ip.fw.tables_sets=1" repair_tables_sets
