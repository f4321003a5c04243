// Pooling, a row at a time: the windows of nearly all networks, 2 x 2 side by side, and what windows in general are made
// of. There a row of the image is split by the stride first, so that the values at one place of all windows (`taps`) lie
// side by side.
#pragma once

#include <cstdint>

#include "espalier/core/error.h"

namespace espalier::kernels {

template <class T>
struct PoolKernels {
  /// y[i] = the largest of top[2 i], top[2 i + 1], bottom[2 i], bottom[2 i + 1]; place[i] = which, 0 to 3, the first of
  /// equals, the first NaN if there is one. A single row is its own bottom.
  void (*max_pairs)(const T* top, const T* bottom, Index n, T* y, std::uint8_t* place);
  /// The adjoint: g[i] goes where place[i] says, the other three get 0.
  void (*spread_pairs)(const T* g, const std::uint8_t* place, Index n, T* top, T* bottom);
  /// best[j] = the largest of taps[t][j]; place[j] = its t, the first of equals, the first NaN if there is one; start[j]
  /// if none is above minus infinity. n is a multiple of `lanes`.
  void (*max_of_taps)(const T* const* taps, Index count, const T* start, Index n, T* best, T* place);
  /// The same for rows that are such maxima, the first of n values: y[j] = the largest of best[r][j]; its place is that
  /// in the row, place[r][j], plus (first + r) width.
  void (*max_of_rows)(const T* const* best, const T* const* place, Index count, Index first, Index width, Index n, T* y,
                      T* y_place);
  /// y[j] = x[0][j] + x[1][j] + ...
  void (*add_rows)(const T* const* x, Index count, Index n, T* y);
  /// The same for the neighbouring rows of an image, x[j] + x[n + j] + ..., exactly.
  void (*add_image_rows)(const T* x, Index count, Index n, double* y);
  /// y[j] = (taps[0][j] + taps[1][j] + ...) / (height lengths[j])
  void (*mean_of_taps)(const double* const* taps, Index count, const double* lengths, double height, Index n, T* y);
  /// y[j] = g[j] / (height lengths[j])
  void (*share_row)(const T* g, const double* lengths, double height, Index n, T* y);

  Index lanes;
};

/// The table of the SIMD target in use.
template <class T>
const PoolKernels<T>& pool() noexcept;

}  // namespace espalier::kernels
