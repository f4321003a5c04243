#include "espalier/core/kernels/groups.h"

#include <cmath>
#include <type_traits>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/groups.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/math-inl.h"
#include "espalier/core/kernels/wide-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

constexpr Index sum_block = 1024;  // as in reduce.cpp

template <class Block>
HWY_INLINE double SumBlocks(Index n, const Block& block) {
  if (n <= sum_block) return block(0, n);
  PairwiseSum sum;
  for (Index begin = 0; begin < n; begin += sum_block) sum.add(block(begin, std::min(sum_block, n - begin)));
  return sum.total();
}

template <class T>
Moments MomentsOf(const T* x, Index n) {
  const auto count = static_cast<double>(n);
  const double total = SumBlocks(n, [=](Index begin, Index size) ESPALIER_INLINE_LAMBDA {
    return SumBlock<T>(size, PlusValue(),
                       [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return at.Load(x + begin + i); });
  });
  const T shift = static_cast<T>(total / count);
  const auto by = hn::Set(Tag<T>(), shift);
  const auto deviations = [=](Index begin) ESPALIER_INLINE_LAMBDA {
    return [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return Sub(at.Load(x + begin + i, shift), by); };
  };
  const double rest = SumBlocks(n, [=](Index begin, Index size) ESPALIER_INLINE_LAMBDA {
    return SumBlock<T>(size, PlusValue(), deviations(begin));
  });
  const double off = rest / count;  // what the mean lost when it was rounded to T
  const double sum = SumBlocks(
      n, [=](Index begin, Index size) ESPALIER_INLINE_LAMBDA { return SumSquaresBlock<T>(size, deviations(begin)); });
  const double squares = sum - off * off * count;
  return {count, static_cast<double>(shift) + off, squares < 0 ? 0 : squares};
}

// What becomes of an element x, given its group's shift.
// clang-format off
struct Itself { template <class V> HWY_INLINE V operator()(V x, V) const { return x; } };
struct Absolute { template <class V> HWY_INLINE V operator()(V x, V) const { return hn::Abs(x); } };
struct Squared { template <class V> HWY_INLINE V operator()(V x, V) const { return Mul(x, x); } };
struct Deviation { template <class V> HWY_INLINE V operator()(V x, V shift) const { return Sub(x, shift); } };
struct SquareDeviation { template <class V> HWY_INLINE V operator()(V x, V shift) const { const V d = Sub(x, shift); return Mul(d, d); } };
struct Exponential { template <class V> HWY_INLINE V operator()(V x, V shift) const { return ExpNegative(Sub(x, shift)); } };
// How elements of a column are put together: beginning, step.
template <bool least> struct Extreme {
  template <class V> HWY_INLINE V operator()(V most, V x) const {
    return IfThenElse(Or(least ? Lt(x, most) : Gt(x, most), IsNaN(x)), x, most);
  }
};
// clang-format on

template <class T, class F>
void MapRow(const T* x, T shift, T scale, T* y, Index n) {
  const auto by = hn::Set(Tag<T>(), shift), times = hn::Set(Tag<T>(), scale);
  ForEachVector<T>(
      n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(Mul(F()(at.Load(x + i), by), times), y + i); });
}
template <class T, class F>
void MapEach(const T* x, const T* shift, const T* scale, T* y, Index n) {
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    at.Store(Mul(F()(at.Load(x + i), at.Load(shift + i)), at.Load(scale + i)), y + i);
  });
}

// Column kernels go along the rows of a tile, four at a time, and keep what they have of each column in an array that
// stays in the first-level cache: memory is read in the order it lies in.
constexpr Index strip = 512, row_block = 64;

/// step(at, c, rows): for each vector of columns, with the first of `count` (1 or 4) rows.
template <class T, Index count, class Step>
HWY_INLINE void AlongColumns(Index cols, const Step& step) {
  ForEachVector<T>(
      cols, [&](auto at, Index c) ESPALIER_INLINE_LAMBDA { step(at, c, std::integral_constant<Index, count>()); });
}
template <class T, class Step>
HWY_INLINE void AlongRows(Index begin, Index end, Index cols, const Step& step) {
  Index r = begin;
  for (; r + 4 <= end; r += 4)
    AlongColumns<T, 4>(cols, [&](auto at, Index c, auto count) ESPALIER_INLINE_LAMBDA { step(at, r, c, count); });
  for (; r < end; ++r)
    AlongColumns<T, 1>(cols, [&](auto at, Index c, auto count) ESPALIER_INLINE_LAMBDA { step(at, r, c, count); });
}

template <class T, class F>
HWY_INLINE void AddStrip(const T* x, const T* shift, Index rows, Index cols, Index stride, T* out) {
  double total[strip];
  HWY_ALIGN T part[strip];
  std::fill_n(total, cols, 0.);
  for (Index begin = 0; begin < rows; begin += row_block) {
    std::fill_n(part, cols, T(0));
    AlongRows<T>(begin, std::min(rows, begin + row_block), cols,
                 [=, &part](auto at, Index r, Index c, auto count) ESPALIER_INLINE_LAMBDA {
                   const T* p = x + r * stride + c;
                   const auto by = at.Load(shift + c);
                   auto sum = F()(at.Load(p), by);
                   if constexpr (count() == 4)
                     sum = Add(Add(sum, F()(at.Load(p + stride), by)),
                               Add(F()(at.Load(p + 2 * stride), by), F()(at.Load(p + 3 * stride), by)));
                   at.Store(Add(at.Load(part + c), sum), part + c);
                 });
    for (Index c = 0; c < cols; ++c) total[c] += static_cast<double>(part[c]);
  }
  for (Index c = 0; c < cols; ++c) out[c] = static_cast<T>(total[c]);
}
template <class T, class F>
void AddColumns(const T* x, const T* shift, Index rows, Index cols, Index stride, T* out) {
  for (Index c = 0; c < cols; c += strip)
    AddStrip<T, F>(x + c, shift + c, rows, std::min(strip, cols - c), stride, out + c);
}

/// Folds by `step`, from the first row on.
template <class T, class F, class Step>
void FoldColumns(const T* x, const T*, Index rows, Index cols, Index stride, T* out) {
  const auto zero = hn::Zero(Tag<T>());
  AlongColumns<T, 1>(
      cols, [=](auto at, Index c, auto) ESPALIER_INLINE_LAMBDA { at.Store(F()(at.Load(x + c), zero), out + c); });
  AlongRows<T>(1, rows, cols, [=](auto at, Index r, Index c, auto count) ESPALIER_INLINE_LAMBDA {
    const T* p = x + r * stride + c;
    auto most = at.Load(out + c);
    for (Index k = 0; k < count(); ++k) most = Step()(most, F()(at.Load(p + k * stride), zero));
    at.Store(most, out + c);
  });
}

template <class T, bool least>
HWY_INLINE void ArgMaxStrip(const T* x, Index rows, Index cols, Index stride, T* values, Index* indices) {
  const hn::RebindToSigned<Tag<T>> di;
  using I = hn::TFromD<decltype(di)>;
  // Places are counted in lanes as wide as T; a block is short enough for 31 bits, and blocks are compared below.
  constexpr Index block = Index{1} << 30;
  HWY_ALIGN T best[strip];
  HWY_ALIGN I place[strip + lanes_of<T>];
  for (Index begin = 0; begin < rows; begin += block) {
    const Index end = std::min(rows, begin + block);
    std::copy_n(x + begin * stride, cols, best);
    std::fill_n(place, cols, I(0));
    AlongRows<T>(begin + 1, end, cols,
                 [=, &best, &place](auto at, Index r, Index c, auto count) ESPALIER_INLINE_LAMBDA {
                   const T* p = x + r * stride + c;
                   auto most = at.Load(best + c);
                   auto index = hn::Load(di, place + c);
                   for (Index k = 0; k < count(); ++k) {
                     const auto v = at.Load(p + k * stride);
                     const auto better = Or(least ? Lt(v, most) : Gt(v, most), hn::AndNot(IsNaN(most), IsNaN(v)));
                     most = IfThenElse(better, v, most);
                     index = IfThenElse(RebindMask(di, better), hn::Set(di, static_cast<I>(r + k - begin)), index);
                   }
                   at.Store(most, best + c);
                   Store(index, di, place + c);  // behind the last column too, where nobody looks
                 });
    for (Index c = 0; c < cols; ++c) {
      const T v = best[c], before = values[c];
      if (begin > 0 && !(least ? v < before : v > before) && !(std::isnan(v) && !std::isnan(before))) continue;
      values[c] = v;
      indices[c] = begin + static_cast<Index>(place[c]);
    }
  }
}
template <class T>
void ArgMaxColumns(const T* x, Index rows, Index cols, Index stride, bool least, T* values, Index* indices) {
  for (Index c = 0; c < cols; c += strip)
    (least ? ArgMaxStrip<T, true> : ArgMaxStrip<T, false>)(x + c, rows, std::min(strip, cols - c), stride, values + c,
                                                           indices + c);
}

template <class T>
void MultiplyColumns(const T* x, Index rows, Index cols, Index stride, double* out) {
  const Tag<double> d;
  constexpr Index L = lanes_of<double>;
  std::fill_n(out, cols, 1.);
  const auto along = [&](Index r, auto count) ESPALIER_INLINE_LAMBDA {
    const T* row = x + r * stride;
    Index c = 0;
    for (; c + L <= cols; c += L) {
      auto product = hn::LoadU(d, out + c);
      for (Index k = 0; k < count(); ++k) product = Mul(product, LoadWide(row + k * stride + c));
      StoreU(product, d, out + c);
    }
    for (; c < cols; ++c)
      for (Index k = 0; k < count(); ++k) out[c] *= static_cast<double>(row[k * stride + c]);
  };
  Index r = 0;
  for (; r + 4 <= rows; r += 4) along(r, std::integral_constant<Index, 4>());
  for (; r < rows; ++r) along(r, std::integral_constant<Index, 1>());
}

// How a running value takes the next element.
// clang-format off
struct Plus {
  template <class V> HWY_INLINE V operator()(V a, V b) const { return Add(a, b); }
  double operator()(double a, double b) const { return a + b; }
};
struct Times {
  template <class V> HWY_INLINE V operator()(V a, V b) const { return Mul(a, b); }
  double operator()(double a, double b) const { return a * b; }
};
// clang-format on
template <class T, class Step, bool exclusive>
void RunningEach(const T* x, double* state, T* y, Index n) {
  const Tag<double> d;
  constexpr Index L = lanes_of<double>;
  Index i = 0;
  for (; i + L <= n; i += L) {
    const auto before = hn::LoadU(d, state + i), with = Step()(before, LoadWide(x + i));
    StoreU(with, d, state + i);
    StoreNarrow(exclusive ? before : with, y + i);
  }
  for (; i < n; ++i) {
    const double before = state[i];
    state[i] = Step()(before, static_cast<double>(x[i]));
    y[i] = static_cast<T>(exclusive ? before : state[i]);
  }
}

template <class T>
constexpr GroupKernels<T> Table() {
  return {
      .moments = MomentsOf<T>,
      .deviations = MapRow<T, Deviation>,
      .exponentials = MapRow<T, Exponential>,
      .deviations_each = MapEach<T, Deviation>,
      .exponentials_each = MapEach<T, Exponential>,
      .add = AddColumns<T, Itself>,
      .add_abs = AddColumns<T, Absolute>,
      .add_squares = AddColumns<T, Squared>,
      .add_deviations = AddColumns<T, Deviation>,
      .add_square_deviations = AddColumns<T, SquareDeviation>,
      .add_exponentials = AddColumns<T, Exponential>,
      .max = FoldColumns<T, Itself, Extreme<false>>,
      .min = FoldColumns<T, Itself, Extreme<true>>,
      .abs_max = FoldColumns<T, Absolute, Extreme<false>>,
      .argmax = ArgMaxColumns<T>,
      .multiply = MultiplyColumns<T>,
      .running_sum_each = RunningEach<T, Plus, false>,
      .running_product_each = {RunningEach<T, Times, false>, RunningEach<T, Times, true>},
  };
}

}  // namespace

const Both<GroupKernels>& GroupTables() {
  static constexpr Both<GroupKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(GroupTables);

template <class T>
const GroupKernels<T>& groups() noexcept {
  return HWY_DYNAMIC_DISPATCH(GroupTables)().template get<T>();
}
template const GroupKernels<float>& groups<float>() noexcept;
template const GroupKernels<double>& groups<double>() noexcept;

}  // namespace espalier::kernels
#endif
