# shellcheck shell=sh disable=SC3043,SC2154 # FreeBSD's sh has local; run.sh sets work
# TAP, conditions with limits, and failures that explain themselves.
#
# Whoever sources it sets `work`, a directory, and defines two functions: before_each, run before
# every test, and explain, which prints what stands when one has failed.

# Limits are multiplied by it.
slow=${POSTERN_TEST_SLOW:-1}
number=0
passed=0
failed=0
skipped=0

# note TEXT: a line that is no result.
note() {
    printf '# %s\n' "$*"
}

# notes: standard input as such lines.
notes() {
    sed 's/^/#     /'
}

# shown TITLE COMMAND...: what a command says, as such lines.
shown() {
    note "$1:"
    shift
    "$@" 2>&1 </dev/null | notes
}

# it NAME FUNCTION: runs a test, in a shell of its own.
it() {
    local status
    case $1 in
        *"${POSTERN_TEST_ONLY:-}"*) ;;
        *) return 0 ;;
    esac
    number=$((number + 1))
    rm -f "$work/why" "$work/skip" "$work/last"
    before_each
    status=0
    ("$2") </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        failed=$((failed + 1))
        printf 'not ok %d - %s\n' "$number" "$1"
        if [ -s "$work/why" ]; then
            sed 's/^/# /' "$work/why"
        else
            note "the test ended with status $status"
        fi
        if [ -s "$work/last" ]; then
            shown "what the last try said" tail -n 40 "$work/last"
        fi
        explain
    elif [ -s "$work/skip" ]; then
        skipped=$((skipped + 1))
        printf 'ok %d - %s # SKIP %s\n' "$number" "$1" "$(cat "$work/skip")"
    else
        passed=$((passed + 1))
        printf 'ok %d - %s\n' "$number" "$1"
    fi
}

# fail TEXT: ends the test that runs.
fail() {
    printf '%s\n' "$*" >"$work/why"
    exit 1
}

# skip WHY: ends the test that runs; it could not be done here.
skip() {
    printf '%s\n' "$*" >"$work/skip"
    exit 0
}

# must COMMAND...: a command that has to succeed.
must() {
    "$@" >"$work/last" 2>&1 || fail "failed with status $?: $*"
}

# fails_with STATUS COMMAND...: a command that has to end with this status.
fails_with() {
    local wanted status
    wanted=$1
    shift
    status=0
    "$@" >"$work/last" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || fail "ended with status $status, not $wanted: $*"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local limit what end
    limit=$(($1 * slow))
    what=$2
    shift 2
    end=$(($(date +%s) + limit))
    until "$@" >"$work/last" 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || fail "waited $limit seconds in vain: $what"
        sleep 0.2
    done
}

# not COMMAND...: succeeds if it does not, for conditions.
not() {
    ! "$@"
}

# past TIME: whether that second is over.
past() {
    [ "$(date +%s)" -gt "$1" ]
}

# says TEXT COMMAND...: whether the command prints the text somewhere.
says() {
    local text said
    text=$1
    shift
    said=$("$@" 2>&1)
    printf '%s\n' "$said"
    case $said in
        *"$text"*) ;;
        *) return 1 ;;
    esac
}

# same WHAT EXPECTED FOUND: two texts that have to be equal.
same() {
    [ "$2" = "$3" ] || fail "$1: not as expected
expected:
$(printf '%s\n' "$2" | sed 's/^/    /')
found:
$(printf '%s\n' "$3" | sed 's/^/    /')"
}

# comes_to WHAT EXPECTED COMMAND...: until the command prints the expected text.
comes_to() {
    local what expected found end
    what=$1
    expected=$2
    shift 2
    end=$(($(date +%s) + 20 * slow))
    while :; do
        found=$("$@" 2>&1)
        [ "$found" != "$expected" ] || return 0
        [ "$(date +%s)" -lt "$end" ] || break
        sleep 0.2
    done
    same "$what" "$expected" "$found"
}

# summary: the plan and the last line; fails if a test did.
summary() {
    printf '1..%d\n' "$number"
    if [ "$skipped" -gt 0 ]; then
        printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    else
        printf '%d passed, %d failed\n' "$passed" "$failed"
    fi
    [ "$failed" -eq 0 ] && [ "$number" -gt 0 ]
}
