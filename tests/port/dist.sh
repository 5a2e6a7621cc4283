#!/bin/sh
# Makes the port's distfile from the last commit, and a distinfo that has its lines: the same
# bytes wherever it is made. Both are in target/dist then.
set -eu

cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=postern-$version
dir=target/dist
file=$dir/$name.tar.gz

git rev-parse --verify --quiet HEAD >/dev/null || {
    echo "dist: this is no clone: the distfile is made from a commit" >&2
    exit 1
}
git diff --quiet HEAD || echo "dist: what is not committed is left out" >&2
mkdir -p "$dir"
git -c tar.umask=0022 archive --format=tar --prefix="$name/" HEAD >"$dir/$name.tar"
gzip -9 -n -f "$dir/$name.tar"

if command -v sha256sum >/dev/null; then
    sum=$(sha256sum <"$file" | cut -d ' ' -f 1)
else
    sum=$(sha256 -q "$file")
fi
{
    sed -n 1p port/distinfo
    echo "SHA256 ($name.tar.gz) = $sum"
    echo "SIZE ($name.tar.gz) = $(($(wc -c <"$file")))"
    sed 1d port/distinfo
} >"$dir/distinfo"
echo "$file"
sed -n 2,3p "$dir/distinfo"
