#!/usr/bin/env bash
# The house rules that a compiler does not check. Prints each breach as file:line and exits 1.
#   lint.sh [TOP]: the tree to look at; this one by default
set -uo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}" || exit 2

# What each module may include, besides itself.
declare -A may_include=(
  [core]=""
  [autograd]="core"
  [nn]="core autograd"
  [optim]="core autograd"
  [prune]="core autograd optim"
  [data]="core"
  [io]="core autograd"
  [train]="core autograd nn optim prune data io"
)
modules=(core autograd nn optim prune data io train)
programs=(tests bench examples results)

existing() { local f; for f in "$@"; do [ -e "$f" ] && printf '%s\n' "$f"; done; }
mapfile -t folders < <(existing "${modules[@]}" "${programs[@]}")
mapfile -t sources < <(find "${folders[@]}" -name '*.h' -o -name '*.cpp' | sort)
mapfile -t texts < <(find "${folders[@]}" $(existing docs cmake .ci) -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.md' -o -name '*.cmake' -o -name '*.in' -o -name '*.sh' -o -name run \
  -o -name CMakeLists.txt \) | sort; existing dev CMakeLists.txt CMakePresets.json README.md CHANGELOG.md CONTRIBUTING.md)

breaches=0
report() {  # report RULE LINES
  [ -n "$2" ] || return 0
  printf '%s:\n%s\n\n' "$1" "$2" | sed '2,$s/^\(.\)/  \1/'
  breaches=$((breaches + $(printf '%s\n' "$2" | wc -l)))
}
# forbid RULE PATTERN [EXCEPT]: no source line may match PATTERN, but for those in files whose path matches EXCEPT.
forbid() { report "$1" "$(grep -nHE -- "$2" "${sources[@]}" | grep -vE -- "^(${3:-$^})[^:]*:[0-9]+:")"; }
# house RULE PATTERN: the same for the modules alone.
house() { report "$1" "$(grep -nHE -- "$2" "${sources[@]}" | grep -vE '^(tests|bench|examples|results)/')"; }

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*'

# Includes: one spelling for everyone, one door for each dependency.
house 'A quoted include is "espalier/<module>/<file>.h" (Highway in core/ apart)' "$include\"([^eh]|e[^s]|h[^w])"
forbid 'No relative includes' "$include[\"<]\.\.?/"
forbid 'A program includes "espalier/...", or its own tree by its path from the top' "$include\"([^/\"]*\"|(core|autograd|nn|optim|prune|data|io|train)/)"
forbid 'OpenBLAS: core/kernels/gemm.cpp only, and beside it in the benchmarks' "$include[\"<](cblas|openblas_config|f77blas)" 'core/kernels/gemm\.cpp|bench/'
forbid 'oneTBB: core/*.cpp only' "$include[\"<](tbb|oneapi)/" 'core/[^:]*\.cpp'
forbid 'Highway: core/ only, and beside it in the benchmarks' "$include[\"<]hwy/" 'core/|bench/'
forbid 'Random123: core/*.cpp only' "$include[\"<]Random123/" 'core/[^:]*\.cpp'
forbid 'zlib: data/*.cpp and io/*.cpp only' "$include[\"<]zlib" '(data|io)/[^:]*\.cpp'
forbid 'JSON: io/*.cpp, train/*.cpp and programs only' "$include[\"<]nlohmann/" '(io|train)/[^:]*\.cpp|bench/|examples/|results/|tests/'
forbid 'CLI11: programs only' "$include[\"<]CLI/" 'examples/|bench/|results/|tests/golden/'
for module in "${modules[@]}"; do
  allowed=${may_include[$module]}
  report "$module/ may include only: $module $allowed" "$(grep -nHE "$include\"espalier/" "${sources[@]}" | grep "^$module/" |
    grep -vE "\"espalier/($module${allowed:+|${allowed// /|}})/")"
done
mapfile -t public < <(printf '%s\n' "${sources[@]}" | grep -E "^($(IFS='|'; echo "${modules[*]}"))/.*\.h$" |
  grep -vE '/(kernels|detail)/|-inl\.h$')
if [ ${#public[@]} -gt 0 ]; then
  report 'A public header includes the standard library and espalier/ only' \
    "$(grep -nHE "$include" "${public[@]}" | grep -vE ":[0-9]+:${include#^}(<[a-z_0-9]+>|\"espalier/)")"
  report 'A public header begins with #pragma once' "$(grep -L '^#pragma once' "${public[@]}")"
  report 'A public header does not show private ones' "$(grep -nHE "$include\"espalier/.*(/kernels/|/detail/|-inl\.h)" "${public[@]}")"
fi

# Behaviour: nothing that a user's argument or file can reach ends the process or draws from a global seed.
house 'Throw an Error; never end the process' '(^|[^_[:alnum:].>])(std::)?(abort|exit|_Exit|quick_exit|terminate)[[:space:]]*\('
forbid 'Throw an Error instead of asserting' '(^|[^_[:alnum:].>])assert[[:space:]]*\(' '(tests|bench|examples)/|core/dims\.h'  # shape[axis]: looked at in debug builds
house 'Random numbers come from Rng' 'std::(rand|random_device|mt19937)|\bsrand\('
forbid 'A test asserts something, and runs' 'TEST(_[FP])?\(.*DISABLED_|(EXPECT|ASSERT)_TRUE\(true\)'

# Size and text.
report 'A file is at most 800 lines long' "$(wc -l "${sources[@]}" | awk '$2 != "total" && $1 > 800 {print $2 ": " $1 " lines"}')"
report 'No tabs' "$(grep -nHP '\t' "${sources[@]}")"
report 'No blanks at the end of a line' "$(grep -nHE '[[:space:]]+$' "${sources[@]}")"
report 'Nothing is left to do later' "$(grep -nHwE 'TOD[O]|FIXM[E]|XX[X]|HAC[K]' "${texts[@]}"; grep -nHiE 'not implemente[d]|unimplemente[d]|\bstu[b]\b' "${texts[@]}")"
report 'No paths of one machine, no numbers of one tracker' "$(grep -nHE '/wor[k]/|/far[m]/|/hom[e]/[a-z]|/tmp/w[t]|\b[Ii]ssu[e] #?[0-9]' "${texts[@]}")"

if [ "$breaches" -gt 0 ]; then
  printf '%d breaches of the house rules.\n' "$breaches"
  exit 1
fi
printf '%d files keep the house rules.\n' "${#sources[@]}"
