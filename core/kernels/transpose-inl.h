// Transposing between row-major matrices, compiled once per SIMD target.
#if defined(ESPALIER_CORE_KERNELS_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_TRANSPOSE_INL_H_
#undef ESPALIER_CORE_KERNELS_TRANSPOSE_INL_H_
#else
#define ESPALIER_CORE_KERNELS_TRANSPOSE_INL_H_
#endif

#include <type_traits>

#include "espalier/core/error.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
template <class T>
constexpr Index square_side = 1;
#else
// Side of the square that Square() moves at once.
template <class T>
constexpr Index square_side = (HWY_MAX_BYTES >= 32 ? 32 : 16) / static_cast<Index>(sizeof(T));

// to[c][r] = from[r][c]: pairs, then (floats) quads within halves of 128 bits, then the halves.
HWY_INLINE void Square(const float* from, Index from_stride, float* to, Index to_stride) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr std::size_t side = square_side<float>;
  const hn::FixedTag<float, side> d;
  const hn::RepartitionToWide<decltype(d)> wide;
  hn::Vec<decltype(d)> quad[side];  // quad[4 g + c]: columns c and c + 4 of rows 4 g to 4 g + 3
#pragma GCC unroll 2
  for (std::size_t g = 0; g < side; g += 4) {
    const float* row = from + static_cast<Index>(g) * from_stride;
    const auto r0 = hn::LoadU(d, row), r1 = hn::LoadU(d, row + from_stride);
    const auto r2 = hn::LoadU(d, row + 2 * from_stride), r3 = hn::LoadU(d, row + 3 * from_stride);
    const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
    const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
    const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
    const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
    quad[g] = hn::BitCast(d, hn::InterleaveLower(wide, low01, low23));
    quad[g + 1] = hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23));
    quad[g + 2] = hn::BitCast(d, hn::InterleaveLower(wide, high01, high23));
    quad[g + 3] = hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23));
  }
#pragma GCC unroll 4
  for (std::size_t c = 0; c < 4; ++c) {
    float* row = to + static_cast<Index>(c) * to_stride;
    if constexpr (side == 4) {
      hn::StoreU(quad[c], d, row);
    } else {
      hn::StoreU(hn::ConcatLowerLower(d, quad[4 + c], quad[c]), d, row);
      hn::StoreU(hn::ConcatUpperUpper(d, quad[4 + c], quad[c]), d, row + 4 * to_stride);
    }
  }
}

HWY_INLINE void Square(const double* from, Index from_stride, double* to, Index to_stride) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr std::size_t side = square_side<double>;
  const hn::FixedTag<double, side> d;
  hn::Vec<decltype(d)> pair[side];  // pair[g + c]: columns c and c + 2 of rows g and g + 1
#pragma GCC unroll 2
  for (std::size_t g = 0; g < side; g += 2) {
    const double* row = from + static_cast<Index>(g) * from_stride;
    const auto r0 = hn::LoadU(d, row), r1 = hn::LoadU(d, row + from_stride);
    pair[g] = hn::InterleaveLower(d, r0, r1);
    pair[g + 1] = hn::InterleaveUpper(d, r0, r1);
  }
#pragma GCC unroll 2
  for (std::size_t c = 0; c < 2; ++c) {
    double* row = to + static_cast<Index>(c) * to_stride;
    if constexpr (side == 2) {
      hn::StoreU(pair[c], d, row);
    } else {
      hn::StoreU(hn::ConcatLowerLower(d, pair[2 + c], pair[c]), d, row);
      hn::StoreU(hn::ConcatUpperUpper(d, pair[2 + c], pair[c]), d, row + 2 * to_stride);
    }
  }
}
#endif

// to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < columns.
template <class T>
void Transpose(const T* from, Index from_stride, Index rows, Index columns, T* to, Index to_stride) {
  constexpr Index side = square_side<T>;
  const Index whole_rows = side > 1 ? rows / side * side : 0;
  const Index whole_columns = side > 1 ? columns / side * side : 0;
  if constexpr (side > 1) {
    // Rows a large power of two apart fall in one set of the cache, so the lines of the side with the longer stride are
    // used up at once: 16 columns of 8 rows read, or 8 rows written along r.
    const Index band = from_stride >= to_stride ? 2 * side : side;
    for (Index first = 0; first < whole_columns; first += band) {
      const Index last = first + band < whole_columns ? first + band : whole_columns;
      for (Index r = 0; r < whole_rows; r += side) {
        for (Index c = first; c < last; c += side) {
          Square(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
        }
      }
    }
  }
  for (Index c = 0; c < columns; ++c) {
    for (Index r = c < whole_columns ? whole_rows : 0; r < rows; ++r) {
      to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
