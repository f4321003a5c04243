#include "espalier/core/kernels/resize.h"

#include <utility>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/resize.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void SumOfRows(const T* x, const Index* rows, const T* weights, Index count, Index n, T* y) {
  const Tag<T> d;
  ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
    Lane<T> sum = hn::Zero(d);
    if (count > 0) sum = hn::Mul(hn::Set(d, weights[0]), at.Load(x + rows[0] * n + i));
    for (Index r = 1; r < count; ++r) sum = hn::MulAdd(hn::Set(d, weights[r]), at.Load(x + rows[r] * n + i), sum);
    at.Store(sum, y + i);
  });
}

/// `look(base, offset)`: the values of x there.
template <class T, class Look>
HWY_INLINE void RowSumsBy(const RowSums<T>& s, T* y, const Look& look) {
  const Tag<T> d;
  const Index* base = s.base.data();
  const auto* offset = s.offset.data();
  const T* weight = s.weight.data();
  constexpr Index L = lanes_of<T>;
  if (s.copies) {
    ForEachVector<T>(
        s.n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR { at.Store(look(base[i / L], offset + i), y + i); });
    return;
  }
  ForEachVector<T>(s.n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
    Lane<T> sum = hn::Zero(d);
    for (Index t = 0; t < s.taps; ++t, ++base, offset += L, weight += L) {
      const auto w = hn::LoadU(d, weight);
      const auto more = hn::MulAdd(w, look(*base, offset), sum);
      sum = hn::IfThenElse(hn::Eq(w, hn::Zero(d)), sum, more);
    }
    at.Store(sum, y + i);
  });
}

/// x[offset[0]], x[offset[1]], ... Plain loads and inserts are faster than gathers on processors that split those.
template <class T, std::size_t... lane>
HWY_INLINE Lane<T> LoadApart(const T* x, const typename RowSums<T>::Offset* offset, std::index_sequence<lane...>) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  Lane<T> v;
  v.raw = decltype(v.raw){x[offset[lane]]...};
  return v;
#else
  return hn::GatherIndex(Tag<T>(), x, hn::LoadU(hn::RebindToSigned<Tag<T>>(), offset));
#endif
}

template <class T>
void MakeRow(const T* x, const RowSums<T>& sums, T* y) {
  using Offset = typename RowSums<T>::Offset;
  const Tag<T> d;
  if (sums.near && sums.inputs < lanes_of<T>) {
    const auto row = LoadPart(x, sums.inputs);
    RowSumsBy<T>(sums, y, [&](Index, const Offset* offset) ESPALIER_INLINE_LAMBDA HWY_ATTR {
      return hn::TableLookupLanes(row, hn::SetTableIndices(d, offset));
    });
  } else if (sums.near) {
    RowSumsBy<T>(sums, y, [&](Index base, const Offset* offset) ESPALIER_INLINE_LAMBDA HWY_ATTR {
      return hn::TableLookupLanes(hn::LoadU(d, x + base), hn::SetTableIndices(d, offset));
    });
  } else if (sums.copies) {
    for (Index i = 0; i < sums.n; i += lanes_of<T>) {
      const T* from = x + sums.base[static_cast<std::size_t>(i / lanes_of<T>)];
      const Offset* offset = sums.offset.data() + i;
      T* to = y + i;
      if (i + lanes_of<T> <= sums.n)
        for (Index l = 0; l < lanes_of<T>; ++l) to[l] = from[offset[l]];
      else
        for (Index l = 0; l < sums.n - i; ++l) to[l] = from[offset[l]];
    }
  } else {
    RowSumsBy<T>(sums, y, [&](Index base, const Offset* offset) ESPALIER_INLINE_LAMBDA HWY_ATTR {
      return LoadApart(x + base, offset, std::make_index_sequence<lanes_of<T>>());
    });
  }
}

template <class T>
constexpr ResizeKernels<T> Table() {
  return {.lanes = lanes_of<T>, .sum_of_rows = SumOfRows<T>, .row_sums = MakeRow<T>};
}

}  // namespace

const Both<ResizeKernels>& ResizeTables() {
  static constexpr Both<ResizeKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(ResizeTables);

template <class T>
const ResizeKernels<T>& resize() noexcept {
  return HWY_DYNAMIC_DISPATCH(ResizeTables)().template get<T>();
}
template const ResizeKernels<float>& resize<float>() noexcept;
template const ResizeKernels<double>& resize<double>() noexcept;

}  // namespace espalier::kernels
#endif
