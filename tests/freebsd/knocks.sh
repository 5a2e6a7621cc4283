# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh has the names; addresses are words
# Knocks that are one packet: pings by the base system's ping, single packets by postern and fwknop.

secret=97d544fb2601b86090f9a49d02a5aef8
cipher_key=oTfzXRsXnv7i54ABx88kRqkBw2y9oE43x+fstf2w4Og=
hmac_key=rMCBlVyO3ziFh4QR2Wf2jQnJlLbdc8+aYB1n2GOjBoWRXMpxyFvJzkB2dg9cDFueQglcOIESFXPs4jaeEPnfgg==

# one_packet: a door that a ping opens, and alice's key.
one_packet() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "1h"
rule = 101
guard = 102
[[door.ssh.knock]]
ping = "$secret"
[key.alice]
cipher_key = "$cipher_key"
hmac_key = "$hmac_key"
doors = ["ssh"]
carriers = ["62201/udp", "icmp"]
observed = true
EOF
}

# profile ADDRESS [CARRIER]: the client's file, with a way for each subcommand.
profile() {
    (umask 077 && cat >"$work/profile.toml") <<EOF
[host.server]
address = "$1"
[[host.server.way]]
ping = "$secret"
[[host.server.way]]
spa = true
cipher_key = "$cipher_key"
hmac_key = "$hmac_key"
carrier = "${2:-62201/udp}"
from = "observed"
EOF
}

# ping_by_hand FROM SECRET: the base system's. ping(8) takes IPv6 since FreeBSD 13.
ping_by_hand() {
    case $1 in
        *:*) cli ping -6 -c 1 -p "$2" -S "$1" $srv6 ;;
        *) cli ping -c 1 -p "$2" -S "$1" $srv4 ;;
    esac >"$work/last" 2>&1
}

knocks_ping() {
    one_packet | configure ipfw
    start
    for from in $friend4 $friend6; do
        kept_out $from
        # One digit is another.
        ping_by_hand $from 97d544fb2601b86090f9a49d02a5aef9
        kept_out $from
        ping_by_hand $from $secret
        opens $from
    done
    kept_out $stranger4
    kept_out $stranger6
}

knocks_postern_ping() {
    one_packet | configure ipfw
    start
    for from in $friend4 $friend6; do
        profile "$(server_of $from)"
        must cli "$bin/postern" ping -c "$work/profile.toml" --source $from server
        opens $from
    done
    kept_out $stranger4
}

# spa FROM CARRIER: a packet, which opens and is alice's.
spa() {
    profile "$(server_of "$1")" "$2"
    must cli "$bin/postern" spa -c "$work/profile.toml" --source "$1" server
    opens "$1"
    must says alice ctl list
}

knocks_spa() {
    one_packet | configure ipfw
    start
    spa $friend4 62201/udp
    spa $friend6 62201/udp
    kept_out $stranger4
    logged "ssh: open for $friend4"
    logged 'by key alice'
}

knocks_spa_icmp() {
    one_packet | configure ipfw
    start
    spa $friend4 icmp
    spa $friend6 icmp
    kept_out $stranger6
}

# A key that is taken out takes its leases with it; what it has spent stays spent.
knocks_revoked() {
    one_packet | configure ipfw
    start
    spa $friend4 62201/udp
    must grep -q '"spent"' "$work/state/spent"
    one_packet | sed '/^\[key/,$d' | configure ipfw
    must ctl reload
    shut $friend4
    logged "ssh: closed for $friend4: its key opens the door no more"
}

# A request must be for the key's ports.
knocks_beyond() {
    one_packet | configure ipfw
    start
    profile $srv4
    must cli "$bin/postern" spa -c "$work/profile.toml" --source $friend4 server 80/tcp
    logged "key alice: packet of $friend4 refused"
    kept_out $friend4
}

knocks_fwknop() {
    fwknop=/usr/local/bin/fwknop
    [ -x $fwknop ] || skip "fwknop is not installed"
    one_packet | configure ipfw
    start
    must cli "$fwknop" --no-rc-file --no-home-dir -A tcp/22 -a $friend4 -D $srv4 \
        --key-base64-rijndael "$cipher_key" --key-base64-hmac "$hmac_key" --use-hmac
    opens $friend4
    must says alice ctl list
    kept_out $stranger4
}

# pf and a table of its own.
knocks_pf() {
    one_packet | sed -e '/^rule = /d' -e 's/^guard = .*/guard = true/' | configure pf
    printf 'anchor "postern"\npass\n' >"$work/pf.conf"
    must srv pfctl -q -f "$work/pf.conf"
    must srv pfctl -q -e
    start
    kept_out $friend4
    ping_by_hand $friend4 $secret
    opens $friend4
    spa $friend6 62201/udp
    kept_out $stranger6
}

it "a ping with the secret opens, by the base system's ping" knocks_ping
it "postern ping opens" knocks_postern_ping
it "a single packet opens, and the list and the log name its key" knocks_spa
it "a single packet in an echo request opens" knocks_spa_icmp
it "a key that is taken out takes its leases with it" knocks_revoked
it "a single packet for other ports is refused and told of" knocks_beyond
it "fwknop's packet opens" knocks_fwknop
it "pf: a ping and a single packet open" knocks_pf
