// RngCell: a random number generator that belongs to a layer.
#pragma once

#include <memory>
#include <utility>

#include "espalier/autograd/replay.h"
#include "espalier/core/rng.h"

namespace espalier {

/// A cell, like Buffer: a const layer may draw from it, as dropout does in training. A copied layer gets a cell of its
/// own, which goes on from where the copied one stood. A checkpointed segment draws the same numbers when it runs again.
///
///   Variable operator()(const Variable& x) const {
///     return forward([&] { return training() ? dropout(x, p_, rng_.draw()) : x; });
///   }
class RngCell final {
 public:
  explicit RngCell(Rng rng) : cell_(std::make_shared<Rng>(rng)) {}
  RngCell(const RngCell& other) : cell_(std::make_shared<Rng>(other.state_of())) {}
  RngCell(RngCell&&) noexcept = default;
  RngCell& operator=(const RngCell& other) {
    if (this != &other) *this = RngCell(other);
    return *this;
  }
  RngCell& operator=(RngCell&&) noexcept = default;

  /// The generator, to draw from. Errors: ConfigError if it was moved from.
  Rng& draw() const {
    state_of();
    Replay::changes(cell_);
    return *cell_;
  }
  Rng::State state() const { return state_of().state(); }
  void set_state(const Rng::State& state) const { draw().set_state(state); }

 private:
  const Rng& state_of() const {
    if (!cell_) [[unlikely]]
      fail<ConfigError>("[rng] a layer's generator used after it was moved from");
    return *cell_;
  }
  std::shared_ptr<Rng> cell_;
};

}  // namespace espalier
