#!/bin/sh
# Counts the instructions of each case of benches/cases by callgrind, and prints a table:
#
#   instructions.sh [WORD]...    the cases whose name has one of the words; all when there is none
#
# A count is the same in every run, however busy the machine. Valgrind's processor has AES
# instructions but no SHA ones: what the room spa computes costs a real one fewer.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
arrivals=2000

# Callgrind finds `measured` by its name, which release builds do not keep.
counted=$("$cargo" rustc --locked --profile bench --features e2e --bench counted \
    --message-format=json -- -C strip=none |
    sed -n '/"kind":\["bench"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 1' HUP INT TERM

# wanted NAME WORD...: whether one of the words is in the name, or there is none.
wanted() {
    name=$1
    shift
    [ $# -gt 0 ] || return 0
    for word; do
        case $name in
            *"$word"*) return 0 ;;
        esac
    done
    return 1
}

printf '%-62s %12s\n' "case" "instructions"
"$counted" >"$out/cases"
while read -r name; do
    wanted "$name" "$@" || continue
    valgrind --tool=callgrind --callgrind-out-file="$out/counts" \
        --toggle-collect='counted::measured*' "$counted" "$name" "$arrivals" \
        >"$out/said" 2>&1 </dev/null || {
        cat "$out/said" >&2
        exit 1
    }
    counts=$(sed -n 's/^totals: *//p' "$out/counts")
    awk -v name="$name" -v counts="$counts" -v arrivals="$arrivals" \
        'BEGIN { printf "%-62s %12.1f\n", name, counts / arrivals }'
done <"$out/cases"
