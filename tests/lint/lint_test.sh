#!/usr/bin/env bash
# The lint script lets a clean tree pass and finds each breach in a tree made for it.
set -uo pipefail
lint=$(dirname "${BASH_SOURCE[0]}")/lint.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{core/kernels,nn,optim/kernels,tests/nn,docs}
failures=0

# expect RULE FILE LINE: a tree whose FILE holds LINE breaks RULE; an empty RULE: it breaks none.
expect() {
  local output status
  printf '#pragma once\n%s\n' "$3" >"$tree/$2"
  output=$(bash "$lint" "$tree")
  status=$?
  rm "$tree/$2"
  if [ -z "$1" ]; then
    [ "$status" -eq 0 ] && return
  else
    [ "$status" -eq 1 ] && [[ $output == *"$1"*"$2"* ]] && return
  fi
  printf 'expected %s for %s with: %s\ngot status %d: %s\n' "${1:-nothing}" "$2" "$3" "$status" "$output"
  failures=$((failures + 1))
}

printf '#pragma once\n#include <vector>\n\n#include "espalier/core/b.h"\n' >"$tree/core/a.h"
expect '' nn/a.h '#include "espalier/autograd/tape.h"'
expect '' core/a.cpp '#include "hwy/foreach_target.h"'
expect '' core/kernels/gemm.cpp '#include <cblas.h>'
expect '' core/a.cpp 'static_assert(sizeof(int) == 4); done.exit(1); Tensor rand(Rng& rng);'
expect '' tests/nn/a_test.cpp '#include "tests/nn/table.h"'
expect 'A quoted include is' nn/a.cpp '#include "a.h"'
expect 'No relative includes' nn/a.cpp '#include "../core/a.h"'
expect 'A program includes' tests/nn/a_test.cpp '#include "core/a.h"'
expect 'OpenBLAS' core/matmul.cpp '#include <cblas.h>'
expect 'oneTBB' nn/a.cpp '#include <oneapi/tbb/info.h>'
expect 'oneTBB' core/x.h '#include <tbb/parallel_for.h>'
expect 'Highway' optim/kernels/a.cpp '#include "hwy/highway.h"'
expect 'Random123' nn/a.cpp '#include <Random123/philox.h>'
expect 'zlib' nn/a.cpp '#include <zlib.h>'
expect 'JSON' nn/a.cpp '#include <nlohmann/json.hpp>'
expect 'CLI11' nn/a.cpp '#include <CLI/CLI.hpp>'
expect 'nn/ may include only' nn/a.cpp '#include "espalier/optim/sgd.h"'
expect 'core/ may include only' core/x.cpp '#include "espalier/nn/linear.h"'
expect 'A public header includes' nn/a.h '#include <unistd.h>'
expect 'A public header does not show' optim/a.h '#include "espalier/optim/kernels/a.h"'
expect 'never end the process' nn/a.cpp '  if (bad) std::abort();'
expect 'Random numbers' nn/a.cpp 'std::mt19937 engine;'
expect 'A test asserts something' tests/nn/a_test.cpp 'TEST(A, DISABLED_b) {}'
expect 'at most 800 lines' nn/a.cpp "$(seq 801)"
expect 'No tabs' nn/a.cpp $'\tint a;'
expect 'No blanks' nn/a.cpp 'int a; '
expect 'left to do later' docs/a.md "TO""DO: more"
expect 'No paths of one machine' docs/a.md "see /ho""me/someone/x"

[ "$failures" -eq 0 ] && echo 'The lint script finds what it should.'
exit $((failures > 0))
