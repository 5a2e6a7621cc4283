# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh and pf.sh have the names; addresses are words
# What posternctl render pf writes, as the real pfctl takes it and as the real pf does it.

# render_doors OPEN_FOR: one that pf can do something for, one that it cannot.
render_doors() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "$1"
guard = true
[[door.ssh.knock]]
sequence = ["7143"]
seq_timeout = "1m"
[door.web]
opens = ["443/tcp", "443/udp"]
open_for = "$1"
guard = true
connections = 2
$(knock_at web)
EOF
}

# rendered [OPTION]: into a file of its own.
rendered() {
    (umask 077 && srv "$bin/posternctl" -c "$work/postern.toml" render pf "$@") \
        >"$work/render.pf" 2>"$work/render.err" || fail "render pf ended with status $?"
}

render_loads() {
    render_doors 30s | configure pf 'always = ["192.0.2.0/24", "2001:db8::/32"]'
    rendered
    must says 'door web, knock 1: left out' cat "$work/render.err"
    must srv pfctl -nf "$work/render.pf"
    must srv pfctl -n -a postern-kernel -f "$work/render.pf"
    rendered --fallback
    must srv pfctl -n -a postern-kernel -f "$work/render.pf"
}

render_refuses() {
    pf_door 30s | configure pf
    fails_with 1 ctl render pf
    must says 'nothing was written' cat "$work/last"
}

# Two connections open, one does not; the guard lets nobody else in.
render_opens() {
    render_doors 1h | configure pf
    rendered
    printf 'anchor "postern-kernel"\npass\n' | pf_conf
    pf_load
    must srv pfctl -q -e
    must srv pfctl -q -a postern-kernel -f "$work/render.pf"
    kept_out $friend4
    cli nc -n -z -w 2 -s $friend4 $srv4 7143
    kept_out $friend4
    cli nc -n -z -w 2 -s $friend4 $srv4 7143
    wait_for 10 "the address is in the table" render_has $friend4
    opens $friend4
    kept_out $stranger4
    # What cron is to do.
    must srv pfctl -q -a postern-kernel -t door_ssh -T delete $friend4
    kept_out $friend4
    must srv pfctl -q -a postern-kernel -F all
    opens $stranger4
}

render_has() {
    srv pfctl -a postern-kernel -t door_ssh -T show | tr -d ' ' | grep -F -x -e "$1"
}

# The daemon's guard stands, and is overtaken.
render_falls_back() {
    printf 'anchor "postern-kernel"\nanchor "postern"\npass\n' | pf_conf
    pf_load
    must srv pfctl -q -e
    render_doors 1h | configure pf
    start
    end_daemon KILL
    kept_out $friend4
    rendered --fallback
    must srv pfctl -q -a postern-kernel -f "$work/render.pf"
    kept_out $friend4
    cli nc -n -z -w 2 -s $friend4 $srv4 7143
    cli nc -n -z -w 2 -s $friend4 $srv4 7143
    wait_for 10 "the address is in the table" render_has $friend4
    opens $friend4
    kept_out $stranger4
    must srv pfctl -q -a postern-kernel -F all
}

it "render: pfctl takes what is written" render_loads
it "render: pf can do none of a sequence of several steps" render_refuses
it "render: two connections to the knock's port open" render_opens
it "render: behind a dead daemon's guard" render_falls_back
