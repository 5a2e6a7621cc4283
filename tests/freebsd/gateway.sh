# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# ipfw: a gateway that guards what lies behind it.

far_jail=posternfar$$
far4=10.9.1.2

# A third machine behind the server.
build_far() {
    near_if=$(ifconfig epair create) || fail "no epair can be made"
    echo "$near_if" >"$work/near"
    must jail -c name="$far_jail" host.hostname="$far_jail" path=/ persist vnet \
        vnet.interface="${near_if%a}b"
    must ifconfig "$near_if" vnet "$srv_jail"
    must srv ifconfig "$near_if" inet 10.9.1.1/24 up
    must jexec "$far_jail" ipfw -q add 65000 allow ip from any to any
    must jexec "$far_jail" ifconfig lo0 127.0.0.1/8 up
    must jexec "$far_jail" ifconfig "${near_if%a}b" inet $far4/24 up
    must jexec "$far_jail" route -n add default 10.9.1.1
    must srv sysctl net.inet.ip.forwarding=1
    must cli route -n add 10.9.1.0/24 $srv4
    must jexec "$far_jail" inetd -R 0 -p "$work/inetd.far" "$work/inetd.conf"
}

raze_far() {
    cli route -n delete 10.9.1.0/24
    srv sysctl net.inet.ip.forwarding=0
    if [ -s "$work/near" ]; then
        ifconfig "$(cat "$work/near")" -vnet "$srv_jail"
        ifconfig "$(sed 's/a$/b/' "$work/near")" -vnet "$far_jail"
    fi
    jail -r "$far_jail"
    [ ! -s "$work/near" ] || destroy "$(cat "$work/near")"
    rm -f "$work/near"
} >/dev/null 2>&1

# far FROM [PORT]: whether a connection to the machine behind can be made.
far() {
    cli nc -n -z -v -w "$try" -s "$1" $far4 "${2:-22}"
}

far_kept_out() {
    must not far "$1"
    must far "$1" 80
}

gateway_network() {
    build_far
    wait_for 30 "the machine behind is reached" far $friend4
    configure ipfw <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "1h"
rule = 101
guard = 102
to = "10.9.1.0/24"
$(knock_at ssh)
EOF
    start
    comes_to "pass and guard" "$(
        lines pass guard | sed 's|to me 22|to 10.9.1.0/24 22|'
    )" no_running
    far_kept_out $friend4
    far_kept_out $stranger4
    must connects $stranger4
    knock $friend4
    wait_for 20 "the machine behind lets $friend4 in" far $friend4
    far_kept_out $stranger4
    must ctl close $friend4
    wait_for 20 "the machine behind keeps $friend4 out" not far $friend4
    far_kept_out $friend4
}

# A gateway has no sockets of the sessions that go through it; whether a rule for them stands is
# left open.
no_running() {
    ours | grep -v 'postern: running'
}

it "ipfw: a network behind, guarded by its gateway" gateway_network
raze_far
