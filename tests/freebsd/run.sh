#!/bin/sh
# shellcheck disable=SC1090,SC1091,SC2154 # the files that it sources are checked by themselves
# What Linux cannot show: posternd on a FreeBSD kernel with its real ipfw and pf.
#
#   sh tests/freebsd/run.sh BINDIR [ipfw numbers drive repair trial confine gateway knocks pf render live article rc]
#
# BINDIR holds posternd, posternctl and postern, built wherever. As root, on FreeBSD 12.1 or
# later with VIMAGE (as GENERIC has it); nothing but the base system is needed. Server and client
# are vnet jails with an epair between them, so that the host's own rules, addresses and rc.conf
# stay as they are. ipfw.ko and pf.ko are loaded if they are not there, ipfw to accept by
# default, and stay loaded.
#
#   POSTERN_TEST_SLOW=N      a slow machine: all limits, leases and trials are N times as long
#   POSTERN_TEST_ONLY=WORDS  only the tests whose names contain the words
#
# Prints TAP. The last line says how many passed and failed.
set -u
umask 077
export PATH=/sbin:/bin:/usr/sbin:/usr/bin LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)

cannot() {
    printf 'Bail out! %s\n' "$*"
    exit 1
}

[ $# -gt 0 ] || cannot "usage: run.sh BINDIR [FILE ...]"
[ "$(uname -s)" = FreeBSD ] || cannot "this is $(uname -s), not FreeBSD"
[ "$(id -u)" -eq 0 ] || cannot "only root can make jails and drive packet filters"
[ "$(sysctl -i -n kern.features.vimage)" = 1 ] || cannot "this kernel has no VIMAGE"
bin=$(cd "$1" && pwd) || cannot "there is no directory $1"
shift
for program in posternd posternctl postern; do
    [ -x "$bin/$program" ] || cannot "there is no $bin/$program"
    "$bin/$program" --version >/dev/null 2>&1 || cannot "$bin/$program does not run here"
done
case ${POSTERN_TEST_SLOW:-1} in
    '' | 0 | *[!0-9]*) cannot "POSTERN_TEST_SLOW is no whole number of at least 1" ;;
esac
[ $# -gt 0 ] || set -- ipfw numbers drive repair trial confine gateway knocks pf render live article rc
for file; do
    [ -f "$here/$file.sh" ] || cannot "there is no $here/$file.sh"
done

# posternd believes only what root alone can write.
work=$(mktemp -d "${TMPDIR:-/tmp}/postern-test.XXXXXX") || cannot "no directory can be made"
. "$here/lib.sh"
. "$here/lab.sh"
. "$here/lines.sh"

cleanup() {
    trap '' HUP INT TERM
    raze_lab
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

note "$(uname -srm), $("$bin/posternd" --version), limits times $slow"
build_lab
for file; do
    note "$file"
    . "$here/$file.sh"
done
clean_slate
summary
