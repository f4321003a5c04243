// Convolution on raw pointers: register tiles that gather their input through a table of offsets.
//
// Any convolution, its gradient by the input and a transposed one are sums  y[c][p] = sum over k of w[k][c] x[at(p) +
// offset[k]]: k runs over (input channel, tap), offset[k] says how far from the pixel's own place that value lies. So
// no matrix of patches is ever made: stride, dilation and padding are all in the offsets and in how the image is laid
// out (zero-padded; for stride s split into s x s planes of every s-th pixel).
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// Neighbouring pixels of one output row, at most a vector of them.
struct Strip {
  Index from;         ///< where the first one reads at offset 0
  Index to;           ///< where it is written, in its channel's plane
  Index count;        ///< pixels
  Index first, last;  ///< the part of k that is not known to meet padding alone
};

/// Output channels of one block of packed weights.
inline constexpr Index conv_rows = 4;

/// Sums for a run of output channels and strips. Strips that hold less than a vector read a whole one all the same, so
/// the image must reach a vector further than its last pixel; nothing is written behind `count`.
template <class T>
struct ConvProducts {
  const T* x;
  const Strip* strips;
  Index strip_count;
  const Index* offsets;  ///< [k]
  Index k_begin, k_end;  ///< the part of k to sum over
  const T* w;            ///< blocks of conv_rows channels, each [k][conv_rows]; the last one may hold fewer channels
  Index w_stride;
  Index channels;
  const T* bias;  ///< [channels], or null
  T* y;
  Index y_stride;   ///< between channels
  bool accumulate;  ///< add to what y holds; no bias then
  bool relu;
};

/// y[i][j] = bias + sum over k of w[k conv_rows] x[i pitch + j + offset[k]] for a single output channel: no other shares
/// what is read, but rows of pixels do. Rows shorter than a vector read a whole one all the same. Pixels may be computed
/// twice.
template <class T>
struct ConvPlane {
  const T* x;
  Index pitch;
  const Index* offsets;  ///< [k]
  Index k;
  const T* w;  ///< a block of conv_rows channels, of which the first is meant
  T bias;
  T* y;  ///< [rows][columns]
  Index rows, columns;
  bool relu;
};

/// d[k][j] += sum over pixels of x[pixel + offset[k]] g[pixel][j], j < vectors * lanes: the gradient of the weights,
/// transposed. The sum runs over the pixels in order.
template <class T>
struct ConvWeights {
  const T* x;
  const Index* rows;  ///< [row_count]: where each output row reads at offset 0
  Index row_count;
  Index width;           ///< pixels of a row
  Index step;            ///< between the values that neighbouring pixels read
  const Index* offsets;  ///< [k]
  Index k;
  const T* g;  ///< [row_count * width][vectors * lanes]
  Index vectors;
  T* d;  ///< [k][vectors * lanes]
};

/// The same for a single channel of g, whose pixels lie side by side, and step 1: d[k] += ..., a dot product.
template <class T>
struct ConvDots {
  const T* x;
  const Index* rows;
  Index row_count;
  Index width;
  const Index* offsets;
  Index k;
  const T* g;  ///< [row_count][width]
  T* d;
};

/// y^T for images whose rows are shorter than a vector: lanes are output channels, pixels are taken one by one.
template <class T>
struct ConvPixels {
  const T* x;
  const Strip* pixels;  ///< [pixel_count]; `to` and `count` are not read
  Index pixel_count;
  const Index* offsets;
  const T* w;  ///< [k][vectors * lanes]
  Index vectors;
  const T* bias;  ///< [vectors * lanes]
  T* y;           ///< [pixel_count][vectors * lanes]
  bool relu;
};

template <class T>
struct ConvKernels {
  Index lanes;         ///< of a vector
  Index most_vectors;  ///< of ConvWeights and ConvPixels
  void (*products)(const ConvProducts<T>&);
  void (*plane)(const ConvPlane<T>&);
  void (*weights)(const ConvWeights<T>&);
  void (*dots)(const ConvDots<T>&);
  void (*pixels)(const ConvPixels<T>&);
  /// Rows of `width` elements, x_stride and y_stride apart.
  void (*copy_rows)(const T* x, Index rows, Index width, Index x_stride, T* y, Index y_stride);
  /// even[i] = x[2 i], odd[i] = x[2 i + 1], for n elements of x.
  void (*split_pairs)(const T* x, Index n, T* even, T* odd);
  /// The other way; n elements of y.
  void (*join_pairs)(const T* even, const T* odd, Index n, T* y);
};

/// The table of the SIMD target in use.
template <class T>
const ConvKernels<T>& conv() noexcept;

}  // namespace espalier::kernels
