# shellcheck shell=sh disable=SC2154,SC2086,SC2034,SC3043 # lab.sh has the names; sh has local
# Tables driven by calls of the kernel's own and by the command: to the same end, as the command
# lists it, and the one without the other.

# knock_web FROM: at the second door.
knock_web() {
    must cli "$bin/postern" knock --source "$1" "$(server_of "$1")" 3371 8812 4460 9777
}

# web_door: a door that lets in by the administrator's table.
web_door() {
    cat <<EOF
[door.web]
table = "friends"
open_for = "1h"
[[door.web.knock]]
sequence = ["3371", "8812", "4460", "9777"]
seq_timeout = "2m"
EOF
}

# keys NAME: the entries of a table without their values, in order.
keys() {
    table "$1" | sed 's/ [0-9]*$//' | sort
}

# ends NAME EARLIEST LATEST: every value of the table lies between them.
ends() {
    table "$1" | awk -v earliest="$2" -v latest="$3" '
        $2 < earliest || $2 > latest { wrong++; print }
        END { exit wrong != 0 }'
}

drive_ipfw() {
    must srv ipfw table friends create type addr
    must srv ipfw -q table friends add 192.0.2.1
    must srv ipfw -q add 103 allow tcp from 'table(friends)' to me 80 in
    {
        ssh_door 1h 'prefix6 = 127'
        web_door
    } | configure ipfw
    start
    earliest=$(($(date +%s) + 3598))
    knock $friend4
    knock $friend6
    knock_web $friend4
    opens $friend4
    opens $friend6
    comes_to "table postern_ssh" "$friend4/32
$friend6/127" keys postern_ssh
    comes_to "table friends" "$friend4/32
192.0.2.1/32" keys friends
    must ends postern_ssh "$earliest" $(($(date +%s) + 3602))

    before=$(table postern_ssh | awk -v key="$friend4/32" '$1 == key { print $2 }')
    wait_for 10 "the clock goes on" past $((before - 3600 + 2))
    knock $friend4
    logged "extended for $friend4"
    after=$(table postern_ssh | awk -v key="$friend4/32" '$1 == key { print $2 }')
    [ "$after" -gt "$before" ] || fail "the end did not move: $before, then $after"
    must ends postern_ssh "$earliest" $(($(date +%s) + 3602))

    talk first $friend4
    port=$(port_of $friend4)
    must ctl close $friend4
    comes_to "table postern_ssh" "$friend6/127" keys postern_ssh
    comes_to "table friends" "192.0.2.1/32" keys friends
    must in_table postern_running "$friend4,6,$port,$srv4,22 0"
    goes_on first
    shut $friend4
    lists pass running guard
}

drive_ipfw_in_process() {
    drive=in-process
    drive_ipfw
}

drive_ipfw_command() {
    drive="command"
    drive_ipfw
}

# A rule of ours is gone: an entry alone would let nobody in.
drive_ipfw_amiss() {
    drive=in-process
    ssh_door 1h | configure ipfw
    start
    must srv ipfw -q set 31 delete 101
    knock $friend4
    opens $friend4
    lists pass running guard
    knock $friend6
    opens $friend6
}

# Values of one kind alone are the command's to write.
drive_ipfw_values() {
    drive=in-process
    must srv ipfw table friends create type addr valtype fib
    must srv ipfw -q add 101 allow tcp from 'table(friends)' to me 22 in
    must srv ipfw -q add 102 deny tcp from any to me 22 in
    web_door | configure ipfw
    start
    kept_out $friend4
    earliest=$(($(date +%s) + 3598))
    knock_web $friend4
    opens $friend4
    same "table friends" "$friend4/32" "$(keys friends)"
    must ends friends "$earliest" $(($(date +%s) + 3602))
    must ctl close $friend4
    comes_to "table friends" "" keys friends
}

# pf_keys ARGUMENT...: a table's entries, in order.
pf_keys() {
    srv pfctl "$@" -T show 2>/dev/null | tr -d ' ' | sort
}

drive_pf_door() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "1h"
guard = true
prefix6 = 127
$(knock_at ssh)
EOF
}

# drive_pf_on LINE...: pf, with these lines.
drive_pf_on() {
    printf '%s\n' "$@" >"$work/pf.conf"
    must srv pfctl -q -f "$work/pf.conf"
    must srv pfctl -q -e
}

drive_pf() {
    drive_pf_on 'table <friends> persist { 192.0.2.1 }' 'anchor "postern"' \
        'pass in quick proto tcp from <friends> to any port 80' pass
    {
        drive_pf_door
        web_door
    } | configure pf
    start
    kept_out $friend4
    knock $friend4
    knock $friend6
    knock_web $friend4
    opens $friend4
    opens $friend6
    comes_to "table door_ssh" "$friend4
$friend6/127" pf_keys -a postern -t door_ssh
    comes_to "table friends" "$friend4
192.0.2.1" pf_keys -t friends
    knock $friend4
    logged "extended for $friend4"
    comes_to "table door_ssh" "$friend4
$friend6/127" pf_keys -a postern -t door_ssh
    must ctl close $friend4
    comes_to "table door_ssh" "$friend6/127" pf_keys -a postern -t door_ssh
    comes_to "table friends" 192.0.2.1 pf_keys -t friends
    shut $friend4
}

drive_pf_in_process() {
    drive=in-process
    drive_pf
}

drive_pf_command() {
    drive="command"
    drive_pf
}

# traced: posternd, with each call that it makes of the kernel written to a file. What it starts
# writes none.
traced() {
    [ "$(sysctl -i -n kern.features.ktrace)" = 1 ] || skip "this kernel has no ktrace"
    rm -f "$work/trace"
    under="ktrace -t c -f $work/trace"
    start
}

# calls PATTERN: of what was traced, how many calls of the pattern there are and how many
# microseconds one took; how many processes were started, and how many one ran; and the most
# calls with no process started between them.
calls() {
    kdump -T -f "$work/trace" | awk -v pattern=" CALL  ($1)" '
        match($0, /[0-9]+\.[0-9][0-9][0-9][0-9][0-9][0-9] /) {
            now = substr($0, RSTART, RLENGTH - 1)
        }
        / CALL  (fork|vfork|rfork|pdfork)/ { begun = now; processes++; run = 0 }
        / RET   (wait4|wait6) [1-9]/ && begun { ran += now - begun; begun = 0 }
        / RET   / && called { took += now - called; called = 0 }
        $0 ~ pattern { called = now; count++; run++; if (run > most) most = run }
        END {
            printf "%d %d %d %d %d\n", count, count ? took * 1000000 / count : 0, processes,
                processes ? ran * 1000000 / processes : 0, most
        }'
}

# drive_traced NAME PER_OPENING PATTERN: eight knocks, and what was called for them.
drive_traced() {
    local name each count call processes process most
    name=$1
    each=$2
    for from in $friend4 $friend6 $stranger4 $stranger6 $friend4 $friend6 $stranger4 $stranger6; do
        knock $from
    done
    wait_for 20 "all are in" grep -F -e "for $stranger6" "$work/log"
    for from in $friend4 $stranger4; do
        logged "extended for $from"
    done
    end_daemon TERM
    calls "$3" >"$work/calls"
    read -r count call processes process most <"$work/calls"
    note "$name, drive = \"$drive\": $count calls of $call us, $each to an opening;" \
        "$processes processes of $process us"
    case $drive in
        # Every ten seconds it looks by the command, but not at each of eight knocks.
        in-process)
            [ "$most" -ge $((3 * each)) ] ||
                fail "at most $most calls with no process between them; $each are an opening"
            ;;
        *)
            [ "$processes" -ge 8 ] || fail "eight knocks, and $processes processes"
            ;;
    esac
}

drive_ipfw_traced() {
    ssh_door 1h | configure ipfw
    traced
    drive_traced ipfw 3 'getsockopt.*(IP_FW3|,0x30,|,48,)'
}

drive_ipfw_no_process() {
    drive=in-process
    drive_ipfw_traced
}

drive_ipfw_processes() {
    drive="command"
    drive_ipfw_traced
}

drive_pf_traced() {
    drive_pf_on 'anchor "postern"' pass
    drive_pf_door | sed '/^prefix6/d' | configure pf
    traced
    drive_traced pf 2 'ioctl.*(DIOCR|0xc45044)'
}

drive_pf_no_process() {
    drive=in-process
    drive_pf_traced
}

drive_pf_processes() {
    drive="command"
    drive_pf_traced
}

it "drive: ipfw's tables, in-process" drive_ipfw_in_process
it "drive: ipfw's tables, by the command, the same" drive_ipfw_command
it "drive: ipfw: a rule that is gone is made anew before a knock is acted on" drive_ipfw_amiss
it "drive: ipfw: a table of other values is left to the command" drive_ipfw_values
it "drive: pf's tables, in-process" drive_pf_in_process
it "drive: pf's tables, by the command, the same" drive_pf_command
it "drive: ipfw: knocks in-process start no process" drive_ipfw_no_process
it "drive: ipfw: knocks by the command, for comparison" drive_ipfw_processes
it "drive: pf: knocks in-process start no process" drive_pf_no_process
it "drive: pf: knocks by the command, for comparison" drive_pf_processes
