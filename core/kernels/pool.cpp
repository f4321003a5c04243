#include "espalier/core/kernels/pool.h"

#include <cmath>
#include <limits>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/pool.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/wide-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

/// `rows`: 1 or 2; bottom is not looked at where it is 1.
template <class T, int rows>
void MaxPairsOf(const T* top, const T* bottom, Index n, T* y, std::uint8_t* place) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  const hn::Rebind<std::uint8_t, Tag<T>> d8;
  using V = Lane<T>;
  // The last vector begins early enough to be whole: some values are found twice.
  for (Index next = 0; next < n && n >= lanes_of<T>; next += lanes_of<T>) {
    i = std::min(next, n - lanes_of<T>);
    V a, b;
    hn::LoadInterleaved2(d, top + 2 * i, a, b);
    V best = a;
    auto where = hn::Zero(d);  // small numbers, exact in T
    auto take = [&](V x, T number) HWY_ATTR {
      // Greater, or the first NaN: x is NaN and the best so far is not.
      const auto wins = hn::Or(hn::Gt(x, best), hn::AndNot(hn::IsNaN(best), hn::IsNaN(x)));
      best = hn::IfThenElse(wins, x, best);
      where = hn::IfThenElse(wins, hn::Set(d, number), where);
    };
    take(b, T(1));
    if constexpr (rows == 2) {
      V c, e;
      hn::LoadInterleaved2(d, bottom + 2 * i, c, e);
      take(c, T(2));
      take(e, T(3));
    }
    StoreU(best, d, y + i);
    if constexpr (sizeof(T) == 4) {
      StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, where)), d8, place + i);
    } else {
      HWY_ALIGN T lane[lanes_of<T>];
      Store(where, d, lane);
      for (Index k = 0; k < lanes_of<T>; ++k) place[i + k] = static_cast<std::uint8_t>(lane[k]);
    }
    i += lanes_of<T>;
  }
#endif
  for (; i < n; ++i) {
    const T four[4] = {top[2 * i], top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1]};
    int best = 0;
    for (int k = 1; k < 2 * rows; ++k)
      if (four[k] > four[best] || (std::isnan(four[k]) && !std::isnan(four[best]))) best = k;
    y[i] = four[best];
    place[i] = static_cast<std::uint8_t>(best);
  }
}
template <class T>
void MaxPairs(const T* top, const T* bottom, Index n, T* y, std::uint8_t* place) {
  // A single row is its own pair: what comes later does not win.
  (top == bottom ? MaxPairsOf<T, 1> : MaxPairsOf<T, 2>)(top, bottom, n, y, place);
}

template <class T>
void SpreadPairs(const T* g, const std::uint8_t* place, Index n, T* top, T* bottom) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  if constexpr (sizeof(T) == 4) {
    const hn::RebindToSigned<Tag<T>> di;
    const hn::Rebind<std::uint8_t, Tag<T>> d8;
    for (Index next = 0; next < n && n >= lanes_of<T>; next += lanes_of<T>) {
      i = std::min(next, n - lanes_of<T>);
      const auto v = hn::LoadU(d, g + i);
      const auto where = hn::PromoteTo(di, hn::LoadU(d8, place + i));
      auto at = [&](std::int32_t k)
                    HWY_ATTR { return hn::IfThenElseZero(hn::RebindMask(d, hn::Eq(where, hn::Set(di, k))), v); };
      hn::StoreInterleaved2(at(0), at(1), d, top + 2 * i);
      hn::StoreInterleaved2(at(2), at(3), d, bottom + 2 * i);
      i += lanes_of<T>;
    }
  }
#endif
  for (; i < n; ++i) {
    T* const rows[2] = {top + 2 * i, bottom + 2 * i};
    for (int k = 0; k < 4; ++k) rows[k / 2][k % 2] = k == place[i] ? g[i] : T(0);
  }
}

/// Takes x for the best so far where that is smaller, or where x is the first NaN.
template <class T>
HWY_INLINE void TakeLarger(Lane<T> x, Lane<T> x_place, Lane<T>& best, Lane<T>& place) {
  const auto stays = hn::Or(hn::Le(x, best), hn::IsNaN(best));
  best = hn::IfThenElse(stays, best, x);
  place = hn::IfThenElse(stays, place, x_place);
}

template <class T>
void MaxOfTaps(const T* const* taps, Index count, const T* start, Index n, T* best, T* place) {
  const Tag<T> d;
  for (Index i = 0; i < n; i += lanes_of<T>) {
    auto most = hn::Set(d, -std::numeric_limits<T>::infinity()), where = hn::LoadU(d, start + i);
    for (Index t = 0; t < count; ++t)
      TakeLarger<T>(hn::LoadU(d, taps[t] + i), hn::Set(d, static_cast<T>(t)), most, where);
    StoreU(most, d, best + i);
    StoreU(where, d, place + i);
  }
}

template <class T>
void MaxOfRows(const T* const* best, const T* const* place, Index count, Index first, Index width, Index n, T* y,
               T* y_place) {
  const Tag<T> d;
  ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
    auto row_place = [&](Index r) HWY_ATTR {
      return hn::Add(at.Load(place[r] + i), hn::Set(d, static_cast<T>((first + r) * width)));
    };
    auto most = at.Load(best[0] + i), where = row_place(0);
    for (Index r = 1; r < count; ++r) TakeLarger<T>(at.Load(best[r] + i), row_place(r), most, where);
    at.Store(most, y + i);
    at.Store(where, y_place + i);
  });
}

template <class T>
void AddRows(const T* const* x, Index count, Index n, T* y) {
  ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
    Lane<T> sum = count > 0 ? at.Load(x[0] + i) : hn::Zero(Tag<T>());
    for (Index r = 1; r < count; ++r) sum = hn::Add(sum, at.Load(x[r] + i));
    at.Store(sum, y + i);
  });
}

/// Calls body(i) for vectors of doubles that cover [0, n), the last one early enough to be whole, else one(i) for each.
template <class Body, class One>
HWY_INLINE void ForEachOverlapping(Index n, const Body& body, const One& one) {
  constexpr Index L = lanes_of<double>;
  if (n < L) {
    for (Index i = 0; i < n; ++i) one(i);
    return;
  }
  for (Index i = 0; i + L <= n; i += L) body(i);
  if (n % L != 0) body(n - L);
}
template <class T>
void AddImageRows(const T* x, Index count, Index n, double* y) {
  ForEachOverlapping(
      n,
      [&](Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
        auto sum = LoadWide(x + i);
        for (Index r = 1; r < count; ++r) sum = hn::Add(sum, LoadWide(x + r * n + i));
        StoreU(sum, Tag<double>(), y + i);
      },
      [&](Index i) {
        y[i] = 0;
        for (Index r = 0; r < count; ++r) y[i] += static_cast<double>(x[r * n + i]);
      });
}

template <class T>
void MeanOfTaps(const double* const* taps, Index count, const double* lengths, double height, Index n, T* y) {
  const Tag<double> d;
  ForEachOverlapping(
      n,
      [&](Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
        auto sum = hn::LoadU(d, taps[0] + i);
        for (Index t = 1; t < count; ++t) sum = hn::Add(sum, hn::LoadU(d, taps[t] + i));
        StoreNarrow(hn::Div(sum, hn::Mul(hn::LoadU(d, lengths + i), hn::Set(d, height))), y + i);
      },
      [&](Index i) {
        double sum = 0;
        for (Index t = 0; t < count; ++t) sum += taps[t][i];
        y[i] = static_cast<T>(sum / (lengths[i] * height));
      });
}

template <class T>
void ShareRow(const T* g, const double* lengths, double height, Index n, T* y) {
  const Tag<double> d;
  ForEachOverlapping(
      n,
      [&](Index i) ESPALIER_INLINE_LAMBDA HWY_ATTR {
        StoreNarrow(hn::Div(LoadWide(g + i), hn::Mul(hn::LoadU(d, lengths + i), hn::Set(d, height))), y + i);
      },
      [&](Index i) { y[i] = static_cast<T>(static_cast<double>(g[i]) / (lengths[i] * height)); });
}

template <class T>
constexpr PoolKernels<T> Table() {
  return {.max_pairs = MaxPairs<T>,
          .spread_pairs = SpreadPairs<T>,
          .max_of_taps = MaxOfTaps<T>,
          .max_of_rows = MaxOfRows<T>,
          .add_rows = AddRows<T>,
          .add_image_rows = AddImageRows<T>,
          .mean_of_taps = MeanOfTaps<T>,
          .share_row = ShareRow<T>,
          .lanes = lanes_of<T>};
}

}  // namespace

const Both<PoolKernels>& PoolTables() {
  static constexpr Both<PoolKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(PoolTables);

template <class T>
const PoolKernels<T>& pool() noexcept {
  return HWY_DYNAMIC_DISPATCH(PoolTables)().template get<T>();
}
template const PoolKernels<float>& pool<float>() noexcept;
template const PoolKernels<double>& pool<double>() noexcept;

}  // namespace espalier::kernels
#endif
