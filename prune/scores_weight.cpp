#include "espalier/prune/scores_weight.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "espalier/core/parallel.h"
#include "espalier/core/reduce.h"
#include "espalier/prune/detail/exact.h"
#include "espalier/prune/detail/lanes.h"

namespace espalier::prune {

using detail::exact_weights;

namespace {

/// Standard deviation, by n - 1, of the weights that are live. 0 for fewer than two.
double live_deviation(const ParameterState& parameter, const Tensor& weights) {
  // In soft mode all weights are candidates, pruned now or not.
  const Mask mask = parameter.mask_mode() == MaskMode::hard ? parameter.mask() : Mask();
  const double* w = weights.data<double>();
  const Index n = mask.defined() ? mask.live() : weights.size();
  if (n < 2) return 0;
  auto total = [&](auto value) {
    return parallel_reduce<double>(
        weights.size(), 1 << 14,
        [&](Index begin, Index end) {
          double sum = 0;
          for (Index i = begin; i < end; ++i)
            if (!mask.defined() || mask[i]) sum += value(w[i]);
          return sum;
        },
        [](double a, double b) { return a + b; });
  };
  const double mean = total([](double v) { return v; }) / static_cast<double>(n);
  const double squares = total([mean](double v) { return (v - mean) * (v - mean); });
  return std::sqrt(squares / static_cast<double>(n - 1));
}

}  // namespace

Score deviations() {
  return Score("deviations", [](const ParameterState& parameter, const Statistics&) {
    const Tensor w = exact_weights(parameter);
    const double std = live_deviation(parameter, w);
    if (std == 0)
      return map_with("deviations", w, [](auto v) { return v == v ? std::numeric_limits<double>::infinity() : v; });
    return map_with("deviations", w, [std](auto v) { return std::abs(v) / std; });
  });
}

Score lamp() {
  return Score("lamp", [](const ParameterState& parameter, const Statistics&) {
    const Tensor w = exact_weights(parameter);
    if (w.size() == 0) return w;
    // Scores are ratios: scaled by the largest, no square overflows, and those that vanish do not matter.
    const double largest = norm(w, std::numeric_limits<double>::infinity()).item();
    if (largest == 0) return Tensor::zeros(w.shape(), DType::f64);
    Tensor scores = map_with("lamp", w, [largest](auto v) { return (v / largest) * (v / largest); });
    if (!(largest <= std::numeric_limits<double>::max())) return scores;  // NaN where it matters: an error later
    double* s = scores.write<double>("lamp");
    std::vector<std::pair<double, Index>> order;  // by size, downwards
    order.reserve(static_cast<std::size_t>(w.size()));
    for (Index i = 0; i < w.size(); ++i) order.emplace_back(-s[i], i);
    std::sort(order.begin(), order.end());
    double sum = 0;  // of all that are at least as large, from the largest on
    for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
      const double square = -order[begin].first;
      for (; end < order.size() && -order[end].first == square; ++end) sum += square;
      for (std::size_t k = begin; k < end; ++k) s[order[k].second] = square / sum;
    }
    return scores;
  });
}

Score ln_structured(LnStructuredOptions o) {
  if (!(o.p > 0)) fail<ConfigError>("[ln_structured] p must be above 0, got ", o.p);
  return Score(
      join("ln_structured(p=", o.p, ", axis=", o.axis, o.mean ? ", mean)" : ")"),
      [o](const ParameterState& parameter, const Statistics&) {
        const Tensor w = exact_weights(parameter);
        const int axis = checked_axis("ln_structured", o.axis, w.rank());
        // Units as rows: one axis to reduce, there even if it is empty.
        const Index units = w.shape()[axis];
        const Tensor rows = w.transpose(0, axis).reshape({units, units == 0 ? 0 : w.size() / units});
        if (rows.size() == 0) return Tensor::zeros({units}, DType::f64);
        const Tensor norms = norm(rows, o.p, {1});
        if (!o.mean) return norms;
        const double mean = sum(norms).item() / static_cast<double>(units);
        return mean == 0 ? norms : map_with("ln_structured", norms, [mean](auto v) { return v / mean; });
      },
      {}, o.axis);
}

Score norm_scale() {
  return Score("norm_scale",
               [](const ParameterState&, const Statistics& s) {
                 return map_with("norm_scale", weights_of(*s.norm), [](auto v) { return std::abs(v); });
               },
               {.norm = true});
}

Score fpgm() {
  return Score("fpgm", [](const ParameterState& parameter, const Statistics&) {
    const Tensor w = exact_weights(parameter);
    const Index units = w.dim(0), columns = units == 0 ? 0 : w.size() / units;
    Tensor scores = Tensor::zeros({units}, DType::f64);
    const double* f = w.data<double>();
    double* s = scores.write<double>("fpgm");
    parallel_for(units, 4, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < units; ++j) {
          const double squares = detail::sum_of(
              columns, [a = f + i * columns, b = f + j * columns](Index k) { return (a[k] - b[k]) * (a[k] - b[k]); });
          s[i] += std::sqrt(squares);
        }
    });
    return scores;
  });
}

}  // namespace espalier::prune
