// Sums in eight lanes: a fixed order that vector registers can follow.
#pragma once

#include "espalier/core/dims.h"

namespace espalier::prune::detail {

/// Sum of value(k) over k in [0, n).
template <class F>
double sum_of(Index n, F value) {
  double lanes[8] = {}, rest = 0;
  Index k = 0;
  for (; k + 8 <= n; k += 8)
    for (Index r = 0; r < 8; ++r) lanes[r] += value(k + r);
  for (; k < n; ++k) rest += value(k);
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])) + rest;
}

}  // namespace espalier::prune::detail
