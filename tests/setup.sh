#!/bin/sh
# Makes sure that what a job needs is there: setup.sh [build] [test] [lint] [fuzz]
# [freebsd-cross] [windows-cross] [wine] ("build test" when none is named).
#
#   build           a linker, libpcap with its headers, cargo
#   test            what demo and end-to-end tests run: nft, sshd, knock, knockd, fwknop, nmap, ...,
#                   and bmake for the port
#   bench           what ours is measured beside: knockd, fwknopd, tcpdump; nft, and valgrind
#   lint            shellcheck, mandoc, bmake
#   fuzz            a C++ compiler, for libFuzzer
#   freebsd-cross   Debian's Rust with the standard library's source, and Python for zig
#   windows-cross   the same Rust, and a linker for Windows
#   wine            what runs postern.exe, and the curl that its tests hand to wine's cmd
#
# As root on Debian what is missing is installed and named; no service is started or enabled by
# it. Elsewhere it is only named. When nothing is missing this does nothing.
set -eu

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
system=$(uname -s)

say() {
    printf 'setup: %s\n' "$*"
}

complain() {
    printf 'setup: %s\n' "$*" >&2
}

# The packages of one job, each with a command or a file by which its presence is known.
packages() {
    case $system/$1 in
        Linux/build)
            printf '%s\n' 'gcc cc' 'libc6-dev /usr/include/stdlib.h' \
                'libpcap-dev /usr/include/pcap/pcap.h'
            ;;
        Linux/test)
            printf '%s\n' 'bmake bmake' 'curl curl' 'fwknop-client fwknop' 'fwknop-server fwknopd' \
                'git git' 'inetutils-telnet telnet' 'iproute2 ip' 'iptables iptables' \
                'iputils-ping ping' 'knockd knock' 'netcat-openbsd nc.openbsd' 'nftables nft' \
                'nmap nmap' 'openssh-client ssh' 'openssh-server sshd' 'putty-tools plink' \
                'tcpdump tcpdump'
            ;;
        Linux/bench)
            printf '%s\n' 'fwknop-server fwknopd' 'iproute2 ip' 'iptables iptables' 'knockd knockd' \
                'nftables nft' 'tcpdump tcpdump' 'util-linux taskset' 'valgrind valgrind'
            ;;
        Linux/lint)
            printf '%s\n' 'bmake bmake' 'mandoc mandoc' 'shellcheck shellcheck'
            ;;
        Linux/fuzz)
            printf '%s\n' 'g++ c++'
            ;;
        Linux/freebsd-cross)
            printf '%s\n' 'binutils readelf' 'cargo-web /usr/bin/cargo' 'file file' \
                'python3-pip /usr/bin/pip3' 'rust-web-clippy /usr/bin/cargo-clippy' \
                'rust-web-src /usr/lib/rustlib/src' 'rustc-web /usr/bin/rustc'
            ;;
        Linux/windows-cross)
            printf '%s\n' 'cargo-web /usr/bin/cargo' 'file file' \
                'gcc-mingw-w64-x86-64-win32 x86_64-w64-mingw32-gcc' \
                'rust-web-clippy /usr/bin/cargo-clippy' 'rust-web-src /usr/lib/rustlib/src' \
                'rustc-web /usr/bin/rustc'
            ;;
        Linux/wine)
            printf '%s\n' 'curl curl' 'wine wine' 'wine64 /usr/lib/wine/wine64'
            ;;
        FreeBSD/build)
            printf '%s\n' 'rust cargo'
            ;;
        FreeBSD/lint)
            printf '%s\n' 'hs-ShellCheck shellcheck' 'mandoc mandoc'
            ;;
        Linux/* | FreeBSD/*) ;;
        *)
            complain "$system: Postern is for FreeBSD and Linux"
            exit 1
            ;;
    esac
}

# Those of them that are missing.
missing() {
    packages "$1" | while read -r package sign; do
        case $sign in
            /*) [ -e "$sign" ] || echo "$package" ;;
            *) command -v "$sign" >/dev/null || echo "$package" ;;
        esac
    done
}

# Debian starts a service when its package is installed, and at every boot from then on. Neither
# is wanted of sshd, knockd and fwknopd here.
policy=/usr/sbin/policy-rc.d

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if [ -e $policy ]; then
        status=0
        $policy ssh start >/dev/null 2>&1 || status=$?
        if [ $status -ne 101 ]; then
            complain "$policy lets services start; install these by hand: $*"
            exit 1
        fi
    else
        trap 'rm -f $policy' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get -qq update || complain "apt-get update failed; going on with what is known"
    apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 --no-install-recommends \
        install "$@" </dev/null
    for package; do
        case $package in
            openssh-server) service=ssh ;;
            fwknop-server | knockd) service=$package ;;
            *) continue ;;
        esac
        update-rc.d "$service" disable >/dev/null 2>&1 || true
        say "$package is there for its program; its service is neither started nor enabled"
    done
}

[ $# -gt 0 ] || set -- build test
want=
for job; do
    # Without root nothing of it can be used: namespaces are root's.
    case $job in
        test | bench) [ "$(id -u)" -eq 0 ] || continue ;;
    esac
    want="$want $(missing "$job")"
done
# shellcheck disable=SC2086 # one word a package
set -- $want

if [ $# -gt 0 ]; then
    if [ "$system" = FreeBSD ]; then
        how="pkg install -y"
    elif [ -x /usr/bin/apt-get ]; then
        how="apt-get install -y --no-install-recommends"
    else
        complain "missing (by Debian's package names): $*"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        complain "missing: $*"
        complain "as root: $how $*"
        exit 1
    fi
    say "installing $*"
    case $system in
        FreeBSD) pkg install -y "$@" ;;
        *) apt_install "$@" ;;
    esac
fi

if ! command -v cargo >/dev/null; then
    complain "cargo is missing. Rust 1.88 or later: https://rustup.rs, or pkg install rust on"
    complain "FreeBSD, or apt-get install cargo-web on Debian 12"
    exit 1
fi
