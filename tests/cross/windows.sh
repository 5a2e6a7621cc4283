#!/bin/sh
# Lints, builds and tests postern, the client, for Windows on Debian 12: windows.sh
# [clippy|build|test]... (all three when none is named).
#
# The compiler is Debian's, which brings the standard library's source, and that is compiled for
# Windows as well; the linker is Debian's mingw. wine runs what was built, in namespaces with a
# real posternd: tests/e2e/windows.rs. What is built stands in target/cross.
set -eu

cd "$(dirname "$0")/../.."
target=x86_64-pc-windows-gnu
dir=$PWD/target/cross
built=$dir/$target/release

say() {
    printf 'windows: %s\n' "$*"
}

die() {
    printf 'windows: %s\n' "$*" >&2
    exit 1
}

# for_windows SUBCOMMAND [ARGUMENT...]: the client, with a standard library made for Windows.
# That is made without backtraces: nothing in a stripped program could name their places.
for_windows() {
    sub=$1
    shift
    tests/cross/cargo.sh "$sub" --locked -Z build-std=std,panic_abort \
        -Z build-std-features=panic-unwind --target $target --release \
        --no-default-features --features client "$@"
}

clippy() {
    say "clippy, the client, warnings are errors"
    for_windows clippy --lib --bins -- -D warnings
}

build() {
    say "building the client"
    for_windows build --bin postern
    examine "$built/postern.exe"
}

# Is it a program for the console that needs only what every Windows has?
examine() {
    case $(file -b "$1") in
        "PE32+ executable (console) x86-64"*) ;;
        *) die "$1 is no Windows program: $(file -b "$1")" ;;
    esac
    needed=$(x86_64-w64-mingw32-objdump -p "$1" | sed -n 's/.*DLL Name: //p' | tr '[:upper:]' '[:lower:]')
    for library in $needed; do
        case $library in
            advapi32.dll | api-ms-win-core-synch-l1-2-0.dll | bcryptprimitives.dll | \
                iphlpapi.dll | kernel32.dll | msvcrt.dll | ntdll.dll | userenv.dll | ws2_32.dll) ;;
            *) die "$1 needs $library, which Windows does not have or a client need not" ;;
        esac
    done
    # shellcheck disable=SC2086 # several words on purpose
    say "${1#"$PWD/"}: for the console, needs" $needed
}

# Runs the end-to-end tests of postern.exe, with a wine of their own, which is gone afterwards.
run_tests() {
    [ "$(id -u)" -eq 0 ] || die "tests need root, for network namespaces"
    tests/setup.sh build test wine
    [ -f "$built/postern.exe" ] || die "no $built/postern.exe: make windows"
    work=$(mktemp -d "${TMPDIR:-/tmp}/postern-wine.XXXXXX")
    # No display is needed, and nothing that would ask for one: no .NET, no HTML, no menus.
    export WINEPREFIX="$work/prefix" WINEARCH=win64 WINEDEBUG=-all
    export WINEDLLOVERRIDES="bcryptprimitives=n;mscoree,mshtml,winemenubuilder.exe="
    unset DISPLAY
    trap 'wineserver -k || true; wineserver -w || true; rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir "$work/postern"
    cp "$built/postern.exe" "$work/postern"
    x86_64-w64-mingw32-gcc -O2 -Wall -Wextra -Werror -shared -o "$work/postern/bcryptprimitives.dll" \
        tests/cross/bcryptprimitives.c -ladvapi32
    say "setting up wine"
    wineboot --init >"$work/wineboot" 2>&1 || {
        cat "$work/wineboot" >&2
        die "wineboot failed"
    }
    # It holds the namespace in which it was started: each test starts one in its own.
    wineserver -k || true
    wineserver -w
    say "end-to-end tests under wine"
    POSTERN_WINDOWS="$work/postern" "${CARGO:-cargo}" test --locked --features e2e --test e2e \
        -- --ignored windows::
}

[ $# -gt 0 ] || set -- clippy build test
[ "$(uname -s)" = Linux ] || die "this runs on Debian"
case " $* " in
    *" clippy "* | *" build "*) tests/setup.sh windows-cross ;;
esac
for step; do
    case $step in
        clippy | build) $step ;;
        test) run_tests ;;
        *) die "unknown step: $step (clippy, build, test)" ;;
    esac
done
