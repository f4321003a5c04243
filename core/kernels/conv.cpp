#include "espalier/core/kernels/conv.h"

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/conv.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// n vectors in registers.
template <class V, int n>
using Many = V[static_cast<std::size_t>(n)];

// --- y = w x: 4 channels x 3 vectors of pixels ---------------------------------------------------------------------
// 12 sums, 3 vectors of x and one of w fill the 16 registers of AVX2; 7 loads feed 12 multiply-adds.
constexpr int tile_strips = 3;

template <int rows, int vectors, class T>
HWY_INLINE void Tile(const ConvProducts<T>& c, const Strip* strip, Index block) {
  const Tag<T> d;
  using V = Lane<T>;
  T* const y = c.y + block * conv_rows * c.y_stride;
  bool whole = true;
  Index first = c.k_end, last = c.k_begin;
  Many<const T*, vectors> x;
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    whole &= strip[v].count == lanes_of<T>;
    first = std::min(first, strip[v].first);
    last = std::max(last, strip[v].last);
    x[v] = c.x + strip[v].from;
  }
  first = std::max(first, c.k_begin);
  last = std::min(last, c.k_end);
  Many<Many<V, vectors>, rows> sum;
  if (c.accumulate) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const T* old = y + r * c.y_stride + strip[v].to;
        sum[r][v] = whole ? hn::LoadU(d, old) : LoadPart(old, strip[v].count);
      }
    }
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const V bias = c.bias ? hn::Set(d, c.bias[block * conv_rows + r]) : hn::Zero(d);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = bias;
    }
  }
  const T* w = c.w + block * c.w_stride + first * conv_rows;
  const Index* const offsets = c.offsets;
  for (Index k = first; k < last; ++k, w += conv_rows) {
    const Index offset = offsets[k];
    Many<V, vectors> in;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) in[v] = hn::LoadU(d, x[v] + offset);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const V factor = hn::Set(d, w[r]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, in[v], sum[r][v]);
    }
  }
  if (c.relu) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v)  // NaN is not below zero and stays
        sum[r][v] = hn::IfThenZeroElse(hn::Lt(sum[r][v], hn::Zero(d)), sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      T* to = y + r * c.y_stride + strip[v].to;
      if (whole)
        StoreU(sum[r][v], d, to);
      else
        StorePart(sum[r][v], to, strip[v].count);
    }
  }
}

// All channels for some strips, whose part of the image stays in the first-level cache meanwhile.
template <int vectors, class T>
void Strips(const ConvProducts<T>& c, const Strip* strip) {
  const Index blocks = c.channels / conv_rows;
  for (Index block = 0; block < blocks; ++block) Tile<conv_rows, vectors>(c, strip, block);
  switch (c.channels % conv_rows) {
    case 1:
      return Tile<1, vectors>(c, strip, blocks);
    case 2:
      return Tile<2, vectors>(c, strip, blocks);
    case 3:
      return Tile<3, vectors>(c, strip, blocks);
    default:
      return;
  }
}

template <class T>
void Products(const ConvProducts<T>& c) {
  Index s = 0;
  // Four left over are two and two: a tile of a single vector would wait for its own sums.
  for (; s + tile_strips <= c.strip_count && c.strip_count - s != 4; s += tile_strips)
    Strips<tile_strips>(c, c.strips + s);
  for (; s + 2 <= c.strip_count; s += 2) Strips<2>(c, c.strips + s);
  for (; s < c.strip_count; ++s) Strips<1>(c, c.strips + s);
}

// --- one output channel: rows x vectors of pixels, each weight loaded once for all of them ------------------------------

template <int rows, int vectors, class T>
HWY_INLINE void PlaneTile(const ConvPlane<T>& c, Index row, Index column) {
  const Tag<T> d;
  using V = Lane<T>;
  const T* const x = c.x + row * c.pitch + column;
  Many<Many<V, vectors>, rows> sum;
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::Set(d, c.bias);
  }
  const Index pitch = c.pitch;
  for (Index k = 0; k < c.k; ++k) {
    const V factor = hn::Set(d, c.w[k * conv_rows]);
    const T* const at = x + c.offsets[k];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v)
        sum[r][v] = hn::MulAdd(factor, hn::LoadU(d, at + r * pitch + v * lanes_of<T>), sum[r][v]);
    }
  }
  const Index count = std::min(lanes_of<T>, c.columns - column);
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      V y = sum[r][v];
      if (c.relu) y = hn::IfThenZeroElse(hn::Lt(y, hn::Zero(d)), y);
      T* to = c.y + (row + r) * c.columns + column + v * lanes_of<T>;
      if (count == lanes_of<T>)
        StoreU(y, d, to);
      else
        StorePart(y, to, count);
    }
  }
}

// Tiles of `most` vectors, and single ones for what is left; the last begins early rather than ending late.
template <int rows, int most, class T>
void PlaneRows(const ConvPlane<T>& c, Index row) {
  constexpr Index one = lanes_of<T>, wide = most * one;
  Index column = 0;
  for (; column + wide <= c.columns; column += wide) PlaneTile<rows, most>(c, row, column);
  const Index left = c.columns - column;
  if (left > wide - one && c.columns >= wide) return PlaneTile<rows, most>(c, row, c.columns - wide);
  for (; column < c.columns; column += one)
    PlaneTile<rows, 1>(c, row, c.columns < one ? 0 : std::min(column, c.columns - one));
}

template <class T>
void Plane(const ConvPlane<T>& c) {
  Index row = 0;
  for (; row + 4 <= c.rows; row += 4) PlaneRows<4, 2>(c, row);
  if (c.rows - row > 1 && c.rows >= 4) return PlaneRows<4, 2>(c, c.rows - 4);
  for (; row < c.rows; ++row) PlaneRows<1, 8>(c, row);
}

// --- gradient of the weights: lanes are channels of g, x is taken value by value ---------------------------------------

// Taps that share the vectors of g: with `vectors` vectors of channels, sums for at most 12 registers.
constexpr int most_vectors = 3;
constexpr int tile_taps(int vectors) { return vectors == 1 ? 8 : vectors == 2 ? 6 : 4; }

template <int taps, int vectors, class T>
HWY_INLINE void WeightTile(const ConvWeights<T>& c, Index k) {
  const Tag<T> d;
  using V = Lane<T>;
  constexpr Index across = vectors * lanes_of<T>;
  T* const out = c.d + k * across;
  Many<Many<V, vectors>, taps> sum;
#pragma GCC unroll 8
  for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[t][v] = hn::LoadU(d, out + t * across + v * lanes_of<T>);
  }
  const T* g = c.g;
  const Index step = c.step;
  for (Index row = 0; row < c.row_count; ++row) {
    Many<const T*, taps> x;
#pragma GCC unroll 8
    for (int t = 0; t < taps; ++t) x[t] = c.x + c.rows[row] + c.offsets[k + t];
    for (Index i = 0, at = 0; i < c.width; ++i, at += step, g += across) {
      Many<V, vectors> in;
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) in[v] = hn::LoadU(d, g + v * lanes_of<T>);
#pragma GCC unroll 8
      for (int t = 0; t < taps; ++t) {
        const V factor = hn::Set(d, x[t][at]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[t][v] = hn::MulAdd(factor, in[v], sum[t][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) StoreU(sum[t][v], d, out + t * across + v * lanes_of<T>);
  }
}

// `most` at a time, then what is left in one tile if it is even, or nearly so.
template <int vectors, class T>
void WeightTiles(const ConvWeights<T>& c) {
  constexpr int most = tile_taps(vectors);
  Index k = 0;
  for (; k + most <= c.k; k += most) WeightTile<most, vectors>(c, k);
  if constexpr (most > 4) {
    if (k + 4 <= c.k) {
      WeightTile<4, vectors>(c, k);
      k += 4;
    }
  }
  switch (c.k - k) {
    case 3:
      return WeightTile<3, vectors>(c, k);
    case 2:
      return WeightTile<2, vectors>(c, k);
    case 1:
      return WeightTile<1, vectors>(c, k);
    default:
      return;
  }
}

template <class T>
void Weights(const ConvWeights<T>& c) {
  if (c.vectors == 1) return WeightTiles<1>(c);
  if (c.vectors == 2) return WeightTiles<2>(c);
  return WeightTiles<3>(c);
}

template <int taps, class T>
HWY_INLINE void DotTile(const ConvDots<T>& c, Index k) {
  const Tag<T> d;
  using V = Lane<T>;
  Many<V, taps> sum;
#pragma GCC unroll 8
  for (int t = 0; t < taps; ++t) sum[t] = hn::Zero(d);
  for (Index row = 0; row < c.row_count; ++row) {
    const T* x = c.x + c.rows[row];
    const T* g = c.g + row * c.width;
    ForEachVector<T>(c.width, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const V in = at.Load(g + i);
#pragma GCC unroll 8
      for (int t = 0; t < taps; ++t) sum[t] = hn::MulAdd(in, at.Load(x + c.offsets[k + t] + i), sum[t]);
    });
  }
#pragma GCC unroll 8
  for (int t = 0; t < taps; ++t) c.d[k + t] += static_cast<T>(SumLanes<T>(sum[t]));
}

template <class T>
void Dots(const ConvDots<T>& c) {
  Index k = 0;
  for (; k + 8 <= c.k; k += 8) DotTile<8>(c, k);
  for (; k + 3 <= c.k; k += 3) DotTile<3>(c, k);
  for (; k < c.k; ++k) DotTile<1>(c, k);
}

// --- short rows: lanes are output channels -----------------------------------------------------------------------------

template <int pixels, int vectors, class T>
HWY_INLINE void PixelTile(const ConvPixels<T>& c, Index p) {
  const Tag<T> d;
  using V = Lane<T>;
  constexpr Index across = vectors * lanes_of<T>;
  Many<Many<V, vectors>, pixels> sum;
  Many<const T*, pixels> x;
  Index first = c.pixels[p].first, last = c.pixels[p].last;
#pragma GCC unroll 8
  for (int q = 0; q < pixels; ++q) {
    x[q] = c.x + c.pixels[p + q].from;
    first = std::min(first, c.pixels[p + q].first);
    last = std::max(last, c.pixels[p + q].last);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[q][v] = hn::LoadU(d, c.bias + v * lanes_of<T>);
  }
  const T* w = c.w + first * across;
  for (Index k = first; k < last; ++k, w += across) {
    const Index offset = c.offsets[k];
    Many<V, vectors> in;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) in[v] = hn::LoadU(d, w + v * lanes_of<T>);
#pragma GCC unroll 8
    for (int q = 0; q < pixels; ++q) {
      const V factor = hn::Set(d, x[q][offset]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[q][v] = hn::MulAdd(factor, in[v], sum[q][v]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < pixels; ++q) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      V y = sum[q][v];
      if (c.relu) y = hn::IfThenZeroElse(hn::Lt(y, hn::Zero(d)), y);
      StoreU(y, d, c.y + (p + q) * across + v * lanes_of<T>);
    }
  }
}

template <int vectors, class T>
void PixelTiles(const ConvPixels<T>& c) {
  constexpr int most = tile_taps(vectors);
  Index p = 0;
  for (; p + most <= c.pixel_count; p += most) PixelTile<most, vectors>(c, p);
  for (; p + 3 <= c.pixel_count; p += 3) PixelTile<3, vectors>(c, p);
  for (; p < c.pixel_count; ++p) PixelTile<1, vectors>(c, p);
}

template <class T>
void Pixels(const ConvPixels<T>& c) {
  if (c.vectors == 1) return PixelTiles<1>(c);
  if (c.vectors == 2) return PixelTiles<2>(c);
  return PixelTiles<3>(c);
}

// --- laying images out -------------------------------------------------------------------------------------------------

template <class T>
void CopyRows(const T* x, Index rows, Index width, Index x_stride, T* y, Index y_stride) {
  const Tag<T> d;
  constexpr Index lanes = lanes_of<T>;
  for (Index row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
    if (width < lanes) {
      StorePart(LoadPart(x, width), y, width);
      continue;
    }
    for (Index i = 0; i < width; i += lanes) {  // the last vector begins early rather than ending late
      const Index at = std::min(i, width - lanes);
      StoreU(hn::LoadU(d, x + at), d, y + at);
    }
  }
}

template <class T>
void SplitPairs(const T* x, Index n, T* even, T* odd) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  for (; i + 2 * lanes_of<T> <= n; i += 2 * lanes_of<T>) {
    Lane<T> a, b;
    hn::LoadInterleaved2(d, x + i, a, b);
    StoreU(a, d, even + i / 2);
    StoreU(b, d, odd + i / 2);
  }
#endif
  for (; i < n; ++i) (i % 2 == 0 ? even : odd)[i / 2] = x[i];
}

template <class T>
void JoinPairs(const T* even, const T* odd, Index n, T* y) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  for (; i + 2 * lanes_of<T> <= n; i += 2 * lanes_of<T>)
    hn::StoreInterleaved2(hn::LoadU(d, even + i / 2), hn::LoadU(d, odd + i / 2), d, y + i);
#endif
  for (; i < n; ++i) y[i] = (i % 2 == 0 ? even : odd)[i / 2];
}

template <class T>
constexpr ConvKernels<T> Table() {
  return {.lanes = lanes_of<T>,
          .most_vectors = most_vectors,
          .products = Products<T>,
          .plane = Plane<T>,
          .weights = Weights<T>,
          .dots = Dots<T>,
          .pixels = Pixels<T>,
          .copy_rows = CopyRows<T>,
          .split_pairs = SplitPairs<T>,
          .join_pairs = JoinPairs<T>};
}

}  // namespace

const Both<ConvKernels>& ConvTables() {
  static constexpr Both<ConvKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(ConvTables);

template <class T>
const ConvKernels<T>& conv() noexcept {
  return HWY_DYNAMIC_DISPATCH(ConvTables)().template get<T>();
}
template const ConvKernels<float>& conv<float>() noexcept;
template const ConvKernels<double>& conv<double>() noexcept;

}  // namespace espalier::kernels
#endif
