#include "espalier/core/reduce.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "espalier/core/detail/groups.h"
#include "espalier/core/detail/scratch.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/groups.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/kernels/transpose.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using detail::foldable_groups;
using detail::gather_groups;
using detail::Groups;
using detail::groups_along;
using detail::rows_per_chunk;
using kernels::Moments;

/// What a reduction to one number folds groups with; see fold_groups. Row and Join are functions.
template <class T, class Row, class Join>
struct Fold {
  using Value = double;
  Row row;
  typename kernels::GroupKernels<T>::Columns column_kernel;
  Join join;
  void columns(const T* x, Index rows, Index cols, Index stride, double* out) const {
    std::array<T, detail::strip_columns> part;
    column_kernel(x, x, rows, cols, stride, part.data());
    std::copy_n(part.begin(), cols, out);
  }
};

// clang-format off
struct Plus { double operator()(double a, double b) const { return a + b; } };
struct Larger { double operator()(double a, double b) const { return a >= b || std::isnan(a) ? a : b; } };
struct Smaller { double operator()(double a, double b) const { return a <= b || std::isnan(a) ? a : b; } };
struct LogAddExp {
  double operator()(double a, double b) const {
    const double most = Larger()(a, b);
    return std::isfinite(most) ? most + std::log(std::exp(a - most) + std::exp(b - most)) : most;
  }
};
// clang-format on

template <class T>
struct Product {
  using Value = double;
  double row(const T* x, Index n) const { return kernels::reduce<T>().prod(x, n); }
  void columns(const T* x, Index rows, Index cols, Index stride, double* out) const {
    kernels::groups<T>().multiply(x, rows, cols, stride, out);
  }
  double join(double a, double b) const { return a * b; }
};

/// True of a sum of squares in f32 that squares may have left its range on the way to.
bool left_range(float sum) { return !(sum >= 1e-30f && sum <= 1e38f) && !std::isnan(sum); }
bool left_range(double) { return false; }

template <class T>
struct SumOfSquares {
  using Value = double;
  double row(const T* x, Index n) const { return kernels::reduce<T>().sum_squares(x, n); }
  void columns(const T* x, Index rows, Index cols, Index stride, double* out) const {
    std::array<T, detail::strip_columns> part;
    kernels::groups<T>().add_squares(x, x, rows, cols, stride, part.data());
    for (Index c = 0; c < cols; ++c) {
      const T sum = part[static_cast<std::size_t>(c)];
      out[c] = static_cast<double>(sum);
      if (!left_range(sum)) continue;
      out[c] = 0;
      for (Index r = 0; r < rows; ++r) {
        const double v = static_cast<double>(x[r * stride + c]);
        out[c] += v * v;
      }
    }
  }
  double join(double a, double b) const { return a + b; }
};

template <class T>
struct MomentsFold {
  using Value = Moments;
  Moments row(const T* x, Index n) const { return kernels::groups<T>().moments(x, n); }
  void columns(const T* x, Index rows, Index cols, Index stride, Moments* out) const {
    const auto& kernel = kernels::groups<T>();
    const auto count = static_cast<double>(rows);
    std::array<T, detail::strip_columns> mean, rest, squares;
    kernel.add(x, x, rows, cols, stride, mean.data());
    for (Index c = 0; c < cols; ++c)
      mean[static_cast<std::size_t>(c)] =
          static_cast<T>(static_cast<double>(mean[static_cast<std::size_t>(c)]) / count);
    kernel.add_deviations(x, mean.data(), rows, cols, stride, rest.data());
    kernel.add_square_deviations(x, mean.data(), rows, cols, stride, squares.data());
    for (Index c = 0; c < cols; ++c) {
      const auto k = static_cast<std::size_t>(c);
      const double off = static_cast<double>(rest[k]) / count;  // what the mean lost when it was rounded to T
      double sum = static_cast<double>(squares[k]);
      if (left_range(squares[k])) {
        sum = 0;
        for (Index r = 0; r < rows; ++r) {
          const double d = static_cast<double>(x[r * stride + c]) - static_cast<double>(mean[k]);
          sum += d * d;
        }
      }
      sum -= off * off * count;
      out[c] = {count, static_cast<double>(mean[k]) + off, sum < 0 ? 0 : sum};
    }
  }
  Moments join(const Moments& a, const Moments& b) const { return kernels::join(a, b); }
};

template <class T>
struct LogSumExp {
  using Value = double;
  double row(const T* x, Index n) const { return kernels::reduce<T>().logsumexp_row(x, n); }
  void columns(const T* x, Index rows, Index cols, Index stride, double* out) const {
    std::array<T, detail::strip_columns> most, sum;
    kernels::groups<T>().max(x, x, rows, cols, stride, most.data());
    kernels::groups<T>().add_exponentials(x, most.data(), rows, cols, stride, sum.data());
    for (Index c = 0; c < cols; ++c) {
      const auto k = static_cast<std::size_t>(c);
      out[c] = static_cast<double>(most[k]);
      if (std::isfinite(most[k])) out[c] += std::log(static_cast<double>(sum[k]));
    }
  }
  double join(double a, double b) const { return LogAddExp()(a, b); }
};

/// finish(value) of each group, value as `How<T>` folds it; `of_nothing` for groups without elements.
template <class MakeHow, class Finish>
Tensor reduced(const char* op, const Tensor& x, const Dims& axes, bool keepdim, double of_nothing, MakeHow make_how,
               Finish finish) {
  const Dims over = reduced_axes(op, axes, x.rank());
  Tensor y = Tensor::empty(reduced_shape(x.shape(), over, keepdim), x.dtype());
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    T* out = y.write<T>(op);
    const Groups g = foldable_groups(x, over);
    if (g.n == 0)
      std::fill_n(out, y.size(), static_cast<T>(of_nothing));
    else if (y.size() > 0)
      detail::fold_groups<T>(g, make_how.template operator()<T>(),
                             [&](Index place, const auto& value) { out[place] = static_cast<T>(finish(value)); });
  });
  return y;
}

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr auto as_it_is = [](double v) { return v; };
constexpr auto sum_fold = []<class T>() {
  return Fold<T, decltype(kernels::ReduceKernels<T>::sum), Plus>{
      kernels::reduce<T>().sum, kernels::groups<T>().add, {}};
};
constexpr auto abs_sum_fold = []<class T>() {
  return Fold<T, decltype(kernels::ReduceKernels<T>::abs_sum), Plus>{
      kernels::reduce<T>().abs_sum, kernels::groups<T>().add_abs, {}};
};
constexpr auto max_fold = []<class T>() {
  return Fold<T, decltype(kernels::ReduceKernels<T>::max), Larger>{
      kernels::reduce<T>().max, kernels::groups<T>().max, {}};
};
constexpr auto min_fold = []<class T>() {
  return Fold<T, decltype(kernels::ReduceKernels<T>::min), Smaller>{
      kernels::reduce<T>().min, kernels::groups<T>().min, {}};
};
constexpr auto abs_max_fold = []<class T>() {
  return Fold<T, decltype(kernels::ReduceKernels<T>::abs_max), Larger>{
      kernels::reduce<T>().abs_max, kernels::groups<T>().abs_max, {}};
};

/// Raises ShapeError if a group would have no elements while there are groups: there is no largest of nothing.
void check_not_empty(const char* op, const Tensor& x, const Dims& over) {
  Index n = 1;
  for (Index axis : over) n *= x.shape()[static_cast<int>(axis)];
  if (n == 0 && count(reduced_shape(x.shape(), over, false)) > 0)
    fail<ShapeError>("[", op, "] axes ", over, " of shape ", x.shape(),
                     " hold no elements, and there is no largest or smallest of nothing. Hint: check size() first");
}

/// So many lines along an axis that is not the last are worked on while they are in the cache.
Index lines_at_once(Index n) {
  return std::clamp<Index>(8192 / std::max<Index>(1, n) / 8 * 8, 8, kernels::column_strip);
}

/// Runs a kernel of rows, (first_row, second_row, y_row, n), or one of columns on every line along `axis`. `choose` gets
/// the kernels of the element type and gives both.
template <class Choose>
Tensor along_axis(const char* op, const Tensor& first, const Tensor& second, int axis, Choose choose) {
  check_same_dtype(op, first, second);
  if (first.rank() == 0) return along_axis(op, first.reshape({1}), second.reshape({1}), axis, choose).reshape({});
  const Groups g = groups_along(first, checked_axis(op, axis, first.rank()));
  const bool alone = first.shares_storage(second) && first.strides() == second.strides();
  const Tensor b = alone ? g.x : second.contiguous();
  Tensor y = Tensor::empty(first.shape(), first.dtype());
  if (y.size() == 0) return y;
  dispatch_floating(op, y.dtype(), [&]<class T>() {
    const auto [kernel, columns_kernel] = choose(kernels::reduce<T>());
    const auto run = [kernel = kernel, n = g.n](const T* p, const T* q, T* out) {
      if constexpr (std::is_invocable_v<decltype(kernel), const T*, T*, Index>)
        kernel(p, out, n);
      else
        kernel(p, q, out, n);
    };
    const T *p = g.x.data<T>(), *q = b.data<T>();
    T* out = y.write<T>(op);
    if (g.inner == 1) {
      parallel_for(g.outer, std::max<Index>(1, rows_per_chunk(g.n) / 8), [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) run(p + r * g.n, q + r * g.n, out + r * g.n);
      });
      return;
    }
    const Index width = lines_at_once(g.n), strips = (g.inner + width - 1) / width;
    const Index grain = std::max<Index>(1, rows_per_chunk(g.n * width) / 8);
    if (g.inner >= 8) {
      parallel_for(g.outer * strips, grain, [&, kernel = columns_kernel](Index begin, Index end) {
        for (Index job = begin; job < end; ++job) {
          const Index column = job % strips * width, at = job / strips * g.n * g.inner + column;
          kernel(p + at, q + at, out + at, g.n, std::min(width, g.inner - column), g.inner);
        }
      });
      return;
    }
    // Too few columns for vectors: they are turned into rows.
    parallel_for(g.outer * strips, grain, [&](Index begin, Index end) {
      const detail::Scratch<T> left(width * g.n), right(alone ? 0 : width * g.n);
      for (Index job = begin; job < end; ++job) {
        const Index column = job % strips * width, at = job / strips * g.n * g.inner + column;
        const Index lines = std::min(width, g.inner - column);
        kernels::transpose(p + at, g.n, lines, g.inner, left.data(), g.n);
        if (!alone) kernels::transpose(q + at, g.n, lines, g.inner, right.data(), g.n);
        for (Index line = 0; line < lines; ++line) {
          T* const row = left.data() + line * g.n;
          run(row, alone ? row : right.data() + line * g.n, row);
        }
        kernels::transpose(left.data(), lines, g.n, g.n, out + at, g.inner);
      }
    });
  });
  return y;
}

}  // namespace

Dims reduced_axes(const char* op, const Dims& axes, int rank) {
  Dims result;
  unsigned named = 0;
  for (Index axis : axes) {
    const int at = named_axis(op, static_cast<int>(std::clamp<Index>(axis, -99, 99)), rank);
    if (named >> at & 1) fail<IndexError>("[", op, "] axis ", axis, " is named twice in ", axes);
    named |= 1u << at;
  }
  for (int axis = 0; axis < rank; ++axis)
    if (axes.rank() == 0 || named >> axis & 1) result.push_back(axis);
  return result;
}

Shape reduced_shape(const Shape& shape, const Dims& axes, bool keepdim) {
  Shape result;
  int next = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool reduced = next < axes.rank() && axes[next] == axis;
    next += reduced;
    if (!reduced)
      result.push_back(shape[axis]);
    else if (keepdim)
      result.push_back(1);
  }
  return result;
}

Tensor sum(const Tensor& x, const Dims& axes, bool keepdim) {
  return reduced("sum", x, axes, keepdim, 0, sum_fold, as_it_is);
}
Tensor prod(const Tensor& x, const Dims& axes, bool keepdim) {
  return reduced(
      "prod", x, axes, keepdim, 1, []<class T>() { return Product<T>(); }, as_it_is);
}
Tensor amax(const Tensor& x, const Dims& axes, bool keepdim) {
  check_not_empty("amax", x, reduced_axes("amax", axes, x.rank()));
  return reduced("amax", x, axes, keepdim, -infinity, max_fold, as_it_is);
}
Tensor amin(const Tensor& x, const Dims& axes, bool keepdim) {
  check_not_empty("amin", x, reduced_axes("amin", axes, x.rank()));
  return reduced("amin", x, axes, keepdim, infinity, min_fold, as_it_is);
}
Tensor logsumexp(const Tensor& x, const Dims& axes, bool keepdim) {
  return reduced(
      "logsumexp", x, axes, keepdim, -infinity, []<class T>() { return LogSumExp<T>(); }, as_it_is);
}

Tensor norm(const Tensor& x, double p, const Dims& axes, bool keepdim) {
  if (!(p >= 0 || p == -infinity))
    fail<ConfigError>("[norm] p must be at least 0, or -inf, got ", p, ". Hint: 1, 2 and infinity are the usual ones");
  if (p == 1) return reduced("norm", x, axes, keepdim, 0, abs_sum_fold, as_it_is);
  if (p == 2)
    return reduced(
        "norm", x, axes, keepdim, 0, []<class T>() { return SumOfSquares<T>(); },
        [](double v) { return std::sqrt(v); });
  if (p == infinity) return reduced("norm", x, axes, keepdim, 0, abs_max_fold, as_it_is);
  if (p == -infinity) {
    check_not_empty("norm", x, reduced_axes("norm", axes, x.rank()));
    return reduced("norm", map("norm", kernels::unary().abs, x), axes, keepdim, infinity, min_fold, as_it_is);
  }
  const Tensor powers = map_with("norm", x, [p](auto v) -> decltype(v) {
    if (p == 0) return static_cast<decltype(v)>(v != 0 ? 1 : 0);
    return std::pow(std::abs(v), static_cast<decltype(v)>(p));
  });
  return reduced("norm", powers, axes, keepdim, 0, sum_fold, [p](double v) { return p == 0 ? v : std::pow(v, 1 / p); });
}

namespace {

/// The mean of each group, and finish(variance), which is still in f64.
template <class Finish>
std::array<Tensor, 2> mean_and(const char* op, const Tensor& x, const Dims& axes, bool unbiased, bool keepdim,
                               Finish finish) {
  const Dims over = reduced_axes(op, axes, x.rank());
  const Shape shape = reduced_shape(x.shape(), over, keepdim);
  std::array<Tensor, 2> y{Tensor::empty(shape, x.dtype()), Tensor::empty(shape, x.dtype())};
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    T *mean = y[0].write<T>(op), *spread = y[1].write<T>(op);
    const Groups g = foldable_groups(x, over);
    if (g.n == 0) {
      std::fill_n(mean, y[0].size(), std::numeric_limits<T>::quiet_NaN());
      std::fill_n(spread, y[1].size(), std::numeric_limits<T>::quiet_NaN());
    } else if (y[0].size() > 0) {
      const double freedom =
          static_cast<double>(g.repeats * g.n) - (unbiased ? 1 : 0);  // 0 / 0 is NaN, as it should be
      detail::fold_groups<T>(g, MomentsFold<T>(), [&](Index place, const Moments& m) {
        mean[place] = static_cast<T>(m.mean);
        spread[place] = static_cast<T>(finish(m.squares / freedom));
      });
    }
  });
  return y;
}

}  // namespace

MeanVar mean_var(const Tensor& x, const Dims& axes, bool unbiased, bool keepdim) {
  auto [mean, var] = mean_and("var", x, axes, unbiased, keepdim, as_it_is);
  return {std::move(mean), std::move(var)};
}
MeanStd mean_std(const Tensor& x, const Dims& axes, bool unbiased, bool keepdim) {
  auto [mean, deviation] = mean_and("std", x, axes, unbiased, keepdim, [](double v) { return std::sqrt(v); });
  return {std::move(mean), std::move(deviation)};
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int added = x.rank() - shape.rank();
  Dims axes;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const Index kept = axis < added ? 1 : shape[axis - added];
    if (added < 0 || (kept != 1 && kept != x.shape()[axis]))
      fail<ShapeError>("[sum_to] ", shape, " does not broadcast to ", x.shape());
    if (axis < added || (kept == 1 && x.shape()[axis] != 1)) axes.push_back(axis);
  }
  if (added < 0) fail<ShapeError>("[sum_to] ", shape, " does not broadcast to ", x.shape());
  return (axes.rank() == 0 ? x : sum(x, axes, true)).reshape(shape);
}

namespace {

MaxResult extreme_along(const char* op, const Tensor& x, int axis, bool keepdim, bool least) {
  const int at = named_axis(op, axis, x.rank());
  const Dims over = x.rank() == 0 ? Dims{} : Dims{at};
  check_not_empty(op, x, over);
  const Shape shape = x.rank() == 0 ? x.shape() : reduced_shape(x.shape(), over, keepdim);
  MaxResult result{Tensor::empty(shape, x.dtype()), Tensor::empty(shape, DType::i64)};
  if (result.values.size() == 0) return result;
  const Groups g = groups_along(x, at);
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const T* p = g.x.data<T>();
    T* values = result.values.write<T>(op);
    Index* places = result.indices.write<Index>(op);
    if (g.inner == 1 && g.n <= detail::short_row && g.outer >= 16) {
      constexpr Index block = 128;
      parallel_for((g.outer + block - 1) / block, rows_per_chunk(g.n * block), [&](Index begin, Index end) {
        alignas(64) std::array<T, static_cast<std::size_t>(block * detail::short_row)> turned;
        for (Index b = begin; b < end; ++b) {
          const Index first = b * block, rows = std::min(block, g.outer - first);
          kernels::transpose(p + first * g.n, rows, g.n, g.n, turned.data(), block);
          kernels::groups<T>().argmax(turned.data(), g.n, rows, block, least, values + first, places + first);
        }
      });
      return;
    }
    if (g.inner == 1) {
      const auto& kernel = kernels::reduce<T>();
      parallel_for(g.outer, rows_per_chunk(g.n), [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) {
          places[r] = (least ? kernel.argmin : kernel.argmax)(p + r * g.n, g.n);
          values[r] = p[r * g.n + places[r]];
        }
      });
      return;
    }
    const Index width = std::min(g.inner, detail::strip_columns), strips = (g.inner + width - 1) / width;
    parallel_for(g.outer * strips, rows_per_chunk(g.n * width), [&](Index begin, Index end) {
      for (Index job = begin; job < end; ++job) {
        const Index outer = job / strips, first = job % strips * width, y = outer * g.inner + first;
        kernels::groups<T>().argmax(p + outer * g.n * g.inner + first, g.n, std::min(width, g.inner - first), g.inner,
                                    least, values + y, places + y);
      }
    });
  });
  return result;
}

/// kernel(x, shift, scale) with one shift and one scale for each group of `axes`.
template <class Choose>
Tensor map_each_group(const char* op, const Tensor& x, const Dims& axes, const Tensor& shift, const Tensor& scale,
                      Choose choose) {
  const Groups g = gather_groups(x, reduced_axes(op, axes, x.rank()));
  Tensor y = Tensor::empty(g.x.shape(), x.dtype());
  if (y.size() == 0) return Tensor::empty(x.shape(), x.dtype());
  const Tensor shifts = shift.contiguous(), scales = scale.contiguous();
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const auto [one, each] = choose(kernels::groups<T>());
    detail::map_groups(g, shifts.data<T>(), scales.data<T>(), y.write<T>(op), one, each);
  });
  return detail::scatter_groups(g, y);
}

}  // namespace

MaxResult max_along(const Tensor& x, int axis, bool keepdim) {
  return extreme_along("max_along", x, axis, keepdim, false);
}
MaxResult min_along(const Tensor& x, int axis, bool keepdim) {
  return extreme_along("min_along", x, axis, keepdim, true);
}

Tensor scaled_deviations(const Tensor& x, const Dims& axes, const Tensor& shift, const Tensor& scale) {
  return map_each_group("var", x, axes, shift, scale,
                        [](const auto& k) { return std::pair(k.deviations, k.deviations_each); });
}
Tensor scaled_exponentials(const Tensor& x, const Dims& axes, const Tensor& shift, const Tensor& scale) {
  return map_each_group("logsumexp", x, axes, shift, scale,
                        [](const auto& k) { return std::pair(k.exponentials, k.exponentials_each); });
}

Tensor softmax(const Tensor& x, int axis) {
  return along_axis("softmax", x, x, axis, [](const auto& k) { return std::pair(k.softmax_row, k.softmax_columns); });
}
Tensor log_softmax(const Tensor& x, int axis) {
  return along_axis("log_softmax", x, x, axis,
                    [](const auto& k) { return std::pair(k.log_softmax_row, k.log_softmax_columns); });
}
Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along_axis("softmax", g, y, axis,
                    [](const auto& k) { return std::pair(k.softmax_backward_row, k.softmax_backward_columns); });
}
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along_axis("log_softmax", g, y, axis, [](const auto& k) {
    return std::pair(k.log_softmax_backward_row, k.log_softmax_backward_columns);
  });
}

}  // namespace espalier
