#include "espalier/optim/detail/norm_history.h"

#include <algorithm>
#include <cmath>

namespace espalier::optim::detail {

NormHistory::NormHistory(const char* owner, Index window) : owner_(owner) {
  if (window < 1) fail<ConfigError>("[", owner, "] window must be at least 1, got ", window);
  ring_.resize(static_cast<std::size_t>(window));
}

std::size_t NormHistory::place_of_oldest() const {
  const double oldest = ring_[static_cast<std::size_t>(count_) % ring_.size()];
  return static_cast<std::size_t>(std::lower_bound(sorted_.begin(), sorted_.end(), oldest) - sorted_.begin());
}

double NormHistory::percentile(double percent, std::optional<double> next) const {
  const std::size_t gone = next && full() ? place_of_oldest() : sorted_.size();  // the place that would become free
  const auto kept = [&](std::size_t i) { return sorted_[i + (i >= gone)]; };
  const std::size_t n = sorted_.size() - (gone < sorted_.size()) + next.has_value();
  std::size_t place = n;  // of next
  if (next) {
    place = static_cast<std::size_t>(std::lower_bound(sorted_.begin(), sorted_.end(), *next) - sorted_.begin());
    place -= gone < place;
  }
  const auto at = [&](std::size_t i) { return i < place ? kept(i) : i == place ? *next : kept(i - 1); };
  const double where = percent / 100 * static_cast<double>(n - 1), below = std::floor(where), part = where - below;
  const auto first = static_cast<std::size_t>(below);
  const double low = at(first), high = at(std::min(first + 1, n - 1));
  return part < 0.5 ? low + (high - low) * part : high - (high - low) * (1 - part);
}

void NormHistory::push(double x) {
  auto to = std::lower_bound(sorted_.begin(), sorted_.end(), x);
  if (!full()) {
    sorted_.insert(to, x);
  } else {  // one move over what lies between the number that goes and the place of the one that comes
    const auto from = sorted_.begin() + static_cast<std::ptrdiff_t>(place_of_oldest());
    if (from < to) {
      *std::move(from + 1, to, from) = x;
    } else {
      std::move_backward(to, from, from + 1);
      *to = x;
    }
  }
  ring_[static_cast<std::size_t>(count_) % ring_.size()] = x;
  ++count_;
}

Memory NormHistory::memory() const {
  return {{"history", Tensor::from(ring_, {static_cast<Index>(ring_.size())})},
          {"count", Tensor::from<std::int64_t>({count_}, {})}};
}

void NormHistory::set_memory(const Memory& memory) {
  const auto count = memory.at("count").to_vector<std::int64_t>().front();
  std::vector<double> ring = memory.at("history").to_vector<double>();
  if (count < 0) fail<ConfigError>("[", owner_, "] the history has ", count, " norms");
  std::vector<double> sorted = ring;
  sorted.resize(std::min(ring.size(), static_cast<std::size_t>(count)));
  for (double x : sorted)
    if (!(x >= 0 && std::isfinite(x))) fail<ConfigError>("[", owner_, "] the history holds ", x, ", which is no norm");
  std::sort(sorted.begin(), sorted.end());
  ring_ = std::move(ring);
  sorted_ = std::move(sorted);
  count_ = count;
}

}  // namespace espalier::optim::detail
