# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# The listener in capability mode: what it has, and that it hears all the same.

# The listener's process, seen from the host.
listener() {
    ctl status --json | sed -n 's/.*"listener":\([0-9]*\).*/\1/p'
}

# rights: what each descriptor of the listener may be used for, as many times as there are such.
# CAP_RECV and CAP_SEND are other names for CAP_READ and CAP_WRITE (rights(4)).
rights() {
    procstat --libxo=json -f -C "$(listener)" | awk '
        BEGIN { RS = "{" }
        /"fd": *"?[0-9]/ {
            all = $0
            if (!sub(/.*"capabilities": *\[/, "", all)) all = ""
            sub(/\].*/, "", all)
            gsub(/"(re|sd)"/, "", all)
            gsub(/[^a-z]+/, " ", all)
            sub(/^ /, "", all)
            sub(/ $/, "", all)
            print all
        }' | sort | uniq -c | sed 's/^ *//'
}

confined_mode() {
    ssh_door 1h | configure ipfw
    start
    logged "the listener is confined: its own user, an empty root, limits, capsicum"
    says '"confined_by":["its own user, an empty root, limits","capsicum"]' ctl status --json \
        >"$work/last" || fail "status does not say by what it is confined"
    case $(ps -o state= -p "$(listener)") in
        *C*) ;;
        *) fail "the listener is not in capability mode" ;;
    esac
    case $(ps -o user= -p "$(listener)") in
        root*) fail "the listener is root's" ;;
    esac
    same "rights of the descriptors" "1 rd ev io
1 rd wr ev
3 wr" "$(rights)"
}

confined_limits() {
    ssh_door 1h | configure ipfw
    start
    procstat --libxo=json -l "$(listener)" 2>&1 | tr -d '" \n' >"$work/last"
    for limit in maxprocesses:0 filesize:0 coredumpsize:0 openfiles:2; do
        most=${limit#*:}
        grep "${limit%:*}:{soft_limit:$most,hard_limit:$most}" "$work/last" >/dev/null ||
            fail "the listener's limit is not $limit"
    done
}

confined_hears() {
    ssh_door 1h | configure ipfw
    start
    knock $friend4
    opens $friend4
    kept_out $stranger4
    # Its figures come by the one ioctl that it is left.
    wait_for 20 "packets are counted" says '"packets":' ctl status --json
    wait_for 20 "the listener counts" counted
    # What it tries itself before the first packet: files, connections, programs, signals,
    # tracing. Were one of them not refused, it would not listen.
    if grep -F 'can still' "$work/log" >"$work/last"; then
        fail "the listener is not confined"
    fi
}

counted() {
    ctl status | grep -E '^packets: [1-9]'
}

it "the listener: capability mode, and the rights of its descriptors" confined_mode
it "the listener: limits" confined_limits
it "the listener hears in capability mode" confined_hears
