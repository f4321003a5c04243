// Settings that must lie in a range: a number is looked at once, a schedule in every step.
#pragma once

#include <limits>
#include <string>
#include <utility>

#include "espalier/core/error.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim::detail {

/// "lr 0.1", or "lr scheduled".
inline std::string describe(const char* setting, const Scalar& value) {
  return value.scheduled() ? join(setting, " scheduled") : join(setting, " ", value.value());
}

/// Numbers from `low` up to below `high`; `open`: `low` itself is not among them; `closed`: `high` is.
struct Interval {
  double low = 0, high = std::numeric_limits<double>::infinity();
  bool open = false, closed = false;
};
inline constexpr Interval not_negative{}, fraction{0, 1}, positive{.open = true};
inline constexpr Interval closed_fraction{.high = 1, .closed = true}, percentage{.high = 100, .closed = true};

/// A Scalar that lies in an interval and is never NaN. Errors: ConfigError, which names owner and setting.
class Range {
 public:
  Range(const char* owner, const char* setting, Scalar value, Interval interval = not_negative)
      : owner_(owner), setting_(setting), value_(std::move(value)), interval_(interval) {
    if (!value_.scheduled()) checked(value_.value());
  }
  double at(std::int64_t step) const { return value_.scheduled() ? checked(value_.at(step)) : value_.value(); }
  std::string describe() const { return detail::describe(setting_, value_); }
  /// Always this number.
  bool constantly(double number) const { return !value_.scheduled() && value_.value() == number; }

 private:
  double checked(double value) const {
    const auto& [low, high, open, closed] = interval_;
    const bool bounded = high < std::numeric_limits<double>::infinity();
    if ((open ? value > low : value >= low) && (!bounded || (closed ? value <= high : value < high))) [[likely]]
      return value;
    if (bounded)
      fail<ConfigError>("[", owner_, "] ", setting_, " must lie in ", open ? "(" : "[", low, ", ", high,
                        closed ? "], got " : "), got ", value);
    if (open) fail<ConfigError>("[", owner_, "] ", setting_, " must be above ", low, ", got ", value);
    fail<ConfigError>("[", owner_, "] ", setting_, " must not be ", low == 0 ? "negative" : join("below ", low),
                      " or NaN, got ", value);
  }
  const char* owner_;
  const char* setting_;
  Scalar value_;
  Interval interval_;
};

/// Two Scalars, min <= max. Errors: ConfigError, which names the owner.
class Bounds {
 public:
  Bounds(const char* owner, Scalar min, Scalar max) : owner_(owner), min_(std::move(min)), max_(std::move(max)) {
    if (!min_.scheduled() && !max_.scheduled()) begin(0);
  }
  void begin(std::int64_t step) {
    const double min = min_.at(step), max = max_.at(step);
    if (!(min <= max)) [[unlikely]]
      fail<ConfigError>("[", owner_, "] bounds must be min <= max and not NaN, got min ", min, ", max ", max);
    now_min_ = min;
    now_max_ = max;
  }
  double min() const noexcept { return now_min_; }
  double max() const noexcept { return now_max_; }
  std::string describe() const { return detail::describe("min", min_) + ", " + detail::describe("max", max_); }
  bool always_hold_zero() const {
    return !min_.scheduled() && !max_.scheduled() && min_.value() <= 0 && max_.value() >= 0;
  }

 private:
  const char* owner_;
  Scalar min_, max_;
  double now_min_ = 0, now_max_ = 0;
};

}  // namespace espalier::optim::detail
