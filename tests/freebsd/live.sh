# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# posternctl check --live: what stands in the way of a door.

# told PATTERN: some line of it matches, whatever its status.
told() {
    ctl check --live >"$work/last" 2>&1
    grep -E -e "$1" "$work/last" >/dev/null || fail "check --live does not tell of $1"
}

live_pass() {
    must srv ipfw -q add 50 allow tcp from any to me 22
    ssh_door 1h | configure ipfw
    start
    told 'rule 0*50[^0-9]'
    # It is so.
    must connects $stranger4
}

live_deny() {
    must srv ipfw -q add 60 deny tcp from any to any 22 in
    ssh_door 1h | configure ipfw
    start
    told 'rule 0*60[^0-9]'
}

live_disabled() {
    ssh_door 1h | configure ipfw
    start
    must srv sysctl net.inet.ip.fw.enable=0
    told 'net\.inet\.ip\.fw\.enable'
}

live_blackhole() {
    ssh_door 1h | configure ipfw
    start
    told 'net\.inet\.tcp\.blackhole'
}

live_pf() {
    echo pass >"$work/pf.conf"
    ssh_door 1h | sed -e '/^rule = /d' -e 's/^guard = .*/guard = true/' | configure pf
    must srv pfctl -q -f "$work/pf.conf"
    must srv pfctl -q -e
    told 'anchor "?postern'
    must srv pfctl -q -d
    told '[Nn]ot enabled|[Dd]isabled'
}

it "check --live: a rule before ours that passes the port" live_pass
it "check --live: a rule before ours that denies it" live_deny
it "check --live: ipfw not enabled" live_disabled
it "check --live: the guarded port stands out" live_blackhole
it "check --live: pf without our anchor, and not enabled" live_pf
