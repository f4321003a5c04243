// What clips tell the StepReport: the worst of all they looked at, and each parameter on its own if someone listens.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "espalier/optim/block.h"
#include "espalier/optim/report.h"
#include "espalier/optim/transform.h"

namespace espalier::optim::detail {

/// What became of one norm.
struct Clipped {
  Figure norm = 0, bound = std::numeric_limits<double>::infinity(), coefficient = 1;

  /// Cut back more than `other`; or as much, and larger; or as large, and of a smaller bound. NaN is worst. A total order:
  /// it does not matter in which sequence many are compared.
  bool worse_than(const Clipped& other) const {
    const auto less = [](Figure a, Figure b) { return std::isnan(a) ? !std::isnan(b) : a < b; };
    const Figure own[] = {coefficient, -norm, bound}, others[] = {other.coefficient, -other.norm, other.bound};
    return std::lexicographical_compare(own, own + 3, others, others + 3, less);
  }
  bool changed() const { return coefficient != 1; }
};

/// Makes it the record's own figures.
inline void put_into(ClipRecord& record, const Clipped& c) {
  record.norm_before = static_cast<double>(c.norm);
  record.norm_after = static_cast<double>(c.coefficient * c.norm);
  record.coefficient = static_cast<double>(c.coefficient);
  record.bound = static_cast<double>(c.bound);
}

/// The worst unit of a parameter, found by several threads; a copy begins anew.
class WorstUnit final {
 public:
  WorstUnit() = default;
  WorstUnit(const WorstUnit&) : WorstUnit() {}
  WorstUnit& operator=(const WorstUnit&) = delete;

  void clear() {
    worst_ = {.norm = -1};
    norm_ = -1;
    coefficient_ = 1;
  }
  void note(const Clipped& given) {
    const double norm = static_cast<double>(given.norm), c = static_cast<double>(given.coefficient);
    const Clipped now{.norm = norm, .bound = static_cast<double>(given.bound), .coefficient = c};
    // Nearly all get no further than here. The coefficient is read first and written last, so that a new coefficient
    // never comes with an older norm.
    const double worst = coefficient_.load(std::memory_order_acquire);
    if (Clipped{.norm = norm_.load(std::memory_order_relaxed), .coefficient = worst}.worse_than(now)) return;
    const std::lock_guard lock(mutex_);
    if (!now.worse_than(worst_)) return;
    worst_ = now;
    norm_.store(norm, std::memory_order_relaxed);
    coefficient_.store(c, std::memory_order_release);
  }
  /// Of no unit: its norm is -1.
  const Clipped& worst() const noexcept { return worst_; }

 private:
  std::atomic<double> coefficient_{1}, norm_{-1};
  std::mutex mutex_;
  Clipped worst_{.norm = -1};
};

/// Entries that clips of single entries moved, counted by several threads; a copy begins anew.
class EntryCounts final {
 public:
  EntryCounts() = default;
  EntryCounts(const EntryCounts&) : EntryCounts() {}
  EntryCounts& operator=(const EntryCounts&) = delete;

  void begin(const StepContext& context) {
    moved_ = 0;
    blocks_ = 0;
    if (!context.detailed) return by_parameter_.clear();
    if (by_parameter_.size() != context.parameters.size())
      by_parameter_ = std::vector<Counter>(context.parameters.size());
    for (Counter& c : by_parameter_) c.entries = unseen;
  }
  /// Where entries of this block are to be added; null for a block that will be seen again.
  template <class T>
  std::atomic<Index>* counter(const Block<T>& b) {
    if (!b.settles()) return nullptr;
    if (blocks_.load(std::memory_order_relaxed) == 0) blocks_.store(1, std::memory_order_relaxed);
    if (by_parameter_.empty()) return &moved_;
    std::atomic<Index>& own = by_parameter_[b.parameter()].entries;
    Index none = unseen;
    own.compare_exchange_strong(none, 0);
    return &own;
  }
  template <class T>
  void add(const Block<T>& b, Index moved) {
    std::atomic<Index>* own = counter(b);
    if (own && moved > 0) *own += moved;
  }
  void end(ClipRecord& record) const {
    record.entries = moved_;
    for (std::size_t i = 0; i < by_parameter_.size(); ++i) {
      const Index n = by_parameter_[i].entries;
      if (n == unseen) continue;
      record.entries += n;
      record.parameters.push_back({.parameter = i, .entries = n});
    }
    record.clipped = record.entries > 0;
    record.nothing_to_clip = blocks_ == 0;
  }

 private:
  static constexpr Index unseen = -1;
  struct Counter {
    Counter() = default;
    Counter(const Counter&) : Counter() {}
    std::atomic<Index> entries = unseen;
  };
  std::atomic<Index> moved_ = 0, blocks_ = 0;
  std::vector<Counter> by_parameter_;  // empty unless someone listens
};

}  // namespace espalier::optim::detail
