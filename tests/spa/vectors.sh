#!/bin/sh
# Prints tests/spa/vectors.txt: packets of Debian's fwknop (fwknop-client 2.6.10-16), made but not
# sent, each with what fwknop says of it. Those at the end are to be refused.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As long as fwknop --key-gen makes them, and as long as fwknop and we take them.
cipher_a=tXtpsH9GYg26FryP5Gkt/Ts3+EoL6WkxV5Xq1jo8bGk=
hmac_a=65j/BXqUALddLOvAy773VajC/0vzZpVapcr8yWCk3T/7Yba0RyVATkr2N9Q3JKX2vflI8gPzWXgsswDybPB5ug==
cipher_b=AAECAwQFBgcICQoLDA0ODw==
hmac_b=$(awk 'BEGIN { while (n++ < 170) printf "k"; print "w=" }')

# vector KEY MAC ARGUMENTS...: a line.
vector() {
    key=$1 mac=$2
    shift 2
    cipher=$cipher_a hmac=$hmac_a
    if [ "$key" = b ]; then
        cipher=$cipher_b hmac=$hmac_b
    fi
    fwknop --no-rc-file --no-home-dir -E /dev/null -T -v -D 127.0.0.1 -B "$work/packet" \
        --key-base64-rijndael "$cipher" --key-base64-hmac "$hmac" --use-hmac \
        --hmac-digest-type "$mac" "$@" >"$work/said"
    field() {
        sed -n "s/^ *$1: \(.*\)/\1/p" "$work/said" | head -n 1
    }
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$key" "$mac" "$(field 'Username')" \
        "$(field 'Timestamp')" "$(field 'Message String')" "$(field 'Client Timeout')" \
        "$(cat "$work/packet")"
    rm "$work/packet"
}

echo "# Made by tests/spa/vectors.sh with $(fwknop --version | head -n 1)."
echo "# key, HMAC, user, time, message, timeout, packet; separated by tabs"
printf 'key\ta\t%s\t%s\n' "$cipher_a" "$hmac_a"
printf 'key\tb\t%s\t%s\n' "$cipher_b" "$hmac_b"
for mac in sha256 sha512; do
    for digest in md5 sha1 sha256 sha384 sha512 sha3_256 sha3_512; do
        vector a "$mac" -m $digest -A tcp/22 -a 192.0.2.7
        vector b "$mac" -m $digest -A tcp/22,udp/53,tcp/65535,udp/1 -s
        vector a "$mac" -m $digest -A udp/62201 -a 198.51.100.255 -f 30
        vector b "$mac" -m $digest -A tcp/1,tcp/1 -s -f 65535 -U 'A user'
    done
    # Every length of the user's name makes another length of the text.
    user=u
    while [ ${#user} -lt 17 ]; do
        vector a "$mac" -A tcp/22 -a 203.0.113.1 -U $user
        user=${user}u
    done
    vector a "$mac" -A tcp/22 -a 203.0.113.1 \
        -U 123456789012345678901234567890123456789012345678901234567890123
    vector a "$mac" -A tcp/022 -a 203.0.113.1
    vector a "$mac" -A tcp/22 -a 203.0.113.1 --time-offset-plus 3600
    vector a "$mac" -a 203.0.113.254 -f 65535 \
        -A tcp/65535,tcp/65534,tcp/65533,udp/65535,udp/65534,udp/65533,tcp/1,tcp/2,tcp/3,udp/9
done
echo "refused"
for digest in md5 sha1 sha384 sha3_256 sha3_512; do
    vector a $digest -A tcp/22 -a 192.0.2.7
done
for mode in cfb ofb ctr; do
    vector a sha256 -A tcp/22 -a 192.0.2.7 -M $mode
done
vector a sha256 -a 192.0.2.7 -C 'true'
vector a sha256 -A tcp/22 -a 192.0.2.7 -N 10.0.0.1,22
vector a sha512 -A tcp/22 -a 192.0.2.7 -N 10.0.0.1,22 -f 30
vector a sha256 -A tcp/22 -a 192.0.2.7 --nat-local --nat-port 2222
vector a sha256 -A tcp/22 -a 192.0.2.7 --nat-local --nat-port 2222 -f 30
vector a sha256 -A tcp/22 -a 010.1.2.3
