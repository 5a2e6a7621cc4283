#!/bin/sh
# Fuzzes what reads others' bytes, with libFuzzer as cargo fuzz would but without it:
#
#   fuzz.sh           builds all targets, then runs each for FUZZ_SECONDS (30; those whose bytes
#                     are nobody's but ours for a third), FUZZ_JOBS (2) at once
#   fuzz.sh keep      puts into fuzz/corpus what fuzz/found has and reaches more than that
#   fuzz.sh build     builds only
#
# FUZZ_TARGETS names targets; fuzz/targets lists them. What is met on the way stays in fuzz/found,
# and is where the next run begins; what a target fails at in fuzz/artifacts.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
seconds=${FUZZ_SECONDS:-30}
jobs=${FUZZ_JOBS:-2}
host=$(${RUSTC:-rustc} -vV | sed -n 's/^host: //p')
dir=fuzz/target/$host/release

say() {
    printf 'fuzz: %s\n' "$*"
}

# The lines of fuzz/targets that say something.
table() {
    grep -v -e '^#' -e '^$' fuzz/targets
}

# The flags of cargo fuzz 0.13 with --sanitizer none, which are all stable: no target has unsafe
# code of its own.
build() {
    flags="--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module"
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        flags="$flags -Cllvm-args=-sanitizer-coverage-$option"
    done
    flags="$flags -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
    case $host in
        *-linux-*) flags="$flags -Cllvm-args=-sanitizer-coverage-stack-depth" ;;
    esac
    say "building"
    env -u CARGO_TARGET_DIR RUSTFLAGS="$flags" "$cargo" build --locked --release --bins \
        --manifest-path fuzz/Cargo.toml --target-dir fuzz/target --target "$host"
}

# one NAME LONGEST PART [SEEDS...]: fuzzes one target.
one() {
    name=$1 longest=$2 part=$3
    shift 3
    log=fuzz/found/$name.log
    artifacts=fuzz/artifacts/$name/
    mkdir -p "fuzz/found/$name" "fuzz/corpus/$name" "$artifacts"
    dictionary=
    [ ! -f "fuzz/$name.dict" ] || dictionary=-dict=fuzz/$name.dict
    # shellcheck disable=SC2086 # no word at all where there is no dictionary
    if "$dir/$name" -max_total_time=$((seconds / part)) -max_len="$longest" -timeout=20 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$artifacts" $dictionary \
        "fuzz/found/$name" "fuzz/corpus/$name" "$@" >"$log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        edges=$(sed -n 's/^#.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
        say "$name: $executions executions, $edges edges, no crash"
        return
    fi
    tail -n 40 "$log"
    say "$name: FAILED; the whole of it is in $log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    if [ -n "$input" ]; then
        say "$name: to see it again: $dir/$name $input"
        say "$name: to keep it: put it into fuzz/corpus/$name, under a name that says what it" \
            "found; cargo test --test fuzz runs it from then on"
    fi
    return 1
}

# keep_one NAME: puts into the corpus of one target the inputs that reach more code than it does.
keep_one() {
    name=$1
    [ -d "fuzz/found/$name" ] || return 0
    before=$(find "fuzz/corpus/$name" -type f | wc -l)
    "$dir/$name" -set_cover_merge=1 -use_counters=0 "fuzz/corpus/$name" "fuzz/found/$name" \
        >"fuzz/found/$name.log" 2>&1
    after=$(find "fuzz/corpus/$name" -type f | wc -l)
    say "$name: $((after - before)) inputs more, $after in all"
}

# chosen COMMAND: runs this script with it and a target's line, for each that is wanted.
chosen() {
    table | while read -r name rest; do
        case " ${FUZZ_TARGETS:-$name} " in
            *" $name "*) echo "$1 $name $rest" ;;
        esac
    done
}

case ${1:-run} in
    run)
        for name in ${FUZZ_TARGETS:-}; do
            table | grep -q "^$name " || {
                say "there is no target $name; fuzz/targets lists them"
                exit 1
            }
        done
        build
        say "each for $seconds s or a part of it, $jobs at once"
        chosen one | xargs -P "$jobs" -L 1 "$0"
        ;;
    keep)
        build
        chosen keep_one | xargs -L 1 "$0"
        ;;
    build) build ;;
    one | keep_one) "$@" ;;
    *)
        say "unknown: $1 (keep, build, or nothing)"
        exit 1
        ;;
esac
