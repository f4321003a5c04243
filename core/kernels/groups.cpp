#include "espalier/core/kernels/groups.h"

#include <cmath>

#include "espalier/core/kernels/reduce.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/groups.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

constexpr Index sum_block = 1024;  // as in reduce.cpp

template <class Block>
HWY_INLINE double SumBlocks(Index n, const Block& block) {
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
  PairwiseSum rest, squares;
  for (Index begin = 0; begin < n; begin += sum_block) {
    const Index size = std::min(sum_block, n - begin);
    const auto read = [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return Sub(at.Load(x + begin + i, shift), by); };
    rest.add(SumBlock<T>(size, PlusValue(), read));
    squares.add(SumBlock<T>(size, PlusSquare(), read));
  }
  const double off = rest.total() / count;  // what the mean lost when it was rounded to T
  return {count, static_cast<double>(shift) + off, std::max(0., squares.total() - off * off * count) + 0 * off};
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

/// Sums `vectors` neighbouring vectors of columns.
template <class T, Index vectors, class F, class At>
HWY_INLINE void AddColumnsOf(At at, const T* x, const T* shift, Index rows, Index stride, T* out) {
  constexpr Index L = lanes_of<T>, width = vectors * L, row_block = 64;
  const Tag<T> d;
  double total[static_cast<std::size_t>(width)] = {};
  HWY_ALIGN T part[static_cast<std::size_t>(width)] = {};
  Lane<T> by[static_cast<std::size_t>(vectors)], sum[static_cast<std::size_t>(vectors)];
  for (Index k = 0; k < vectors; ++k) by[k] = at.Load(shift + k * L);
  for (Index begin = 0; begin < rows; begin += row_block) {
    const Index end = std::min(rows, begin + row_block);
    for (auto& s : sum) s = hn::Zero(d);
    for (Index r = begin; r < end; ++r)
      for (Index k = 0; k < vectors; ++k) sum[k] = Add(sum[k], F()(at.Load(x + r * stride + k * L), by[k]));
    for (Index k = 0; k < vectors; ++k) Store(sum[k], d, part + k * L);
    for (Index c = 0; c < width; ++c) total[c] += static_cast<double>(part[c]);
  }
  for (Index c = 0; c < width; ++c) part[c] = static_cast<T>(total[c]);
  for (Index k = 0; k < vectors; ++k) at.Store(hn::Load(d, part + k * L), out + k * L);
}
/// Folds them by `step`, from the first row on.
template <class T, Index vectors, class F, class Step, class At>
HWY_INLINE void FoldColumnsOf(At at, const T* x, Index rows, Index stride, T* out) {
  constexpr Index L = lanes_of<T>;
  Lane<T> most[static_cast<std::size_t>(vectors)];
  for (Index k = 0; k < vectors; ++k) most[k] = F()(at.Load(x + k * L), hn::Zero(Tag<T>()));
  for (Index r = 1; r < rows; ++r)
    for (Index k = 0; k < vectors; ++k)
      most[k] = Step()(most[k], F()(at.Load(x + r * stride + k * L), hn::Zero(Tag<T>())));
  for (Index k = 0; k < vectors; ++k) at.Store(most[k], out + k * L);
}

template <class T, class F>
void AddColumns(const T* x, const T* shift, Index rows, Index cols, Index stride, T* out) {
  constexpr Index L = lanes_of<T>;
  Index c = 0;
  for (; c + 4 * L <= cols; c += 4 * L) AddColumnsOf<T, 4, F>(Whole(), x + c, shift + c, rows, stride, out + c);
  for (; c + L <= cols; c += L) AddColumnsOf<T, 1, F>(Whole(), x + c, shift + c, rows, stride, out + c);
  if (c < cols) AddColumnsOf<T, 1, F>(Part{cols - c}, x + c, shift + c, rows, stride, out + c);
}
template <class T, class F, class Step>
void FoldColumns(const T* x, const T*, Index rows, Index cols, Index stride, T* out) {
  constexpr Index L = lanes_of<T>;
  Index c = 0;
  for (; c + 4 * L <= cols; c += 4 * L) FoldColumnsOf<T, 4, F, Step>(Whole(), x + c, rows, stride, out + c);
  for (; c + L <= cols; c += L) FoldColumnsOf<T, 1, F, Step>(Whole(), x + c, rows, stride, out + c);
  if (c < cols) FoldColumnsOf<T, 1, F, Step>(Part{cols - c}, x + c, rows, stride, out + c);
}

template <class T, bool least, class At>
HWY_INLINE void ArgMaxColumn(At at, const T* x, Index rows, Index stride, T* values, Index* indices) {
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  using I = hn::TFromD<decltype(di)>;
  // Places are counted in lanes as wide as T; a block is short enough for 31 bits, and blocks are compared below.
  constexpr Index block = Index{1} << 30, L = lanes_of<T>;
  HWY_ALIGN T best[lanes_of<T>], found[lanes_of<T>];
  HWY_ALIGN I place[lanes_of<T>];
  Index where[lanes_of<T>];
  for (Index begin = 0; begin < rows; begin += block) {
    const Index end = std::min(rows, begin + block);
    auto most = at.Load(x + begin * stride);
    auto index = hn::Zero(di);
    for (Index r = begin + 1; r < end; ++r) {
      const auto v = at.Load(x + r * stride);
      const auto better = Or(least ? Lt(v, most) : Gt(v, most), hn::AndNot(IsNaN(most), IsNaN(v)));
      most = IfThenElse(better, v, most);
      index = IfThenElse(RebindMask(di, better), hn::Set(di, static_cast<I>(r - begin)), index);
    }
    Store(most, d, found);
    Store(index, di, place);
    for (Index k = 0; k < L; ++k) {
      const T v = found[k];
      if (begin > 0 && !(least ? v < best[k] : v > best[k]) && !(std::isnan(v) && !std::isnan(best[k]))) continue;
      best[k] = v;
      where[k] = begin + static_cast<Index>(place[k]);
    }
  }
  at.Store(hn::Load(d, best), values);
  Index count = L;
  if constexpr (std::is_same_v<At, Part>) count = at.count;
  std::copy_n(where, count, indices);
}
template <class T, bool least>
HWY_INLINE void ArgMaxColumnsOf(const T* x, Index rows, Index cols, Index stride, T* values, Index* indices) {
  ForEachVector<T>(cols,
                   [=](auto at, Index c) { ArgMaxColumn<T, least>(at, x + c, rows, stride, values + c, indices + c); });
}
template <class T>
void ArgMaxColumns(const T* x, Index rows, Index cols, Index stride, bool least, T* values, Index* indices) {
  if (least)
    ArgMaxColumnsOf<T, true>(x, rows, cols, stride, values, indices);
  else
    ArgMaxColumnsOf<T, false>(x, rows, cols, stride, values, indices);
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
  };
}

}  // namespace

const GroupKernels<float>& GroupTable32() {
  static constexpr auto table = Table<float>();
  return table;
}
const GroupKernels<double>& GroupTable64() {
  static constexpr auto table = Table<double>();
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(GroupTable32);
HWY_EXPORT(GroupTable64);

template <>
const GroupKernels<float>& groups<float>() noexcept {
  return HWY_DYNAMIC_DISPATCH(GroupTable32)();
}
template <>
const GroupKernels<double>& groups<double>() noexcept {
  return HWY_DYNAMIC_DISPATCH(GroupTable64)();
}

}  // namespace espalier::kernels
#endif
