#include "espalier/core/kernels/thin_gemm.h"

#include <algorithm>

#include "espalier/core/kernels/simd_config.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/thin_gemm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
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

template <class T, class V>
HWY_INLINE V Finish(V sum, V old, const Product<T>& p, V bias) {
  const Tag<T> d;
  V v = hn::Mul(hn::Set(d, p.alpha), sum);
  if (p.beta != T(0)) v = hn::MulAdd(hn::Set(d, p.beta), old, v);
  if (p.bias) v = hn::Add(v, bias);
  if (p.relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);  // NaN is not below zero and stays
  return v;
}

// Rows [i, i + rows) times one panel, into columns [j, j + columns). The sum over p runs in order for each element, so
// the bits do not depend on how rows are grouped.
template <int rows, int vectors, class T>
HWY_INLINE void Block(const Product<T>& p, Index i, Index j, const Panel<T>& panel, Index columns) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  Many<Many<V, vectors>, rows> sum;
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::Zero(d);
  }
  const T* a = p.a + i * p.a_row;
  const T* b = panel.data;
  for (Index q = 0; q < p.k; ++q, a += p.a_column, b += panel.stride) {
    Many<V, vectors> row;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) row[v] = hn::LoadU(d, b + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const V factor = hn::Set(d, a[r * p.a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
  const bool whole = columns == vectors * lanes<T>;
  HWY_ALIGN T part[static_cast<std::size_t>(vectors * lanes<T>)] = {};
  Many<V, vectors> bias;
  if (p.bias && !whole) std::copy_n(p.bias + j, columns, part);
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) {
    bias[v] = hn::Zero(d);
    if (p.bias) bias[v] = hn::LoadU(d, (whole ? p.bias + j : part) + v * lanes<T>);
  }
#pragma GCC unroll 8
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

template <int vectors, class T>
HWY_INLINE void PanelRows(const Product<T>& p, Index begin, Index end, Index j, const Panel<T>& panel, Index columns) {
  constexpr int most = vectors == 1 ? 8 : 6;  // sums in flight: enough to hide the latency, few enough for 16 registers
  Index i = begin;
  for (; i + most <= end; i += most) Block<most, vectors>(p, i, j, panel, columns);
  for (; i + 4 <= end; i += 4) Block<4, vectors>(p, i, j, panel, columns);
  for (; i < end; ++i) Block<1, vectors>(p, i, j, panel, columns);
}

// Columns [j, j + columns) of op(B), packed with rows of `width` elements, zeros behind the last column.
template <class T>
void PackPanel(const Product<T>& p, Index j, Index columns, Index width, T* to) {
  for (Index q = 0; q < p.k; ++q, to += width) {
    const T* from = p.b + q * p.b_row + j * p.b_column;
    for (Index v = 0; v < columns; ++v) to[v] = from[v * p.b_column];
    std::fill(to + columns, to + width, T(0));
  }
}

template <class T>
void ThinGemm(const Product<T>& p) {
  const Index vectors = p.n <= lanes<T> ? 1 : 2;
  const Index width = vectors * lanes<T>;
  const bool pack_all = p.b_column != 1;
  // Only the last panel can be partial; of the others only a transposed B needs packing.
  const Index packed = pack_all ? detail::chunk_count(p.n, width) : (p.n % width != 0 ? 1 : 0);
  T few[1024];
  StoragePtr many;
  T* buffer = few;
  if (packed * width * p.k > static_cast<Index>(std::size(few))) {
    many = StoragePtr(Storage::take(static_cast<std::uint64_t>(packed * width * p.k) * sizeof(T)));
    buffer = reinterpret_cast<T*>(many->data());
  }
  const Index first_packed = pack_all ? 0 : p.n / width;
  for (Index s = 0; s < packed; ++s) {
    const Index j = (first_packed + s) * width;
    PackPanel(p, j, std::min(width, p.n - j), width, buffer + s * width * p.k);
  }
  // A chunk of rows is worth about a megaflop, in whole blocks of 24 rows (a multiple of both block heights).
  const Index chunk = std::max<Index>(24, (Index{1} << 19) / std::max<Index>(1, p.n * p.k) / 24 * 24);
  parallel_for(p.m, chunk, [&](Index begin, Index end) {
    for (Index j = 0; j < p.n; j += width) {
      const Index s = j / width - first_packed;
      const Panel<T> panel =
          s >= 0 ? Panel<T>{buffer + s * width * p.k, width} : Panel<T>{p.b + j * p.b_column, p.b_row};
      const Index columns = std::min(width, p.n - j);
      if (vectors == 1) {
        PanelRows<1>(p, begin, end, j, panel, columns);
      } else {
        PanelRows<2>(p, begin, end, j, panel, columns);
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
#pragma GCC unroll 8
    for (int s = 0; s < chains; ++s) sum[r][s] = hn::Zero(d);
  }
  Index q = 0;
  for (; q + chains * N <= k; q += chains * N) {
#pragma GCC unroll 8
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

template <class T>
void Gemv(const Product<T>& p) {
  constexpr Index block = 512;            // columns whose sums stay in L1
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
  const Index chunk = std::clamp<Index>(work / std::max<Index>(1, p.k) / 64 * 64, 64, block);
  parallel_for(p.n, chunk, [&p](Index begin, Index end) {
    T totals[block] = {};
    AddRows(p.a, p.b + begin, p.b_row, p.k, end - begin, totals);
    FinishRow(p, totals, begin, end);
  });
}

void ThinGemmF32(const Product<float>& p) { ThinGemm(p); }
void ThinGemmF64(const Product<double>& p) { ThinGemm(p); }
void GemvF32(const Product<float>& p) { Gemv(p); }
void GemvF64(const Product<double>& p) { Gemv(p); }

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(ThinGemmF32);
HWY_EXPORT(ThinGemmF64);
HWY_EXPORT(GemvF32);
HWY_EXPORT(GemvF64);

template <>
void thin_gemm(const Product<float>& p) {
  HWY_DYNAMIC_DISPATCH(ThinGemmF32)(p);
}
template <>
void thin_gemm(const Product<double>& p) {
  HWY_DYNAMIC_DISPATCH(ThinGemmF64)(p);
}
template <>
void gemv(const Product<float>& p) {
  HWY_DYNAMIC_DISPATCH(GemvF32)(p);
}
template <>
void gemv(const Product<double>& p) {
  HWY_DYNAMIC_DISPATCH(GemvF64)(p);
}

}  // namespace espalier::kernels
#endif
