// The temporal-order task: a made-up problem that only a network with a long memory can solve.
#pragma once

#include "espalier/data/dataset.h"

namespace espalier::data {

inline constexpr Index temporal_order_symbols = 6;  ///< A, B, and the distractors c, d, e, f
inline constexpr Index temporal_order_classes = 4;  ///< AA, AB, BA, BB

/// n sequences of `length` symbols, one-hot: x f32 [n, length, 6]; y i64 [n]. All symbols are distractors drawn at
/// random, but for two: one at a place in [length / 10, 2 length / 10), one in [4 length / 10, 5 length / 10), which are
/// A (0) or B (1) at random; y = 2 * first + second. Errors: ConfigError for n < 0 or length < 10.
/// Cost: n length / 32 draws. Hochreiter and Schmidhuber 1997, task 6a, with the places of Pascanu, Mikolov and Bengio
/// 2013.
Dataset temporal_order(Rng& rng, Index n, Index length);

}  // namespace espalier::data
