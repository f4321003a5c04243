// One run of the experiment: one network, trained with clipping or without, until it solves the task.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "examples/temporal_order/settings.h"

namespace temporal_order {

/// A run is solved when fewer than this share of the fresh sequences are told wrongly.
inline constexpr double solved_below = 0.01;

/// What a stretch of `Settings::every` updates was like.
struct Stretch {
  Index updates = 0;         ///< done at its end
  double error = 0;          ///< share of wrong answers over its batches, each of which is fresh
  double largest_norm = 0;   ///< of its gradients, before clipping
  double clipped_share = 0;  ///< of its updates; without clipping: that a clip at the bound would have clipped
};

struct Run {
  std::uint64_t seed = 0;
  bool clipped = false;
  std::string outcome = "failed";  ///< "solved", "failed", or "diverged": a gradient that is not finite
  Index updates = 0;
  double error = 1;  ///< at the end, over `Settings::test` fresh sequences; NaN if diverged
  double largest_norm = 0;
  double seconds = 0;
  std::vector<Stretch> curve;

  bool solved() const { return outcome == "solved"; }
};

/// Names that Settings::init may have.
std::vector<std::string> initialiser_names();

/// Trains one network. Both arms of a seed begin with the same weights and see the same sequences.
Run train_one(const Settings& settings, std::uint64_t seed, bool clipped,
              const std::function<void(const Stretch&)>& on_stretch);

}  // namespace temporal_order
