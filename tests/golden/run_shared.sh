#!/usr/bin/env bash
# Runs espalier-golden ($1) on the whole collection of reference cases, which is too large to live in the repository:
# $ESPALIER_SHARED/golden, or ../shared/golden beside the sources. Exit code 77 (skipped) where there is none.
set -euo pipefail
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cases=${ESPALIER_SHARED:-$sources/../shared}/golden
if [ ! -d "$cases" ]; then
  echo "skipped: no reference cases at $cases (set ESPALIER_SHARED to the folder that holds golden/)"
  exit 77
fi
exec "$1" "$cases"
