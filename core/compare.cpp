#include "espalier/core/compare.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "espalier/core/elementwise.h"
#include "espalier/core/reduce.h"

namespace espalier {
namespace {

Tensor like(const Tensor& a, double b) { return Tensor::scalar(b, a.dtype()); }

/// Whether x differs from 0; NaN does.
constexpr auto truth = [](auto x) { return x != decltype(x)(0); };

/// f of whether a and b differ from 0: one loop for all element types.
template <class F>
Tensor zip_truths(const char* op, const Tensor& a, const Tensor& b, F f) {
  check_same_dtype(op, a, b);
  return zip_with<bool, bool>(op, a.to(DType::boolean), b.to(DType::boolean), f);
}

/// compare(b, a), with errors that name `op` and its operands as they were given.
Tensor swapped(const char* op, const Tensor& a, const Tensor& b, Tensor (*compare)(const Tensor&, const Tensor&)) {
  check_same_dtype(op, a, b);
  broadcast_shapes(op, a.shape(), b.shape());
  return compare(b, a);
}

/// kind(x) of a floating-point number, `of_integers` for any other.
template <class F>
Tensor kind_of_number(const char* op, const Tensor& x, bool of_integers, F kind) {
  return map_with<bool>(op, x, [=](auto v) {
    if constexpr (std::is_floating_point_v<decltype(v)>)
      return kind(v);
    else
      return of_integers;
  });
}

/// For each line along `axes`: whether `sought` is among its elements, taken as bool; inverted if `invert`.
Tensor holds(const char* op, const Tensor& x, const Dims& axes, bool keepdim, bool sought, bool invert) {
  const Dims over = reduced_axes(op, axes, x.rank());
  Dims order;
  unsigned named = 0;
  for (const Index axis : over) named |= 1u << axis;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (!(named >> axis & 1)) order.push_back(axis);
  Index n = 1;
  for (const Index axis : over) {
    order.push_back(axis);
    n *= x.shape()[static_cast<int>(axis)];
  }
  const Tensor lines = x.to(DType::boolean).permute(order).contiguous();
  Tensor y = Tensor::empty(reduced_shape(x.shape(), over, keepdim), DType::boolean);
  const bool* line = lines.data<bool>();
  bool* out = y.write<bool>(op);
  parallel_for(y.size(), std::max<Index>(1, (Index{1} << 16) / std::max<Index>(1, n)), [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k)
      out[k] = (n > 0 && std::memchr(line + k * n, sought, static_cast<std::size_t>(n)) != nullptr) != invert;
  });
  return y;
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return zip_with<bool>("eq", a, b, std::equal_to<>()); }
Tensor ne(const Tensor& a, const Tensor& b) { return zip_with<bool>("ne", a, b, std::not_equal_to<>()); }
Tensor lt(const Tensor& a, const Tensor& b) { return zip_with<bool>("lt", a, b, std::less<>()); }
Tensor le(const Tensor& a, const Tensor& b) { return zip_with<bool>("le", a, b, std::less_equal<>()); }
Tensor gt(const Tensor& a, const Tensor& b) { return swapped("gt", a, b, lt); }
Tensor ge(const Tensor& a, const Tensor& b) { return swapped("ge", a, b, le); }
Tensor eq(const Tensor& a, double b) { return eq(a, like(a, b)); }
Tensor ne(const Tensor& a, double b) { return ne(a, like(a, b)); }
Tensor lt(const Tensor& a, double b) { return lt(a, like(a, b)); }
Tensor le(const Tensor& a, double b) { return le(a, like(a, b)); }
Tensor gt(const Tensor& a, double b) { return gt(a, like(a, b)); }
Tensor ge(const Tensor& a, double b) { return ge(a, like(a, b)); }

Tensor isnan(const Tensor& x) {
  return kind_of_number("isnan", x, false, [](auto v) { return std::isnan(v); });
}
Tensor isinf(const Tensor& x) {
  return kind_of_number("isinf", x, false, [](auto v) { return std::isinf(v); });
}
Tensor isfinite(const Tensor& x) {
  return kind_of_number("isfinite", x, true, [](auto v) { return std::isfinite(v); });
}

Tensor logical_and(const Tensor& a, const Tensor& b) {
  return zip_truths("logical_and", a, b, [](bool x, bool y) { return x & y; });
}
Tensor logical_or(const Tensor& a, const Tensor& b) {
  return zip_truths("logical_or", a, b, [](bool x, bool y) { return x | y; });
}
Tensor logical_xor(const Tensor& a, const Tensor& b) {
  return zip_truths("logical_xor", a, b, [](bool x, bool y) { return x != y; });
}
Tensor logical_not(const Tensor& x) {
  return map_with<bool>("logical_not", x, [](auto v) { return !truth(v); });
}

Tensor any(const Tensor& x, const Dims& axes, bool keepdim) { return holds("any", x, axes, keepdim, true, false); }
Tensor all(const Tensor& x, const Dims& axes, bool keepdim) { return holds("all", x, axes, keepdim, false, true); }

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  if (condition.dtype() != DType::boolean)
    fail<DTypeError>("[where] the condition must be bool, got ", condition.dtype(), " ", condition.shape(),
                     ". Hint: gt(x, 0), or .to(DType::boolean)");
  check_same_dtype("where", a, b);
  const Shape shape = broadcast_shapes("where", condition.shape(), broadcast_shapes("where", a.shape(), b.shape()));
  const Tensor chooser = condition.broadcast_to(shape), yes = a.broadcast_to(shape), no = b.broadcast_to(shape);
  Tensor y = Tensor::empty(shape, a.dtype());
  const RowWalk<4> walk(shape, {&chooser.strides(), &yes.strides(), &no.strides(), &y.strides()});
  const Index n = walk.row_length(), sc = walk.inner_stride(0), sa = walk.inner_stride(1), sb = walk.inner_stride(2);
  dispatch(a.dtype(), [&]<class T>() {
    const bool* c = chooser.data<bool>();
    const T *p = yes.data<T>(), *q = no.data<T>();
    T* out = y.write<T>("where");
    const auto row = [&](Index c_at, Index p_at, Index q_at, Index at, Index length) {
      const bool* condition_row = c + c_at;
      const T *p_row = p + p_at, *q_row = q + q_at;
      T* out_row = out + at;
      if (sc == 1 && sa == 1 && sb == 1) {
        for (Index i = 0; i < length; ++i) {
          const T yes_value = p_row[i], no_value = q_row[i];  // both are read, so that the loop has no branch
          out_row[i] = condition_row[i] ? yes_value : no_value;
        }
      } else if (sc == 0) {  // a row is chosen as a whole
        const T* from = *condition_row ? p_row : q_row;
        const Index step = *condition_row ? sa : sb;
        for (Index i = 0; i < length; ++i) out_row[i] = from[i * step];
      } else {
        for (Index i = 0; i < length; ++i) out_row[i] = condition_row[i * sc] ? p_row[i * sa] : q_row[i * sb];
      }
    };
    constexpr Index grain = 1 << 14;
    if (walk.rows() == 1)
      return parallel_for(n, grain,
                          [&](Index begin, Index end) { row(begin * sc, begin * sa, begin * sb, begin, end - begin); });
    parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
      walk.run(begin, end, [&](const std::array<Index, 4>& at) { row(at[0], at[1], at[2], at[3], n); });
    });
  });
  return y;
}

}  // namespace espalier
