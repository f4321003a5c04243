#!/usr/bin/env bash
# espalier-bench ($1) as a user calls it: exit codes, the JSON lines, the file, the comparison.
set -euo pipefail
bench=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# A wrong name says which ones there are, and is a usage error.
code=0
"$bench" --workload no_such_workload >"$folder/out" 2>"$folder/err" || code=$?
[ $code -eq 2 ] || fail "an unknown workload exits with $code, not 2"
[ ! -s "$folder/out" ] || fail "an unknown workload prints figures"
grep -q 'no_such_workload' "$folder/err" || fail "the message does not name the workload"
grep -q 'mlp300_b64_adam' "$folder/err" || fail "the message does not list the workloads"
for arguments in "--rounds 0" "--threads 0" "--no-such-option" "--workload linreg_100x2_b10_sgd --json $folder"; do
  code=0
  # shellcheck disable=SC2086
  "$bench" $arguments >/dev/null 2>&1 || code=$?
  [ $code -eq 2 ] || fail "$arguments exits with $code, not 2"
done

# The lines, on standard output and in the file.
"$bench" --workload linreg_100x2_b10_sgd --rounds 3 --min-time 0.001 --threads 1 --json "$folder/lines" >"$folder/out"
cmp "$folder/out" "$folder/lines" || fail "the file differs from standard output"
[ "$(wc -l <"$folder/out")" -eq 2 ] || fail "not two lines"
for metric in '"metric":"train_throughput"' '"unit":"samples/s"' '"metric":"train_step"' '"unit":"us"' \
  '"workload":"linreg_100x2_b10_sgd"' '"peer":"espalier"' '"threads":1' '"n":3' '"params":3.0' '"samples":\['; do
  grep -q "$metric" "$folder/out" || fail "no $metric in $(cat "$folder/out")"
done

# Beside a peer that is a thousand times slower.
cat >"$folder/peer" <<'JSON'
# comment lines are passed over
{"workload": "linreg_100x2_b10_sgd", "peer": "snail", "threads": 1, "metric": "train_step", "value": 1e9, "unit": "us"}
JSON
"$bench" --workload linreg_100x2_b10_sgd --rounds 1 --min-time 0.001 --peer "$folder/peer" 2>"$folder/err" >/dev/null
grep -q 'snail.*x faster' "$folder/err" || fail "no comparison: $(cat "$folder/err")"

# Sparse products come as a grid, too.
"$bench" --workload spmm_300x784_b1_s0 --rounds 1 --min-time 0.001 2>"$folder/err" >"$folder/out"
grep -q '"metric":"spmm"' "$folder/out" || fail "no figure in $(cat "$folder/out")"
grep -q '300x784 b1' "$folder/err" || fail "no grid: $(cat "$folder/err")"

# A group without members says so.
"$bench" --workload conv >"$folder/out" 2>"$folder/err" || fail "the conv group is an error"
[ -s "$folder/out" ] || grep -q 'conv has no workloads' "$folder/err" || fail "conv is silently empty"
echo "all as expected"
