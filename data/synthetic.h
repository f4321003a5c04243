// Small made-up tasks, for examples and tests.
#pragma once

#include <initializer_list>
#include <span>

#include "espalier/data/dataset.h"

namespace espalier::data {

/// x ~ N(0, 1) [n, k], y [n, 1] = x w + bias + N(0, noise). k = weights.size(). f32.
/// Errors: ConfigError for n < 0 or a negative noise.
Dataset linear_data(Rng& rng, Index n, std::span<const double> weights, double bias = 0, double noise = 0);
Dataset linear_data(Rng& rng, Index n, std::initializer_list<double> weights, double bias = 0, double noise = 0);
/// Two half circles that reach into each other: x f32 [n, 2], y i64 [n], classes 0 and 1 in turn.
/// Errors: as linear_data.
Dataset two_moons(Rng& rng, Index n, double noise = 0.1);
/// Arms of a spiral, `classes` of them: x f32 [n, 2] within the unit circle, y i64 [n], classes in turn.
/// Errors: as linear_data; ConfigError for less than one class.
Dataset spirals(Rng& rng, Index n, Index classes = 3, double noise = 0.05);

}  // namespace espalier::data
