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

}  // namespace espalier::prune
