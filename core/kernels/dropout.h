// Random bits, one a value, and what they keep: vectorised single-threaded loops on raw pointers.
#pragma once

#include <cstdint>

#include "espalier/core/error.h"
#include "espalier/core/kernels/random_place.h"

namespace espalier::kernels {

/// Blocks of 128 bits that one word of keep bits takes.
inline constexpr std::uint64_t blocks_per_word = 16;

struct DropoutKernels {
  /// Bit 16 w + b of out[k] is 1 where 32-bit draw w of block counter + 16 k + b is at least `threshold`, which lies in
  /// [0, 2^32]: it is 0 with probability threshold / 2^32. The same bits on every SIMD target.
  void (*keep_bits)(const RandomPlace& place, std::uint64_t threshold, std::uint64_t* out, Index words);
  /// y[i] = factor x[i] where bit i is 1, else 0, whatever x[i] is.
  void (*keep_f32)(const float* x, const std::uint64_t* bits, float factor, float* y, Index n);
  void (*keep_f64)(const double* x, const std::uint64_t* bits, double factor, double* y, Index n);

  void keep(const float* x, const std::uint64_t* bits, float factor, float* y, Index n) const {
    keep_f32(x, bits, factor, y, n);
  }
  void keep(const double* x, const std::uint64_t* bits, double factor, double* y, Index n) const {
    keep_f64(x, bits, factor, y, n);
  }
};

/// The table of the SIMD target in use.
const DropoutKernels& dropout() noexcept;

}  // namespace espalier::kernels
