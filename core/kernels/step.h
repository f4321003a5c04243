// Kernels of the optimizer step: what runs on one block of a parameter while it is in the first-level cache.
//
// A block has at most `block_size` elements and starts at a multiple of 64 of its parameter, so that its mask is whole
// words: bit i % 64 of mask[i / 64] is 1 where element i is live. A null mask means that all are. Dead elements of an
// output are exactly +0, whatever the input holds there, NaN included. Bits depend on the SIMD target and the block
// alone. Pointers need no alignment; arrays of one call do not overlap unless the comment says "in place".
#pragma once

#include <cstdint>
#include <limits>

#include "espalier/core/error.h"

namespace espalier::kernels {

inline constexpr Index block_size = 4096;
using Mask = const std::uint64_t*;

/// Kingma and Ba 2015, algorithm 1, with the bias corrections folded into `step` and `root`:
///   g <- clamp(scale g, low, high) + weight_decay w;  m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
///   d = -step m / (root sqrt(v) + eps),  step = lr / (1 - beta1^t),  root = 1 / sqrt(1 - beta2^t);
/// u = d, or, without a u, w <- keep w + d (Loshchilov and Hutter 2019: keep = 1 - lr decay).
struct AdamStep {
  double beta1 = 0.9, beta2 = 0.999, step = 1e-3, root = 1, eps = 1e-8;
  double scale = 1, weight_decay = 0, keep = 1;
  double low = -std::numeric_limits<double>::infinity(), high = -low;
  const void* ahead = nullptr;  ///< n elements to fetch into the cache meanwhile: what is read next
};

/// g <- clamp(scale g, low, high) + weight_decay w;  m <- momentum m + (1 - dampening) g, at the first step m <- g;
///   d = -lr m, with Nesterov -lr (g + momentum m), without momentum -lr g;
/// u = d, or, without a u, w <- keep w + d. Sutskever et al. 2013.
struct SgdStep {
  double lr = 1e-2, momentum = 0, dampening = 0;
  double scale = 1, weight_decay = 0, keep = 1;
  double low = -std::numeric_limits<double>::infinity(), high = -low;
  bool nesterov = false, first = false;
  const void* ahead = nullptr;  ///< as of AdamStep
};

template <class T>
struct StepKernels {
  /// out = scale g. In place if out is g.
  void (*load)(T* out, const T* g, T scale, Mask mask, Index n);
  /// out = scale g, clamped to [low, high]; NaN stays. In place if out is g. Returns how many live entries lay outside.
  Index (*load_clamped)(T* out, const T* g, T scale, T low, T high, Mask mask, Index n);
  /// out = bound tanh(scale g / bound), which is scale g where that is far below bound, 0 for bound 0; bound finite, at
  /// least 0; NaN stays. In place if out is g. Returns how many live entries of scale |g| lay beyond bound.
  Index (*load_squashed)(T* out, const T* g, T scale, T bound, Mask mask, Index n);
  /// out = scale g + c. In place if out is g.
  void (*load_shifted)(T* out, const T* g, T scale, T c, Mask mask, Index n);

  /// In place; zeros stay zeros.
  void (*sign)(T* x, Index n);
  void (*mask_zero)(T* x, Mask mask, Index n);         ///< 0 where dead
  void (*axpy)(T* y, T c, const T* x, Index n);        ///< y += c x
  void (*blend)(T* y, T a, T b, const T* x, Index n);  ///< y = a y + b x

  /// Over the live elements. Sums are of f32 lanes within a block and returned in f64; a sum of squares that leaves
  /// f32's comfortable range is taken again in f64, so it neither overflows nor vanishes.
  double (*sum)(const T* x, Mask mask, Index n);
  double (*sum_squares)(const T* x, Mask mask, Index n);
  double (*sum_squares_clamped)(const T* x, T scale, T low, T high, Mask mask, Index n);  ///< of load_clamped's output
  /// Every element lies in [low, high] or is NaN.
  bool (*within)(const T* x, T low, T high, Index n);
  double (*abs_sum)(const T* x, Mask mask, Index n);
  double (*abs_max)(const T* x, Mask mask, Index n);  ///< 0 if none is live, NaN if one is NaN
  Index (*count_nonfinite)(const T* x, Mask mask, Index n);
  Index (*first_nonfinite)(const T* x, Mask mask, Index n);  ///< -1 if there is none

  /// With u: u = d and w is only read, if there is decay at all (it may be null otherwise). Without: w is updated.
  /// Returns how many live entries of scale g lay outside [low, high].
  Index (*adam)(const AdamStep& s, const T* g, T* m, T* v, T* w, T* u, Mask mask, Index n);
  /// m may be null if momentum is 0. In place if u is g.
  Index (*sgd)(const SgdStep& s, const T* g, T* m, T* w, T* u, Mask mask, Index n);
};

/// The table of the SIMD target in use, for float or double. Cost: about two nanoseconds.
template <class T>
const StepKernels<T>& step() noexcept;

/// Element i of a block is live.
inline bool is_live(Mask mask, Index i) noexcept { return !mask || (mask[i >> 6] >> (i & 63) & 1) != 0; }
/// Number of live elements of a block.
Index count_live(Mask mask, Index n) noexcept;

}  // namespace espalier::kernels
