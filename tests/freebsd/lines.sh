# shellcheck shell=sh disable=SC2154,SC2086 # lab.sh sets the names; addresses are words
# What ipfw shows of ours, and the door that most tests use.

guard_at=00102

# line NAME [NUMBER ADDRESS]: a line of `ipfw list`, as FreeBSD 12.1 prints it.
line() {
    case $1 in
        pass) echo "00101 allow tcp from table(postern_ssh) to me 22 in recv $srv_if setup" \
            "keep-state :postern_ssh // postern:ssh" ;;
        limit) echo "00101 allow tcp from table(postern_ssh) to me 22 in recv $srv_if setup" \
            "limit src-addr 1 :postern_ssh // postern:ssh" ;;
        mail) echo "00100 allow tcp from table(postern_mail) to me 22,80 in recv $srv_if setup" \
            "keep-state :postern_mail // postern:mail" ;;
        always) echo "$guard_at allow tcp from table(postern_always) to me 22 in recv $srv_if" \
            "// postern: always" ;;
        running) echo "$guard_at allow tcp from any to me 22 in recv $srv_if" \
            "established flow table(postern_running) // postern: running" ;;
        guard) echo "$guard_at deny tcp from any to me 22 in recv $srv_if // postern: guard" ;;
        udp-pass) echo "00101 allow udp from table(postern_dns) to me 53 in recv $srv_if" \
            "keep-state :postern_dns // postern:dns" ;;
        udp-guard) echo "$guard_at deny udp from any to me 53 in recv $srv_if // postern: guard" ;;
        numbered) echo "$2 allow tcp from $3 to me 22 in recv $srv_if setup" \
            "keep-state :postern_ssh // postern:ssh until TIME" ;;
    esac
}

# lines NAME...: several of them.
lines() {
    for each; do
        line "$each"
    done
}

# What there is of ours. The end of a numbered rule's lease is a time that no test knows.
ours() {
    srv ipfw list | grep '// postern' | sed 's/ until [0-9].*Z$/ until TIME/'
}

# rules_with TEXT: all rules, whosever, that have the text.
rules_with() {
    srv ipfw list | grep -F -e "$1"
}

# lists NAME...: those lines, and no other of ours, now or soon.
lists() {
    comes_to "ipfw list" "$(lines "$@")" ours
}

# table NAME: its entries.
table() {
    srv ipfw table "$1" list
}

# ssh_door OPEN_FOR [LINES]: the door that most tests use.
ssh_door() {
    cat <<EOF
[door.ssh]
opens = ["22/tcp"]
open_for = "$1"
rule = 101
guard = 102
${2:-}
$(knock_at ssh)
EOF
}

# in_table NAME TEXT: whether a line of the table has the text.
in_table() {
    table "$1" | grep -F -e "$2"
}

# empty_table NAME
empty_table() {
    table "$1"
    [ -z "$(table "$1")" ]
}

# port_of ADDRESS: the client's port of its session at port 22.
port_of() {
    srv sockstat -46c -P tcp -p 22 |
        awk -v from="$1:" 'index($NF, from) == 1 { print substr($NF, length(from) + 1); exit }'
}
