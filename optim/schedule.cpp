#include "espalier/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "espalier/core/error.h"
#include "espalier/optim/detail/settings.h"

namespace espalier::optim {

using detail::at_least;
using detail::finite;
using detail::given;
using detail::within;

struct Schedule::Body {
  std::string name;
  Function schedule;
};

Schedule::Schedule(double value) : Schedule("schedule", [value](std::int64_t) { return value; }) {}

Schedule::Schedule(std::string name, Function schedule) {
  if (!schedule) fail<ConfigError>("[", name, "] the function is empty");
  body_ = std::make_shared<const Body>(Body{std::move(name), std::move(schedule)});
}

double Schedule::operator()(std::int64_t step) const {
  if (step < 0) [[unlikely]]
    fail<ConfigError>("[", body_->name, "] the step must not be negative, got ", step);
  return body_->schedule(step);
}

const std::string& Schedule::name() const noexcept { return body_->name; }

namespace {

/// How much of `length` is over at its step t: exactly 0 at the beginning and 1 at the end and behind it.
double share(std::int64_t t, std::int64_t length) {
  return t >= length ? 1 : static_cast<double>(t) / static_cast<double>(length);
}

/// From 1 to 0 along half a cosine.
double half_cosine(double share) { return (1 + std::cos(std::numbers::pi * share)) / 2; }

/// lr gamma^n. A rate of 0 stays 0 though gamma^n be infinite.
double decayed(double lr, double gamma, double n) { return lr == 0 ? lr : lr * std::pow(gamma, n); }

void check_in_order(const char* owner, const std::vector<std::int64_t>& milestones) {
  for (std::size_t i = 0; i < milestones.size(); ++i) {
    at_least(owner, "a milestone", milestones[i], 0);
    if (i > 0 && milestones[i] < milestones[i - 1])
      fail<ConfigError>("[", owner, "] milestones must be in order, got ", milestones[i], " behind ",
                        milestones[i - 1]);
  }
}

/// How many milestones are behind us.
std::size_t passed(const std::vector<std::int64_t>& milestones, std::int64_t step) {
  return static_cast<std::size_t>(std::upper_bound(milestones.begin(), milestones.end(), step) - milestones.begin());
}

}  // namespace

Schedule constant(ConstantOptions o) {
  given("constant", "lr", o.lr);
  finite("constant", "factor", o.factor);
  at_least("constant", "total_iters", o.total_iters, 0);
  return {"constant", [o](std::int64_t t) { return t < o.total_iters ? o.lr * o.factor : o.lr; }};
}

Schedule linear(LinearOptions o) {
  given("linear", "lr", o.lr);
  finite("linear", "start_factor", o.start_factor);
  finite("linear", "end_factor", o.end_factor);
  given("linear", "total_iters", o.total_iters, 0);
  return {"linear",
          [o](std::int64_t t) { return o.lr * std::lerp(o.start_factor, o.end_factor, share(t, o.total_iters)); }};
}

Schedule step_decay(StepDecayOptions o) {
  given("step_decay", "lr", o.lr);
  given("step_decay", "step_size", o.step_size, 1);
  at_least("step_decay", "gamma", o.gamma, 0.0);
  return {"step_decay", [o](std::int64_t t) { return decayed(o.lr, o.gamma, static_cast<double>(t / o.step_size)); }};
}

Schedule multi_step(MultiStepOptions o) {
  given("multi_step", "lr", o.lr);
  check_in_order("multi_step", o.milestones);
  at_least("multi_step", "gamma", o.gamma, 0.0);
  return {"multi_step", [o = std::move(o)](std::int64_t t) {
            return decayed(o.lr, o.gamma, static_cast<double>(passed(o.milestones, t)));
          }};
}

Schedule exponential(ExponentialOptions o) {
  given("exponential", "lr", o.lr);
  given("exponential", "gamma", o.gamma);
  at_least("exponential", "gamma", o.gamma, 0.0);
  return {"exponential", [o](std::int64_t t) { return decayed(o.lr, o.gamma, static_cast<double>(t)); }};
}

Schedule polynomial(PolynomialOptions o) {
  given("polynomial", "lr", o.lr);
  given("polynomial", "total_iters", o.total_iters, 0);
  at_least("polynomial", "power", o.power, 0.0);
  finite("polynomial", "eta_min", o.eta_min);
  return {"polynomial",
          [o](std::int64_t t) { return std::lerp(o.eta_min, o.lr, std::pow(1 - share(t, o.total_iters), o.power)); }};
}

Schedule cosine(CosineOptions o) {
  given("cosine", "lr", o.lr);
  given("cosine", "T_max", o.T_max, 0);
  finite("cosine", "eta_min", o.eta_min);
  return {"cosine", [o](std::int64_t t) {
            if (o.T_max == 0 || (o.hold && t >= o.T_max)) return o.eta_min;
            const std::int64_t rest =
                t % o.T_max;  // folded in whole numbers: as exact in the last swing as in the first
            const bool rising = t / o.T_max % 2 == 1;
            return std::lerp(o.eta_min, o.lr, half_cosine(share(rising ? o.T_max - rest : rest, o.T_max)));
          }};
}

Schedule warm_restarts(WarmRestartsOptions o) {
  given("warm_restarts", "lr", o.lr);
  given("warm_restarts", "T_0", o.T_0, 1);
  at_least("warm_restarts", "T_mult", o.T_mult, 1);
  finite("warm_restarts", "eta_min", o.eta_min);
  return {"warm_restarts", [o](std::int64_t t) {
            std::int64_t length = o.T_0;
            if (o.T_mult == 1) t %= length;
            while (t >= length) {  // at most 62 times
              t -= length;
              constexpr std::int64_t longest = std::numeric_limits<std::int64_t>::max();
              length = length > longest / o.T_mult ? longest : length * o.T_mult;
            }
            return std::lerp(o.eta_min, o.lr, half_cosine(share(t, length)));
          }};
}

Schedule inverse_sqrt(InverseSqrtOptions o) {
  given("inverse_sqrt", "lr", o.lr);
  at_least("inverse_sqrt", "warmup", o.warmup, 0);
  return {"inverse_sqrt", [o](std::int64_t t) {
            const double n = static_cast<double>(t) + 1,
                         peak = static_cast<double>(std::max<std::int64_t>(o.warmup, 1));
            return o.lr * std::min(n / peak, std::sqrt(peak / n));
          }};
}

Schedule trapezoid(TrapezoidOptions o) {
  given("trapezoid", "lr", o.lr);
  at_least("trapezoid", "warmup", o.warmup, 0);
  given("trapezoid", "stable", o.stable, 0);
  given("trapezoid", "decay", o.decay, 0);
  finite("trapezoid", "eta_min", o.eta_min);
  return {"trapezoid", [o](std::int64_t t) {
            if (t < o.warmup) return o.lr * share(t + 1, o.warmup);
            t -= o.warmup;  // not t < warmup + stable: the sum may overflow
            if (t < o.stable) return o.lr;
            const double s = share(t - o.stable, o.decay);
            return std::lerp(o.eta_min, o.lr, 1 - (o.shape == DecayShape::linear ? s : std::sqrt(s)));
          }};
}

namespace {

struct Phase {
  double end, from, to;
};

/// From a to b and then, by way of a if there are three phases, to c.
template <class Options>
Schedule one_cycle_through(const char* owner, const Options& o, double a, double b, double c) {
  given(owner, "total_steps", o.total_steps, 1);
  within(owner, "pct_start", o.pct_start, 0, 1);
  if (o.three_phase && o.pct_start > 0.5)
    fail<ConfigError>("[", owner, "] pct_start must be at most 0.5 with three_phase, got ", o.pct_start,
                      ". Hint: the way down takes as long as the way up");
  const double last = static_cast<double>(o.total_steps - 1);
  const double rise = o.pct_start * static_cast<double>(o.total_steps);
  std::vector<Phase> phases = {{rise - 1, a, b}};
  if (o.three_phase) phases.push_back({2 * rise - 2, b, a});
  phases.push_back({last, phases.back().to, c});
  const bool cosines = o.anneal_strategy == Anneal::cos;
  return {owner, [phases = std::move(phases), cosines, last](std::int64_t step) {
            const double t = std::min(static_cast<double>(step), last);
            double begin = 0;
            std::size_t i = 0;
            for (; i + 1 < phases.size() && t > phases[i].end; ++i) begin = phases[i].end;
            const auto [end, from, to] = phases[i];
            const double s = end > begin ? (t - begin) / (end - begin) : 1;
            return cosines ? std::lerp(to, from, half_cosine(s)) : std::lerp(from, to, s);
          }};
}

/// from + (to - from) x height: x is a triangle wave that begins at its foot.
template <class Options>
Schedule triangles(const char* owner, const Options& o, double from, double to) {
  at_least(owner, "step_size_up", o.step_size_up, 1);
  const std::int64_t given = o.step_size_down == -1 ? o.step_size_up : o.step_size_down;
  at_least(owner, "step_size_down", given, 1);
  within(owner, "gamma", o.gamma, 0, 1);
  const auto up = static_cast<std::uint64_t>(o.step_size_up), down = static_cast<std::uint64_t>(given);
  return {owner, [=, mode = o.mode, gamma = o.gamma](std::int64_t step) {
            const auto t = static_cast<std::uint64_t>(step), cycle = t / (up + down), rest = t % (up + down);
            const double x = rest <= up ? static_cast<double>(rest) / static_cast<double>(up)
                                        : static_cast<double>(up + down - rest) / static_cast<double>(down);
            double height = 1;
            if (mode == CyclicMode::triangular2)
              height = std::ldexp(1.0, -static_cast<int>(std::min<std::uint64_t>(cycle, 2000)));
            if (mode == CyclicMode::exp_range) height = std::pow(gamma, static_cast<double>(t));
            return std::lerp(from, to, x * height);
          }};
}

void check_rising(const char* owner, const char* low_name, double low, const char* high_name, double high) {
  given(owner, low_name, low);
  given(owner, high_name, high);
  if (low > high)
    fail<ConfigError>("[", owner, "] ", low_name, " must not be above ", high_name, ", got ", low, " and ", high);
}

}  // namespace

Schedule one_cycle(OneCycleOptions o) {
  given("one_cycle", "max_lr", o.max_lr);
  detail::positive("one_cycle", "div_factor", o.div_factor);
  detail::positive("one_cycle", "final_div_factor", o.final_div_factor);
  const double bottom = o.max_lr / o.div_factor, last = bottom / o.final_div_factor;
  finite("one_cycle", "max_lr / div_factor", bottom);
  finite("one_cycle", "max_lr / div_factor / final_div_factor", last);
  return one_cycle_through("one_cycle", o, bottom, o.max_lr, last);
}

Schedule one_cycle_momentum(OneCycleMomentumOptions o) {
  check_rising("one_cycle_momentum", "base_momentum", o.base_momentum, "max_momentum", o.max_momentum);
  return one_cycle_through("one_cycle_momentum", o, o.max_momentum, o.base_momentum, o.max_momentum);
}

Schedule cyclic(CyclicOptions o) {
  check_rising("cyclic", "base_lr", o.base_lr, "max_lr", o.max_lr);
  return triangles("cyclic", o, o.base_lr, o.max_lr);
}

Schedule cyclic_momentum(CyclicMomentumOptions o) {
  check_rising("cyclic_momentum", "base_momentum", o.base_momentum, "max_momentum", o.max_momentum);
  return triangles("cyclic_momentum", o, o.max_momentum, o.base_momentum);
}

Schedule warmup(Schedule schedule, WarmupOptions o) {
  given("warmup", "steps", o.steps, 0);
  at_least("warmup", "start_factor", o.start_factor, 0.0);
  return {"warmup", [schedule = std::move(schedule), o](std::int64_t t) {
            return t < o.steps ? schedule(0) * std::lerp(o.start_factor, 1.0, share(t + 1, o.steps))
                               : schedule(t - o.steps);
          }};
}

Schedule joined(std::vector<Schedule> parts, std::vector<std::int64_t> milestones) {
  if (parts.empty()) fail<ConfigError>("[joined] there must be at least one schedule");
  if (parts.size() != milestones.size() + 1)
    fail<ConfigError>("[joined] ", parts.size(), " parts need ", parts.size() - 1, " milestones between them, got ",
                      milestones.size());
  check_in_order("joined", milestones);
  return {"joined", [parts = std::move(parts), milestones = std::move(milestones)](std::int64_t t) {
            const std::size_t i = passed(milestones, t);
            return parts[i](i == 0 ? t : t - milestones[i - 1]);
          }};
}

Schedule chained(std::vector<Schedule> factors) {
  if (factors.empty()) fail<ConfigError>("[chained] there must be at least one schedule");
  return {"chained", [factors = std::move(factors)](std::int64_t t) {
            double product = 1;
            for (const Schedule& factor : factors) product *= factor(t);
            return product;
          }};
}

Schedule scaled(Schedule schedule, double factor) {
  finite("scaled", "factor", factor);
  return {"scaled", [schedule = std::move(schedule), factor](std::int64_t t) { return factor * schedule(t); }};
}

Schedule rewind(Schedule schedule, RewindOptions o) {
  given("rewind", "at", o.at, 0);
  at_least("rewind", "to", o.to, 0);
  at_least("rewind", "times", o.times, 1);
  if (o.to > o.at)
    fail<ConfigError>("[rewind] to must not be behind at, got to ", o.to, " and at ", o.at,
                      ". Hint: the schedule goes back");
  return {"rewind", [schedule = std::move(schedule), o](std::int64_t t) {
            const std::int64_t length = o.at - o.to;
            if (t < o.at || length == 0) return schedule(t);
            const std::int64_t since = t - o.at, replays = std::min(since / length, o.times - 1);
            return schedule(o.to + since - replays * length);
          }};
}

}  // namespace espalier::optim
