#include "espalier/core/percentile.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/error.h"

namespace espalier {

std::vector<double> percentiles(std::vector<double> values, const std::vector<double>& ps) {
  if (values.empty()) fail<ConfigError>("[percentile] there are no values");
  if (std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); }))
    fail<ConfigError>("[percentile] NaN has no place in an order");
  std::sort(values.begin(), values.end());
  std::vector<double> result;
  for (double p : ps) {
    if (!(p >= 0 && p <= 100)) fail<ConfigError>("[percentile] p must lie in [0, 100], got ", p);
    const double at = p / 100 * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const double low = values[below], high = values[std::min(below + 1, values.size() - 1)];
    const double part = at - static_cast<double>(below);
    result.push_back(part == 0 || low == high ? low : low + part * (high - low));  // infinities stay themselves
  }
  return result;
}

double percentile(std::vector<double> values, double p) { return percentiles(std::move(values), {p}).front(); }

}  // namespace espalier
