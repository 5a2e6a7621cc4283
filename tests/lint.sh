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
# The bench of real packets is for Linux.
targets=--all-targets
[ "$(uname -s)" = Linux ] || targets='--lib --bins --tests'
# shellcheck disable=SC2086 # several words
run "$cargo" clippy --locked $targets --all-features -- -D warnings
run "$cargo" clippy --locked --no-default-features --features client --lib --bins -- -D warnings
run "$cargo" fmt --check --manifest-path fuzz/Cargo.toml
# Nothing is linked, so libFuzzer need not be compiled.
run env CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a "$cargo" clippy --locked --all-targets \
    --manifest-path fuzz/Cargo.toml --target-dir fuzz/target -- -D warnings
run env RUSTDOCFLAGS="-D warnings" "$cargo" doc --locked --no-deps --all-features
# shellcheck disable=SC2046 # one word a script
run shellcheck .ci/run $(find tests benches -name '*.sh') tests/port/daemon tests/port/rc.subr \
    etc/rc.firewall rc.d/*.in
# FreeBSD's sh is an Almquist shell, as dash is.
if command -v dash >/dev/null; then
    for script in tests/freebsd/*.sh rc.d/*.in; do
        run dash -n "$script"
    done
fi
# What posternd is linked with; Cargo.toml has the reason for each that we name (tests/house.rs).
most=60
for target in x86_64-unknown-freebsd x86_64-unknown-linux-gnu; do
    tree=$("$cargo" tree --locked --edges normal,no-proc-macro --no-default-features \
        --features daemon --target "$target" --prefix none --format '{p}')
    crates=$(printf '%s\n' "$tree" | sed 's/ (.*//' | grep -v '^postern ' | sort -u | wc -l)
    echo "lint: $((crates)) crates linked into posternd for $target"
    if [ "$crates" -ge "$most" ]; then
        echo "lint: they shall be fewer than $most" >&2
        exit 1
    fi
done
run mandoc -T lint -W warning man/*
# What make itself would hand on to a make beneath it does not concern the other one.
unset MAKEFLAGS MFLAGS MAKELEVEL
for make in make bmake; do
    command -v $make >/dev/null || continue
    echo "lint: $make -n, every target"
    $make -n all build completions demo bench bench-quick test lint freebsd windows test-windows fuzz install clean >/dev/null
done
