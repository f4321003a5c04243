// Score: how much each weight, or each unit, matters. What scores lowest is pruned first.
//
//   // First-order Taylor, |w g| (Molchanov et al. 2017):
//   prune::Score taylor(
//       "taylor",
//       [](const ParameterState& p, const prune::Statistics& s) { return abs(mul(p.value(), s.gradient)).value(); },
//       {.gradient = true});
//
// The library's own: scores_weight.h (from weights alone), scores_gradient.h, scores_curvature.h, scores_activation.h,
// synflow.h, movement.h.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#include "espalier/autograd/parameter.h"
#include "espalier/core/rng.h"
#include "espalier/prune/statistics.h"

namespace espalier::prune {

/// A named function (parameter, statistics) -> one tensor, f32 or f64; higher means keep. Either of the weight's shape,
/// a score for each weight, or [units], one for each unit: each index of the weight's `axis`, 0 (the outputs of a layer)
/// unless told otherwise. Infinite scores are allowed, NaN is an error of the selection. Of a weight that is pruned
/// already the score does not matter. A value; copies share the function.
class Score {
 public:
  using Function = std::function<Tensor(const ParameterState&, const Statistics&)>;

  Score(std::string name, Function score, Needs needs = {}, int axis = 0)
      : name_(std::move(name)), score_(std::move(score)), needs_(needs), axis_(axis) {}
  template <class F>
  requires(std::is_invocable_r_v<Tensor, const F&, const ParameterState&, const Statistics&> &&
           !std::same_as<std::remove_cvref_t<F>, Score>) Score(F score)  // NOLINT: a function is a score
      : Score("custom", Function(std::move(score))) {}

  const std::string& name() const noexcept { return name_; }
  Needs needs() const noexcept { return needs_; }
  /// The axis of the weight that has the units, where it scores units.
  int axis() const noexcept { return axis_; }
  /// Scores of one parameter, contiguous. Errors: ConfigError if what it needs is not there, or was gathered before the
  /// parameter changed its shape; ShapeError or DTypeError if what it returns does not fit; the text has the parameter's
  /// name.
  Tensor operator()(const NamedParameter& parameter, const Statistics& statistics) const;

 private:
  std::string name_;
  Function score_;
  Needs needs_;
  int axis_;
};

/// What scores look at: in soft mode the dense weights, so that a pruned weight may come back, else the value.
inline const Tensor& weights_of(const ParameterState& parameter) noexcept {
  return parameter.dense().defined() ? parameter.dense() : parameter.value();
}
/// Sum of `scores` over all axes but `axis`: from weights to units. f64 [length of the axis]. Errors: IndexError.
Tensor sum_units(const Tensor& scores, int axis = 0);

struct MagnitudeOptions {
  double p = 1;
};
/// |w|^p; of the dense weights in soft mode. p only matters where scores are added up. Errors: ConfigError unless p >
/// 0. Janowsky 1989; Han, Pool, Tran, Dally 2015.
Score magnitude(MagnitudeOptions options = {});

/// U(0, 1), the baseline. The same (rng, step, parameter) always gives the same scores, so runs repeat and resume
/// exactly.
Score random(Rng& rng);

}  // namespace espalier::prune
