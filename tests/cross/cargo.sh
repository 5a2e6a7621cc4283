#!/bin/sh
# Debian's cargo, whichever comes first in PATH, with what is made under target/cross: cargo.sh
# SUBCOMMAND [ARGUMENT...]. -Z build-std works with it, since Debian packs the standard library's
# source with its compiler.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
program=/usr/bin/cargo
# cargo would look for it in ~/.cargo/bin first.
[ "$1" != clippy ] || program=/usr/bin/cargo-clippy
exec env -u RUSTUP_TOOLCHAIN \
    PATH="/usr/bin:/bin:/usr/sbin:/sbin" \
    CARGO=/usr/bin/cargo \
    RUSTC=/usr/bin/rustc \
    RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_DIR="$top/target/cross" \
    "$program" "$@"
