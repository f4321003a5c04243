// Schedule: when to prune, and to what sparsity.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace espalier::prune {

/// step -> the sparsity to reach at this step, or nothing to do. Steps count from 0, the optimizer's first. A user's
/// lambda is a Schedule: [](std::int64_t step) -> std::optional<double> { ... }.
class Schedule {
 public:
  using Function = std::function<std::optional<double>(std::int64_t)>;

  /// Never: the pruner prunes when it is called.
  Schedule() : text_("no schedule") {}
  Schedule(std::string text, Function schedule) : text_(std::move(text)), schedule_(std::move(schedule)) {}
  template <class F>
  requires(std::is_invocable_r_v<std::optional<double>, const F&, std::int64_t> &&
           !std::same_as<std::remove_cvref_t<F>, Schedule>) Schedule(F schedule)  // NOLINT: a function is a schedule
      : Schedule("custom schedule", Function(std::move(schedule))) {}

  /// Errors: ConfigError if a user's function returns what is no sparsity.
  std::optional<double> operator()(std::int64_t step) const;
  const std::string& describe() const noexcept { return text_; }

 private:
  std::string text_;
  Function schedule_;
};

// Errors of all: ConfigError for a sparsity outside [0, 1], a negative step, or begin > end. A NaN or -1 below means:
// must be given.

struct OneShotOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();
  std::int64_t at = 0;  ///< before the update of this step
};
Schedule one_shot(OneShotOptions options);

struct ConstantOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();
  std::int64_t begin = 0;
  std::int64_t end = std::numeric_limits<std::int64_t>::max();
  std::int64_t every = 100;
};
/// The same sparsity at begin, begin + every, ..., end: the choice of weights is made anew (soft mode).
Schedule constant(ConstantOptions options);

struct PolynomialOptions {
  double final_sparsity = std::numeric_limits<double>::quiet_NaN();
  double initial_sparsity = 0;
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
  double power = 3;
};
/// s(t) = final + (initial - final) (1 - (t - begin) / (end - begin))^power, the fraction held within [0, 1].
double polynomial_sparsity(const PolynomialOptions& options, std::int64_t step);
/// s(t) at begin, begin + every, ..., and always at `end`, whether `every` divides the span or not.
Schedule polynomial(PolynomialOptions options);

struct CubicOptions {
  double final_sparsity = std::numeric_limits<double>::quiet_NaN();
  double initial_sparsity = 0;
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
};
/// The polynomial of power 3: fast at first, while much is redundant, then slower. Zhu and Gupta 2017, eq. 1.
Schedule cubic(CubicOptions options);

struct LinearOptions {
  double final_sparsity = std::numeric_limits<double>::quiet_NaN();
  double initial_sparsity = 0;
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
};
/// The polynomial of power 1: the same share of all weights each time.
Schedule linear(LinearOptions options);

struct ExponentialOptions {
  double final_sparsity = std::numeric_limits<double>::quiet_NaN();
  double initial_sparsity = 0;
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
};
/// s(t) = 1 - (1 - initial) ((1 - final) / (1 - initial))^x with x = (t - begin) / (end - begin): the same share of the
/// live weights each time, so what is left falls geometrically. Tanaka, Kunin, Yamins and Ganguli 2020, section 6, prune
/// so in rounds. Errors: ConfigError for a final sparsity of 1, which no such fall reaches, too.
Schedule exponential(ExponentialOptions options);

struct OneCycleOptions {
  double final_sparsity = std::numeric_limits<double>::quiet_NaN();
  double initial_sparsity = 0;
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
  double alpha = 14;  ///< how steep; above 0
  double beta = 5;    ///< how late: half of it is done at beta / alpha
};
/// s(t) = initial + (final - initial) (1 + e^(-alpha + beta)) / (1 + e^(-alpha x + beta)), x = (t - begin) / (end - begin):
/// slow while the network is young, fast, then slow again. At `begin` it is a little above the initial sparsity already.
/// Hubens, Mancas, Gosselin, Preda and Zaharia 2022, eq. 1.
Schedule one_cycle(OneCycleOptions options);

struct IterativeOptions {
  double fraction = std::numeric_limits<double>::quiet_NaN();  ///< of the live weights, each time
  std::int64_t begin = 0;
  std::int64_t end = -1;
  std::int64_t every = 100;
};
/// s = 1 - (1 - fraction)^k at the k-th time, from k = 1 at `begin`: train, prune the same share of what is left, train on.
/// Han, Pool, Tran and Dally 2015, section 3; Frankle and Carbin 2019.
Schedule iterative(IterativeOptions options);

struct SparsityStep {
  std::int64_t step = -1;
  double sparsity = std::numeric_limits<double>::quiet_NaN();
};
/// steps({{1000, 0.5}, {3000, 0.8}}): each sparsity at its step. Errors: ConfigError for no steps, or steps that do not
/// rise, too.
Schedule steps(std::vector<SparsityStep> table);

}  // namespace espalier::prune
