// The optimizer step written by hand for exactly one chain: two passes over memory, AVX2. The yardstick of the library's
// own.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::bench {

/// One parameter of a hand-written step; without a mask every weight is live.
struct ByHand {
  std::vector<float> w, g, m, v;
  std::vector<std::uint64_t> mask;
  explicit ByHand(std::size_t n) : w(n, 0.5f), g(n), m(n), v(n) {}
};

/// mask -> clip by global norm 1 -> Adam or momentum -> decay -> apply -> mask, at step t from 1. The number of elements
/// is a multiple of 8. Uses the threads that parallel_for does.
void adam_step_by_hand(std::vector<ByHand>& model, std::int64_t t, float lr, float decay);
void momentum_step_by_hand(std::vector<ByHand>& model, float lr);

}  // namespace espalier::bench
