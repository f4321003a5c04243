#include "espalier/core/kernels/norm.h"

#include <cmath>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/norm.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

constexpr Index block = 1024;  // elements that are summed in T, small enough to be read again from the L1 cache

/// Calls body(offset, runs) on pieces of at most `block` elements (a longer run is cut, shorter ones are taken
/// together).
template <class Body>
HWY_INLINE void ForBlocks(Runs runs, const Body& body) {
  if (runs.length >= block) {
    for (Index k = 0; k < runs.count; ++k)
      for (Index i = 0; i < runs.length; i += block)
        body(k * runs.stride + i, Runs{1, 0, std::min(block, runs.length - i)});
    return;
  }
  const Index together = block / std::max<Index>(1, runs.length);
  for (Index k = 0; k < runs.count; k += together)
    body(k * runs.stride, Runs{std::min(together, runs.count - k), runs.stride, runs.length});
}

/// Calls body(at, i) on every vector of the runs.
template <class T, class Body>
HWY_INLINE void ForRuns(Runs runs, const Body& body) {
  for (Index k = 0; k < runs.count; ++k) {
    const Index first = k * runs.stride;
    ForEachVector<T>(runs.length, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA { body(at, first + i); });
  }
}

/// Sums `terms` values a vector, each in four chains of lanes: term(at, i, sums) adds vector i to sums[0 ... terms).
template <class T, int terms, class Term>
HWY_INLINE void SumRuns(Runs runs, double (&totals)[static_cast<std::size_t>(terms)], const Term& term) {
  constexpr Index L = lanes_of<T>;
  constexpr auto n = static_cast<std::size_t>(terms);
  const Tag<T> d;
  Lane<T> sum[4][n];
  for (auto& chain : sum)
    for (auto& s : chain) s = hn::Zero(d);
  for (Index k = 0; k < runs.count; ++k) {
    const Index first = k * runs.stride;
    Index i = 0;
    for (; i + 4 * L <= runs.length; i += 4 * L) {
      term(Whole(), first + i, sum[0]);
      term(Whole(), first + i + L, sum[1]);
      term(Whole(), first + i + 2 * L, sum[2]);
      term(Whole(), first + i + 3 * L, sum[3]);
    }
    for (; i + L <= runs.length; i += L) term(Whole(), first + i, sum[0]);
    if (i < runs.length) term(Part{runs.length - i}, first + i, sum[1]);
  }
  for (std::size_t t = 0; t < n; ++t)
    totals[t] +=
        static_cast<double>(hn::GetLane(hn::SumOfLanes(d, Add(Add(sum[0][t], sum[1][t]), Add(sum[2][t], sum[3][t])))));
}

/// The same in f64, element by element: for what overflows in T.
template <class T>
[[gnu::noinline]] Moments SlowMoments(const T* x, Runs runs) {
  Moments m{static_cast<double>(runs.count * runs.length)};
  double sum = 0;
  for (Index k = 0; k < runs.count; ++k)
    for (Index i = 0; i < runs.length; ++i) sum += static_cast<double>(x[k * runs.stride + i]);
  m.mean = sum / m.count;
  for (Index k = 0; k < runs.count; ++k)
    for (Index i = 0; i < runs.length; ++i) {
      const double deviation = static_cast<double>(x[k * runs.stride + i]) - m.mean;
      m.squares += deviation * deviation;
    }
  return m;
}

/// Of `count` numbers from the sums of what deviates from `near`, and of its squares. `near` is a mean that was rounded,
/// for large numbers by much: the sum of what deviates from it says by how much.
HWY_INLINE Moments FromDeviations(double count, double near, double deviation, double squares) {
  const double rest = deviation / count;
  return {count, near + rest, std::max(0.0, squares - rest * deviation)};
}

/// Of one block: its mean, then the squares of what deviates from it.
template <class T>
HWY_INLINE Moments BlockMoments(const T* x, Runs runs) {
  const Tag<T> d;
  Moments m{static_cast<double>(runs.count * runs.length)};
  double sum[1] = {};
  SumRuns<T, 1>(runs, sum, [=](auto at, Index i, auto& s) ESPALIER_INLINE_LAMBDA { s[0] = Add(s[0], at.Load(x + i)); });
  const T near = static_cast<T>(sum[0] / m.count);
  const auto shift = hn::Set(d, near);
  double deviation[2] = {};
  SumRuns<T, 2>(runs, deviation, [=](auto at, Index i, auto& s) ESPALIER_INLINE_LAMBDA {
    const auto v = Sub(at.Load(x + i, near), shift);
    s[0] = Add(s[0], v);
    s[1] = MulAdd(v, v, s[1]);
  });
  if (!std::isfinite(deviation[1])) return SlowMoments(x, runs);
  return FromDeviations(m.count, static_cast<double>(near), deviation[0], deviation[1]);
}
template <class T>
Moments MomentsOf(const T* x, Runs runs) {
  Moments all;
  ForBlocks(runs, [&](Index offset, Runs piece) ESPALIER_INLINE_LAMBDA {
    if (piece.length > 0) all = merge(all, BlockMoments(x + offset, piece));
  });
  return all;
}

/// (x - shift) factor + offset
template <class T>
struct Map {
  explicit Map(const ScaleShift<T>& map)
      : shift(hn::Set(Tag<T>(), map.shift)),
        factor(hn::Set(Tag<T>(), map.factor)),
        offset(hn::Set(Tag<T>(), map.offset)) {}
  Map(const ColumnMaps<T>& maps, Index column)
      : shift(hn::LoadU(Tag<T>(), maps.shift + column)),
        factor(hn::LoadU(Tag<T>(), maps.factor + column)),
        offset(hn::LoadU(Tag<T>(), maps.offset + column)) {}
  HWY_INLINE Lane<T> FromDeviation(Lane<T> v) const { return MulAdd(v, factor, offset); }
  Lane<T> shift, factor, offset;
};
/// The terms of a gradient, of all lanes or of each column.
template <class T>
struct Terms {
  explicit Terms(const GradientTerms<T>& t)
      : of_g(hn::Set(Tag<T>(), t.of_g)), of_x(hn::Set(Tag<T>(), t.of_x)), rest(hn::Set(Tag<T>(), t.rest)) {}
  Terms(const ColumnTerms<T>& t, Index column)
      : of_g(hn::LoadU(Tag<T>(), t.of_g + column)),
        of_x(hn::LoadU(Tag<T>(), t.of_x + column)),
        rest(hn::LoadU(Tag<T>(), t.rest + column)) {}
  Lane<T> of_g, of_x, rest;
};

template <bool relu, class T>
HWY_INLINE Lane<T> Mapped(const Map<T>& map, Lane<T> x) {
  const auto v = map.FromDeviation(Sub(x, map.shift));
  if constexpr (relu)
    return hn::IfThenZeroElse(hn::Lt(v, hn::Zero(Tag<T>())), v);
  else
    return v;
}
template <bool relu, class T>
HWY_INLINE Lane<T> Passed(const Map<T>& map, Lane<T> g, Lane<T> deviation) {
  if constexpr (relu)
    return hn::IfThenZeroElse(hn::Le(map.FromDeviation(deviation), hn::Zero(Tag<T>())), g);
  else
    return g;
}
template <bool relu, class T>
HWY_INLINE void AddGradientSums(const Map<T>& map, Lane<T> g, Lane<T> x, Lane<T> (&s)[2]) {
  const auto deviation = Sub(x, map.shift), v = Passed<relu>(map, g, deviation);
  s[0] = Add(s[0], v);
  s[1] = MulAdd(v, deviation, s[1]);
}
template <bool relu, class T>
HWY_INLINE Lane<T> GradientOf(const Map<T>& map, const Terms<T>& terms, Lane<T> g, Lane<T> x) {
  const auto deviation = Sub(x, map.shift);
  return MulAdd(Passed<relu>(map, g, deviation), terms.of_g, MulAdd(deviation, terms.of_x, terms.rest));
}
/// f.operator()<relu>()
template <class F>
HWY_INLINE void WithRelu(bool relu, const F& f) {
  if (relu)
    f.template operator()<true>();
  else
    f.template operator()<false>();
}

template <class T>
void ScaleShiftRuns(const T* x, T* y, Runs runs, ScaleShift<T> given) {
  WithRelu(given.relu, [&]<bool relu>() HWY_ATTR {
    const Map<T> map(given);
    ForRuns<T>(runs,
               [&](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(Mapped<relu>(map, at.Load(x + i)), y + i); });
  });
}
template <class T>
PassedSums GradientSums(const T* g, const T* x, Runs runs, ScaleShift<T> given) {
  double total[2] = {};
  WithRelu(given.relu, [&]<bool relu>() HWY_ATTR {
    const Map<T> map(given);
    ForBlocks(runs, [&](Index offset, Runs piece) ESPALIER_INLINE_LAMBDA {
      SumRuns<T, 2>(piece, total, [&](auto at, Index i, auto& s) ESPALIER_INLINE_LAMBDA {
        AddGradientSums<relu>(map, at.Load(g + offset + i), at.Load(x + offset + i), s);
      });
    });
  });
  return {total[0], total[1]};
}
template <class T>
void Gradient(const T* g, const T* x, T* dx, Runs runs, ScaleShift<T> given, GradientTerms<T> given_terms) {
  WithRelu(given.relu, [&]<bool relu>() HWY_ATTR {
    const Map<T> map(given);
    const Terms<T> terms(given_terms);
    ForRuns<T>(runs, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(GradientOf<relu>(map, terms, at.Load(g + i), at.Load(x + i)), dx + i);
    });
  });
}

// --- columns ------------------------------------------------------------------------------------------------------------

constexpr Index row_block = 128;  // rows that are summed in T

/// Calls body(at, column, place) on every vector of every row.
template <class T, class Body>
HWY_INLINE void ForColumns(Columns m, const Body& body) {
  for (Index r = 0; r < m.rows; ++r)
    ForEachVector<T>(m.count, [&](auto at, Index c) ESPALIER_INLINE_LAMBDA { body(at, c, r * m.stride + c); });
}

/// Sums `terms` values a column down the rows, at most row_block of them, four vectors of columns side by side:
/// term(at, column, place, sums) adds what lies there to sums[0 ... terms).
template <class T, int terms, class Term>
HWY_INLINE void SumColumns(Columns m, T (&totals)[static_cast<std::size_t>(terms)][Columns::most], const Term& term) {
  constexpr Index L = lanes_of<T>;
  const auto strip = [&]<std::size_t vectors>(auto at, Index c) ESPALIER_INLINE_LAMBDA {
    Lane<T> sum[vectors][static_cast<std::size_t>(terms)];
    for (auto& of_vector : sum)
      for (auto& s : of_vector) s = hn::Zero(Tag<T>());
    for (Index r = 0; r < m.rows; ++r)
      for (std::size_t k = 0; k < vectors; ++k) {
        const Index column = c + static_cast<Index>(k) * L;
        term(at, column, r * m.stride + column, sum[k]);
      }
    for (std::size_t k = 0; k < vectors; ++k)
      for (std::size_t t = 0; t < static_cast<std::size_t>(terms); ++t)
        at.Store(sum[k][t], totals[t] + c + static_cast<Index>(k) * L);
  };
  Index c = 0;
  for (; c + 4 * L <= m.count; c += 4 * L) strip.template operator()<4>(Whole(), c);
  for (; c + L <= m.count; c += L) strip.template operator()<1>(Whole(), c);
  if (c < m.count) strip.template operator()<1>(Part{m.count - c}, c);
}

template <class T>
void ColumnMoments(const T* x, Columns m, Moments* found) {
  std::fill_n(found, m.count, Moments{});
  for (Index first = 0; first < m.rows; first += row_block) {
    const T* const from = x + first * m.stride;
    const Columns piece{std::min(row_block, m.rows - first), m.stride, m.count};
    const auto count = static_cast<double>(piece.rows);
    T near[1][Columns::most] = {}, deviation[2][Columns::most];
    SumColumns<T, 1>(piece, near, [from](auto at, Index, Index i, auto& s) ESPALIER_INLINE_LAMBDA {
      s[0] = Add(s[0], at.Load(from + i));
    });
    for (T& v : near[0]) v = static_cast<T>(static_cast<double>(v) / count);
    SumColumns<T, 2>(piece, deviation, [&](auto at, Index c, Index i, auto& s) ESPALIER_INLINE_LAMBDA {
      const auto v = Sub(at.Load(from + i), hn::LoadU(Tag<T>(), near[0] + c));
      s[0] = Add(s[0], v);
      s[1] = MulAdd(v, v, s[1]);
    });
    for (Index c = 0; c < m.count; ++c) {
      const auto squares = static_cast<double>(deviation[1][c]);
      found[c] = merge(found[c], std::isfinite(squares) ? FromDeviations(count, static_cast<double>(near[0][c]),
                                                                         static_cast<double>(deviation[0][c]), squares)
                                                        : SlowMoments(from + c, Runs{piece.rows, m.stride, 1}));
    }
  }
}
template <class T>
void ColumnScaleShift(const T* x, T* y, Columns m, const ColumnMaps<T>& maps) {
  WithRelu(maps.relu, [&]<bool relu>() HWY_ATTR {
    ForColumns<T>(m, [&](auto at, Index c, Index i)
                         ESPALIER_INLINE_LAMBDA { at.Store(Mapped<relu>(Map<T>(maps, c), at.Load(x + i)), y + i); });
  });
}
template <class T>
void ColumnGradientSums(const T* g, const T* x, Columns m, const ColumnMaps<T>& maps, PassedSums* sums) {
  std::fill_n(sums, m.count, PassedSums{});
  WithRelu(maps.relu, [&]<bool relu>() HWY_ATTR {
    for (Index first = 0; first < m.rows; first += row_block) {
      const T *const from_g = g + first * m.stride, *const from_x = x + first * m.stride;
      T total[2][Columns::most];
      SumColumns<T, 2>({std::min(row_block, m.rows - first), m.stride, m.count}, total,
                       [&](auto at, Index c, Index i, auto& s) ESPALIER_INLINE_LAMBDA {
                         AddGradientSums<relu>(Map<T>(maps, c), at.Load(from_g + i), at.Load(from_x + i), s);
                       });
      for (Index c = 0; c < m.count; ++c)
        sums[c] = {sums[c].g + static_cast<double>(total[0][c]), sums[c].gx + static_cast<double>(total[1][c])};
    }
  });
}
template <class T>
void ColumnGradient(const T* g, const T* x, T* dx, Columns m, const ColumnMaps<T>& maps, const ColumnTerms<T>& terms) {
  WithRelu(maps.relu, [&]<bool relu>() HWY_ATTR {
    ForColumns<T>(m, [&](auto at, Index c, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(GradientOf<relu>(Map<T>(maps, c), Terms<T>(terms, c), at.Load(g + i), at.Load(x + i)), dx + i);
    });
  });
}

// --- rows ---------------------------------------------------------------------------------------------------------------

/// xhat = (x - shift) rstd - rest, of one row; `rest` is what rounding took from the mean.
template <class T, bool centered>
struct Standard {
  explicit Standard(RowStatistics s) {
    const T near = static_cast<T>(s.mean);
    shift = hn::Set(Tag<T>(), near);
    rstd = hn::Set(Tag<T>(), static_cast<T>(s.rstd));
    rest = hn::Set(Tag<T>(), static_cast<T>((s.mean - static_cast<double>(near)) * s.rstd));
  }
  HWY_INLINE Lane<T> operator()(Lane<T> x) const {
    if constexpr (centered)
      return hn::MulSub(Sub(x, shift), rstd, rest);
    else
      return Mul(x, rstd);
  }
  Lane<T> shift, rstd, rest;
};

template <class T, bool centered>
HWY_INLINE RowStatistics StatisticsOf(const T* x, Index n, double eps) {
  if constexpr (centered) {
    const Moments m = n <= block ? BlockMoments(x, Runs{1, 0, n}) : MomentsOf(x, Runs{1, 0, n});
    return {m.mean, 1 / std::sqrt(m.variance() + eps)};
  } else {
    double squares = 0;
    for (Index i = 0; i < n; i += block)
      squares += SumSquaresBlock<T>(std::min(block, n - i),
                                    [x, i](auto at, Index k) ESPALIER_INLINE_LAMBDA { return at.Load(x + i + k); });
    return {0, 1 / std::sqrt(squares / static_cast<double>(n) + eps)};
  }
}

template <class T, bool centered>
void RowsOf(const T* x, const T* weight, const T* bias, T* y, Index rows, Index n, double eps,
            RowStatistics* statistics) {
  for (Index r = 0; r < rows; ++r, x += n, y += n) {
    statistics[r] = StatisticsOf<T, centered>(x, n, eps);
    const Standard<T, centered> standard(statistics[r]);
    if (weight && bias)
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        at.Store(MulAdd(standard(at.Load(x + i)), at.Load(weight + i), at.Load(bias + i)), y + i);
      });
    else if (weight)
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        at.Store(Mul(standard(at.Load(x + i)), at.Load(weight + i)), y + i);
      });
    else if (bias)
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        at.Store(Add(standard(at.Load(x + i)), at.Load(bias + i)), y + i);
      });
    else
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(standard(at.Load(x + i)), y + i); });
  }
}
template <class T>
void Rows(const T* x, const T* weight, const T* bias, T* y, Index rows, Index n, double eps, bool centered,
          RowStatistics* statistics) {
  (centered ? RowsOf<T, true> : RowsOf<T, false>)(x, weight, bias, y, rows, n, eps, statistics);
}

template <class T, bool centered, bool weighted>
void RowsBackwardOf(const T* g, const T* x, const T* weight, const RowStatistics* statistics, Index rows, Index n,
                    T* dx, T* dweight, T* dbias) {
  const Tag<T> d;
  const auto weighed = [weight](auto at, Lane<T> v, Index i) ESPALIER_INLINE_LAMBDA {
    if constexpr (weighted)
      return Mul(v, at.Load(weight + i));
    else
      return v;
  };
  for (Index r = 0; r < rows; ++r, g += n, x += n, dx += dx ? n : 0) {
    const Standard<T, centered> standard(statistics[r]);
    double sums[2] = {};
    for (Index begin = 0; begin < n; begin += block) {
      const Runs piece{1, 0, std::min(block, n - begin)};
      const auto add = [&](auto at, Index k, auto& s, auto keep) ESPALIER_INLINE_LAMBDA {
        const Index i = begin + k;
        const auto v = at.Load(g + i), xhat = standard(at.Load(x + i)), w = weighed(at, v, i);
        if constexpr (centered) s[0] = Add(s[0], w);
        s[1] = MulAdd(w, xhat, s[1]);
        keep(at, i, v, xhat);
      };
      if (dweight && dbias)  // what a layer asks for
        SumRuns<T, 2>(piece, sums, [&](auto at, Index k, auto& s) ESPALIER_INLINE_LAMBDA {
          add(at, k, s, [=](auto where, Index i, Lane<T> v, Lane<T> xhat) ESPALIER_INLINE_LAMBDA {
            where.Store(MulAdd(v, xhat, where.Load(dweight + i)), dweight + i);
            where.Store(Add(v, where.Load(dbias + i)), dbias + i);
          });
        });
      else
        SumRuns<T, 2>(piece, sums, [&](auto at, Index k, auto& s) ESPALIER_INLINE_LAMBDA {
          add(at, k, s, [=](auto where, Index i, Lane<T> v, Lane<T> xhat) ESPALIER_INLINE_LAMBDA {
            if (dweight) where.Store(MulAdd(v, xhat, where.Load(dweight + i)), dweight + i);
            if (dbias) where.Store(Add(v, where.Load(dbias + i)), dbias + i);
          });
        });
    }
    if (!dx) continue;
    const double share = statistics[r].rstd / static_cast<double>(n);
    const auto mean_g = hn::Set(d, static_cast<T>(sums[0] * share)), of_x = hn::Set(d, static_cast<T>(sums[1] * share));
    ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto w = weighed(at, at.Load(g + i), i), xhat = standard(at.Load(x + i));
      if constexpr (centered)
        at.Store(hn::NegMulAdd(xhat, of_x, hn::MulSub(w, standard.rstd, mean_g)), dx + i);
      else
        at.Store(hn::NegMulAdd(xhat, of_x, Mul(w, standard.rstd)), dx + i);
    });
  }
}
template <class T>
void RowsBackward(const T* g, const T* x, const T* weight, const RowStatistics* statistics, Index rows, Index n,
                  bool centered, T* dx, T* dweight, T* dbias) {
  const auto run = centered ? (weight ? RowsBackwardOf<T, true, true> : RowsBackwardOf<T, true, false>)
                            : (weight ? RowsBackwardOf<T, false, true> : RowsBackwardOf<T, false, false>);
  run(g, x, weight, statistics, rows, n, dx, dweight, dbias);
}

template <class T>
constexpr NormKernels<T> Table() {
  return {.moments = MomentsOf<T>,
          .scale_shift = ScaleShiftRuns<T>,
          .gradient_sums = GradientSums<T>,
          .gradient = Gradient<T>,
          .column_moments = ColumnMoments<T>,
          .column_scale_shift = ColumnScaleShift<T>,
          .column_gradient_sums = ColumnGradientSums<T>,
          .column_gradient = ColumnGradient<T>,
          .rows = Rows<T>,
          .rows_backward = RowsBackward<T>};
}

}  // namespace

const Both<NormKernels>& NormTables() {
  static constexpr Both<NormKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(NormTables);

template <class T>
const NormKernels<T>& norm() noexcept {
  return HWY_DYNAMIC_DISPATCH(NormTables)().template get<T>();
}
template const NormKernels<float>& norm<float>() noexcept;
template const NormKernels<double>& norm<double>() noexcept;

}  // namespace espalier::kernels
#endif
