#!/bin/sh
# Formatting, clippy, documentation, shell scripts, manual pages, the Makefile under both makes:
# a warning is an error.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

# run COMMAND...: says what it does, then does it.
run() {
    printf 'lint: %s\n' "$*"
    "$@"
}

run "$cargo" fmt --check
run "$cargo" clippy --locked --all-targets --all-features -- -D warnings
run "$cargo" clippy --locked --no-default-features --features client --lib --bins -- -D warnings
run "$cargo" fmt --check --manifest-path fuzz/Cargo.toml
# Nothing is linked, so libFuzzer need not be compiled.
run env CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a "$cargo" clippy --locked --all-targets \
    --manifest-path fuzz/Cargo.toml --target-dir fuzz/target -- -D warnings
run env RUSTDOCFLAGS="-D warnings" "$cargo" doc --locked --no-deps --all-features
# shellcheck disable=SC2046 # one word a script
run shellcheck .ci/run $(find tests -name '*.sh')
# FreeBSD's sh is an Almquist shell, as dash is.
if command -v dash >/dev/null; then
    for script in tests/freebsd/*.sh; do
        run dash -n "$script"
    done
fi
run mandoc -T lint -W warning man/*
# What make itself would hand on to a make beneath it does not concern the other one.
unset MAKEFLAGS MFLAGS MAKELEVEL
for make in make bmake; do
    command -v $make >/dev/null || continue
    echo "lint: $make -n, every target"
    $make -n all build demo test lint freebsd fuzz install clean >/dev/null
done
