#!/bin/sh
# Written by posternctl render: door ssh.
# Secrets are in it: keep it mode 600, root's.
#
# The rules as they were first published. Two things are left to do, for instance:
#     iptables -A knock-ok -p tcp --dport 22 -j ACCEPT
#     iptables -A INPUT -j knock
#
# They take the ping of 64-bit Linux alone, whose second copy of the secret begins at
# byte 60 of the packet, and on Linux 6.7 and later not even that: a pattern must end
# there before --to. Without --classic the rules are strict and take every ping.
#
# To load it:
#     sh FILE
# To take it away, once INPUT does not lead here any more:
#     iptables -F knock; iptables -F knock-ok; iptables -X knock; iptables -X knock-ok

iptables -N knock
iptables -N knock-ok

iptables -A knock -p icmp --icmp-type echo-request \
         -m string --string "Qx7pLm3vRz9aTk2w" --algo bm --from 60 --to 61 \
         -m recent --set --name knocked \
         -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A knock -m recent --name knocked --update --seconds 60 -j knock-ok
