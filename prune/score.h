// Score: how much each weight matters. What scores lowest is pruned first.
//
//   // First-order Taylor, |w g| (Molchanov et al. 2017):
//   prune::Score taylor(
//       "taylor",
//       [](const ParameterState& p, const prune::Statistics& s) { return abs(mul(p.value(), s.gradient)).value(); },
//       {.gradient = true});
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#include "espalier/autograd/parameter.h"
#include "espalier/core/rng.h"

namespace espalier::prune {

/// What a score may look at besides the parameter itself.
struct Statistics {
  std::int64_t step = 0;       ///< steps done by the optimizer the pruner is attached to; 0 without one
  std::size_t parameter = 0;   ///< place of the parameter in the pruner's selection
  Tensor gradient = Tensor();  ///< raw gradient, if the score needs it
};

/// What must be gathered before a score can be asked.
struct Needs {
  bool gradient = false;  ///< a parameter without a gradient is then an error
};

/// A named function (parameter, statistics) -> tensor of the weight's shape, f32 or f64; higher means keep. Infinite
/// scores are allowed, NaN is an error of the selection. A value; copies share the function.
class Score {
 public:
  using Function = std::function<Tensor(const ParameterState&, const Statistics&)>;

  Score(std::string name, Function score, Needs needs = {})
      : name_(std::move(name)), score_(std::move(score)), needs_(needs) {}
  template <class F>
  requires(std::is_invocable_r_v<Tensor, const F&, const ParameterState&, const Statistics&> &&
           !std::same_as<std::remove_cvref_t<F>, Score>) Score(F score)  // NOLINT: a function is a score
      : Score("custom", Function(std::move(score))) {}

  const std::string& name() const noexcept { return name_; }
  Needs needs() const noexcept { return needs_; }
  /// Scores of one parameter, contiguous. Errors: ConfigError if what it needs is not there; ShapeError or DTypeError
  /// if what it returns does not fit; the text has the parameter's name.
  Tensor operator()(const NamedParameter& parameter, const Statistics& statistics) const;

 private:
  std::string name_;
  Function score_;
  Needs needs_;
};

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
