// Which of several ways to do the same is fastest here.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace espalier::detail {

using Run = std::function<void()>;

inline double seconds(const Run& run, int repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// Seconds of each, the first being dense, in interleaved rounds, so that what disturbs the machine disturbs all.
inline std::vector<double> race(const std::vector<Run>& runs) {
  constexpr double shortest_round = 100e-6, long_round = 10e-3;
  for (const Run& run : runs) run();
  const double once = seconds(runs.front(), 1);
  const int repeats = static_cast<int>(std::clamp(shortest_round / std::max(once, 1e-9), 1.0, 1000.0));
  const int rounds = once > long_round ? 5 : 15;
  std::vector<std::vector<double>> times(runs.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t k = 0; k < runs.size(); ++k) times[k].push_back(seconds(runs[k], repeats) / repeats);
  std::vector<double> medians;
  for (std::vector<double>& each : times) medians.push_back(median(std::move(each)));
  return medians;
}

}  // namespace espalier::detail
