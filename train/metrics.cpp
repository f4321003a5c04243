#include "espalier/train/metrics.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "espalier/core/reduce.h"

namespace espalier::train {

double accuracy(const Tensor& logits, const Tensor& labels) {
  if (logits.rank() != 2 || labels.rank() != 1 || labels.size() != logits.shape()[0])
    fail<ShapeError>("[accuracy] logits ", logits.shape(), " and labels ", labels.shape(),
                     "; they must be [N, C] and [N]");
  const Index n = labels.size();
  if (n == 0) return std::numeric_limits<double>::quiet_NaN();
  const std::vector<Index> guess = argmax(logits, 1).to_vector<Index>(), truth = labels.to_vector<Index>();
  Index right = 0;
  for (std::size_t i = 0; i < guess.size(); ++i) right += guess[i] == truth[i];
  return static_cast<double>(right) / static_cast<double>(n);
}

std::vector<double> median_latencies(std::span<const std::function<void()>> calls, int rounds, double min_round_us) {
  using Clock = std::chrono::steady_clock;
  auto timed = [](const std::function<void()>& call, int repeats) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < repeats; ++i) call();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  };
  std::vector<int> repeats;
  for (const auto& call : calls) {
    timed(call, 3);  // warm
    const double once = std::max(timed(call, 3) / 3, 0.01);
    repeats.push_back(std::max(1, static_cast<int>(std::ceil(min_round_us / once))));
  }
  std::vector<std::vector<double>> samples(calls.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t k = 0; k < calls.size(); ++k) samples[k].push_back(timed(calls[k], repeats[k]) / repeats[k]);
  std::vector<double> medians;
  for (std::vector<double>& s : samples) medians.push_back(percentile(std::move(s), 50));
  return medians;
}

}  // namespace espalier::train
