#!/bin/sh
# Makes Makefile.crates and distinfo from Cargo.lock: crates.sh [--check]
#
# With --check nothing is written, and it fails if they are not what they should be. Sizes are
# those of the files that cargo has fetched; what is missing is fetched. The lines of the port's
# own distfile are not there: make dist adds them to a copy.
set -eu
export LC_ALL=C

cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
cache=${CARGO_HOME:-$HOME/.cargo}/registry/cache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() {
    printf 'crates: %s\n' "$*" >&2
    exit 1
}

# crate NAME-VERSION: its file.
crate() {
    for file in "$cache"/*/"$1.crate"; do
        [ -f "$file" ] && echo "$file" && return
    done
    return 1
}

sum() {
    if command -v sha256sum >/dev/null; then
        sha256sum <"$1" | cut -d ' ' -f 1
    else
        sha256 -q "$1"
    fi
}

# A line a crate of the registry: NAME-VERSION CHECKSUM
awk -F '"' '
    /^name = / { name = $2 }
    /^version = / { version = $2 }
    /^source = / && !/registry/ { print name " is of no registry" >"/dev/stderr"; exit 1 }
    /^checksum = / { print name "-" version, $2 }
' Cargo.lock >"$work/crates"
[ -s "$work/crates" ] || die "Cargo.lock names no crates"

while read -r name _; do
    crate "$name" >/dev/null || {
        CARGO_NET_RETRY=10 "$cargo" fetch --quiet --locked
        break
    }
done <"$work/crates"

awk '
    NR > 1 { print line " \\" }
    { line = (NR == 1 ? "CARGO_CRATES=\t" : "\t\t") $1 }
    END { print line }
' "$work/crates" >"$work/Makefile.crates"

while read -r name checksum; do
    file=$(crate "$name") || die "$name was not fetched"
    [ "$(sum "$file")" = "$checksum" ] || die "$file is not what Cargo.lock says"
    echo "SHA256 (rust/crates/$name.crate) = $checksum"
    echo "SIZE (rust/crates/$name.crate) = $(($(wc -c <"$file")))"
done <"$work/crates" >"$work/lines"

if [ "${1:-}" = --check ]; then
    cmp -s "$work/Makefile.crates" port/Makefile.crates ||
        die "port/Makefile.crates is not what Cargo.lock says: make crates"
    sed 1d port/distinfo | cmp -s "$work/lines" - ||
        die "port/distinfo is not what Cargo.lock says: make crates"
    exit
fi

cp "$work/Makefile.crates" port/Makefile.crates
# As the time does in makesum, it says when the rest last changed.
if [ -f port/distinfo ] && sed 1d port/distinfo | cmp -s "$work/lines" -; then
    exit
fi
{
    echo "TIMESTAMP = $(date +%s)"
    cat "$work/lines"
} >port/distinfo
