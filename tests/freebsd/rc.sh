# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh and run.sh have the names; addresses are words
# rc.d/posternd under the real rc.subr and daemon(8), on the server.

# rc COMMAND: the script. What would stand in rc.conf stands in its environment.
rc() {
    srv env posternd_conf="$work/postern.toml" posternd_program="${program:-$rc_prefix/sbin/posternd}" \
        "$rc_prefix/etc/rc.d/posternd" "$@"
}

# rc_installed: the script and the programs in a place of their own, its numbers in $work.
rc_installed() {
    rc_prefix=$work/usr
    rm -rf "$rc_prefix"
    must env -i PATH="$PATH" make -C "$here/../.." install-base SYSTEM=FreeBSD PREFIX="$rc_prefix" \
        BUILT="$bin"
    chmod u+w "$rc_prefix/etc/rc.d/posternd"
    must sed -i '' -e "s|/var/run/|$work/|" "$rc_prefix/etc/rc.d/posternd"
}

rc_number() {
    cat "$work/posternd.pid"
}

# rc_another NUMBER: another daemon than that one listens.
rc_another() {
    [ "$(rc_number)" != "$1" ] && alive "$(rc_number)" && listening
}

rc_life() {
    rc_installed
    ssh_door 1h | configure ipfw
    fails_with 1 rc onestatus
    must rc oneconfigtest
    must rc onestart
    lists pass running guard
    wait_for 30 "posternd listens at $srv_if" listening
    kept_out $stranger4
    fails_with 1 rc onestart
    must says "posternd is running as pid $(rc_number), supervised by" rc onestatus

    knock $friend4
    opens $friend4
    talk first $friend4
    before=$(rc_number)
    ssh_door 30m | configure ipfw
    must rc onereload
    same "the daemon" "$before" "$(rc_number)"
    must rc onerestart
    must not alive "$before"
    wait_for 30 "posternd listens again" listening
    lists pass running guard
    goes_on first
    must rc onestop
    fails_with 1 rc onestatus
    goes_on first
}

rc_bad_file() {
    rc_installed
    ssh_door 1h | configure ipfw
    must rc onestart
    wait_for 30 "posternd listens at $srv_if" listening
    before=$(rc_number)
    ssh_door 1h | sed 's/^opens = /opens : /' | configure ipfw
    for command in oneconfigtest onereload onerestart; do
        fails_with 1 rc $command
        grep -q 'postern.toml:[0-9]' "$work/last" || fail "$command does not say where"
    done
    must alive "$before"
    same "the daemon" "$before" "$(rc_number)"
    knock $friend4
    opens $friend4
    must rc onestop
    fails_with 1 rc onestart
    grep -q 'postern.toml:[0-9]' "$work/last" || fail "start does not say where"
    lists pass running guard
}

rc_killed() {
    rc_installed
    ssh_door 1h | configure ipfw
    must rc onestart
    wait_for 30 "posternd listens at $srv_if" listening
    knock $friend4
    opens $friend4
    before=$(rc_number)
    kill -KILL "$before"
    wait_for 30 "it is started again" rc_another "$before"
    must connects $friend4
    kept_out $stranger4

    # Its supervisor dies: the next start takes its place.
    before=$(rc_number)
    kill -KILL "$(cat "$work/posternd.supervisor.pid")"
    wait_for 20 "status sees it" says "without a supervisor" rc onestatus
    must rc onestart
    must not alive "$before"
    wait_for 30 "posternd listens again" listening
    must connects $friend4

    # Both go, and the guard stays.
    before="$(rc_number) $(cat "$work/posternd.supervisor.pid")"
    must rc onestop
    for each in $before; do
        must not alive "$each"
    done
    fails_with 1 rc onestop
    lists pass running guard
    kept_out $stranger4
}

# As at boot, by a daemon that never comes up and an interface that is not there.
rc_guard() {
    rc_installed
    ssh_door 1h | configure ipfw
    program=/usr/bin/true
    must rc onestart
    lists pass running guard
    kept_out $stranger4
    must rc onestop

    clean_slate
    ssh_door 1h | configure ipfw
    sed -i '' 's/^interface = .*/interface = "late0"/' "$work/postern.toml"
    must rc onestart
    must rules_with 'in recv late0 // postern: guard'
    must connects $stranger4
    must rc onestop
}

# A guard that nobody has come through waits for a daemon.
rc_trial() {
    rc_installed
    ssh_door 1h | configure ipfw 'trial = "10m"'
    program=/usr/bin/true
    must rc onestart
    same "guards" "" "$(rules_with '// postern: guard')"
    must connects $stranger4
    must rc onestop
    program=
    must rc onestart
    wait_for 30 "posternd listens at $srv_if" listening
    lists pass running guard
    must rc onestop
}

it "rc.d: start, status, reload, restart, stop" rc_life
it "rc.d: a bad file is refused" rc_bad_file
it "rc.d: a killed daemon comes back, and one without a supervisor is taken over" rc_killed
it "rc.d: the guards stand before the daemon and without an interface" rc_guard
it "rc.d: a guard that nobody has come through waits for the daemon" rc_trial
