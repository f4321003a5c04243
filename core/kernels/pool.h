// The pooling that nearly all networks do, windows of 2 x 2 side by side, a row at a time; and sums of one plane.
#pragma once

#include <cstdint>

#include "espalier/core/error.h"

namespace espalier::kernels {

template <class T>
struct PoolKernels {
  /// y[i] = the largest of top[2 i], top[2 i + 1], bottom[2 i], bottom[2 i + 1]; place[i] = which, 0 to 3, the first of
  /// equals, the first NaN if there is one.
  void (*max_pairs)(const T* top, const T* bottom, Index n, T* y, std::uint8_t* place);
  /// The adjoint: g[i] goes where place[i] says, the other three get 0.
  void (*spread_pairs)(const T* g, const std::uint8_t* place, Index n, T* top, T* bottom);
};

/// The table of the SIMD target in use.
template <class T>
const PoolKernels<T>& pool() noexcept;

}  // namespace espalier::kernels
