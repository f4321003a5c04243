// What the tests of compact() and shrink() have in common.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/core/rng.h"
#include "espalier/prune/compact.h"

namespace espalier::testing {

inline constexpr prune::CompactOptions fixed{.kernels = prune::Kernels::fixed};

/// Masks whole rows (units) and columns (what reads a unit) of what is a matrix, all but the first axis flattened.
inline void mask_out(Parameter& weight, std::initializer_list<Index> rows, std::initializer_list<Index> columns = {}) {
  const Index n = weight.shape()[0], m = weight.value().size() / n;
  Mask mask = weight.mask().defined() ? weight.mask() : Mask(n * m);
  for (Index r : rows)
    for (Index c = 0; c < m; ++c) mask.set(r * m + c, false);
  for (Index c : columns)
    for (Index r = 0; r < n; ++r) mask.set(r * m + c, false);
  weight.set_mask(mask);
}

/// Every k-th weight only stays.
inline void thin_out(Parameter& weight, Index k) {
  Mask mask(weight.value().size());
  for (Index i = 0; i < mask.size(); ++i) mask.set(i, i % k == 0);
  weight.set_mask(mask);
}

/// Largest |a - b| / largest |a|.
inline double difference(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) return INFINITY;
  const std::vector<double> x = a.to(DType::f64).to_vector<double>(), y = b.to(DType::f64).to_vector<double>();
  double largest = 0, scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) || std::isnan(y[i])) return INFINITY;
    largest = std::max(largest, std::abs(x[i] - y[i]));
    scale = std::max(scale, std::abs(x[i]));
  }
  return largest == 0 ? 0 : largest / scale;
}

/// Compacts, and holds the outputs to the model's on the sample and on other data.
template <class Model>
Model compacted(const Model& model, const Tensor& sample, const Tensor& other, prune::CompactReport* report = nullptr,
                prune::CompactOptions options = fixed) {
  const Tensor before = model(sample).value();
  Model small = prune::compact(model, sample, options, report);
  for (const Tensor& x : {sample, other}) {
    const Tensor expected = model(x).value();
    EXPECT_LE(difference(expected, small(x).value()), expected.dtype() == DType::f64 ? 1e-10 : 1e-5);
  }
  EXPECT_TRUE(equal(model(sample).value(), before));  // the model is as it was
  return small;
}

/// Running statistics that are not 0 and 1, and gains that are not 1.
template <class Norm>
void unsettle(Norm& norm, Rng& rng) {
  const Shape shape = norm.weight.shape();
  const DType type = norm.weight.dtype();
  norm.weight.set_value(rng.uniform(shape, 0.5, 1.5, type));
  norm.bias.set_value(rng.normal(shape, 0, 1, type));
  if constexpr (requires { norm.running_mean; }) {
    norm.running_mean.set(rng.normal(shape, 0, 1, type));
    norm.running_var.set(rng.uniform(shape, 0.5, 2, type));
  }
}

inline bool mentions(const prune::CompactReport& report, const std::string& text) {
  return report.table().find(text) != std::string::npos;
}

}  // namespace espalier::testing
