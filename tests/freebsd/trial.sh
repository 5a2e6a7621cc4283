# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# The trial of a new guard, and what an administrator can do without a daemon.

# trial_door SECONDS: a door with so long a trial; `trial` is its length then.
trial_door() {
    trial=$(($1 * slow))
    ssh_door 1h | configure ipfw "trial = \"${trial}s\""
}

guards() {
    rules_with '// postern: guard'
}

trial_over() {
    trial_door 10
    start
    lists pass running guard
    kept_out $stranger4
    wait_for $((trial + 30)) "the guard is withdrawn" not guards
    opens $stranger4
    must ctl status
}

trial_confirmed() {
    trial_door 20
    start
    must ctl confirm
    end=$(($(date +%s) + trial))
    wait_for $((trial + 30)) "the time of the trial is over" past $((end + 5))
    lists pass running guard
    kept_out $stranger4
    end_daemon TERM
    start
    wait_for $((trial + 30)) "the time of a second one is over" past $((end + trial + 10))
    lists pass running guard
}

trial_passed() {
    trial_door 30
    start
    end=$(($(date +%s) + trial))
    knock $friend4
    opens $friend4
    talk first $friend4
    wait_for $((trial + 30)) "the time of the trial is over" past $((end + 5))
    lists pass running guard
    kept_out $stranger4
    goes_on first
}

trial_unguard() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    end_daemon KILL
    kept_out $stranger4
    must ctl unguard
    same "guards" "" "$(guards)"
    must connects $stranger4
    goes_on first
    # It stays away until somebody says otherwise.
    start
    same "guards" "" "$(guards)"
    must ctl confirm
    lists pass running guard
    kept_out $stranger4
    must connects $friend4
    goes_on first
}

trial_reap() {
    ssh_door "${lease}s" | configure ipfw
    start
    knock $friend4
    opens $friend4
    talk first $friend4
    end_daemon KILL
    wait_for $((lease + 30)) "the lease is overdue" past $(($(date +%s) + lease))
    must in_table postern_ssh $friend4/32
    must ctl reap
    same "table postern_ssh" "" "$(table postern_ssh)"
    kept_out $friend4
    goes_on first
    lists pass running guard
}

it "trial: a guard that nobody comes through is withdrawn" trial_over
it "trial: confirmed by posternctl, also for the next start" trial_confirmed
it "trial: confirmed by a connection through a lease" trial_passed
it "posternctl unguard, while posternd is dead" trial_unguard
it "posternctl reap, while posternd is dead" trial_reap
