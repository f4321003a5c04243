// Kernels of transforms and constraints that are no optimizers. Blocks and masks are as in step.h.
#pragma once

#include "espalier/core/kernels/step.h"

namespace espalier::kernels {

template <class T>
struct TransformKernels {
  /// x = scale g;  out = sign(x) max(|x| - s, 0), where nothing is left exactly +0; NaN stays. In place if out is g.
  void (*load_softened)(T* out, const T* g, T scale, T s, Mask mask, Index n);
  /// out = scale (g - mean), the mean being that of the live elements of each `unit` consecutive ones. n is a multiple of
  /// unit. In place if out is g.
  void (*load_centered)(T* out, const T* g, T scale, Index unit, Mask mask, Index n);
  /// Sum of the squares of what load_centered() gives, over live elements.
  double (*sum_squares_centered)(const T* g, T scale, Index unit, Mask mask, Index n);
  /// y <- y + c (x - y): leaves y alone where it is x already, whatever c.
  void (*approach)(T* y, T c, const T* x, Mask mask, Index n);
};

/// The table of the SIMD target in use, for float or double.
template <class T>
const TransformKernels<T>& transforms() noexcept;

}  // namespace espalier::kernels
