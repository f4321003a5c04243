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

Schedule checked_polynomial(const char* who, const PolynomialOptions& o) {
  check_sparsity(who, "final_sparsity", o.final_sparsity);
  check_sparsity(who, "initial_sparsity", o.initial_sparsity);
  check_span(who, o.begin, o.end, o.every);
  if (!(o.power > 0)) fail<ConfigError>("[", who, "] power must be above 0, got ", o.power);
  std::string text = join(who, " ", o.initial_sparsity, " to ", o.final_sparsity, " in steps ", o.begin, " to ", o.end,
                          " every ", o.every);
  return Schedule(std::move(text), [o](std::int64_t step) -> std::optional<double> {
    if (!fires(step, o.begin, o.end, o.every)) return std::nullopt;
    return polynomial_sparsity(o, step);
  });
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
  const double fraction = o.end > o.begin  ? static_cast<double>(step - o.begin) / static_cast<double>(o.end - o.begin)
                          : step < o.begin ? 0.0
                                           : 1.0;
  return o.final_sparsity +
         (o.initial_sparsity - o.final_sparsity) * std::pow(1 - std::clamp(fraction, 0.0, 1.0), o.power);
}

Schedule polynomial(PolynomialOptions options) { return checked_polynomial("polynomial", options); }

Schedule cubic(CubicOptions o) {
  return checked_polynomial("cubic", {.final_sparsity = o.final_sparsity,
                                      .initial_sparsity = o.initial_sparsity,
                                      .begin = o.begin,
                                      .end = o.end,
                                      .every = o.every});
}

}  // namespace espalier::prune
