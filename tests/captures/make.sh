#!/bin/sh
# Makes the captures beside this file anew: as root on Linux, with tcpdump and knockd's knock.
# What is to be read from each stands in its .txt, checked by eye against tcpdump -tt -nn -r.
set -eu
cd "$(dirname "$0")"

a=packet-captures-a
b=packet-captures-b
cleanup() {
    ip netns del "$a" 2>/dev/null || :
    ip netns del "$b" 2>/dev/null || :
}
trap cleanup EXIT
cleanup
ip netns add "$a"
ip netns add "$b"
ip -n "$a" link add v0 type veth peer name v1 netns "$b"
ip -n "$a" addr add 192.0.2.7/24 dev v0
ip -n "$a" addr add 2001:db8::7/64 dev v0 nodad
ip -n "$b" addr add 192.0.2.1/24 dev v1
ip -n "$b" addr add 2001:db8::1/64 dev v1 nodad
for ns in "$a" "$b"; do
    ip -n "$ns" link set lo up
done
ip -n "$a" link set v0 up
ip -n "$b" link set v1 up

# capture FILE INTERFACE LINKTYPE SNAPLEN: three knocks of each family, seen from the other end.
capture() {
    ip netns exec "$b" tcpdump -U -p -w "$1" -i "$2" -y "$3" -s "$4" -n tcp or udp 2>"$1.log" &
    tcpdump=$!
    until grep -q 'listening on' "$1.log"; do sleep 0.1; done
    ip netns exec "$a" knock -4 -d 50 192.0.2.1 7143 2912:udp 39001
    ip netns exec "$a" knock -6 -d 50 2001:db8::1 7143 2912:udp 39001
    until [ "$(tcpdump -n -r "$1" 'dst port 39001' 2>/dev/null | wc -l)" -ge 2 ]; do sleep 0.1; done
    kill -INT "$tcpdump"
    wait "$tcpdump"
    rm "$1.log"
}

capture ethernet.pcap v1 EN10MB 262144
capture ethernet-short.pcap v1 EN10MB 68
capture cooked.pcap any LINUX_SLL 262144
capture cooked2.pcap any LINUX_SLL2 262144
