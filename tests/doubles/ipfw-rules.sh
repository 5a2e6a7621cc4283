#!/bin/sh
# A double of ipfw(8) that knows rules alone, for unit tests: it adds them, lists them as they were
# added, says of any table that it is there and empty, and keeps each batch that it was given, all
# in the directory of the link that it is called by.
dir=${0%/*}
cat >"$dir/batch"
added=$(sed -n 's/^add \([0-9]*\) set 31 /\1 /p' "$dir/batch")
[ "$1" != -n ] || exec printf '%s\n' "$added"
cat "$dir/batch" >>"$dir/log"
! grep -q '^set 31 list$' "$dir/batch" || cat "$dir/rules"
sed -n 's/^set 31 table \([^ ]*\) info$/--- table(\1), set(31) ---\
 kindex: 1, type: addr\
 references: 1, valtype: legacy/p' "$dir/batch"
[ -z "$added" ] || printf '%s\n' "$added" >>"$dir/rules"
