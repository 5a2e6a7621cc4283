#!/bin/sh
# Every test that can run here: as root on Linux the end-to-end tests too, as root on FreeBSD the
# suite in tests/freebsd.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
sh tests/freebsd/self.sh

if [ "$(uname -s)" = FreeBSD ]; then
    "$cargo" test --locked
    if [ "$(id -u)" -ne 0 ]; then
        echo "test: without tests/freebsd: it needs root"
        exit
    fi
    "$cargo" build --locked
    exec sh tests/freebsd/run.sh "${CARGO_TARGET_DIR:-target}/debug"
fi

if [ "$(uname -s)" != Linux ]; then
    why="they need Linux"
elif [ "$(id -u)" -ne 0 ]; then
    why="they need root"
elif ! unshare --net --mount true 2>/dev/null; then
    why="no network namespaces can be made here"
    # A machine that tests for others must not pass by leaving out.
    [ "${CI:-}" != true ] || {
        echo "test: the end-to-end tests cannot run: $why" >&2
        exit 1
    }
else
    why=
fi

if [ -z "$why" ]; then
    echo "test: everything, end-to-end tests in network namespaces included"
    # They mostly wait.
    export RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}"
    "$cargo" build --locked --features e2e
    tests/port.sh "${CARGO_TARGET_DIR:-target}/debug"
    exec "$cargo" test --locked --features e2e
fi
echo "test: without the end-to-end tests: $why"
exec "$cargo" test --locked
