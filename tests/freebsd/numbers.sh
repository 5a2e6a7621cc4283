# shellcheck shell=sh disable=SC2154,SC2086,SC2034 # lab.sh has the names; addresses are words
# ipfw: a rule with a number of its own for each address.

numbers_door() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "$1"
rules = "101-199"
guard = 200
$(knock_at ssh)
EOF
}

# numbered_lists [NUMBER ADDRESS]...: these rules, the running one and the guard.
numbered_lists() {
    comes_to "ipfw list" "$(
        while [ $# -gt 1 ]; do
            line numbered "$1" "$2"
            shift 2
        done
        lines running guard
    )" ours
}

numbers_end() {
    must srv ipfw -q add 101 set 31 count tcp from any to me 22
    numbers_door "${lease}s" | configure ipfw
    start
    numbered_lists
    kept_out $friend4
    knock $friend4
    opens $friend4
    talk first $friend4
    knock $friend6
    opens $friend6
    talk second $friend6
    # 101 is taken, by a rule in our set that is not ours.
    numbered_lists 00102 $friend4 00103 $friend6
    must srv ipfw -q add 103 count tcp from any to me 22
    kept_out $stranger4
    kept_out $stranger6
    wait_for $((lease + 30)) "the rules of both addresses are gone" says "$(line running)" \
        first_of_ours
    numbered_lists
    kept_out $friend4
    kept_out $friend6
    goes_on first
    goes_on second
    must says '00101 count tcp from any to me 22' srv ipfw list
    must says '00103 count tcp from any to me 22' srv ipfw list
    hang_up first
    wait_for 60 "the session has left the table" not in_table postern_running $friend4,
    goes_on second
}

first_of_ours() {
    ours | head -n 1
}

numbers_extend() {
    numbers_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    numbered_lists 00101 $friend4
    before=$(rules_with "from $friend4 ")
    wait_for 10 "the clock goes on" past "$(($(date +%s) + 1))"
    knock $friend4
    logged "extended for $friend4"
    wait_for 20 "the comment tells the new end" not says "$before" rules_with "from $friend4 "
    same "rules of $friend4" 1 "$(rules_with "from $friend4 " | wc -l | tr -d ' ')"
    must connects $friend4
    goes_on first
    must ctl close $friend4
    numbered_lists
    kept_out $friend4
    goes_on first
}

guard_at=00200
it "ipfw: a rule for each address, with its end in the comment, and nobody else's goes" numbers_end
it "ipfw: a rule for one address is extended, and closed" numbers_extend
guard_at=00102
