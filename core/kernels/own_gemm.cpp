#include "espalier/core/kernels/own_gemm.h"

#include <algorithm>

#include "espalier/core/kernels/simd_config.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/own_gemm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "espalier/core/kernels/transpose-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// n vectors in registers.
template <class V, int n>
using Many = V[static_cast<std::size_t>(n)];

// A panel of op(B): `width` vectors of columns, row p at data + p * stride. The last one is padded with zeros.
template <class T>
struct Panel {
  const T* data;
  Index stride;
};

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
constexpr Index lanes = static_cast<Index>(hn::MaxLanes(Tag<T>()));

template <class T>
bool plain(const Product<T>& p) {
  return p.alpha == T(1) && p.beta == T(0) && !p.bias && !p.relu;
}

template <class T, class V>
HWY_INLINE V Finish(V sum, V old, const Product<T>& p, V bias) {
  const Tag<T> d;
  V v = hn::Mul(hn::Set(d, p.alpha), sum);
  if (p.beta != T(0)) v = hn::MulAdd(hn::Set(d, p.beta), old, v);
  if (p.bias) v = hn::Add(v, bias);
  if (p.relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);  // NaN is not below zero and stays
  return v;
}

// Some rows of op(A): element (r, p) at data + r * row + p * column.
template <class T>
struct Rows {
  const T* data;
  Index row, column;
};

// Rows [i, i + rows) times one panel, into columns [j, j + columns). The sum over p runs in order for each element, so
// the bits do not depend on how rows are grouped.
template <int rows, int vectors, class T>
HWY_INLINE void Block(const Product<T>& p, Index i, const Rows<T>& from, Index j, const Panel<T>& panel,
                      Index columns) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  Many<Many<V, vectors>, rows> sum;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::Zero(d);
  }
  const T* a = from.data;
  const T* b = panel.data;
  for (Index q = 0; q < p.k; ++q, a += from.column, b += panel.stride) {
    Many<V, vectors> row;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) row[v] = hn::LoadU(d, b + v * lanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const V factor = hn::Set(d, a[r * from.row]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
  const bool whole = columns == vectors * lanes<T>;
  if (whole && plain(p)) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) hn::StoreU(sum[r][v], d, p.c + (i + r) * p.c_row + j + v * lanes<T>);
    }
    return;
  }
  HWY_ALIGN T part[static_cast<std::size_t>(vectors * lanes<T>)] = {};
  Many<V, vectors> bias;
  if (p.bias && !whole) std::copy_n(p.bias + j, columns, part);
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) {
    bias[v] = hn::Zero(d);
    if (p.bias) bias[v] = hn::LoadU(d, (whole ? p.bias + j : part) + v * lanes<T>);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    T* c = p.c + (i + r) * p.c_row + j;
    T* at = whole ? c : part;
    if (!whole && p.beta != T(0)) std::copy_n(c, columns, part);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const V old = p.beta != T(0) ? hn::LoadU(d, at + v * lanes<T>) : hn::Zero(d);
      hn::StoreU(Finish(sum[r][v], old, p, bias[v]), d, at + v * lanes<T>);
    }
    if (!whole) std::copy_n(part, columns, c);
  }
}

// Rows of a block for panels of `vectors` vectors: sums enough to hide the latency, few enough for the registers.
constexpr int block_rows(int vectors) {
  return HWY_TARGET <= HWY_AVX3 ? (vectors == 1 ? 16 : 12) : (vectors == 1 ? 8 : 6);
}
constexpr Index row_step = 48;  // a multiple of all block heights

// A as the blocks want it: where it lies, or packed block behind block.
template <class T>
struct Left {
  const T* packed;  // null: not packed
  template <int rows>
  HWY_INLINE Rows<T> At(const Product<T>& p, Index i) const {
    return packed ? Rows<T>{packed + i * p.k, 1, rows} : Rows<T>{p.a + i * p.a_row, p.a_row, p.a_column};
  }
};

// Calls f.operator()<rows>(i) on the blocks of rows [begin, end); begin is a multiple of row_step.
template <int most, class F>
HWY_INLINE void ForBlocks(Index begin, Index end, F&& f) {
  Index i = begin;
  for (; i + most <= end; i += most) f.template operator()<most>(i);
  for (; i + 4 <= end; i += 4) f.template operator()<4>(i);
  for (; i < end; ++i) f.template operator()<1>(i);
}

template <int vectors, class T>
void PanelRows(const Product<T>& p, Index begin, Index end, const Left<T>& left, Index j, const Panel<T>& panel,
               Index columns) {
  ForBlocks<block_rows(vectors)>(begin, end, [&]<int rows>(Index i) HWY_ATTR {
    Block<rows, vectors>(p, i, left.template At<rows>(p, i), j, panel, columns);
  });
}

// Columns [j, j + columns) of op(B), packed with rows of `width` elements, zeros behind the last column.
template <class T>
void PackPanel(const Product<T>& p, Index j, Index columns, Index width, T* to) {
  if (columns < width) std::fill_n(to, p.k * width, T(0));
  const T* from = p.b + j * p.b_column;
  if (p.b_row == 1) return Transpose(from, p.b_column, columns, p.k, to, width);
  for (Index q = 0; q < p.k; ++q) std::copy_n(from + q * p.b_row, columns, to + q * width);
}

// Rows [begin, end) of op(A), block behind block, each as [k][rows of the block].
template <int vectors, class T>
void PackRows(const Product<T>& p, Index begin, Index end, T* to) {
  ForBlocks<block_rows(vectors)>(begin, end, [&]<int rows>(Index i) HWY_ATTR {
    T* out = to + i * p.k;
    const T* from = p.a + i * p.a_row;
    for (Index q = 0; q < p.k; ++q, from += p.a_column, out += rows) {
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) out[r] = from[r * p.a_row];
    }
  });
}

// Rows a multiple of 1 KB apart crowd into few sets of the cache, so that walking along a column finds nothing there
// again.
template <class T>
bool Crowded(Index stride, Index steps) {
  return steps > 8 && stride * static_cast<Index>(sizeof(T)) % 1024 == 0;
}

template <int vectors, class T>
void Panels(const Product<T>& p) {
  constexpr Index width = vectors * lanes<T>;
  const Index panels = detail::chunk_count(p.n, width);
  // Packed are: a transposed B, a B that crowds, and the last panel if it is partial.
  const bool pack_all = p.b_column != 1 || (Crowded<T>(p.b_row, p.k) && p.m >= row_step);
  const Index first_packed = pack_all ? 0 : p.n / width;
  const Index b_size = (panels - first_packed) * width * p.k;
  const bool pack_a = panels > 4 && Crowded<T>(std::max(p.a_row, p.a_column), std::max(p.m, p.k));
  const Index size = b_size + (pack_a ? p.m * p.k : 0);
  T few[1024];
  StoragePtr many;
  T* buffer = few;
  if (size > static_cast<Index>(std::size(few))) {
    many = StoragePtr(Storage::take(static_cast<std::uint64_t>(size) * sizeof(T)));
    buffer = reinterpret_cast<T*>(many->data());
  }
  T* const a_buffer = buffer + b_size;

  constexpr Index pack_work = Index{1} << 15;  // elements worth another thread
  const Index pack_grain = std::max<Index>(1, pack_work / std::max<Index>(1, width * p.k));
  parallel_for(panels - first_packed, pack_grain, [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s) {
      const Index j = (first_packed + s) * width;
      PackPanel(p, j, std::min(width, p.n - j), width, buffer + s * width * p.k);
    }
  });
  if (pack_a) {
    const Index grain = std::max<Index>(1, pack_work / std::max<Index>(1, row_step * p.k)) * row_step;
    parallel_for(p.m, grain, [&](Index begin, Index end) { PackRows<vectors>(p, begin, end, a_buffer); });
  }

  // A chunk is a range of rows, few enough that their part of A stays in L2, times a range of panels; about 2 MFLOP.
  constexpr Index chunk_work = Index{1} << 20, rows_bytes = Index{1} << 18;
  const Index row_bytes = std::max<Index>(1, p.k * static_cast<Index>(sizeof(T)));
  const Index rows = std::clamp<Index>(rows_bytes / row_bytes / row_step * row_step, row_step, 8 * row_step);
  const Index strip = std::max<Index>(1, std::min(rows, p.m) * width * p.k);  // work of one panel
  const Index group = std::clamp<Index>(chunk_work / strip, 1, panels);
  // With few panels rows are what is shared out.
  const Index fewer = std::max<Index>(1, chunk_work / std::max<Index>(1, p.n * p.k) / row_step) * row_step;
  const Index row_chunk = group == panels ? std::min(rows, fewer) : rows;
  const Index across = detail::chunk_count(panels, group);
  const Index down = detail::chunk_count(p.m, row_chunk);
  const Left<T> left{pack_a ? a_buffer : nullptr};
  parallel_for(down * across, 1, [&](Index q, Index) {
    const Index begin = q / across * row_chunk, end = std::min(p.m, begin + row_chunk);
    const Index first = q % across * group, last = std::min(panels, first + group);
    for (Index s = first; s < last; ++s) {
      const Index j = s * width;
      const Panel<T> panel =
          s >= first_packed ? Panel<T>{buffer + (s - first_packed) * width * p.k, width} : Panel<T>{p.b + j, p.b_row};
      PanelRows<vectors>(p, begin, end, left, j, panel, std::min(width, p.n - j));
    }
  });
}

template <class T>
void PanelGemm(const Product<T>& p) {
  if (p.n <= lanes<T>) {
    Panels<1>(p);
  } else {
    Panels<2>(p);
  }
}

// All panels of op(B), as Panels packs them.
template <class T>
void PackAll(const Product<T>& p, T* to) {
  constexpr Index width = 2 * lanes<T>, pack_work = Index{1} << 15;
  const Index grain = std::max<Index>(1, pack_work / std::max<Index>(1, width * p.k));
  parallel_for(detail::chunk_count(p.n, width), grain, [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s)
      PackPanel(p, s * width, std::min(width, p.n - s * width), width, to + s * width * p.k);
  });
}

// Rows of the next block where `left` remain: as many as go in one, but no stragglers of one or two rows, which would
// leave most of the multipliers idle.
constexpr Index NextBlock(Index left) {
  constexpr Index most = block_rows(2), small = 6;
  if (left == most || left >= most + 3) return most;
  return left <= small ? left : std::min(small, (left + 1) / 2);
}

// The product of `rows` rows, at most `most`, with one panel.
template <int most, class T>
HWY_INLINE void SmallBlock(Index rows, const Product<T>& p, Index i, Index j, const Panel<T>& panel, Index columns) {
  if constexpr (most > 0) {
    if (rows < most) return SmallBlock<most - 1>(rows, p, i, j, panel, columns);
    Block<most, 2>(p, i, Rows<T>{p.a + i * p.a_row, p.a_row, 1}, j, panel, columns);
  }
}

// The product of a few rows with panels that PackAll made.
template <class T>
void MultiplyPrepacked(const Product<T>& p, const T* panels) {
  constexpr Index width = 2 * lanes<T>, chunk_work = Index{1} << 20;
  const Index grain = std::max<Index>(1, chunk_work / std::max<Index>(1, p.m * width * p.k));
  parallel_for(detail::chunk_count(p.n, width), grain, [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s) {
      const Index j = s * width, columns = std::min(width, p.n - j);
      const Panel<T> panel{panels + j * p.k, width};
      for (Index i = 0, rows; i < p.m; i += rows) {
        rows = NextBlock(p.m - i);
        if (rows > 6)
          Block<block_rows(2), 2>(p, i, Rows<T>{p.a + i * p.a_row, p.a_row, 1}, j, panel, columns);
        else
          SmallBlock<6>(rows, p, i, j, panel, columns);
      }
    }
  });
}

template <class T>
void FinishRow(const Product<T>& p, const T* sums, Index begin, Index end) {
  for (Index j = begin; j < end; ++j) {
    T v = p.alpha * sums[j - begin];
    T& c = p.c[j * p.c_column];
    if (p.beta != T(0)) v += p.beta * c;
    if (p.bias) v += p.bias[j * p.bias_step];
    c = p.relu && v < T(0) ? T(0) : v;
  }
}

// Dot products of x with `count` rows of a matrix.
template <int count, class T>
HWY_INLINE void Dots(const T* x, const T* rows, Index stride, Index k, T* out) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  constexpr Index N = lanes<T>;
  constexpr int chains = count == 1 ? 8 : 2;
  Many<Many<V, chains>, count> sum;
#pragma GCC unroll 4
  for (int r = 0; r < count; ++r) {
#pragma GCC unroll 16
    for (int s = 0; s < chains; ++s) sum[r][s] = hn::Zero(d);
  }
  Index q = 0;
  for (; q + chains * N <= k; q += chains * N) {
#pragma GCC unroll 16
    for (int s = 0; s < chains; ++s) {
      const V xs = hn::LoadU(d, x + q + s * N);
#pragma GCC unroll 4
      for (int r = 0; r < count; ++r) {
        sum[r][s] = hn::MulAdd(xs, hn::LoadU(d, rows + r * stride + q + s * N), sum[r][s]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < count; ++r) {
#pragma GCC unroll 3
    for (int half = chains / 2; half > 0; half /= 2) {
      for (int s = 0; s < half; ++s) sum[r][s] = hn::Add(sum[r][s], sum[r][s + half]);
    }
    T tail = T(0);
    for (Index t = q; t < k; ++t) tail += x[t] * rows[r * stride + t];
    out[r] = hn::GetLane(hn::SumOfLanes(d, sum[r][0])) + tail;
  }
}

// sums[j] += sum over rows q of x[q] * matrix[q][j], for `columns` columns.
template <class T>
void AddRows(const T* x, const T* matrix, Index stride, Index k, Index columns, T* sums) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  Index q = 0;
  for (; q + 4 <= k; q += 4) {
    const T* r0 = matrix + q * stride;
    const T *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    const V x0 = hn::Set(d, x[q]), x1 = hn::Set(d, x[q + 1]), x2 = hn::Set(d, x[q + 2]), x3 = hn::Set(d, x[q + 3]);
    Index j = 0;
    for (; j + lanes<T> <= columns; j += lanes<T>) {
      V s = hn::MulAdd(x0, hn::LoadU(d, r0 + j), hn::LoadU(d, sums + j));
      s = hn::MulAdd(x1, hn::LoadU(d, r1 + j), s);
      s = hn::MulAdd(x2, hn::LoadU(d, r2 + j), s);
      hn::StoreU(hn::MulAdd(x3, hn::LoadU(d, r3 + j), s), d, sums + j);
    }
    for (; j < columns; ++j) {
      sums[j] += x[q] * r0[j];
      sums[j] += x[q + 1] * r1[j];
      sums[j] += x[q + 2] * r2[j];
      sums[j] += x[q + 3] * r3[j];
    }
  }
  for (; q < k; ++q) {
    const T* row = matrix + q * stride;
    for (Index j = 0; j < columns; ++j) sums[j] += x[q] * row[j];
  }
}

// Rows [i, i + rows) of op(A) times columns [j, j + count) of a transposed B, whose columns lie as rows in memory.
template <int rows, int count, class T>
HWY_INLINE void DotBlock(const Product<T>& p, Index i, Index j) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  constexpr Index N = lanes<T>;
  const T* a = p.a + i * p.a_row;
  const T* b = p.b + j * p.b_column;
  Many<Many<V, count>, rows> sum;
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < count; ++c) sum[r][c] = hn::Zero(d);
  }
  Index q = 0;
  for (; q + N <= p.k; q += N) {
    Many<V, rows> left;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) left[r] = hn::LoadU(d, a + r * p.a_row + q);
#pragma GCC unroll 4
    for (int c = 0; c < count; ++c) {
      const V right = hn::LoadU(d, b + c * p.b_column + q);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) sum[r][c] = hn::MulAdd(left[r], right, sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    HWY_ALIGN T out[static_cast<std::size_t>(count)];
#pragma GCC unroll 4
    for (int c = 0; c < count; ++c) {
      T tail = T(0);
      for (Index t = q; t < p.k; ++t) tail += a[r * p.a_row + t] * b[c * p.b_column + t];
      out[c] = hn::GetLane(hn::SumOfLanes(d, sum[r][c])) + tail;
    }
    Product<T> row = p;
    row.c = p.c + (i + r) * p.c_row;
    FinishRow(row, out, j, j + count);
  }
}

template <int count, class T>
HWY_INLINE void DotColumns(const Product<T>& p, Index j) {
  Index i = 0;
  for (; i + 4 <= p.m; i += 4) DotBlock<4, count>(p, i, j);
  for (; i + 2 <= p.m; i += 2) DotBlock<2, count>(p, i, j);
  for (; i < p.m; ++i) DotBlock<1, count>(p, i, j);
}

template <class T>
void FewRows(const Product<T>& p) {
  constexpr Index work = Index{1} << 17;  // elements of B worth another thread
  const Index chunk = std::clamp<Index>(work / std::max<Index>(1, p.k) / 3 * 3, 3, 510);
  parallel_for(p.n, chunk, [&p](Index begin, Index end) {
    Index j = begin;
    for (; j + 3 <= end; j += 3) DotColumns<3>(p, j);
    for (; j < end; ++j) DotColumns<1>(p, j);
  });
}

template <class T>
void Gemv(const Product<T>& p) {
  constexpr Index narrowest = 512;
  constexpr Index block = 2048;           // columns whose sums stay in L1
  constexpr Index work = Index{1} << 17;  // elements of B worth another thread
  if (p.b_row == 1) {                     // rows of the stored matrix are columns of op(B)
    const Index chunk = std::clamp<Index>(work / std::max<Index>(1, p.k) / 4 * 4, 4, block);
    parallel_for(p.n, chunk, [&p](Index begin, Index end) {
      T dots[block];
      const T* rows = p.b + begin * p.b_column;
      Index j = 0;
      for (; j + 4 <= end - begin; j += 4) Dots<4>(p.a, rows + j * p.b_column, p.b_column, p.k, dots + j);
      for (; j < end - begin; ++j) Dots<1>(p.a, rows + j * p.b_column, p.b_column, p.k, dots + j);
      FinishRow(p, dots, begin, end);
    });
    return;
  }
  // Whole pieces of rows long enough for the prefetcher; more than one column block only where threads have use for it.
  const Index wide = std::clamp<Index>((p.n + 3) / 4 / 64 * 64, narrowest, block);
  const Index chunk = p.n * p.k > work ? wide : block;
  parallel_for(p.n, chunk, [&p](Index begin, Index end) {
    T totals[block] = {};
    AddRows(p.a, p.b + begin, p.b_row, p.k, end - begin, totals);
    FinishRow(p, totals, begin, end);
  });
}

// OpenBLAS packs both operands and cuts for large products; up to here its packing costs more than its kernel gains.
// (Measured with AVX2; narrower targets were not, and get only what is tiny or has few columns.)
template <class T>
bool PrefersPanels(const Product<T>& p) {
  const double work = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  if (p.n <= 16 || work <= 20000) return true;
  if (lanes<T> * static_cast<Index>(sizeof(T)) < 32 || p.k > 1024) return false;
  return work <= (1 << 25) && (p.m >= row_step || p.k <= 256);
}

void PanelGemmF32(const Product<float>& p) { PanelGemm(p); }
void PanelGemmF64(const Product<double>& p) { PanelGemm(p); }
bool PrefersPanelsF32(const Product<float>& p) { return PrefersPanels(p); }
bool PrefersPanelsF64(const Product<double>& p) { return PrefersPanels(p); }
void GemvF32(const Product<float>& p) { Gemv(p); }
void GemvF64(const Product<double>& p) { Gemv(p); }
void FewRowsF32(const Product<float>& p) { FewRows(p); }
void FewRowsF64(const Product<double>& p) { FewRows(p); }
void PackAllF32(const Product<float>& p, float* to) { PackAll(p, to); }
void PackAllF64(const Product<double>& p, double* to) { PackAll(p, to); }
void MultiplyPrepackedF32(const Product<float>& p, const float* panels) { MultiplyPrepacked(p, panels); }
void MultiplyPrepackedF64(const Product<double>& p, const double* panels) { MultiplyPrepacked(p, panels); }
Index PanelWidthF32() { return 2 * lanes<float>; }
Index PanelWidthF64() { return 2 * lanes<double>; }

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(PanelGemmF32);
HWY_EXPORT(PanelGemmF64);
HWY_EXPORT(PrefersPanelsF32);
HWY_EXPORT(PrefersPanelsF64);
HWY_EXPORT(GemvF32);
HWY_EXPORT(GemvF64);
HWY_EXPORT(FewRowsF32);
HWY_EXPORT(FewRowsF64);
HWY_EXPORT(PackAllF32);
HWY_EXPORT(PackAllF64);
HWY_EXPORT(MultiplyPrepackedF32);
HWY_EXPORT(MultiplyPrepackedF64);
HWY_EXPORT(PanelWidthF32);
HWY_EXPORT(PanelWidthF64);

template <>
void panel_gemm(const Product<float>& p) {
  HWY_DYNAMIC_DISPATCH(PanelGemmF32)(p);
}
template <>
void panel_gemm(const Product<double>& p) {
  HWY_DYNAMIC_DISPATCH(PanelGemmF64)(p);
}
template <>
bool prefers_panels(const Product<float>& p) {
  return HWY_DYNAMIC_DISPATCH(PrefersPanelsF32)(p);
}
template <>
bool prefers_panels(const Product<double>& p) {
  return HWY_DYNAMIC_DISPATCH(PrefersPanelsF64)(p);
}
template <>
void gemv(const Product<float>& p) {
  HWY_DYNAMIC_DISPATCH(GemvF32)(p);
}
template <>
void gemv(const Product<double>& p) {
  HWY_DYNAMIC_DISPATCH(GemvF64)(p);
}
template <>
void few_rows(const Product<float>& p) {
  HWY_DYNAMIC_DISPATCH(FewRowsF32)(p);
}
template <>
void few_rows(const Product<double>& p) {
  HWY_DYNAMIC_DISPATCH(FewRowsF64)(p);
}

template <class T>
Prepacked<T>::Prepacked(const Operand<T>& b, Index k, Index n) : k_(k), n_(n) {
  constexpr bool single = sizeof(T) == sizeof(float);
  const Index width = single ? HWY_DYNAMIC_DISPATCH(PanelWidthF32)() : HWY_DYNAMIC_DISPATCH(PanelWidthF64)();
  const Index size = detail::chunk_count(n, width) * width * k;
  panels_ = StoragePtr(Storage::take(static_cast<std::uint64_t>(size) * sizeof(T)));
  Product<T> p{};
  p.n = n;
  p.k = k;
  p.b = b.data;
  p.b_row = b.transposed ? 1 : b.stride;
  p.b_column = b.transposed ? b.stride : 1;
  T* to = reinterpret_cast<T*>(panels_->data());
  if constexpr (single)
    HWY_DYNAMIC_DISPATCH(PackAllF32)(p, to);
  else
    HWY_DYNAMIC_DISPATCH(PackAllF64)(p, to);
}

template <class T>
void Prepacked<T>::multiply(Index m, const T* a, Index a_stride, T* c, Index c_stride, bool accumulate,
                            const T* bias) const {
  Product<T> p{};
  p.m = m;
  p.n = n_;
  p.k = k_;
  p.alpha = T(1);
  p.beta = accumulate ? T(1) : T(0);
  p.a = a;
  p.a_row = a_stride;
  p.a_column = 1;
  p.c = c;
  p.c_row = c_stride;
  p.c_column = 1;
  p.bias = bias;
  p.bias_step = 1;
  const T* panels = reinterpret_cast<const T*>(panels_->data());
  if constexpr (sizeof(T) == sizeof(float))
    HWY_DYNAMIC_DISPATCH(MultiplyPrepackedF32)(p, panels);
  else
    HWY_DYNAMIC_DISPATCH(MultiplyPrepackedF64)(p, panels);
}

template class Prepacked<float>;
template class Prepacked<double>;

}  // namespace espalier::kernels
#endif
