#!/bin/sh
# Everything that is measured: run.sh [WORD]... (see `make bench`).
#
#   1. rooms: the time of an arrival in each of the rooms that decide
#   2. instructions: the same cases, counted
#   3. fire: real packets, beside knockd, fwknopd and tcpdump. As root on Linux
#
# What the first two say stands in benches/RESULTS.md behind the tables of the third. With words
# (or --quick) only the third runs, and nothing is written. Elsewhere only the first runs.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

# The features are those that fire needs, also for the others: all is compiled once.
bench() {
    "$cargo" bench --locked --features e2e "$@"
}

if [ "$(uname -s)" != Linux ]; then
    echo "bench: only the rooms by themselves: all else needs Linux"
    bench --bench rooms
    exit
fi
if [ $# -gt 0 ]; then
    bench --bench fire -- "$@"
    exit
fi

out=${CARGO_TARGET_DIR:-target}/bench
mkdir -p "$out"
# Compiled before anything is timed.
bench --bench rooms --bench fire --no-run

# saved FILE COMMAND...: shows what it says and keeps it in the file; fails as the command does.
saved() {
    file=$1
    shift
    rm -f "$file.whole"
    { "$@" && : >"$file.whole"; } | tee "$file"
    [ -e "$file.whole" ]
}

saved "$out/rooms.txt" bench --quiet --bench rooms -- --color never --sort location
saved "$out/instructions.txt" benches/instructions.sh
bench --bench fire -- \
    --appendix "The time of an arrival, room by room=$out/rooms.txt" \
    --appendix "The instructions of an arrival, room by room=$out/instructions.txt"
