#!/bin/sh
# Checks, lints and links Postern for FreeBSD on Debian 12: freebsd.sh [check|clippy|link]...
# (all three when none is named).
#
# The compiler is Debian's (rustc-web and friends), since Debian packs the standard library's
# source with it and it is compiled here for FreeBSD as well. The linker is zig's, which carries
# FreeBSD's libc; the libraries that it does not carry are stood in for by empty ones of the same
# name, so that the programs ask for the right ones when they run. Everything is made under
# target/cross; the cargo that comes first in PATH is not touched.
set -eu

cd "$(dirname "$0")/../.."
target=x86_64-unknown-freebsd
dir=$PWD/target/cross
zig=$dir/python/ziglang/zig

say() {
    printf 'freebsd: %s\n' "$*"
}

die() {
    printf 'freebsd: %s\n' "$*" >&2
    exit 1
}

# Debian's packages, and Python's for the pinned zig.
tools() {
    [ "$(uname -s)" = Linux ] || die "this runs on Debian; on FreeBSD build natively: make"
    tests/setup.sh freebsd-cross
    if ! cmp -s tests/cross/ziglang.txt "$dir/python/ziglang.txt"; then
        say "fetching zig from PyPI into target/cross/python"
        rm -rf "$dir/python"
        /usr/bin/python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --require-hashes --only-binary :all: --target "$dir/python" -r tests/cross/ziglang.txt
        cp tests/cross/ziglang.txt "$dir/python/ziglang.txt"
    fi
    cat >"$dir/cc" <<END
#!/bin/sh
ZIG_GLOBAL_CACHE_DIR='$dir/zig' ZIG_LOCAL_CACHE_DIR='$dir/zig' exec '$zig' cc -target x86_64-freebsd "\$@"
END
    chmod +x "$dir/cc"
}

# stub NAME SONAME [SYMBOL...]: a shared library that holds these symbols and does nothing.
stub() {
    name=$1 soname=$2
    shift 2
    for symbol; do
        echo "void $symbol(void) {}"
    done >"$dir/lib/$name.c.new"
    if ! cmp -s "$dir/lib/$name.c.new" "$dir/lib/$name.c" || [ ! -f "$dir/lib/lib$name.so" ]; then
        mv "$dir/lib/$name.c.new" "$dir/lib/$name.c"
        "$dir/cc" -shared -nostdlib -Wl,-soname,"$soname" -o "$dir/lib/lib$name.so" "$dir/lib/$name.c"
    fi
}

# Stand-ins for the libraries of FreeBSD's base system that zig lacks. The first four are named
# by Rust's libc crate and give it nothing that is used here; of libpcap, what the pcap crate
# and we declare.
libraries() {
    mkdir -p "$dir/lib"
    stub kvm libkvm.so.7
    stub memstat libmemstat.so.3
    stub procstat libprocstat.so.1
    stub devstat libdevstat.so.7
    declared='s/^ *\(pub \)\{0,1\}fn \(pcap_[a-z0-9_]*\)(.*/\2/p'
    raw=$(cargo_freebsd metadata --format-version 1 --locked --filter-platform $target |
        /usr/bin/python3 -c 'import json, os, sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] == "pcap":
        print(os.path.dirname(p["manifest_path"]))')/src/raw.rs
    [ -f "$raw" ] || die "no pcap crate at $raw"
    symbols=$(find src -name '*.rs' -exec sed -n "$declared" "$raw" {} + | sort -u)
    # shellcheck disable=SC2086 # one word a symbol
    stub pcap libpcap.so.8 $symbols
}

cargo_freebsd() {
    env CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER="$dir/cc" \
        CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS="-Lnative=$dir/lib" \
        CC_x86_64_unknown_freebsd="$dir/cc" \
        LIBPCAP_LIBDIR="$dir/lib" \
        LIBPCAP_VER=1.10.4 \
        tests/cross/cargo.sh "$@"
}

# build SUBCOMMAND [ARGUMENT...]: with a standard library made for FreeBSD.
build() {
    sub=$1
    shift
    cargo_freebsd "$sub" --locked -Z build-std=std,panic_abort,test --target $target "$@"
}

check() {
    say "cargo check, everything"
    build check --all-targets
}

clippy() {
    say "clippy, everything, warnings are errors"
    build clippy --all-targets -- -D warnings
    say "clippy, the client alone"
    build clippy --no-default-features --features client --lib --bins -- -D warnings
}

link() {
    say "building the three programs"
    build build --release --bins
    for program in posternd posternctl postern; do
        examine "$dir/$target/release/$program"
    done
}

# Is it a FreeBSD program that needs only what FreeBSD's base system has?
examine() {
    case $(file -b "$1") in
        "ELF 64-bit"*"x86-64"*" for FreeBSD "*) ;;
        *) die "$1 is no FreeBSD program: $(file -b "$1")" ;;
    esac
    needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    for library in $needed; do
        case $library in
            libc.so.7 | libthr.so.3 | libgcc_s.so.1 | libm.so.5 | libexecinfo.so.1 | \
                librt.so.1 | libutil.so.[0-9]* | libpcap.so.8) ;;
            *) die "$1 needs $library, which FreeBSD's base system does not have" ;;
        esac
    done
    # shellcheck disable=SC2086 # several words on purpose
    say "${1##*/}: FreeBSD ELF, needs" $needed
}

[ $# -gt 0 ] || set -- check clippy link
mkdir -p "$dir"
tools
libraries
for step; do
    case $step in
        check | clippy | link) $step ;;
        *) die "unknown step: $step (check, clippy, link)" ;;
    esac
done
