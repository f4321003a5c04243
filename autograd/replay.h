// Replay: what a piece of computation that will run again has touched. See checkpoint.h.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "espalier/autograd/parameter.h"

namespace espalier {

/// Written down while a segment runs without a tape: the parameters it reads, which a gradient will have to reach, and
/// what the cells that const layers change (Buffer) held before their first change.
class Replay final {
 public:
  /// The one that writes down on this thread, or null.
  static Replay* current() noexcept { return current_; }
  /// Writes down while in scope.
  class [[nodiscard]] Recording final {
   public:
    explicit Recording(Replay& replay) noexcept : outer_(std::exchange(current_, &replay)) {}
    ~Recording() { current_ = outer_; }
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    Replay* outer_;
  };
  /// While in scope, the cells hold what they held when the segment began; then again what they held last.
  class [[nodiscard]] Rewind final {
   public:
    explicit Rewind(const Replay& replay);
    ~Rewind();
    Rewind(const Rewind&) = delete;
    Rewind& operator=(const Rewind&) = delete;

   private:
    std::vector<std::function<void()>> back_;
  };

  void uses(const ParameterRef& parameter);
  /// In the order of first use.
  const std::vector<ParameterRef>& parameters() const noexcept { return parameters_; }

  /// To be called by a cell before each change of its content.
  template <class T>
  static void changes(const std::shared_ptr<T>& cell) {
    Replay* replay = current();
    if (replay == nullptr || replay->knows(cell.get())) [[likely]]
      return;
    replay->cells_.push_back({cell.get(), [cell, before = *cell]() -> std::function<void()> {
                                T last = std::exchange(*cell, before);
                                return [cell, last = std::move(last)] { *cell = last; };
                              }});
  }

 private:
  struct CellEntry {
    const void* cell;
    std::function<std::function<void()>()> rewind;  // returns what undoes it
  };
  bool knows(const void* cell) const noexcept;

  static thread_local constinit Replay* current_;
  std::vector<ParameterRef> parameters_;
  std::vector<CellEntry> cells_;
};

}  // namespace espalier
