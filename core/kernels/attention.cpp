#include "espalier/core/kernels/attention.h"

#include <cmath>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/attention.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

template <class T>
constexpr T lowest = -std::numeric_limits<T>::infinity();

/// score + mask; lanes behind the end become `fill`.
template <class T, bool masked>
struct Scores {
  const T* scores;
  const T* mask;
  template <class At>
  HWY_INLINE Lane<T> operator()(At at, Index i, T fill) const {
    if constexpr (masked)
      return Add(at.Load(scores + i, fill), at.Load(mask + i));
    else
      return at.Load(scores + i, fill);
  }
};

template <class T, bool masked>
HWY_INLINE void SoftmaxOf(const ScoreTile<T>& tile, T* largest, double* sum, T* rescale) {
  constexpr Index L = lanes_of<T>;
  const Tag<T> d;
  for (Index r = 0; r < tile.rows; ++r) {
    T* row = tile.scores + r * tile.stride;
    const Scores<T, masked> score{row, masked ? tile.mask + r * tile.mask_stride : nullptr};
    const Index n = std::clamp<Index>(tile.visible + r, 0, tile.columns);
    const T most = LargestNumber<T>(n, largest[r],
                                    [&](auto at, Index k) ESPALIER_INLINE_LAMBDA { return score(at, k, lowest<T>); });
    // A row that sees nothing so far has terms exp(-infinity); NaN stays NaN.
    const T subtracted = most == lowest<T> ? T(0) : most;
    const auto shift = hn::Set(d, subtracted);
    auto sum0 = hn::Zero(d), sum1 = sum0;
    const auto term = [&](auto at, Index k, auto& into) ESPALIER_INLINE_LAMBDA {
      const auto p = ExpNegative(Sub(score(at, k, lowest<T>), shift));
      at.Store(p, row + k);
      into = Add(into, p);
    };
    Index i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
      term(Whole(), i, sum0);
      term(Whole(), i + L, sum1);
    }
    for (; i + L <= n; i += L) term(Whole(), i, sum0);
    if (i < n) term(Part{n - i}, i, sum1);
    std::fill(row + n, row + tile.columns, T(0));
    rescale[r] = std::exp(largest[r] - subtracted);
    sum[r] =
        sum[r] * static_cast<double>(rescale[r]) + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, Add(sum0, sum1))));
    largest[r] = most;
  }
}
template <class T>
void Softmax(const ScoreTile<T>& tile, T* largest, double* sum, T* rescale) {
  if (tile.mask)
    SoftmaxOf<T, true>(tile, largest, sum, rescale);
  else
    SoftmaxOf<T, false>(tile, largest, sum, rescale);
}

template <class T, bool masked>
HWY_INLINE void ProbabilitiesOf(const ScoreTile<T>& tile, const SoftmaxRow<T>* softmax) {
  const Tag<T> d;
  for (Index r = 0; r < tile.rows; ++r) {
    T* row = tile.scores + r * tile.stride;
    const Scores<T, masked> score{row, masked ? tile.mask + r * tile.mask_stride : nullptr};
    const Index n = std::clamp<Index>(tile.visible + r, 0, tile.columns);
    const auto shift = hn::Set(d, softmax[r].largest), factor = hn::Set(d, softmax[r].factor);
    ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(Mul(ExpNegative(Sub(score(at, i, T(0)), shift)), factor), row + i);
    });
    std::fill(row + n, row + tile.columns, T(0));
  }
}
template <class T>
void Probabilities(const ScoreTile<T>& tile, const SoftmaxRow<T>* softmax) {
  if (tile.mask)
    ProbabilitiesOf<T, true>(tile, softmax);
  else
    ProbabilitiesOf<T, false>(tile, softmax);
}

template <class T>
void Gradient(const T* p, T* g, Index rows, Index columns, Index stride, const T* mean, T scale) {
  const Tag<T> d;
  const auto by = hn::Set(d, scale);
  for (Index r = 0; r < rows; ++r, p += stride, g += stride) {
    const auto off = hn::Set(d, mean[r]);
    ForEachVector<T>(columns, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(Mul(Mul(at.Load(p + i), by), Sub(at.Load(g + i), off)), g + i);
    });
  }
}

template <class T>
void ScaleRows(T* x, Index rows, Index columns, Index stride, const T* factor) {
  for (Index r = 0; r < rows; ++r, x += stride) {
    const auto by = hn::Set(Tag<T>(), factor[r]);
    ForEachVector<T>(columns,
                     [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(Mul(at.Load(x + i), by), x + i); });
  }
}

template <class T>
constexpr AttentionKernels<T> Table() {
  return {
      .softmax = Softmax<T>, .probabilities = Probabilities<T>, .gradient = Gradient<T>, .scale_rows = ScaleRows<T>};
}

}  // namespace

const Both<AttentionKernels>& AttentionTables() {
  static constexpr Both<AttentionKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(AttentionTables);

template <class T>
const AttentionKernels<T>& attention() noexcept {
  return HWY_DYNAMIC_DISPATCH(AttentionTables)().template get<T>();
}
template const AttentionKernels<float>& attention<float>() noexcept;
template const AttentionKernels<double>& attention<double>() noexcept;

}  // namespace espalier::kernels
#endif
