// Draws from the standard normal distribution, each at its own place: vectorised single-threaded loops on raw pointers.
#pragma once

#include "espalier/core/error.h"
#include "espalier/core/kernels/random_place.h"

namespace espalier::kernels {

template <class T>
struct NormalKernels {
  /// out[i] = draw number first + i, i < n, of the sequence that begins at `place`: N(0, 1) by Philox and Box-Muller
  /// (1958), from 32 bits for the radius and 32 for the angle, so that none lies beyond 6.8. Number k depends on (place, k)
  /// alone, whatever stretch it is drawn with; float and double give the same numbers but for rounding, and so do the
  /// SIMD targets. 64 draws take 16 counters.
  void (*fill)(const RandomPlace& place, std::uint64_t first, T* out, Index n);
};

/// The table of the SIMD target in use, for float or double.
template <class T>
const NormalKernels<T>& random_normal() noexcept;

}  // namespace espalier::kernels
