#include "espalier/core/kernels/sparse.h"

#include <algorithm>
#include <limits>

#include "espalier/core/kernels/simd_config.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/sparse.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "espalier/core/kernels/transpose-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
constexpr Index sparse_lanes = static_cast<Index>(hn::MaxLanes(hn::ScalableTag<T>()));

// Batch columns of one tile: eight vectors of sums, but not more than 64 columns (the activation slice must stay in
// L1).
template <class T>
constexpr Index tile_columns = std::min<Index>(8 * sparse_lanes<T>, 64);

template <class V, int n>
using Sums = V[static_cast<std::size_t>(n)];

// `rows` rows of one block times the activations xt [width of the block, vectors * lanes]; sums come from and go to
// yt, whose rows are as long. Entries are added in order for each element, so bits do not depend on the grouping.
template <int rows, int vectors, class T>
HWY_INLINE void TileRows(const SparseMatrix<T>& w, const std::uint32_t* begin, const T* xt, T* yt) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<hn::ScalableTag<T>>;
  constexpr Index N = sparse_lanes<T>;
  constexpr Index length = vectors * N;
  Sums<Sums<V, vectors>, rows> sum;
  const std::uint16_t* column[static_cast<std::size_t>(rows)];
  const T* value[static_cast<std::size_t>(rows)];
  std::uint32_t common = std::numeric_limits<std::uint32_t>::max();
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    column[r] = w.column.data() + begin[r];
    value[r] = w.value.data() + begin[r];
    common = std::min(common, begin[r + 1] - begin[r]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::LoadU(d, yt + r * length + v * N);
  }
  for (std::uint32_t q = 0; q < common; ++q) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const V factor = hn::Set(d, value[r][q]);
      const T* x = xt + column[r][q] * length;
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, hn::LoadU(d, x + v * N), sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    for (std::uint32_t q = common; q < begin[r + 1] - begin[r]; ++q) {
      const V factor = hn::Set(d, value[r][q]);
      const T* x = xt + column[r][q] * length;
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, hn::LoadU(d, x + v * N), sum[r][v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) hn::StoreU(sum[r][v], d, yt + r * length + v * N);
  }
}

// Rows [first, last) times a whole tile xt [columns, vectors * lanes].
template <int vectors, class T>
void Tile(const SparseMatrix<T>& w, Index first, Index last, const T* xt, const T* bias, T* yt) {
  constexpr Index length = vectors * sparse_lanes<T>;
  constexpr int group = vectors == 1 ? 4 : vectors == 2 ? 4 : vectors <= 4 ? 2 : 1;  // sums that fit 16 registers
  for (Index r = first; r < last; ++r) std::fill_n(yt + (r - first) * length, length, bias ? bias[r] : T(0));
  for (Index b = 0; b < w.blocks; ++b) {
    const std::uint32_t* begin = w.begin.data() + b * w.rows;
    const T* slice = xt + b * w.width * length;
    Index r = first;
    for (; r + group <= last; r += group) TileRows<group, vectors>(w, begin + r, slice, yt + (r - first) * length);
    for (; r < last; ++r) TileRows<1, vectors>(w, begin + r, slice, yt + (r - first) * length);
  }
}

template <class T>
using TileFunction = void (*)(const SparseMatrix<T>&, Index, Index, const T*, const T*, T*);

template <class T>
TileFunction<T> TileFor(Index vectors) {
  switch (vectors) {
    case 1:
      return &Tile<1, T>;
    case 2:
      return &Tile<2, T>;
    case 3:
      return &Tile<3, T>;
    case 4:
      return &Tile<4, T>;
    case 5:
      return &Tile<5, T>;
    case 6:
      return &Tile<6, T>;
    case 7:
      return &Tile<7, T>;
    default:
      return &Tile<8, T>;
  }
}

// Rows of W that one chunk of work takes: as many as have about `work` multiply-adds on average, in groups of 8.
template <class T>
Index RowChunk(const SparseMatrix<T>& w, Index batch, Index work) {
  const double per_row = static_cast<double>(w.live()) / static_cast<double>(w.rows) * static_cast<double>(batch) + 16;
  return std::clamp<Index>(static_cast<Index>(static_cast<double>(work) / per_row) / 8 * 8, 8, 256);
}

template <class T>
void SparseBatch(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y) {
  constexpr Index N = sparse_lanes<T>;
  constexpr Index most = tile_columns<T>;
  const Index tiles = detail::chunk_count(batch, most);
  const auto vectors_of = [&](Index tile) { return (std::min(most, batch - tile * most) + N - 1) / N; };
  const Index padded = (tiles - 1) * most + vectors_of(tiles - 1) * N;
  const StoragePtr scratch(Storage::take(static_cast<std::uint64_t>(padded * w.columns) * sizeof(T)));
  T* const xt = reinterpret_cast<T*>(scratch->data());

  const Index columns_chunk = std::max<Index>(64, 32768 / most);
  const Index column_chunks = detail::chunk_count(w.columns, columns_chunk);
  parallel_for(tiles * column_chunks, std::max<Index>(1, 4 * most / std::min(most, batch)), [&](Index from, Index to) {
    for (Index q = from; q < to; ++q) {
      const Index tile = q / column_chunks;
      const Index first = q % column_chunks * columns_chunk;
      const Index last = std::min(w.columns, first + columns_chunk);
      const Index length = vectors_of(tile) * N;
      const Index rows = std::min(most, batch - tile * most);
      T* to_tile = xt + tile * most * w.columns + first * length;
      if (rows < length) std::fill_n(to_tile, (last - first) * length, T(0));
      Transpose(x + tile * most * w.columns + first, w.columns, rows, last - first, to_tile, length);
    }
  });

  const Index rows_chunk = RowChunk(w, std::min(most, batch), 1 << 18);
  const Index row_chunks = detail::chunk_count(w.rows, rows_chunk);
  parallel_for(tiles * row_chunks, 1, [&](Index q, Index end) {
    alignas(64) T yt[static_cast<std::size_t>(256 * most)];
    for (; q < end; ++q) {
      const Index tile = q / row_chunks;
      const Index first = q % row_chunks * rows_chunk;
      const Index last = std::min(w.rows, first + rows_chunk);
      const Index vectors = vectors_of(tile);
      TileFor<T>(vectors)(w, first, last, xt + tile * most * w.columns, bias, yt);
      Transpose(yt, vectors * N, last - first, std::min(most, batch - tile * most), y + tile * most * w.rows + first,
                w.rows);
    }
  });
}

// Dot product of one row of a block with x. Gathers where the target has them in hardware; eight chains hide latency.
template <class T>
HWY_INLINE T RowDot(const std::uint16_t* column, const T* value, Index n, const T* x) {
  T s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
  Index q = 0;
  for (; q + 8 <= n; q += 8) {
    s0 += value[q] * x[column[q]];
    s1 += value[q + 1] * x[column[q + 1]];
    s2 += value[q + 2] * x[column[q + 2]];
    s3 += value[q + 3] * x[column[q + 3]];
    s4 += value[q + 4] * x[column[q + 4]];
    s5 += value[q + 5] * x[column[q + 5]];
    s6 += value[q + 6] * x[column[q + 6]];
    s7 += value[q + 7] * x[column[q + 7]];
  }
  for (; q < n; ++q) s0 += value[q] * x[column[q]];
  return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
}

template <class T>
void SparseOne(const SparseMatrix<T>& w, const T* x, const T* bias, T* y) {
  parallel_for(w.rows, RowChunk(w, 1, 1 << 15), [&](Index first, Index last) {
    for (Index r = first; r < last; ++r) y[r] = bias ? bias[r] : T(0);
    for (Index b = 0; b < w.blocks; ++b) {
      const std::uint32_t* begin = w.begin.data() + b * w.rows;
      const T* slice = x + b * w.width;
      for (Index r = first; r < last; ++r) {
        y[r] += RowDot(w.column.data() + begin[r], w.value.data() + begin[r],
                       static_cast<Index>(begin[r + 1] - begin[r]), slice);
      }
    }
  });
}

template <class T>
void SparseLinear(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y) {
  if (batch <= 0 || w.rows == 0) return;
  if (batch == 1) {
    SparseOne(w, x, bias, y);
  } else {
    SparseBatch(w, x, batch, bias, y);
  }
}

void SparseLinearF32(const SparseMatrix<float>& w, const float* x, Index batch, const float* bias, float* y) {
  SparseLinear(w, x, batch, bias, y);
}
void SparseLinearF64(const SparseMatrix<double>& w, const double* x, Index batch, const double* bias, double* y) {
  SparseLinear(w, x, batch, bias, y);
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(SparseLinearF32);
HWY_EXPORT(SparseLinearF64);

template <>
void sparse_linear(const SparseMatrix<float>& w, const float* x, Index batch, const float* bias, float* y) {
  HWY_DYNAMIC_DISPATCH(SparseLinearF32)(w, x, batch, bias, y);
}
template <>
void sparse_linear(const SparseMatrix<double>& w, const double* x, Index batch, const double* bias, double* y) {
  HWY_DYNAMIC_DISPATCH(SparseLinearF64)(w, x, batch, bias, y);
}

namespace {

/// Blocks narrow enough that 64 batch columns of one stay near L1, wide enough that a row has about 20 entries in each:
/// below that, entering and leaving a row costs more than the cache misses of a wider block. (Measured, 50 to 98 %
/// zeros.)
Index block_width(Index rows, Index columns, Index live) {
  constexpr Index narrowest = 128, widest = 65536;
  if (columns <= 2 * narrowest) return std::max<Index>(columns, 1);
  const double per_column = static_cast<double>(live) / static_cast<double>(rows * columns);
  Index width = narrowest;
  while (width < widest && static_cast<double>(width) * per_column < 20) width *= 2;
  return std::min(width, columns);
}

}  // namespace

template <class T>
SparseMatrix<T> to_sparse(const T* w, Index rows, Index columns) {
  const Index live = rows * columns - std::count(w, w + rows * columns, T(0));
  if (live > std::numeric_limits<std::uint32_t>::max())
    fail<ConfigError>("[sparse] ", live, " entries; at most 2^32 - 1");
  SparseMatrix<T> s;
  s.rows = rows;
  s.columns = columns;
  s.width = rows > 0 && columns > 0 ? block_width(rows, columns, live) : 1;
  s.blocks = detail::chunk_count(columns, s.width);
  s.begin.reserve(static_cast<std::size_t>(s.blocks * rows + 1));
  s.column.reserve(static_cast<std::size_t>(live));
  s.value.reserve(static_cast<std::size_t>(live));
  s.begin.push_back(0);
  for (Index b = 0; b < s.blocks; ++b) {
    for (Index r = 0; r < rows; ++r) {
      for (Index c = b * s.width; c < std::min(columns, (b + 1) * s.width); ++c) {
        const T v = w[r * columns + c];
        if (v == T(0)) continue;
        s.column.push_back(static_cast<std::uint16_t>(c - b * s.width));
        s.value.push_back(v);
      }
      s.begin.push_back(static_cast<std::uint32_t>(s.value.size()));
    }
  }
  return s;
}

template <class T>
void to_dense(const SparseMatrix<T>& w, T* dense) {
  std::fill_n(dense, w.rows * w.columns, T(0));
  for (Index b = 0; b < w.blocks; ++b) {
    for (Index r = 0; r < w.rows; ++r) {
      const auto row = static_cast<std::size_t>(b * w.rows + r);
      T* out = dense + r * w.columns + b * w.width;
      for (std::size_t q = w.begin[row]; q < w.begin[row + 1]; ++q) out[w.column[q]] = w.value[q];
    }
  }
}

template SparseMatrix<float> to_sparse(const float*, Index, Index);
template SparseMatrix<double> to_sparse(const double*, Index, Index);
template void to_dense(const SparseMatrix<float>&, float*);
template void to_dense(const SparseMatrix<double>&, double*);

}  // namespace espalier::kernels
#endif
