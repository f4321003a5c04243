#include "espalier/core/kernels/reduce.h"

#include <cmath>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/reduce.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/math-inl.h"
#include "espalier/core/kernels/wide-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

constexpr Index sum_block = 1024;  // f32 lanes add at most 32 numbers (AVX2) before f64 takes over

/// block(begin, size), summed over the blocks of [0, n).
template <class Block>
HWY_INLINE double SumBlocks(Index n, const Block& block) {
  if (n <= sum_block) return block(0, n);
  PairwiseSum sum;
  for (Index begin = 0; begin < n; begin += sum_block) sum.add(block(begin, std::min(sum_block, n - begin)));
  return sum.total();
}

template <class T>
HWY_INLINE auto Read(const T* x) {
  return [x](auto at, Index i) ESPALIER_INLINE_LAMBDA { return at.Load(x + i); };
}

template <class T, class Term>
double SumOf(const T* x, Index n) {
  return SumBlocks(
      n, [x](Index begin, Index size) ESPALIER_INLINE_LAMBDA { return SumBlock<T>(size, Term(), Read(x + begin)); });
}
template <class T>
double SumSquares(const T* x, Index n) {
  return SumBlocks(
      n, [x](Index begin, Index size) ESPALIER_INLINE_LAMBDA { return SumSquaresBlock<T>(size, Read(x + begin)); });
}

template <class V>
struct Pair {
  V a, b;
};
struct PlusProduct {
  template <class V>
  HWY_INLINE V operator()(V sum, Pair<V> x) const {
    return MulAdd(x.a, x.b, sum);
  }
};
template <class T>
double Dot(const T* a, const T* b, Index n) {
  return SumBlocks(n, [a, b](Index begin, Index size) ESPALIER_INLINE_LAMBDA {
    return SumBlock<T>(size, PlusProduct(), [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      return Pair<Lane<T>>{at.Load(a + begin + i), at.Load(b + begin + i)};
    });
  });
}

/// In four chains of lanes: a multiplication takes as long as four conversions.
template <class T>
double Prod(const T* x, Index n) {
  constexpr Index L = lanes_of<double>;
  const Tag<double> d;
  auto a = hn::Set(d, 1.), b = a, c = a, e = a;
  Index i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = Mul(a, LoadWide(x + i));
    b = Mul(b, LoadWide(x + i + L));
    c = Mul(c, LoadWide(x + i + 2 * L));
    e = Mul(e, LoadWide(x + i + 3 * L));
  }
  for (; i + L <= n; i += L) a = Mul(a, LoadWide(x + i));
  HWY_ALIGN double lane[lanes_of<double>];
  Store(Mul(Mul(a, b), Mul(c, e)), d, lane);
  double product = 1;
  for (const double v : lane) product *= v;
  for (; i < n; ++i) product *= static_cast<double>(x[i]);
  return product;
}

/// x, or -x: the least of x is minus the largest of -x.
template <bool negate, class V>
HWY_INLINE V Signed(V x) {
  if constexpr (negate)
    return Neg(x);
  else
    return x;
}
template <class T, bool negate>
HWY_INLINE T MaxOf(const T* x, Index n) {
  constexpr Index L = lanes_of<T>;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const Tag<T> d;
  auto most0 = hn::Set(d, lowest), most1 = most0;
  auto bad0 = hn::Zero(d), bad1 = bad0;
  // Highway does not say what Max makes of a NaN: they are looked for apart.
  const auto take = [&](auto& most, auto& bad, auto v) ESPALIER_INLINE_LAMBDA {
    v = Signed<negate>(v);
    most = hn::Max(v, most);
    bad = Or(bad, VecFromMask(d, IsNaN(v)));
  };
  Index i = 0;
  for (; i + 2 * L <= n; i += 2 * L) {
    take(most0, bad0, hn::LoadU(d, x + i));
    take(most1, bad1, hn::LoadU(d, x + i + L));
  }
  for (; i + L <= n; i += L) take(most0, bad0, hn::LoadU(d, x + i));
  if (i < n) take(most1, bad1, LoadPart(x + i, n - i, negate ? -lowest : lowest));
  if (!AllFalse(d, hn::IsNaN(Or(bad0, bad1)))) return std::numeric_limits<T>::quiet_NaN();
  HWY_ALIGN T lane[lanes_of<T>];
  Store(hn::Max(most0, most1), d, lane);
  const T most = *std::max_element(lane, lane + L);
  return negate ? -most : most;
}
template <class T>
T Max(const T* x, Index n) {
  return MaxOf<T, false>(x, n);
}
template <class T>
T Min(const T* x, Index n) {
  return MaxOf<T, true>(x, n);
}
template <class T>
T AbsMax(const T* x, Index n) {
  return AbsMaxBlock<T>(n, Read(x));
}

template <class T, bool negate>
Index ArgMax(const T* x, Index n) {
  constexpr Index L = lanes_of<T>;
  const Tag<T> d;
  const T most = MaxOf<T, negate>(x, n);
  const bool search_nan = std::isnan(most);
  const auto wanted = hn::Set(d, most);
  Index i = 0;
  for (; i + L <= n; i += L) {
    const auto v = hn::LoadU(d, x + i);
    if (!AllFalse(d, search_nan ? IsNaN(v) : Eq(v, wanted))) break;
  }
  for (; i < n; ++i)
    if (search_nan ? std::isnan(x[i]) : x[i] == most) return i;
  return -1;
}

template <class T>
Index CountNonfinite(const T* x, Index n) {
  Index count = 0;
  for (Index begin = 0; begin < n; begin += sum_block) {
    const Index end = std::min(n, begin + sum_block);
    const auto zero_times = [](auto sum, auto v) ESPALIER_INLINE_LAMBDA { return MulAdd(v, hn::Zero(Tag<T>()), sum); };
    if (SumBlock<T>(end - begin, zero_times, Read(x + begin)) == 0) [[likely]]
      continue;
    for (Index i = begin; i < end; ++i) count += !std::isfinite(x[i]);
  }
  return count;
}

/// Sums `vectors` neighbouring vectors of columns: 64 rows at a time in T, then in f64.
template <class T, Index vectors, class At>
HWY_INLINE void AddRowsOf(At at, const T* x, Index rows, Index row_stride, T* out) {
  constexpr Index L = lanes_of<T>, width = vectors * L, row_block = 64;
  const Tag<T> d;
  double total[static_cast<std::size_t>(width)] = {};
  HWY_ALIGN T part[static_cast<std::size_t>(width)] = {};
  for (Index begin = 0; begin < rows; begin += row_block) {
    const Index end = std::min(rows, begin + row_block);
    Lane<T> sum[static_cast<std::size_t>(vectors)];
    for (auto& s : sum) s = hn::Zero(d);
    for (Index r = begin; r < end; ++r)
      for (Index k = 0; k < vectors; ++k) sum[k] = Add(sum[k], at.Load(x + r * row_stride + k * L));
    for (Index k = 0; k < vectors; ++k) Store(sum[k], d, part + k * L);
    for (Index c = 0; c < width; ++c) total[c] += static_cast<double>(part[c]);
  }
  for (Index c = 0; c < width; ++c) part[c] = static_cast<T>(total[c]);
  for (Index k = 0; k < vectors; ++k) at.Store(hn::Load(d, part + k * L), out + k * L);
}
template <class T>
void AddRows(const T* x, Index rows, Index cols, Index row_stride, T* out) {
  constexpr Index L = lanes_of<T>;
  Index c = 0;
  for (; c + 4 * L <= cols; c += 4 * L) AddRowsOf<T, 4>(Whole(), x + c, rows, row_stride, out + c);
  for (; c + L <= cols; c += L) AddRowsOf<T, 1>(Whole(), x + c, rows, row_stride, out + c);
  if (c < cols) AddRowsOf<T, 1>(Part{cols - c}, x + c, rows, row_stride, out + c);
}

/// Sum of exp(x - most); keep(at, i, v) is given the terms v of vector i.
template <class T, class Keep>
HWY_INLINE double SumExp(const T* x, Index n, T most, const Keep& keep) {
  const auto shift = hn::Set(Tag<T>(), most);
  return SumBlocks(n, [&](Index begin, Index size) ESPALIER_INLINE_LAMBDA {
    return SumBlock<T>(size, PlusValue(), [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto v = ExpNegative(Sub(at.Load(x + begin + i, -std::numeric_limits<T>::infinity()), shift));
      keep(at, begin + i, v);
      return v;
    });
  });
}
template <class T>
HWY_INLINE double SumExp(const T* x, Index n, T most) {
  return SumExp(x, n, most, [](auto, Index, auto) ESPALIER_INLINE_LAMBDA {});
}
/// y = exp(x - most), and its sum.
template <class T>
HWY_INLINE double StoreExp(const T* x, T* y, Index n, T most) {
  return SumExp(x, n, most, [y](auto at, Index i, auto v) ESPALIER_INLINE_LAMBDA { at.Store(v, y + i); });
}
template <class T>
HWY_INLINE void Multiply(T* y, T c, Index n) {
  const auto by = hn::Set(Tag<T>(), c);
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(Mul(at.Load(y + i), by), y + i); });
}

/// What the softmax family subtracts. A NaN may be passed over: its own term is NaN, and with it the sum.
template <class T>
HWY_INLINE T Largest(const T* x, Index n) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  return LargestNumber<T>(n, lowest, [x](auto at, Index i) ESPALIER_INLINE_LAMBDA { return at.Load(x + i, lowest); });
}

template <class T>
double LogSumExpRow(const T* x, Index n) {
  const T most = MaxOf<T, false>(x, n);
  if (!std::isfinite(most)) return static_cast<double>(most);
  return static_cast<double>(most) + std::log(SumExp(x, n, most));
}
template <class T>
void SoftmaxRow(const T* x, T* y, Index n) {
  const double sum = StoreExp(x, y, n, Largest(x, n));
  Multiply(y, static_cast<T>(1 / sum), n);
}
template <class T>
void LogSoftmaxRow(const T* x, T* y, Index n) {
  const T most = Largest(x, n);
  const Tag<T> d;
  const auto shift = hn::Set(d, most), rest = hn::Set(d, static_cast<T>(std::log(SumExp(x, n, most))));
  ForEachVector<T>(
      n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(Sub(Sub(at.Load(x + i), shift), rest), y + i); });
}
template <class T>
void SoftmaxBackwardRow(const T* g, const T* y, T* dx, Index n) {
  const auto mean = hn::Set(Tag<T>(), static_cast<T>(Dot(g, y, n)));
  ForEachVector<T>(n, [=](auto at, Index i)
                          ESPALIER_INLINE_LAMBDA { at.Store(Mul(at.Load(y + i), Sub(at.Load(g + i), mean)), dx + i); });
}
template <class T>
void LogSoftmaxBackwardRow(const T* g, const T* y, T* dx, Index n) {
  const auto sum = hn::Set(Tag<T>(), static_cast<T>(SumOf<T, PlusValue>(g, n)));
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    at.Store(hn::NegMulAdd(ExpNegative(at.Load(y + i)), sum, at.Load(g + i)), dx + i);
  });
}
template <class T>
double CrossEntropyRow(const T* x, Index n, Index label, T* grad, T scale) {
  const T most = Largest(x, n), at_label = x[label];  // grad may lie over x
  const double sum = grad ? StoreExp(x, grad, n, most) : SumExp(x, n, most);
  if (grad) {
    Multiply(grad, static_cast<T>(static_cast<double>(scale) / sum), n);
    grad[label] -= scale;
  }
  return std::log(sum) - (static_cast<double>(at_label) - static_cast<double>(most));
}

// The softmax family down columns, which lie side by side: no more than column_strip of them at a time.

/// total[c] = sum of term(at, place of row r, column c), the terms of 64 rows at a time in T, then in f64.
template <class T, class Term>
HWY_INLINE void SumColumns(Index rows, Index cols, Index stride, double* total, const Term& term) {
  constexpr Index row_block = 64;
  HWY_ALIGN T part[column_strip];
  std::fill_n(total, cols, 0.);
  for (Index begin = 0; begin < rows; begin += row_block) {
    std::fill_n(part, cols, T(0));
    for (Index r = begin; r < std::min(rows, begin + row_block); ++r)
      ForEachVector<T>(cols, [&](auto at, Index c) ESPALIER_INLINE_LAMBDA {
        at.Store(Add(at.Load(part + c), term(at, r * stride + c, c)), part + c);
      });
    for (Index c = 0; c < cols; ++c) total[c] += static_cast<double>(part[c]);
  }
}
/// body(at, place, column) for every vector.
template <class T, class Body>
HWY_INLINE void ForEachOfColumns(Index rows, Index cols, Index stride, const Body& body) {
  for (Index r = 0; r < rows; ++r)
    ForEachVector<T>(cols, [&](auto at, Index c) ESPALIER_INLINE_LAMBDA { body(at, r * stride + c, c); });
}
/// As Largest.
template <class T>
HWY_INLINE void LargestOfColumns(const T* x, Index rows, Index cols, Index stride, T* most) {
  std::fill_n(most, cols, -std::numeric_limits<T>::infinity());
  ForEachOfColumns<T>(rows, cols, stride, [=](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    at.Store(Larger(at.Load(x + i), at.Load(most + c)), most + c);
  });
}
template <class T>
void SoftmaxColumns(const T* x, const T*, T* y, Index rows, Index cols, Index stride) {
  HWY_ALIGN T of_column[column_strip];
  double sum[column_strip];
  LargestOfColumns(x, rows, cols, stride, of_column);
  SumColumns<T>(rows, cols, stride, sum, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    const auto v = ExpNegative(Sub(at.Load(x + i), at.Load(of_column + c)));
    at.Store(v, y + i);
    return v;
  });
  for (Index c = 0; c < cols; ++c) of_column[c] = static_cast<T>(1 / sum[c]);
  ForEachOfColumns<T>(rows, cols, stride, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    at.Store(Mul(at.Load(y + i), at.Load(of_column + c)), y + i);
  });
}
template <class T>
void LogSoftmaxColumns(const T* x, const T*, T* y, Index rows, Index cols, Index stride) {
  HWY_ALIGN T most[column_strip], rest[column_strip];
  double sum[column_strip];
  LargestOfColumns(x, rows, cols, stride, most);
  SumColumns<T>(rows, cols, stride, sum, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    return ExpNegative(Sub(at.Load(x + i), at.Load(most + c)));
  });
  for (Index c = 0; c < cols; ++c) rest[c] = static_cast<T>(std::log(sum[c]));
  ForEachOfColumns<T>(rows, cols, stride, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    at.Store(Sub(Sub(at.Load(x + i), at.Load(most + c)), at.Load(rest + c)), y + i);
  });
}
template <class T>
void SoftmaxBackwardColumns(const T* g, const T* y, T* dx, Index rows, Index cols, Index stride) {
  HWY_ALIGN T mean[column_strip];
  double sum[column_strip];
  SumColumns<T>(rows, cols, stride, sum,
                [=](auto at, Index i, Index) ESPALIER_INLINE_LAMBDA { return Mul(at.Load(g + i), at.Load(y + i)); });
  for (Index c = 0; c < cols; ++c) mean[c] = static_cast<T>(sum[c]);
  ForEachOfColumns<T>(rows, cols, stride, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    at.Store(Mul(at.Load(y + i), Sub(at.Load(g + i), at.Load(mean + c))), dx + i);
  });
}
template <class T>
void LogSoftmaxBackwardColumns(const T* g, const T* y, T* dx, Index rows, Index cols, Index stride) {
  HWY_ALIGN T of_column[column_strip];
  double sum[column_strip];
  SumColumns<T>(rows, cols, stride, sum,
                [=](auto at, Index i, Index) ESPALIER_INLINE_LAMBDA { return at.Load(g + i); });
  for (Index c = 0; c < cols; ++c) of_column[c] = static_cast<T>(sum[c]);
  ForEachOfColumns<T>(rows, cols, stride, [&](auto at, Index i, Index c) ESPALIER_INLINE_LAMBDA {
    at.Store(hn::NegMulAdd(ExpNegative(at.Load(y + i)), at.Load(of_column + c), at.Load(g + i)), dx + i);
  });
}

template <class T>
constexpr ReduceKernels<T> Table() {
  return {
      .sum = SumOf<T, PlusValue>,
      .sum_squares = SumSquares<T>,
      .abs_sum = SumOf<T, PlusAbs>,
      .dot = Dot<T>,
      .prod = Prod<T>,
      .max = Max<T>,
      .min = Min<T>,
      .abs_max = AbsMax<T>,
      .argmax = ArgMax<T, false>,
      .argmin = ArgMax<T, true>,
      .count_nonfinite = CountNonfinite<T>,
      .add_rows = AddRows<T>,
      .logsumexp_row = LogSumExpRow<T>,
      .softmax_row = SoftmaxRow<T>,
      .log_softmax_row = LogSoftmaxRow<T>,
      .softmax_backward_row = SoftmaxBackwardRow<T>,
      .log_softmax_backward_row = LogSoftmaxBackwardRow<T>,
      .softmax_columns = SoftmaxColumns<T>,
      .log_softmax_columns = LogSoftmaxColumns<T>,
      .softmax_backward_columns = SoftmaxBackwardColumns<T>,
      .log_softmax_backward_columns = LogSoftmaxBackwardColumns<T>,
      .cross_entropy_row = CrossEntropyRow<T>,
  };
}

}  // namespace

const Both<ReduceKernels>& ReduceTables() {
  static constexpr Both<ReduceKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(ReduceTables);

template <class T>
const ReduceKernels<T>& reduce() noexcept {
  return HWY_DYNAMIC_DISPATCH(ReduceTables)().template get<T>();
}
template const ReduceKernels<float>& reduce<float>() noexcept;
template const ReduceKernels<double>& reduce<double>() noexcept;

}  // namespace espalier::kernels
#endif
