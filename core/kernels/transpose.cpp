#include "espalier/core/kernels/transpose.h"

#include <algorithm>

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/transpose.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// A tile of `side` x `side` in registers. Vectors of 128 bits on every target: wider ones would need as many shuffles
/// and cross their halves on top.
template <class T>
constexpr Index tile_side = HWY_TARGET == HWY_SCALAR ? 1
                            : sizeof(T) == 4         ? 4
                                                     : 2;

template <class T>
HWY_INLINE void TransposeTile(const T* x, Index x_stride, T* y, Index y_stride) {
#if HWY_TARGET == HWY_SCALAR
  (void)x_stride, (void)y_stride;
  *y = *x;
#else
  if constexpr (sizeof(T) == 4) {
    const hn::FixedTag<float, 4> d;
    const hn::FixedTag<double, 2> wide;
    const auto a = hn::LoadU(d, x), b = hn::LoadU(d, x + x_stride);
    const auto c = hn::LoadU(d, x + 2 * x_stride), e = hn::LoadU(d, x + 3 * x_stride);
    const auto ab_low = BitCast(wide, InterleaveLower(d, a, b)), ab_high = BitCast(wide, InterleaveUpper(d, a, b));
    const auto ce_low = BitCast(wide, InterleaveLower(d, c, e)), ce_high = BitCast(wide, InterleaveUpper(d, c, e));
    StoreU(BitCast(d, InterleaveLower(wide, ab_low, ce_low)), d, y);
    StoreU(BitCast(d, InterleaveUpper(wide, ab_low, ce_low)), d, y + y_stride);
    StoreU(BitCast(d, InterleaveLower(wide, ab_high, ce_high)), d, y + 2 * y_stride);
    StoreU(BitCast(d, InterleaveUpper(wide, ab_high, ce_high)), d, y + 3 * y_stride);
  } else {
    const hn::FixedTag<double, 2> d;
    const auto a = hn::LoadU(d, x), b = hn::LoadU(d, x + x_stride);
    StoreU(InterleaveLower(d, a, b), d, y);
    StoreU(InterleaveUpper(d, a, b), d, y + y_stride);
  }
#endif
}

template <class T>
void TransposeBlock(const T* x, Index rows, Index cols, Index x_stride, T* y, Index y_stride) {
  constexpr Index S = tile_side<T>;
  Index c = 0;
  for (; c + S <= cols; c += S) {  // down the rows of x: along the rows of y, whose lines are then written whole
    Index r = 0;
    for (; r + S <= rows; r += S) TransposeTile(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
    for (; r < rows; ++r)
      for (Index k = c; k < c + S; ++k) y[k * y_stride + r] = x[r * x_stride + k];
  }
  for (; c < cols; ++c)
    for (Index r = 0; r < rows; ++r) y[c * y_stride + r] = x[r * x_stride + c];
}

constexpr Index block_side = 64;

template <class T>
void Transpose(const T* x, Index rows, Index cols, Index x_stride, T* y, Index y_stride) {
  for (Index c = 0; c < cols; c += block_side)
    for (Index r = 0; r < rows; r += block_side)
      TransposeBlock(x + r * x_stride + c, std::min(block_side, rows - r), std::min(block_side, cols - c), x_stride,
                     y + c * y_stride + r, y_stride);
}

}  // namespace

void Transpose32(const float* x, Index rows, Index cols, Index x_stride, float* y, Index y_stride) {
  Transpose(x, rows, cols, x_stride, y, y_stride);
}
void Transpose64(const double* x, Index rows, Index cols, Index x_stride, double* y, Index y_stride) {
  Transpose(x, rows, cols, x_stride, y, y_stride);
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(Transpose32);
HWY_EXPORT(Transpose64);

void transpose(const float* x, Index rows, Index cols, Index x_stride, float* y, Index y_stride) noexcept {
  HWY_DYNAMIC_DISPATCH(Transpose32)(x, rows, cols, x_stride, y, y_stride);
}
void transpose(const double* x, Index rows, Index cols, Index x_stride, double* y, Index y_stride) noexcept {
  HWY_DYNAMIC_DISPATCH(Transpose64)(x, rows, cols, x_stride, y, y_stride);
}

}  // namespace espalier::kernels
#endif
