// Schedules: settings as pure functions of the step. Any Scalar takes one: a rate, a momentum, a bound of a clip.
//
//   adamw({.lr = warmup(cosine({.lr = 6e-4, .T_max = 9'000, .eta_min = 6e-5, .hold = true}), {.steps = 1'000})});
//   sgd({.lr = one_cycle({.max_lr = 0.5, .total_steps = n}), .momentum = one_cycle_momentum({.total_steps = n})});
//
// All lengths and positions are steps of the optimizer, t = 0, 1, ...; whoever thinks in epochs multiplies by the steps
// of one. A schedule has no memory: it may be asked for any step, in any order, from several threads, and a resumed run
// goes on where it was without saving it. What depends on what was measured is a Plateau (optim/plateau.h). Ends are
// exact, a phase of length 0 is at its end from the first, and steps up to the largest std::int64_t do not overflow.
// Settings have PyTorch's names; where its schedulers are recursive, this is their closed form.
//
// Errors of all: ConfigError, when it is made, for settings that are not finite or out of range; lr and lengths without
// a default must be given (NaN and -1 below). Asked for a negative step: ConfigError.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace espalier::optim {

/// step -> number. A handle that never changes: copies are cheap and the same. Numbers and a user's own functions are
/// schedules too, so that they may be parts of others: joined({0.1, [](std::int64_t t) { return ...; }}, {500}).
/// What a user's function returns is looked at where it is used: settings refuse NaN in step(), before any write.
class Schedule final {
 public:
  using Function = std::function<double(std::int64_t)>;

  Schedule(double value);  // NOLINT: a number is a schedule that never changes
  /// `name` begins the texts of errors. Errors: ConfigError for an empty function.
  Schedule(std::string name, Function schedule);
  /// `schedule(step)`: const and without memory, or the promises above are void.
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, Schedule> && std::is_invocable_r_v<double, const F&, std::int64_t>)
      Schedule(F schedule)  // NOLINT: a function is a schedule
      : Schedule("schedule", Function(std::move(schedule))) {}
  Schedule(const Schedule&) = default;  // moves copy, so that none is ever empty
  Schedule& operator=(const Schedule&) = default;

  double operator()(std::int64_t step) const;
  const std::string& name() const noexcept;

 private:
  struct Body;
  std::shared_ptr<const Body> body_;
};

namespace detail {
constexpr double must_be_given = std::numeric_limits<double>::quiet_NaN();
}  // namespace detail

// --- From a rate downwards -------------------------------------------------------------------------------------------

struct ConstantOptions {
  double lr = detail::must_be_given;
  double factor = 1;  ///< PyTorch's default is 1/3, for 5 steps
  std::int64_t total_iters = 0;
};
/// factor lr for t < total_iters, then lr. PyTorch's ConstantLR.
Schedule constant(ConstantOptions options);

struct LinearOptions {
  double lr = detail::must_be_given;
  double start_factor = 1.0 / 3;  ///< 0 is fine here
  double end_factor = 1;
  std::int64_t total_iters = -1;
};
/// lr (start_factor + (end_factor - start_factor) min(t / total_iters, 1)). PyTorch's LinearLR.
Schedule linear(LinearOptions options);

struct StepDecayOptions {
  double lr = detail::must_be_given;
  std::int64_t step_size = -1;
  double gamma = 0.1;  ///< above 1 the rate grows, in the end to infinity
};
/// lr gamma^floor(t / step_size). PyTorch's StepLR.
Schedule step_decay(StepDecayOptions options);

struct MultiStepOptions {
  double lr = detail::must_be_given;
  std::vector<std::int64_t> milestones = {};  ///< in order; one that repeats counts as often
  double gamma = 0.1;
};
/// lr gamma^n, n = how many milestones are <= t. PyTorch's MultiStepLR; He et al. 2016, section 4.2.
Schedule multi_step(MultiStepOptions options);

struct ExponentialOptions {
  double lr = detail::must_be_given;
  double gamma = detail::must_be_given;
};
/// lr gamma^t. PyTorch's ExponentialLR; with gamma > 1 the range test of Smith 2017, section 3.3.
Schedule exponential(ExponentialOptions options);

struct PolynomialOptions {
  double lr = detail::must_be_given;
  std::int64_t total_iters = -1;
  double power = 1;
  double eta_min = 0;
};
/// eta_min + (lr - eta_min) (1 - min(t / total_iters, 1))^power. PyTorch's PolynomialLR; Chen et al. 2018
/// (DeepLab: "poly").
Schedule polynomial(PolynomialOptions options);

struct CosineOptions {
  double lr = detail::must_be_given;
  std::int64_t T_max = -1;
  double eta_min = 0;  ///< may lie above lr: the schedule then rises
  bool hold = false;   ///< behind T_max stay at eta_min; otherwise swing up again, as PyTorch does
};
/// eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2. PyTorch's CosineAnnealingLR; Loshchilov and Hutter 2017, eq. 5,
/// without restarts.
Schedule cosine(CosineOptions options);

struct WarmRestartsOptions {
  double lr = detail::must_be_given;
  std::int64_t T_0 = -1;    ///< length of the first cycle
  std::int64_t T_mult = 1;  ///< each cycle is this many times as long as the one before
  double eta_min = 0;
};
/// The cosine, begun again at lr when a cycle is over: T_0, T_0 T_mult, T_0 T_mult^2, ... steps. PyTorch's
/// CosineAnnealingWarmRestarts; SGDR: Loshchilov and Hutter 2017, section 3.
Schedule warm_restarts(WarmRestartsOptions options);

struct InverseSqrtOptions {
  double lr = detail::must_be_given;  ///< at the peak; the paper's is 1 / sqrt(d_model warmup)
  std::int64_t warmup = 4000;
};
/// lr min(n / warmup, sqrt(warmup / n)) with n = t + 1; with warmup = 0: lr / sqrt(n). Vaswani et al. 2017, eq. 3.
Schedule inverse_sqrt(InverseSqrtOptions options);

enum class DecayShape : std::uint8_t { linear, one_minus_sqrt };
struct TrapezoidOptions {
  double lr = detail::must_be_given;
  std::int64_t warmup = 0;
  std::int64_t stable = -1;
  std::int64_t decay = -1;
  double eta_min = 0;
  DecayShape shape = DecayShape::linear;
};
/// Warm-up, stable, decay: lr (t + 1) / warmup for t < warmup; lr for `stable` steps; then, u steps later,
/// eta_min + (lr - eta_min) (1 - s) with s = min(u / decay, 1), or 1 - sqrt(s) instead of 1 - s. Zhai et al. 2022,
/// section 3.5; Hu et al. 2024 (MiniCPM), section 4.2; the shapes: Haegele et al. 2024.
Schedule trapezoid(TrapezoidOptions options);

// --- Up and down -----------------------------------------------------------------------------------------------------

enum class Anneal : std::uint8_t { cos, linear };
struct OneCycleOptions {
  double max_lr = detail::must_be_given;
  std::int64_t total_steps = -1;
  double pct_start = 0.3;  ///< share of the steps spent rising; at most 1/2 with three_phase
  Anneal anneal_strategy = Anneal::cos;
  double div_factor = 25;
  double final_div_factor = 1e4;
  bool three_phase = false;
};
/// From a = max_lr / div_factor up to max_lr at t = pct_start total_steps - 1, then down to a / final_div_factor at
/// total_steps - 1, where it stays; with three_phase first down to a, as fast as it rose. Each phase is linear or half a
/// cosine. A peak before step 0 is never reached. PyTorch's OneCycleLR; Smith and Topin 2018.
Schedule one_cycle(OneCycleOptions options);

struct OneCycleMomentumOptions {
  double base_momentum = 0.85;
  double max_momentum = 0.95;
  std::int64_t total_steps = -1;
  double pct_start = 0.3;
  Anneal anneal_strategy = Anneal::cos;
  bool three_phase = false;
};
/// Its partner: from max_momentum down to base_momentum while the rate rises, and back up while it falls.
Schedule one_cycle_momentum(OneCycleMomentumOptions options);

enum class CyclicMode : std::uint8_t {
  triangular,   ///< all cycles alike
  triangular2,  ///< each half as high as the one before
  exp_range     ///< height times gamma^t
};
struct CyclicOptions {
  double base_lr = detail::must_be_given;
  double max_lr = detail::must_be_given;
  std::int64_t step_size_up = 2000;
  std::int64_t step_size_down = -1;  ///< -1: as step_size_up
  CyclicMode mode = CyclicMode::triangular;
  double gamma = 1;  ///< in [0, 1]
};
/// base_lr + (max_lr - base_lr) height x, where x goes linearly from 0 to 1 and back in each cycle of step_size_up +
/// step_size_down steps. PyTorch's CyclicLR; Smith 2017, section 3.1.
Schedule cyclic(CyclicOptions options);

struct CyclicMomentumOptions {
  double base_momentum = 0.8;
  double max_momentum = 0.9;
  std::int64_t step_size_up = 2000;
  std::int64_t step_size_down = -1;
  CyclicMode mode = CyclicMode::triangular;
  double gamma = 1;
};
/// Its partner: max_momentum - (max_momentum - base_momentum) height x.
Schedule cyclic_momentum(CyclicMomentumOptions options);

// --- Made of others --------------------------------------------------------------------------------------------------

struct WarmupOptions {
  std::int64_t steps = -1;
  double start_factor = 0;
};
/// schedule(0) (start_factor + (1 - start_factor) (t + 1) / steps) for t < steps, then schedule(t - steps): the first
/// step is not wasted on a rate of 0, and the last of the warm-up has the whole. For a ramp over a schedule that goes on
/// beneath it: chained({linear({.lr = 1, ...}), schedule}). Goyal et al. 2017, section 2.2.
Schedule warmup(Schedule schedule, WarmupOptions options);

/// One after the other: the next part begins at each milestone, and every part counts its steps from its own beginning.
/// A part between equal milestones is left out. PyTorch's SequentialLR. Errors: ConfigError unless there is one part more
/// than there are milestones, and these are in order.
Schedule joined(std::vector<Schedule> parts, std::vector<std::int64_t> milestones);

/// The product of all: one with the rate, the others factors (.lr = 1). PyTorch's ChainedScheduler.
Schedule chained(std::vector<Schedule> factors);

/// factor schedule(t).
Schedule scaled(Schedule schedule, double factor);

struct RewindOptions {
  std::int64_t at = -1;
  std::int64_t to = 0;     ///< at most `at`
  std::int64_t times = 1;  ///< again after each `at - to` steps; the last replay goes on
};
/// schedule(t) for t < at; from there on it plays again from step `to`: schedule(to + t - at). Learning-rate rewinding,
/// for training on after pruning at step `at`. Renda, Frankle and Carbin 2020, section 2.
Schedule rewind(Schedule schedule, RewindOptions options);

}  // namespace espalier::optim
