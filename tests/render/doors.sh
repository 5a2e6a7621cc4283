#!/bin/sh
# Written by posternctl render: doors ssh, web.
# Secrets are in it: keep it mode 600, root's.
#
# No posternd is needed. Its guard in nftables drops whatever these rules let in.
#
# To load it, again too (nothing is guarded meanwhile):
#     sh FILE
# To take it away:
#     sh FILE remove
#
# A connection to a guarded port that runs while this is loaded, and that connection
# tracking does not know, goes on once this machine has sent something on it.
# A list of the recent match has room for 100 addresses unless xt_recent was loaded with
# another ip_list_tot; the one longest in it gives way.
#
# Not as with posternd: whoever forges the first step of a sequence from more addresses
# than a list has room for ends the attempts of others; each sequence is attempted
# by itself; seq_timeout goes by whole seconds.
#
# prefix6: whose IPv6 network is nobody's (link-local, Teredo) is not let in here.
#
# offsets: before Linux 6.7 a secret may also begin up to 16 bytes behind the last.

remove() {
	iptables -D INPUT -i xl0 -j postern-knock 2>/dev/null
	iptables -F postern-knock 2>/dev/null
	iptables -F ssh.2 2>/dev/null
	iptables -F web.2 2>/dev/null
	iptables -F ssh.ok 2>/dev/null
	iptables -F web.ok 2>/dev/null
	iptables -X postern-knock 2>/dev/null
	iptables -X ssh.2 2>/dev/null
	iptables -X web.2 2>/dev/null
	iptables -X ssh.ok 2>/dev/null
	iptables -X web.ok 2>/dev/null
	ip6tables -D INPUT -i xl0 -j postern-knock 2>/dev/null
	ip6tables -F postern-knock 2>/dev/null
	ip6tables -F ssh.2 2>/dev/null
	ip6tables -F web.2 2>/dev/null
	ip6tables -F ssh.ok 2>/dev/null
	ip6tables -F web.ok 2>/dev/null
	ip6tables -X postern-knock 2>/dev/null
	ip6tables -X ssh.2 2>/dev/null
	ip6tables -X web.2 2>/dev/null
	ip6tables -X ssh.ok 2>/dev/null
	ip6tables -X web.ok 2>/dev/null
	return 0
}

remove
[ "$1" = remove ] && exit 0
set -e

iptables -N postern-knock
iptables -N ssh.2
iptables -N web.2
iptables -N ssh.ok
iptables -N web.ok
iptables -A postern-knock -p icmp --icmp-type echo-request -m addrtype --dst-type LOCAL -m u32 --u32 "0>>22&0x3C@16=0x51783770&&0>>22&0x3C@20=0x4c6d3376&&0>>22&0x3C@24=0x527a3961&&0>>22&0x3C@28=0x546b3277" -m recent --name postern.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A postern-knock -p icmp --icmp-type echo-request -m addrtype --dst-type LOCAL -m u32 --u32 "0>>22&0x3C@24=0x51783770&&0>>22&0x3C@28=0x4c6d3376&&0>>22&0x3C@32=0x527a3961&&0>>22&0x3C@36=0x546b3277" -m recent --name postern.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -m multiport --dports 7142,7143,7151,12590,16038,16044,16045,27871,36490,38993,39001,39006,39335,52692,55589 -m addrtype --dst-type LOCAL -j ssh.2
iptables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport 61110 -m addrtype --dst-type LOCAL -j ssh.2
iptables -A postern-knock -p udp -m multiport --dports 2910,2912,2914,5732,11232,12362,17457,29362,33259,42263,44717,59508 -m addrtype --dst-type LOCAL -j ssh.2
iptables -A ssh.2 -p tcp --dport 7143 -m recent --name postern.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern.ssh.2.2 --remove
iptables -A ssh.2 -p tcp --dport 7143 -m recent --name postern.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern.ssh.2.3 --remove
iptables -A ssh.2 -p tcp --dport 7143 -m recent --name postern.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern.ssh.2.1 --set -j RETURN
iptables -A ssh.2 -m recent --name postern.ssh.2.1 ! --rcheck --seconds 5 -j RETURN
iptables -A ssh.2 -p tcp --dport 16044 -m recent --name postern.ssh.2.3 --rcheck -m recent --name postern.ssh.2.1 --remove -m recent --name postern.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A ssh.2 -p tcp -m multiport --dports 7143,39001 -m recent --name postern.ssh.2.3 --rcheck -j RETURN
iptables -A ssh.2 -p udp --dport 2912 -m recent --name postern.ssh.2.3 --rcheck -j RETURN
iptables -A ssh.2 -m recent --name postern.ssh.2.3 --rcheck -m recent --name postern.ssh.2.1 --remove -j RETURN
iptables -A ssh.2 -p tcp --dport 39001 -m recent --name postern.ssh.2.2 --rcheck -m recent --name postern.ssh.2.3 --set -j RETURN
iptables -A ssh.2 -p tcp --dport 7143 -m recent --name postern.ssh.2.2 --rcheck -j RETURN
iptables -A ssh.2 -p udp --dport 2912 -m recent --name postern.ssh.2.2 --rcheck -j RETURN
iptables -A ssh.2 -m recent --name postern.ssh.2.2 --rcheck -m recent --name postern.ssh.2.1 --remove -j RETURN
iptables -A ssh.2 -p udp --dport 2912 -m recent --name postern.ssh.2.1 --rcheck -m recent --name postern.ssh.2.2 --set -j RETURN
iptables -A ssh.2 -p tcp --dport 7143 -m recent --name postern.ssh.2.1 --rcheck -j RETURN
iptables -A ssh.2 -m recent --name postern.ssh.2.1 --rcheck -m recent --name postern.ssh.2.1 --remove -j RETURN
iptables -A postern-knock -p icmp --icmp-type echo-request -m addrtype --dst-type LOCAL -m string --hex-string "|4b7e1f0a9cd3528866fe41b07a3dc912|" --algo bm --from 36 --to 54 -m recent --name postern.web --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport 17143 -m addrtype --dst-type LOCAL -j web.2
iptables -A web.2 -p tcp --dport 17143 -m recent --name postern.web --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A postern-knock -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -m recent --name postern.web --rcheck --seconds 2 -m recent --name postern.web.seen --set
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -m recent --name postern.web.seen --update --seconds 120
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -j ACCEPT
iptables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -m recent --name postern.web --rcheck --seconds 2 -m recent --name postern.web.seen --set
iptables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -m recent --name postern.web.seen --update --seconds 120
iptables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -j ACCEPT
iptables -A postern-knock -m recent --name postern.ssh --rcheck --seconds 30 -j ssh.ok
iptables -A ssh.ok -p tcp --dport 22 -j ACCEPT
iptables -A postern-knock -m recent --name postern.web --rcheck --seconds 2 -j web.ok
iptables -A postern-knock -m recent --name postern.web.seen --rcheck --seconds 120 -j web.ok
iptables -A web.ok -p tcp -m multiport --dports 80,443 -m connlimit --connlimit-above 3 --connlimit-mask 32 -j RETURN
iptables -A web.ok -p tcp -m multiport --dports 80,443 -j ACCEPT
iptables -A web.ok -p udp --dport 443 -m connlimit --connlimit-above 3 --connlimit-mask 32 -j RETURN
iptables -A web.ok -p udp --dport 443 -j ACCEPT
iptables -A postern-knock -p tcp --dport 22 -s 192.0.2.0/24 -j ACCEPT
iptables -A postern-knock -p tcp --dport 22 -s 192.0.2.128/25 -j ACCEPT
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -s 192.0.2.0/24 -j ACCEPT
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -s 192.0.2.128/25 -j ACCEPT
iptables -A postern-knock -p udp --dport 443 -s 192.0.2.0/24 -j ACCEPT
iptables -A postern-knock -p udp --dport 443 -s 192.0.2.128/25 -j ACCEPT
iptables -A postern-knock -p tcp --dport 22 -j DROP
iptables -A postern-knock -p tcp -m multiport --dports 80,443 -j DROP
iptables -A postern-knock -p udp --dport 443 -j DROP
iptables -I INPUT -i xl0 -j postern-knock

ip6tables -N postern-knock
ip6tables -N ssh.2
ip6tables -N web.2
ip6tables -N ssh.ok
ip6tables -N web.ok
ip6tables -A postern-knock -p icmpv6 --icmpv6-type echo-request -m addrtype --dst-type LOCAL -m u32 --u32 "3&0xFF=58&&56=0x51783770&&60=0x4c6d3376&&64=0x527a3961&&68=0x546b3277" -m recent --name postern6.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
ip6tables -A postern-knock -p icmpv6 --icmpv6-type echo-request -m addrtype --dst-type LOCAL -m u32 --u32 "3&0xFF=58&&64=0x51783770&&68=0x4c6d3376&&72=0x527a3961&&76=0x546b3277" -m recent --name postern6.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
ip6tables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -m multiport --dports 7142,7143,7151,12590,16038,16044,16045,27871,36490,38993,39001,39006,39335,52692,55589 -m addrtype --dst-type LOCAL -j ssh.2
ip6tables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport 61110 -m addrtype --dst-type LOCAL -j ssh.2
ip6tables -A postern-knock -p udp -m multiport --dports 2910,2912,2914,5732,11232,12362,17457,29362,33259,42263,44717,59508 -m addrtype --dst-type LOCAL -j ssh.2
ip6tables -A ssh.2 -p tcp --dport 7143 -m recent --name postern6.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern6.ssh.2.2 --remove
ip6tables -A ssh.2 -p tcp --dport 7143 -m recent --name postern6.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern6.ssh.2.3 --remove
ip6tables -A ssh.2 -p tcp --dport 7143 -m recent --name postern6.ssh.2.1 ! --rcheck --seconds 5 -m recent --name postern6.ssh.2.1 --set -j RETURN
ip6tables -A ssh.2 -m recent --name postern6.ssh.2.1 ! --rcheck --seconds 5 -j RETURN
ip6tables -A ssh.2 -p tcp --dport 16044 -m recent --name postern6.ssh.2.3 --rcheck -m recent --name postern6.ssh.2.1 --remove -m recent --name postern6.ssh --set -j LOG --log-prefix "KNOCK-OK: " --log-level 5
ip6tables -A ssh.2 -p tcp -m multiport --dports 7143,39001 -m recent --name postern6.ssh.2.3 --rcheck -j RETURN
ip6tables -A ssh.2 -p udp --dport 2912 -m recent --name postern6.ssh.2.3 --rcheck -j RETURN
ip6tables -A ssh.2 -m recent --name postern6.ssh.2.3 --rcheck -m recent --name postern6.ssh.2.1 --remove -j RETURN
ip6tables -A ssh.2 -p tcp --dport 39001 -m recent --name postern6.ssh.2.2 --rcheck -m recent --name postern6.ssh.2.3 --set -j RETURN
ip6tables -A ssh.2 -p tcp --dport 7143 -m recent --name postern6.ssh.2.2 --rcheck -j RETURN
ip6tables -A ssh.2 -p udp --dport 2912 -m recent --name postern6.ssh.2.2 --rcheck -j RETURN
ip6tables -A ssh.2 -m recent --name postern6.ssh.2.2 --rcheck -m recent --name postern6.ssh.2.1 --remove -j RETURN
ip6tables -A ssh.2 -p udp --dport 2912 -m recent --name postern6.ssh.2.1 --rcheck -m recent --name postern6.ssh.2.2 --set -j RETURN
ip6tables -A ssh.2 -p tcp --dport 7143 -m recent --name postern6.ssh.2.1 --rcheck -j RETURN
ip6tables -A ssh.2 -m recent --name postern6.ssh.2.1 --rcheck -m recent --name postern6.ssh.2.1 --remove -j RETURN
ip6tables -A postern-knock -p icmpv6 --icmpv6-type echo-request -m addrtype --dst-type LOCAL -m string --hex-string "|4b7e1f0a9cd3528866fe41b07a3dc912|" --algo bm --from 56 --to 74 -m u32 --u32 "8>>25=0x10:0x1f,0x7e&&8=0:0x2000ffff,0x20010001:0xffffffff" -m recent --name postern6.web --set --mask ffff:ffff:ffff:ffff:: -j LOG --log-prefix "KNOCK-OK: " --log-level 5
ip6tables -A postern-knock -p tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport 17143 -m addrtype --dst-type LOCAL -j web.2
ip6tables -A web.2 -p tcp --dport 17143 -m u32 --u32 "8>>25=0x10:0x1f,0x7e&&8=0:0x2000ffff,0x20010001:0xffffffff" -m recent --name postern6.web --set --mask ffff:ffff:ffff:ffff:: -j LOG --log-prefix "KNOCK-OK: " --log-level 5
ip6tables -A postern-knock -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
ip6tables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -m recent --name postern6.web --rcheck --seconds 2 --mask ffff:ffff:ffff:ffff:: -m recent --name postern6.web.seen --set --mask ffff:ffff:ffff:ffff::
ip6tables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -m recent --name postern6.web.seen --update --seconds 120 --mask ffff:ffff:ffff:ffff::
ip6tables -A postern-knock -p tcp -m multiport --dports 80,443 -m conntrack --ctstate ESTABLISHED -j ACCEPT
ip6tables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -m recent --name postern6.web --rcheck --seconds 2 --mask ffff:ffff:ffff:ffff:: -m recent --name postern6.web.seen --set --mask ffff:ffff:ffff:ffff::
ip6tables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -m recent --name postern6.web.seen --update --seconds 120 --mask ffff:ffff:ffff:ffff::
ip6tables -A postern-knock -p udp --dport 443 -m conntrack --ctstate ESTABLISHED -j ACCEPT
ip6tables -A postern-knock -m recent --name postern6.ssh --rcheck --seconds 30 -j ssh.ok
ip6tables -A ssh.ok -p tcp --dport 22 -j ACCEPT
ip6tables -A postern-knock -m recent --name postern6.web --rcheck --seconds 2 --mask ffff:ffff:ffff:ffff:: -j web.ok
ip6tables -A postern-knock -m recent --name postern6.web.seen --rcheck --seconds 120 --mask ffff:ffff:ffff:ffff:: -j web.ok
ip6tables -A web.ok -p tcp -m multiport --dports 80,443 -m connlimit --connlimit-above 3 --connlimit-mask 64 -j RETURN
ip6tables -A web.ok -p tcp -m multiport --dports 80,443 -j ACCEPT
ip6tables -A web.ok -p udp --dport 443 -m connlimit --connlimit-above 3 --connlimit-mask 64 -j RETURN
ip6tables -A web.ok -p udp --dport 443 -j ACCEPT
ip6tables -A postern-knock -p tcp --dport 22 -s 2001:db8::/32 -j ACCEPT
ip6tables -A postern-knock -p tcp -m multiport --dports 80,443 -s 2001:db8::/32 -j ACCEPT
ip6tables -A postern-knock -p udp --dport 443 -s 2001:db8::/32 -j ACCEPT
ip6tables -A postern-knock -p tcp --dport 22 -j DROP
ip6tables -A postern-knock -p tcp -m multiport --dports 80,443 -j DROP
ip6tables -A postern-knock -p udp --dport 443 -j DROP
ip6tables -I INPUT -i xl0 -j postern-knock
