#!/usr/bin/env bash
# espalier-results ($1) as ./dev results calls it, each row on a few hundred shipped digits: does it run, is a run that is
# there left alone, does one that was stopped go on, and is the page made.
set -euo pipefail
results=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

code=0
"$results" no-such-row --tiny --out "$folder" >/dev/null 2>"$folder/err" || code=$?
[ $code -eq 2 ] || fail "an unknown row exits with $code, not 2"
grep -q 'han-300' "$folder/err" || fail "the message does not list the rows"
for arguments in "" "han-300" "han-300 --tiny --threads -1" "--no-such-option"; do
  code=0
  # shellcheck disable=SC2086
  "$results" $arguments >/dev/null 2>&1 || code=$?
  [ $code -eq 2 ] || fail "'$arguments' exits with $code, not 2"
done
code=0
"$results" han-300 --data "$folder/none" --out "$folder" >/dev/null 2>"$folder/err" || code=$?
[ $code -eq 3 ] || fail "data that is not there exits with $code, not 3"

rows="han-300 surgery-300 han-lenet5 surgery-lenet5 snip-300-95 snip-300-98 snip-lenet5-98 snip-lenet5-99 lottery-300
  structured-lenet5"
for row in $rows; do
  "$results" "$row" --tiny --out "$folder" --seed 1 >"$folder/log" 2>&1 || fail "$row: $(cat "$folder/log")"
  [ -s "$folder/tiny/$row-1.json" ] || fail "$row writes no figures"
done
for row in han-300 surgery-300 han-lenet5 surgery-lenet5 structured-lenet5; do
  grep -q dense_error "$folder/tiny/$row-1.json" || fail "$row does not name the dense error"
done
"$results" han-300 --tiny --out "$folder" --seed 1 >"$folder/log"
grep -q 'is there already' "$folder/log" || fail "a finished run is run again"

# The lottery, stopped behind its last round but before its figures: the rounds are not trained again.
rm "$folder/tiny/lottery-300-1.json"
"$results" lottery-300 --tiny --out "$folder" --seed 1 >"$folder/log"
grep -q 'goes on behind round 2' "$folder/log" || fail "does not go on"
grep -q '"round_21"' "$folder/tiny/lottery-300-1.json" || fail "the lottery's figures are not written"

"$results" --render --tiny --out "$folder" >"$folder/page.md"
for row in $rows; do grep -q "## $row" "$folder/page.md" || fail "the page has nothing on $row"; done
grep -q 'not measured yet' "$folder/page.md" && fail "the page misses figures"
"$results" --render --out "$folder" >"$folder/page.md"
grep -q 'not measured yet' "$folder/page.md" || fail "tiny figures are shown as real ones"
echo "all as expected"
