#include "espalier/core/scan.h"

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/core/detail/groups.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/groups.h"
#include "espalier/core/kernels/reduce.h"

namespace espalier {
namespace {

using detail::Groups;
using detail::groups_along;

/// Walks every group from its first element on, or with `reverse` from its last: state = step(state, at, t), then
/// store(at, state); `at` is the element's place in the dense tensor, t its place in the group. Rows are walked four
/// abreast: a step waits for the one before it, but not for those of other rows.
template <class State, class Step, class Store>
void scan_groups(const Groups& g, bool reverse, const State& first, const Step& step, const Store& store) {
  if (g.inner == 1) {
    const Index abreast = g.outer >= 8 ? 4 : 1;  // a few rows are better left to one thread each
    parallel_for(g.outer, std::max(abreast, detail::rows_per_chunk(g.n)), [&](Index begin, Index end) {
      const auto walk = [&]<Index rows>(std::integral_constant<Index, rows>, Index r) {
        std::array<State, static_cast<std::size_t>(rows)> state;
        state.fill(first);
        for (Index k = 0; k < g.n; ++k) {
          const Index t = reverse ? g.n - 1 - k : k;
          for (Index i = 0; i < rows; ++i) {
            State& s = state[static_cast<std::size_t>(i)];
            const Index at = (r + i) * g.n + t;
            s = step(s, at, t);
            store(at, s);
          }
        }
      };
      Index r = begin;
      for (; r + 4 <= end; r += 4) walk(std::integral_constant<Index, 4>(), r);
      for (; r < end; ++r) walk(std::integral_constant<Index, 1>(), r);
    });
    return;
  }
  const Index width = std::min(g.inner, detail::strip_columns), strips = (g.inner + width - 1) / width;
  parallel_for(g.outer * strips, detail::rows_per_chunk(g.n * width), [&](Index begin, Index end) {
    std::array<State, detail::strip_columns> state;
    for (Index job = begin; job < end; ++job) {
      const Index column = job % strips * width, columns = std::min(width, g.inner - column);
      std::fill_n(state.begin(), columns, first);
      for (Index k = 0; k < g.n; ++k) {
        const Index t = reverse ? g.n - 1 - k : k, at = (job / strips * g.n + t) * g.inner + column;
        for (Index c = 0; c < columns; ++c) {
          State& s = state[static_cast<std::size_t>(c)];
          s = step(s, at + c, t);
          store(at + c, s);
        }
      }
    }
  });
}

/// y[i] = carry + x[0] + ... + x[i]. Four at a time: only one addition in four waits for the one before.
template <class T>
void running_sum(const T* x, T* y, Index n, Index stride, double carry) {
  Index i = 0;
  for (; i + 4 <= n; i += 4) {
    const double a = static_cast<double>(x[i * stride]), b = a + static_cast<double>(x[(i + 1) * stride]),
                 c = static_cast<double>(x[(i + 2) * stride]), d = c + static_cast<double>(x[(i + 3) * stride]);
    const double third = carry + (b + c), next = carry + (b + d);
    if constexpr (std::is_same_v<T, double>)  // -1e308, then 1e308 twice: the two by themselves are too large
      if (!std::isfinite(third) || !std::isfinite(next)) [[unlikely]]
        break;
    y[i * stride] = static_cast<T>(carry + a);
    y[(i + 1) * stride] = static_cast<T>(carry + b);
    y[(i + 2) * stride] = static_cast<T>(third);
    y[(i + 3) * stride] = static_cast<T>(next);
    carry = next;
  }
  for (; i < n; ++i) y[i * stride] = static_cast<T>(carry += static_cast<double>(x[i * stride]));
}

template <class T>
void sum_rows(const Groups& g, bool reverse, T* y) {
  const T* x = g.x.data<T>();
  const auto row = [&](Index first, Index n, double carry) {
    if (reverse)
      running_sum(x + first + n - 1, y + first + n - 1, n, -1, carry);
    else
      running_sum(x + first, y + first, n, 1, carry);
  };
  constexpr Index piece = detail::grain_elements;
  if (g.outer >= 8 || g.n < 4 * piece) {
    parallel_for(g.outer, detail::rows_per_chunk(g.n), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) row(r * g.n, g.n, 0);
    });
    return;
  }
  // Few long rows: the sums of pieces first, then each piece from its carry on.
  const Index pieces = (g.n + piece - 1) / piece;
  std::vector<double> carries(static_cast<std::size_t>(pieces));
  const auto place = [&](Index k) { return reverse ? std::max<Index>(0, g.n - (k + 1) * piece) : k * piece; };
  const auto length = [&](Index k) { return std::min(piece, g.n - k * piece); };
  for (Index r = 0; r < g.outer; ++r) {
    parallel_for(pieces, 1, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k)
        carries[static_cast<std::size_t>(k)] = kernels::reduce<T>().sum(x + r * g.n + place(k), length(k));
    });
    double sum = 0;
    for (double& carry : carries) sum += std::exchange(carry, sum);
    parallel_for(pieces, 1, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) row(r * g.n + place(k), length(k), carries[static_cast<std::size_t>(k)]);
    });
  }
}

/// kernel(x, state, y, n) along the rows of every strip of columns; the states begin with `first`.
template <class T>
void scan_columns(const Groups& g, bool reverse, double first, typename kernels::GroupKernels<T>::Running kernel,
                  T* y) {
  const T* x = g.x.data<T>();
  const Index width = std::min(g.inner, detail::strip_columns), strips = (g.inner + width - 1) / width;
  parallel_for(g.outer * strips, detail::rows_per_chunk(g.n * width), [&](Index begin, Index end) {
    std::array<double, detail::strip_columns> state;
    for (Index job = begin; job < end; ++job) {
      const Index column = job % strips * width, columns = std::min(width, g.inner - column);
      std::fill_n(state.begin(), columns, first);
      for (Index k = 0; k < g.n; ++k) {
        const Index at = (job / strips * g.n + (reverse ? g.n - 1 - k : k)) * g.inner + column;
        kernel(x + at, state.data(), y + at, columns);
      }
    }
  });
}

MaxResult cumulative_extreme(const char* op, const Tensor& x, int axis, bool least) {
  const Groups g = groups_along(x, named_axis(op, axis, x.rank()));
  MaxResult y{Tensor::empty(x.shape(), x.dtype()), Tensor::empty(x.shape(), DType::i64)};
  if (x.size() == 0) return y;
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    struct Best {
      T value;
      Index place;
    };
    const T* p = g.x.data<T>();
    T* values = y.values.write<T>(op);
    Index* places = y.indices.write<Index>(op);
    const T lowest = std::numeric_limits<T>::infinity() * (least ? T(1) : T(-1));
    scan_groups(
        g, false, Best{lowest, 0},
        [&](const Best& best, Index at, Index t) {
          const T v = p[at];
          if (std::isnan(best.value)) return best;
          return std::isnan(v) || (least ? v <= best.value : v >= best.value) ? Best{v, t} : best;
        },
        [&](Index at, const Best& best) {
          values[at] = best.value;
          places[at] = best.place;
        });
  });
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis, bool reverse) {
  const Groups g = groups_along(x, named_axis("cumsum", axis, x.rank()));
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating("cumsum", x.dtype(), [&]<class T>() {
    T* out = y.write<T>("cumsum");
    if (y.size() == 0) return;
    if (g.inner == 1)
      sum_rows(g, reverse, out);
    else
      scan_columns(g, reverse, 0, kernels::groups<T>().running_sum_each, out);
  });
  return y;
}

Tensor cumprod(const Tensor& x, int axis, bool reverse, bool exclusive) {
  const Groups g = groups_along(x, named_axis("cumprod", axis, x.rank()));
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating("cumprod", x.dtype(), [&]<class T>() {
    T* out = y.write<T>("cumprod");
    if (y.size() == 0) return;
    if (g.inner > 1)
      return scan_columns(g, reverse, 1, kernels::groups<T>().running_product_each[exclusive ? 1 : 0], out);
    const T* p = g.x.data<T>();
    struct Products {
      double before, with;
    };
    scan_groups(
        g, reverse, Products{1, 1},
        [p](Products s, Index at, Index) {
          return Products{s.with, s.with * static_cast<double>(p[at])};
        },
        [out, exclusive](Index at, Products s) { out[at] = static_cast<T>(exclusive ? s.before : s.with); });
  });
  return y;
}

MaxResult cummax(const Tensor& x, int axis) { return cumulative_extreme("cummax", x, axis, false); }
MaxResult cummin(const Tensor& x, int axis) { return cumulative_extreme("cummin", x, axis, true); }

Tensor linear_scan(const Tensor& a, const Tensor& b, int axis, bool reverse) {
  check_same_dtype("linear_scan", a, b);
  if (!(a.shape() == b.shape()))
    fail<ShapeError>("[linear_scan] factors ", a.shape(), " and terms ", b.shape(),
                     " must have one shape. Hint: broadcast_to() one");
  const Groups g = groups_along(b, named_axis("linear_scan", axis, b.rank()));
  const Tensor factors = a.contiguous();
  Tensor y = Tensor::empty(b.shape(), b.dtype());
  dispatch_floating("linear_scan", b.dtype(), [&]<class T>() {
    T* out = y.write<T>("linear_scan");
    if (y.size() == 0) return;
    const T *p = factors.data<T>(), *q = g.x.data<T>();
    scan_groups(
        g, reverse, 0.,
        [p, q, first = reverse ? g.n - 1 : 0](double state, Index at, Index t) {
          // Nothing comes before the first, whatever its factor is.
          return (t == first ? 0. : static_cast<double>(p[at]) * state) + static_cast<double>(q[at]);
        },
        [out](Index at, double state) { out[at] = static_cast<T>(state); });
  });
  return y;
}

}  // namespace espalier
