// What tests of granularities share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "espalier/prune/pruner.h"
#include "espalier/prune/select.h"

namespace espalier::testing {

inline std::vector<double> values_of(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

/// One bit a weight, all live where there is no mask.
inline std::vector<bool> bits_of(const Parameter& p) {
  std::vector<bool> bits(static_cast<std::size_t>(p.size()), true);
  for (std::size_t i = 0; p.mask().defined() && i < bits.size(); ++i) bits[i] = p.mask()[static_cast<Index>(i)];
  return bits;
}

/// "1101": the live weights.
inline std::string picture(const Parameter& p) {
  std::string text;
  for (const bool live : bits_of(p)) text += live ? '1' : '0';
  return text;
}

inline Index pruned_in(const Parameter& p) { return p.size() - prune::live_weights(*p.ref()); }

inline Parameter parameter(std::vector<double> values, const Shape& shape, const std::string& name = "w",
                           DType type = DType::f32) {
  return Parameter(Tensor::from<double>(std::move(values), shape).to(type).clone(), name);
}

/// Each piece, by the number of each of its weights, is live or pruned as a whole.
inline void expect_whole(const Parameter& p, const std::vector<Index>& piece_of, const std::string& what) {
  const std::vector<bool> bits = bits_of(p);
  std::vector<int> state(piece_of.size(), -1);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    int& of = state[static_cast<std::size_t>(piece_of[i])];
    EXPECT_TRUE(of < 0 || of == static_cast<int>(bits[i])) << what << ", weight " << i;
    of = bits[i];
  }
}

}  // namespace espalier::testing
