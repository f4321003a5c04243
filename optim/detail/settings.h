// Settings that are plain numbers, looked at once when they are given. Errors: ConfigError, which names owner and
// setting.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "espalier/core/error.h"

namespace espalier::optim::detail {

inline void finite(const char* owner, const char* setting, double value) {
  if (!std::isfinite(value)) fail<ConfigError>("[", owner, "] ", setting, " must be finite, got ", value);
}
/// Finite, too.
inline void at_least(const char* owner, const char* setting, double value, double lowest) {
  if (!(value >= lowest && value <= std::numeric_limits<double>::max()))
    fail<ConfigError>("[", owner, "] ", setting, " must be at least ", lowest, " and finite, got ", value);
}
inline void positive(const char* owner, const char* setting, double value) {
  if (!(value > 0 && value <= std::numeric_limits<double>::max()))
    fail<ConfigError>("[", owner, "] ", setting, " must be above 0 and finite, got ", value);
}
inline void within(const char* owner, const char* setting, double value, double lowest, double highest) {
  if (!(value >= lowest && value <= highest))
    fail<ConfigError>("[", owner, "] ", setting, " must be in [", lowest, ", ", highest, "], got ", value);
}
/// A number of steps, or of anything else that is counted.
inline void at_least(const char* owner, const char* setting, std::int64_t value, int lowest) {
  if (value < lowest) fail<ConfigError>("[", owner, "] ", setting, " must be at least ", lowest, ", got ", value);
}

/// For settings without a default, where NaN and -1 stand for nothing.
inline void given(const char* owner, const char* setting, double value) {
  if (std::isnan(value)) fail<ConfigError>("[", owner, "] ", setting, " must be given");
  finite(owner, setting, value);
}
inline void given(const char* owner, const char* setting, std::int64_t value, int lowest) {
  if (value == -1) fail<ConfigError>("[", owner, "] ", setting, " must be given");
  at_least(owner, setting, value, lowest);
}

}  // namespace espalier::optim::detail
