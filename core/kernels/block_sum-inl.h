// Sums and maxima of one block, compiled once per SIMD target.
#if defined(ESPALIER_CORE_KERNELS_BLOCK_SUM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_BLOCK_SUM_INL_H_
#undef ESPALIER_CORE_KERNELS_BLOCK_SUM_INL_H_
#else
#define ESPALIER_CORE_KERNELS_BLOCK_SUM_INL_H_
#endif

#include <cmath>
#include <limits>

#include "espalier/core/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// max(x, most), and `most` where x is NaN.
template <class V>
HWY_INLINE V Larger(V x, V most) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Max(x, most);  // on x86 the second operand wins if one is NaN
#else
  return hn::IfThenElse(hn::Gt(x, most), x, most);
#endif
}

/// Largest of n numbers that are no NaN; `least` if none is larger. `read` gives vector i, -infinity behind the end.
template <class T, class Read>
HWY_INLINE T LargestNumber(Index n, T least, const Read& read) {
  constexpr Index L = lanes_of<T>;
  const Tag<T> d;
  auto a = hn::Set(d, least), b = a;
  Index i = 0;
  for (; i + 2 * L <= n; i += 2 * L) {
    a = Larger(read(Whole(), i), a);
    b = Larger(read(Whole(), i + L), b);
  }
  for (; i + L <= n; i += L) a = Larger(read(Whole(), i), a);
  if (i < n) b = Larger(read(Part{n - i}, i), b);
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
}

/// What is added to a running sum: term(accumulator, x) -> accumulator.
// clang-format off
struct PlusValue { template <class V> HWY_INLINE V operator()(V a, V x) const { return Add(a, x); } };
struct PlusSquare { template <class V> HWY_INLINE V operator()(V a, V x) const { return MulAdd(x, x, a); } };
struct PlusAbs { template <class V> HWY_INLINE V operator()(V a, V x) const { return Add(a, hn::Abs(x)); } };
// clang-format on

/// Folds `term` over n elements in four chains of lanes, which are then added by halves. `read(at, i)` gives vector i,
/// zeros behind the end: the term of a zero must add nothing.
template <class T, class Term, class Read>
HWY_INLINE double SumBlock(Index n, Term term, const Read& read) {
  constexpr Index L = lanes_of<T>;
  const Tag<T> d;
  auto a = hn::Zero(d), b = a, c = a, e = a;
  Index i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = term(a, read(Whole(), i));
    b = term(b, read(Whole(), i + L));
    c = term(c, read(Whole(), i + 2 * L));
    e = term(e, read(Whole(), i + 3 * L));
  }
  for (; i + L <= n; i += L) a = term(a, read(Whole(), i));
  if (i < n) b = term(b, read(Part{n - i}, i));
  return SumLanes<T>(Add(Add(a, b), Add(c, e)));
}

/// Largest |x|, NaN if one is NaN, 0 of nothing. `read` as above.
template <class T, class Read>
HWY_INLINE T AbsMaxBlock(Index n, const Read& read) {
  constexpr Index L = lanes_of<T>;
  const Tag<T> d;
  auto most = hn::Zero(d), not_a_number = most;
  const auto take = [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    const auto x = hn::Abs(read(at, i));
    most = hn::Max(x, most);
    not_a_number = hn::MulAdd(x, hn::Zero(d), not_a_number);  // 0, or NaN from the first NaN or infinity on
  };
  Index i = 0;
  for (; i + L <= n; i += L) take(Whole(), i);
  if (i < n) take(Part{n - i}, i);
  if (std::isnan(SumLanes<T>(not_a_number))) {  // rare: look again, slowly, at what it was
    for (i = 0; i < n; i += L) {
      const auto x = i + L <= n ? read(Whole(), i) : read(Part{n - i}, i);
      if (!AllFalse(d, hn::IsNaN(x))) return std::numeric_limits<T>::quiet_NaN();
    }
    return std::numeric_limits<T>::infinity();
  }
  HWY_ALIGN T lane[lanes_of<T>];
  Store(most, d, lane);
  return *std::max_element(lane, lane + L);
}

/// Sum of squares in f64, element by element.
template <class T, class Read>
HWY_INLINE double SumSquaresInDouble(Index n, const Read& read) {
  constexpr Index L = lanes_of<T>;
  double sum = 0;
  for (Index i = 0; i < n; i += L) {
    HWY_ALIGN T lane[lanes_of<T>];
    Store(i + L <= n ? read(Whole(), i) : read(Part{n - i}, i), Tag<T>(), lane);
    for (const T x : lane) sum += static_cast<double>(x) * static_cast<double>(x);
  }
  return sum;
}

/// Sum of squares that neither overflows nor vanishes in f32.
template <class T, class Read>
HWY_INLINE double SumSquaresBlock(Index n, const Read& read) {
  const double sum = SumBlock<T>(n, PlusSquare(), read);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (sum >= 1e-30 && sum <= 1e38) [[likely]]
      return sum;
    if (std::isnan(sum) || AbsMaxBlock<T>(n, read) == 0) return sum;
    return SumSquaresInDouble<T>(n, read);
  }
  return sum;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
