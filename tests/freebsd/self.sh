#!/bin/sh
# shellcheck disable=SC1091,SC2034 # lib.sh is checked by itself, and uses what is set here
# Whether lib.sh reports and waits as it should; runs anywhere.
set -u

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/postern-self.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
unset POSTERN_TEST_SLOW POSTERN_TEST_ONLY

before_each() {
    rm -f "$work/tries"
}

explain() {
    shown "what stands" echo nothing
}

# third: succeeds when called for the third time.
third() {
    echo try >>"$work/tries"
    echo "$(($(wc -l <"$work/tries"))) of 3"
    [ "$(($(wc -l <"$work/tries")))" -ge 3 ]
}

t_passes() {
    must true
    must not false
    must says b printf 'abc\n'
    must not says d printf 'abc\n'
    fails_with 3 sh -c 'exit 3'
    wait_for 20 "the third try" third
    comes_to "a word" word echo word
    same "texts" "a
b" "$(printf 'a\nb\n')"
    must past $(($(date +%s) - 1))
    must not past $(($(date +%s) + 1))
}

t_waits() {
    wait_for 0 "an answer" sh -c 'echo no answer; exit 1'
    echo not reached
}

t_differs() {
    same "two texts" "a
b" a
}

t_must() {
    must sh -c 'echo said >&2; exit 7'
}

t_status() {
    fails_with 1 sh -c 'exit 2'
}

t_skips() {
    skip "nothing to do it with"
}

t_ends() {
    exit 9
}

said=$(
    . "$here/lib.sh"
    it "passes" t_passes
    it "waits in vain" t_waits
    it "differs" t_differs
    it "fails" t_must
    it "has another status" t_status
    it "is skipped" t_skips
    it "ends" t_ends
    POSTERN_TEST_ONLY=asse
    it "is left out" t_must
    it "passes again" t_passes
    summary || echo "and so the status is $?"
)
wanted="ok 1 - passes
not ok 2 - waits in vain
# waited 0 seconds in vain: an answer
# what the last try said:
#     no answer
# what stands:
#     nothing
not ok 3 - differs
# two texts: not as expected
# expected:
#     a
#     b
# found:
#     a
# what stands:
#     nothing
not ok 4 - fails
# failed with status 7: sh -c echo said >&2; exit 7
# what the last try said:
#     said
# what stands:
#     nothing
not ok 5 - has another status
# ended with status 2, not 1: sh -c exit 2
# what stands:
#     nothing
ok 6 - is skipped # SKIP nothing to do it with
not ok 7 - ends
# the test ended with status 9
# what stands:
#     nothing
ok 8 - passes again
1..8
2 passed, 5 failed, 1 skipped
and so the status is 1"
if [ "$said" != "$wanted" ]; then
    printf '%s\n' "tests/freebsd/lib.sh: expected" "$wanted" "found" "$said" >&2
    exit 1
fi
