// Percentiles of a list of numbers.
#pragma once

#include <vector>

namespace espalier {

/// The p-th percentile, p in [0, 100], linear between neighbours (numpy.percentile's default).
/// Errors: ConfigError for no values, a NaN among them, or p outside.
double percentile(std::vector<double> values, double p);
/// Several of one list, sorted once.
std::vector<double> percentiles(std::vector<double> values, const std::vector<double>& ps);

}  // namespace espalier
