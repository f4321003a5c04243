#include "espalier/core/kernels/transpose.h"

#include <algorithm>

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/transpose.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/transpose-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

constexpr Index block_side = 64;

/// By blocks that stay in the L1 cache.
template <class T>
void TransposeBlocks(const T* x, Index rows, Index cols, Index x_stride, T* y, Index y_stride) {
  for (Index c = 0; c < cols; c += block_side)
    for (Index r = 0; r < rows; r += block_side)
      Transpose(x + r * x_stride + c, x_stride, std::min(block_side, rows - r), std::min(block_side, cols - c),
                y + c * y_stride + r, y_stride);
}

}  // namespace

void Transpose32(const float* x, Index rows, Index cols, Index x_stride, float* y, Index y_stride) {
  TransposeBlocks(x, rows, cols, x_stride, y, y_stride);
}
void Transpose64(const double* x, Index rows, Index cols, Index x_stride, double* y, Index y_stride) {
  TransposeBlocks(x, rows, cols, x_stride, y, y_stride);
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
