#include "espalier/prune/units.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace espalier::prune {
namespace {

/// The parameter's mask, all live if it has none.
Mask mask_of(const Parameter& p) { return p.mask().defined() ? p.mask() : Mask(p.size()); }

std::vector<double> row_importance(const Tensor& weight) {
  const Index rows = weight.shape()[0], columns = weight.shape()[1];
  std::vector<double> importance(static_cast<std::size_t>(rows));
  const Tensor values = weight.to(DType::f64);
  const double* w = values.data<double>();
  for (Index r = 0; r < rows; ++r) {
    double sum = 0;
    for (Index c = 0; c < columns; ++c) sum += std::abs(w[r * columns + c]);
    if (std::isnan(sum)) fail<NonFiniteError>("[mask_units] the weights of unit ", r, " hold a NaN");
    importance[static_cast<std::size_t>(r)] = sum;
  }
  return importance;
}

}  // namespace

std::vector<Index> mask_units(Parameter& weight, Parameter& bias, Parameter& next, Index n) {
  if (weight.value().rank() != 2 || next.value().rank() != 2 || weight.shape()[0] != next.shape()[1] ||
      (bias.defined() && bias.size() != weight.shape()[0]))
    fail<ShapeError>("[mask_units] weight ", weight.shape(),
                     bias.defined() ? join(", bias ", bias.shape()) : std::string(), " and next ", next.shape(),
                     " do not fit together; they must be [units, in], [units] and [out, units]");
  const Index units = weight.shape()[0], in = weight.shape()[1], out = next.shape()[0];
  if (n < 0 || n > units) fail<ConfigError>("[mask_units] cannot mask ", n, " of ", units, " units");

  const std::vector<double> importance = row_importance(weight.value());
  std::vector<Index> order(static_cast<std::size_t>(units));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return importance[static_cast<std::size_t>(a)] < importance[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(n));
  std::sort(order.begin(), order.end());

  Mask rows = mask_of(weight), columns = mask_of(next);
  for (Index unit : order) {
    for (Index i = 0; i < in; ++i) rows.set(unit * in + i, false);
    for (Index o = 0; o < out; ++o) columns.set(o * units + unit, false);
  }
  weight.set_mask(std::move(rows), weight.ref()->mask_mode());
  next.set_mask(std::move(columns), next.ref()->mask_mode());
  if (bias.defined()) {
    Mask entries = mask_of(bias);
    for (Index unit : order) entries.set(unit, false);
    bias.set_mask(std::move(entries), bias.ref()->mask_mode());
  }
  return order;
}

}  // namespace espalier::prune
