// Random bits and what they keep.
#pragma once

#include <cstdint>

#include "espalier/core/rng.h"

namespace espalier {

inline constexpr std::uint64_t blocks_per_bit_word = 16;  ///< that random_bits draws for a word

/// `n` bits, each 1 with this probability (to within 2^-33), in words of 64: i64 [ceil(n / 64)]. rng moves on by 16
/// blocks a word. Errors: ConfigError for a probability outside [0, 1].
Tensor random_bits(Rng& rng, Index n, double probability);
/// As kernels take it: of 32 random bits, what is below clears a bit that is kept with this probability.
std::uint64_t keep_threshold(double probability) noexcept;
/// y[i] = factor x[i] where bit i is 1, else 0; i counts in row-major order. f32, f64. Errors: ShapeError for too few
/// bits, DTypeError.
Tensor keep_where(const Tensor& x, const Tensor& bits, double factor);

}  // namespace espalier
