// NormHistory: the last so many numbers, in the order they came and sorted, for exact percentiles.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "espalier/optim/transform.h"

namespace espalier::optim::detail {

class NormHistory final {
 public:
  /// Errors: ConfigError, which names the owner, for window < 1.
  NormHistory(const char* owner, Index window);

  bool empty() const noexcept { return sorted_.empty(); }
  /// Of what is remembered and, if given, `next`, as if it had been pushed; linear between neighbours, as
  /// numpy.percentile. percent in [0, 100]; at least one number. Cost: O(log window).
  double percentile(double percent, std::optional<double> next = {}) const;
  /// Remembers x, finite, in place of the oldest where the window is full. Cost: O(log window) and one move.
  void push(double x);

  /// "history" f64 [window], where number k lies at k % window, and "count" i64 []: how many there ever were.
  Memory memory() const;
  /// Errors: ConfigError, which names the owner, for numbers that are not finite or negative.
  void set_memory(const Memory& memory);

 private:
  std::size_t place_of_oldest() const;
  bool full() const noexcept { return sorted_.size() == ring_.size(); }
  const char* owner_;
  std::vector<double> ring_, sorted_;
  std::int64_t count_ = 0;
};

}  // namespace espalier::optim::detail
