#!/usr/bin/env bash
# run.sh PROGRAM DATA OUT PAGE "SEEDS" [ROW...]: runs rows one after the other, each for all seeds, and writes the page.
# What OUT holds already is not run again, so a run that was stopped goes on; the page is rendered behind every row.
set -euo pipefail
program=$1 data=$2 out=$3 page=$4 seeds=$5
shift 5
rows=("$@")
# Cheap rows first.
[ ${#rows[@]} -gt 0 ] || rows=(han-300 snip-300-95 snip-300-98 surgery-300 lottery-300 structured-lenet5 han-lenet5
  surgery-lenet5 snip-lenet5-98 snip-lenet5-99)
for row in "${rows[@]}"; do
  for seed in $seeds; do
    "$program" "$row" --data "$data" --out "$out" --seed "$seed" --threads 1
  done
  "$program" --render --out "$out" >"$page.new"
  mv "$page.new" "$page"
done
echo "all rows done; the page is $page"
