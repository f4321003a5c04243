#include "espalier/autograd/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/autograd/detail/along.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/compare.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/reduce.h"
#include "espalier/core/scan.h"

namespace espalier {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The axes of a reduction, and x's shape with each of them 1.
struct Over {
  Over(const char* op, const Variable& x, const Dims& named)
      : axes(reduced_axes(op, named, x.rank())), kept(reduced_shape(x.shape(), axes, true)) {
    for (const Index axis : axes) n *= x.shape()[static_cast<int>(axis)];
  }
  /// y with or without the axes, with them.
  Variable keep(const Variable& y) const { return reshape(y, kept); }

  Dims axes;
  Shape kept;
  Index n = 1;
};

/// Settings: a number, then the axes.
struct Settings {
  std::array<Index, Dims::max_rank + 1> all;
  std::size_t count;
  operator std::span<const Index>() const { return {all.data(), count}; }  // NOLINT: what record() takes
};
Settings with_first(Index number, const Over& over) {
  Settings settings{{number}, 1};
  for (const Index axis : over.axes) settings.all[settings.count++] = axis;
  return settings;
}

/// y, with infinity in place of 0: to divide by, where nothing is to come of a zero.
Variable zero_as_infinity(const Variable& y) {
  return add(y, Variable(map_with("norm", y.value(), [](auto v) -> decltype(v) {
               return v == 0 ? std::numeric_limits<decltype(v)>::infinity() : 0;
             })));
}

/// The gradient of an extreme y of x, or with `absolute` of |x|: shared evenly by all elements that are equal to it (NaN
/// to NaN).
Variable shared_by_equals(const char* op, const Variable& g, const Tensor& x, const Tensor& y, const Over& over,
                          bool absolute) {
  Tensor weight = zip_with(op, x, y.reshape(over.kept), [absolute](auto v, auto most) -> decltype(v) {
    const auto size = absolute ? std::abs(v) : v;
    return size == most || (std::isnan(size) && std::isnan(most)) ? decltype(v)(1) : decltype(v)(0);
  });
  const Tensor number = sum(weight, over.axes, true);
  if (absolute)  // a zero counts among its equals, but has no slope
    weight = zip_with(op, x, weight, [](auto v, auto w) { return v > 0 ? w : v < 0 ? -w : v * w; });
  return mul(Variable(weight), over.keep(div(g, Variable(number.reshape(g.shape())))));
}

}  // namespace

Variable sum(const Variable& x, const Dims& axes, bool keepdim) {
  Tensor y = sum(x.value(), axes, keepdim);
  if (!recording(x)) return y;
  const Dims over = reduced_axes("sum", axes, x.rank());
  return record(
      "sum", std::move(y), {&x},
      [shape = x.shape(), kept = reduced_shape(x.shape(), over, true)](const Variable& g, Wants) {
        return broadcast_to(reshape(g, kept), shape);
      },
      over.span());
}

Variable mean(const Variable& x, const Dims& axes, bool keepdim) {
  Index n = 1;
  for (Index axis : reduced_axes("mean", axes, x.rank())) n *= x.shape()[static_cast<int>(axis)];
  return div(sum(x, axes, keepdim), n > 0 ? static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN());
}

namespace {

/// x with the reduced axes last, as one.
Variable gathered(const Variable& x, const Over& over) {
  Dims order;
  Shape shape;
  for (int axis = 0, next = 0; axis < x.rank(); ++axis) {
    if (next < over.axes.rank() && over.axes[next] == axis) {
      ++next;
      continue;
    }
    order.push_back(axis);
    shape.push_back(x.shape()[axis]);
  }
  for (const Index axis : over.axes) order.push_back(axis);
  shape.push_back(over.n);
  return reshape(permute(x, order), shape);
}

/// For each element the product of the others, without a division: what stands before it times what stands behind.
Variable products_of_others(const Variable& x, const Over& over) {
  const Variable row = gathered(x, over);
  const Index n = over.n;
  Variable others;
  if (!recording(x)) {
    others = Tensor(cumprod(row.value(), -1, false, true));
    others = mul(others, Variable(cumprod(row.value(), -1, true, true)));
  } else {
    Shape edge = row.shape();
    edge[-1] = 1;
    const Variable one(Tensor::ones(edge, x.dtype()));
    const auto before = [&](const Variable& v) { return cat({one, narrow(cumprod(v, -1), -1, 0, n - 1)}, -1); };
    others = mul(before(row), flip(before(flip(row, {-1})), {-1}));
  }
  Dims order, back;  // as in gathered(), and its inverse
  Shape split;
  for (int pass = 0; pass < 2; ++pass)
    for (int axis = 0; axis < x.rank(); ++axis) {
      const bool reduced = std::find(over.axes.begin(), over.axes.end(), axis) != over.axes.end();
      if (reduced != (pass == 1)) continue;
      order.push_back(axis);
      split.push_back(x.shape()[axis]);
    }
  back = order;
  for (int axis = 0; axis < order.rank(); ++axis) back[static_cast<int>(order[axis])] = axis;
  return permute(reshape(others, split), back);
}

}  // namespace

Variable prod(const Variable& x, const Dims& axes, bool keepdim) {
  Tensor y = prod(x.value(), axes, keepdim);
  if (!recording(x)) return y;
  const Over over("prod", x, axes);
  return record(
      "prod", std::move(y), {&x},
      [x = Saved(x), over](const Variable& g, Wants) -> Variable {
        if (over.n == 0) return Tensor::zeros(x.shape(), g.dtype());
        return mul(over.keep(g), products_of_others(x.get(), over));
      },
      over.axes.span());
}

namespace {

/// 2 g (x - mean) / (n - correction), or with `root` (x - mean) g / (y (n - correction)).
Variable spread_gradient(const Variable& g, const Variable& x, const Tensor& mean_of_x, const Variable& y,
                         const Over& over, bool unbiased, bool root) {
  const double share = (root ? 1 : 2) / (static_cast<double>(over.n) - (unbiased ? 1 : 0));
  const Variable scale = over.keep(affine(root ? div(g, zero_as_infinity(y)) : g, share, 0));
  if (recording(g, x)) return mul(sub(x, mean(x, over.axes, true)), scale);
  return scaled_deviations(x.value(), over.axes, mean_of_x, scale.value());
}

}  // namespace

Variable var(const Variable& x, const Dims& axes, bool unbiased, bool keepdim) {
  MeanVar y = mean_var(x.value(), axes, unbiased, keepdim);
  if (!recording(x)) return y.var;
  const Over over("var", x, axes);
  return record(
      "var", std::move(y.var), {&x},
      [x = Saved(x), mean = y.mean, over, unbiased](const Variable& g, Wants) {
        return spread_gradient(g, x.get(), mean, {}, over, unbiased, false);
      },
      with_first(unbiased ? 1 : 0, over));
}

Variable stddev(const Variable& x, const Dims& axes, bool unbiased, bool keepdim) {
  MeanStd both = mean_std(x.value(), axes, unbiased, keepdim);
  Tensor y = std::move(both.deviation);
  if (!recording(x)) return y;
  const Over over("std", x, axes);
  return record(
      "std", y, {&x},
      [x = Saved(x), y = Saved::output(y), mean = both.mean, over, unbiased](const Variable& g, Wants) {
        return spread_gradient(g, x.get(), mean, y.get(), over, unbiased, true);
      },
      with_first(unbiased ? 1 : 0, over));
}

namespace {

Variable extreme(const char* op, const Variable& x, Tensor y, const Dims& axes) {
  if (!recording(x)) return y;
  const Over over(op, x, axes);
  return record(
      op, y, {&x},
      [op, x = Saved(x), y = Saved::output(y), over](const Variable& g, Wants) {
        return shared_by_equals(op, g, x.value(), y.value(), over, false);
      },
      over.axes.span());
}

IndexedResult extreme_along(const char* op, const Variable& x, MaxResult y, int axis, bool keepdim) {
  const Variable kept = detail::picked(op, x, std::move(y.values), y.indices, axis);
  if (keepdim || x.rank() == 0) return {kept, y.indices};
  return {squeeze(kept, axis), y.indices.squeeze(axis)};
}

}  // namespace

Variable amax(const Variable& x, const Dims& axes, bool keepdim) {
  return extreme("amax", x, amax(x.value(), axes, keepdim), axes);
}
Variable amin(const Variable& x, const Dims& axes, bool keepdim) {
  return extreme("amin", x, amin(x.value(), axes, keepdim), axes);
}
Variable max(const Variable& x) { return amax(x); }
Variable min(const Variable& x) { return amin(x); }
IndexedResult max_along(const Variable& x, int axis, bool keepdim) {
  return extreme_along("max_along", x, max_along(x.value(), axis, true), axis, keepdim);
}
IndexedResult min_along(const Variable& x, int axis, bool keepdim) {
  return extreme_along("min_along", x, min_along(x.value(), axis, true), axis, keepdim);
}

Variable logsumexp(const Variable& x, const Dims& axes, bool keepdim) {
  Tensor y = logsumexp(x.value(), axes, keepdim);
  if (!recording(x)) return y;
  const Over over("logsumexp", x, axes);
  return record(
      "logsumexp", y, {&x},
      [x = Saved(x), y = Saved::output(y), over](const Variable& g, Wants) -> Variable {
        const Variable& v = x.get();
        if (recording(g, v)) return mul(exp(sub(v, over.keep(y.get()))), over.keep(g));
        return scaled_exponentials(v.value(), over.axes, y.value(), g.value());
      },
      over.axes.span());
}

namespace {

Variable norm_gradient(const Variable& g, const Variable& x, const Variable& y, double p, const Over& over) {
  if (p == 0) return Tensor::zeros(x.shape(), g.dtype());
  if (std::isinf(p)) return shared_by_equals("norm", g, x.value(), y.value(), over, true);
  if (p == 1) {
    const Tensor sign = map_with("norm", x.value(), [](auto v) -> decltype(v) {
      return v > 0 ? decltype(v)(1) : v < 0 ? decltype(v)(-1) : v == 0 ? decltype(v)(0) : v;
    });
    return mul(over.keep(g), Variable(sign));
  }
  if (p == 2) return mul(x, over.keep(div(g, zero_as_infinity(y))));
  // x |x|^(p-2) g / y^(p-1); a zero of x gets nothing, also for p < 1, where the slope is infinite
  const Variable size = p < 1 ? zero_as_infinity(abs(x)) : abs(x);
  const Tensor sign = map_with("norm", x.value(), [](auto v) { return static_cast<decltype(v)>((v > 0) - (v < 0)); });
  const Variable power = p < 1 ? pow(y, p - 1) : pow(zero_as_infinity(y), p - 1);
  return mul(mul(Variable(sign), pow(size, p - 1)), over.keep(div(g, p < 1 ? zero_as_infinity(power) : power)));
}

}  // namespace

Variable norm(const Variable& x, double p, const Dims& axes, bool keepdim) {
  Tensor y = norm(x.value(), p, axes, keepdim);
  if (!recording(x)) return y;
  const Over over("norm", x, axes);
  return record(
      "norm", y, {&x},
      [x = Saved(x), y = Saved::output(y), p, over](const Variable& g, Wants) {
        return norm_gradient(g, x.get(), y.get(), p, over);
      },
      with_first(setting_of(p), over));
}

Variable normalize(const Variable& x, double p, int axis, double eps) {
  return div(x, clamp(norm(x, p, {axis}, true), eps, infinity));
}

Variable renorm(const Variable& x, double p, int axis, double max_norm) {
  if (!(p > 0)) fail<ConfigError>("[renorm] p must be positive, got ", p);
  if (!(max_norm >= 0)) fail<ConfigError>("[renorm] max_norm must not be negative or NaN, got ", max_norm);
  const Index kept = checked_axis("renorm", axis, x.rank());
  if (x.rank() == 1) return reshape(renorm(reshape(x, {x.size(), 1}), p, 0, max_norm), x.shape());
  Dims others;
  for (Index k = 0; k < x.rank(); ++k)
    if (k != kept) others.push_back(k);
  const Variable length = norm(x, p, others, true);
  const Tensor one = Tensor::ones({}, x.dtype());
  return mul(x, where(gt(length.value(), max_norm), max_norm / (length + 1e-7), one));
}

Variable cosine_similarity(const Variable& a, const Variable& b, int axis, double eps) {
  const Shape shape = broadcast_shapes("cosine_similarity", a.shape(), b.shape());
  const Variable left = broadcast_to(a, shape), right = broadcast_to(b, shape);
  const auto length = [&](const Variable& v) { return clamp(norm(v, 2, {axis}), eps, infinity); };
  return div(sum(mul(left, right), {axis}), mul(length(left), length(right)));
}

Variable sum_to(const Variable& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = sum_to(x.value(), shape);
  if (!recording(x)) return y;
  return record("sum_to", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return broadcast_to(g, shape); });
}

Variable broadcast_to(const Variable& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = x.value().broadcast_to(shape);
  if (!recording(x)) return y;
  return record("broadcast_to", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return sum_to(g, shape); });
}

Variable softmax(const Variable& x, int axis) {
  Tensor y = softmax(x.value(), axis);
  if (!recording(x)) return y;
  return record(
      "softmax", y, {&x},
      [y = Saved::output(y), axis](const Variable& g, Wants) -> Variable {
        const Variable& v = y.get();
        if (!recording(g, v)) return softmax_backward(g.value(), v.value(), axis);
        const Variable gy = mul(g, v);
        return sub(gy, mul(v, sum(gy, {axis}, true)));
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable log_softmax(const Variable& x, int axis) {
  Tensor y = log_softmax(x.value(), axis);
  if (!recording(x)) return y;
  return record(
      "log_softmax", y, {&x},
      [y = Saved::output(y), axis](const Variable& g, Wants) -> Variable {
        const Variable& v = y.get();
        if (!recording(g, v)) return log_softmax_backward(g.value(), v.value(), axis);
        return sub(g, mul(exp(v), sum(g, {axis}, true)));
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

}  // namespace espalier
