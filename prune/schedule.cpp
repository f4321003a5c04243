#include "espalier/prune/schedule.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/error.h"

namespace espalier::prune {
namespace {

void check_sparsity(const char* who, const char* what, double s) {
  if (!(s >= 0 && s <= 1))
    fail<ConfigError>("[", who, "] ", what, " must be in [0, 1], got ", s,
                      std::isnan(s) ? ". Hint: it must be given" : "");
}

void check_span(const char* who, std::int64_t begin, std::int64_t end, std::int64_t every) {
  if (begin < 0 || end < begin)
    fail<ConfigError>("[", who, "] needs 0 <= begin <= end, got begin ", begin, " and end ", end,
                      end < 0 ? ". Hint: .end must be given" : "");
  if (every < 1) fail<ConfigError>("[", who, "] every must be at least 1, got ", every);
}

bool fires(std::int64_t step, std::int64_t begin, std::int64_t end, std::int64_t every) {
  return step >= begin && step <= end && ((step - begin) % every == 0 || step == end);
}

/// How far `step` is from begin to end, within [0, 1].
template <class Options>
double progress(const Options& o, std::int64_t step) {
  const double fraction = o.end > o.begin  ? static_cast<double>(step - o.begin) / static_cast<double>(o.end - o.begin)
                          : step < o.begin ? 0.0
                                           : 1.0;
  return std::clamp(fraction, 0.0, 1.0);
}

/// From the initial to the final sparsity: exactly that at `end`, sparsity(step) at the other times.
template <class Options, class Sparsity>
Schedule gradual(const char* who, const Options& o, Sparsity sparsity) {
  check_sparsity(who, "final_sparsity", o.final_sparsity);
  check_sparsity(who, "initial_sparsity", o.initial_sparsity);
  check_span(who, o.begin, o.end, o.every);
  std::string text = join(who, " ", o.initial_sparsity, " to ", o.final_sparsity, " in steps ", o.begin, " to ", o.end,
                          " every ", o.every);
  return Schedule(std::move(text), [o, sparsity](std::int64_t step) -> std::optional<double> {
    if (!fires(step, o.begin, o.end, o.every)) return std::nullopt;
    if (step == o.end) return o.final_sparsity;
    return std::clamp(sparsity(step), 0.0, 1.0);
  });
}

template <class Options>
Schedule gradual_polynomial(const char* who, const Options& o, double power) {
  if (!(power > 0)) fail<ConfigError>("[", who, "] power must be above 0, got ", power);
  const PolynomialOptions polynomial{.final_sparsity = o.final_sparsity,
                                     .initial_sparsity = o.initial_sparsity,
                                     .begin = o.begin,
                                     .end = o.end,
                                     .every = o.every,
                                     .power = power};
  return gradual(who, polynomial, [polynomial](std::int64_t step) { return polynomial_sparsity(polynomial, step); });
}

}  // namespace

std::optional<double> Schedule::operator()(std::int64_t step) const {
  if (!schedule_) return std::nullopt;
  const std::optional<double> s = schedule_(step);
  if (s) check_sparsity("schedule", join("the sparsity at step ", step).c_str(), *s);
  return s;
}

Schedule one_shot(OneShotOptions o) {
  check_sparsity("one_shot", "sparsity", o.sparsity);
  if (o.at < 0) fail<ConfigError>("[one_shot] at must not be negative, got ", o.at);
  return Schedule(join("one shot to ", o.sparsity, " at step ", o.at),
                  [o](std::int64_t step) { return step == o.at ? std::optional(o.sparsity) : std::nullopt; });
}

Schedule constant(ConstantOptions o) {
  check_sparsity("constant", "sparsity", o.sparsity);
  check_span("constant", o.begin, o.end, o.every);
  return Schedule(join("constant ", o.sparsity, " from step ", o.begin, " every ", o.every), [o](std::int64_t step) {
    return fires(step, o.begin, o.end, o.every) ? std::optional(o.sparsity) : std::nullopt;
  });
}

double polynomial_sparsity(const PolynomialOptions& o, std::int64_t step) {
  return o.final_sparsity + (o.initial_sparsity - o.final_sparsity) * std::pow(1 - progress(o, step), o.power);
}

Schedule polynomial(PolynomialOptions o) { return gradual_polynomial("polynomial", o, o.power); }
Schedule cubic(CubicOptions o) { return gradual_polynomial("cubic", o, 3); }
Schedule linear(LinearOptions o) { return gradual_polynomial("linear", o, 1); }

Schedule exponential(ExponentialOptions o) {
  if (o.final_sparsity == 1)
    fail<ConfigError>("[exponential] final_sparsity must be below 1, got 1. Hint: cubic() and linear() reach it");
  return gradual("exponential", o, [o](std::int64_t step) {
    const double x = progress(o, step);
    return 1 - std::pow(1 - o.initial_sparsity, 1 - x) * std::pow(1 - o.final_sparsity, x);
  });
}

Schedule one_cycle(OneCycleOptions o) {
  if (!(o.alpha > 0 && std::isfinite(o.alpha)))
    fail<ConfigError>("[one_cycle] alpha must be above 0 and finite, got ", o.alpha);
  if (!std::isfinite(o.beta)) fail<ConfigError>("[one_cycle] beta must be finite, got ", o.beta);
  return gradual("one_cycle", o, [o](std::int64_t step) {
    const double share = (1 + std::exp(-o.alpha + o.beta)) / (1 + std::exp(-o.alpha * progress(o, step) + o.beta));
    return o.initial_sparsity + (o.final_sparsity - o.initial_sparsity) * share;
  });
}

Schedule iterative(IterativeOptions o) {
  check_sparsity("iterative", "fraction", o.fraction);
  check_span("iterative", o.begin, o.end, o.every);
  return Schedule(join("iterative ", o.fraction, " of the live in steps ", o.begin, " to ", o.end, " every ", o.every),
                  [o](std::int64_t step) -> std::optional<double> {
                    if (!fires(step, o.begin, o.end, o.every)) return std::nullopt;
                    const std::int64_t since = step - o.begin, rounds = since / o.every + (since % o.every != 0) + 1;
                    return 1 - std::pow(1 - o.fraction, static_cast<double>(rounds));
                  });
}

Schedule steps(std::vector<SparsityStep> table) {
  if (table.empty()) fail<ConfigError>("[steps] there must be at least one step");
  std::string text = "steps";
  for (std::size_t i = 0; i < table.size(); ++i) {
    const SparsityStep& s = table[i];
    if (s.step < 0) fail<ConfigError>("[steps] a step must not be negative, got ", s.step);
    if (i > 0 && s.step <= table[i - 1].step)
      fail<ConfigError>("[steps] steps must rise, got ", s.step, " behind ", table[i - 1].step);
    check_sparsity("steps", join("the sparsity at step ", s.step).c_str(), s.sparsity);
    text += join(i > 0 ? "," : "", " ", s.sparsity, " at ", s.step);
  }
  return Schedule(std::move(text), [table = std::move(table)](std::int64_t step) -> std::optional<double> {
    const auto at = std::lower_bound(table.begin(), table.end(), step,
                                     [](const SparsityStep& s, std::int64_t wanted) { return s.step < wanted; });
    if (at == table.end() || at->step != step) return std::nullopt;
    return at->sparsity;
  });
}

}  // namespace espalier::prune
