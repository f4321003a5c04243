#include "espalier/autograd/ops/index.h"

#include "espalier/autograd/detail/along.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier {
namespace {

/// zeros(shape) with slice index[j] += slice j of x: the adjoint of index_select.
Variable spread(const Variable& x, const Shape& shape, int axis, const Tensor& index) {
  Tensor y = Tensor::zeros(shape, x.dtype());
  index_add_in_place(y, axis, index, x.value());
  if (!recording(x)) return y;
  return record("index_select_backward", std::move(y), {&x}, [axis, index = Saved(index)](const Variable& g, Wants) {
    return index_select(g, axis, index.value());
  });
}

/// zeros(shape) with x in its first corner: the adjoint of taking that corner.
Variable padded(const Variable& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  auto corner = [](Tensor t, const Shape& s) {
    for (int axis = 0; axis < s.rank(); ++axis) t = t.narrow(axis, 0, s[axis]);
    return t;
  };
  Tensor y = Tensor::zeros(shape, x.dtype());
  corner(y, x.shape()).copy_from(x.value());
  if (!recording(x)) return y;
  return record("pad", std::move(y), {&x}, [small = x.shape(), corner](const Variable& g, Wants) -> Variable {
    Tensor part = corner(g.value(), small);
    if (!recording(g)) return part;
    return record("corner", std::move(part), {&g},
                  [whole = g.shape()](const Variable& gg, Wants) { return padded(gg, whole); });
  });
}

/// f of x as a list of one, and a scalar again: a scalar counts as having one axis.
template <class F>
Variable as_list(const Variable& x, F f) {
  return reshape(f(reshape(x, {1})), {});
}
Tensor as_list(const Tensor& scalar) { return scalar.rank() == 0 ? scalar.reshape({1}) : scalar; }
Variable as_list(const Variable& scalar) { return scalar.rank() == 0 ? reshape(scalar, {1}) : scalar; }

}  // namespace

Variable gather(const Variable& x, int axis, const Tensor& index) {
  if (x.rank() == 0) return as_list(x, [&](const Variable& v) { return gather(v, axis, as_list(index)); });
  Tensor y = gather(x.value(), axis, index);
  if (!recording(x)) return y;
  return record(
      "gather", std::move(y), {&x},
      [shape = x.shape(), axis, index = Saved(index)](const Variable& g, Wants, Tensor so_far) {
        return detail::scattered(g, shape, axis, index.value(), std::move(so_far));
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable scatter(const Variable& x, int axis, const Tensor& index, const Variable& src) {
  if (x.rank() == 0)
    return as_list(x, [&](const Variable& v) { return scatter(v, axis, as_list(index), as_list(src)); });
  Tensor y = scatter(x.value(), axis, index, src.value());
  if (!recording(x, src)) return y;
  return record(
      "scatter", std::move(y), {&x, &src},
      [shape = src.shape(), axis, index = Saved(index)](const Variable& g, Wants wants) {
        const Tensor& at = index.value();
        const Tensor zeros = Tensor::zeros(at.shape(), g.dtype());
        return gradients(
            wants[0] ? scatter(g, axis, at, zeros) : no_gradient(),
            wants[1] ? padded(mul(gather(g, axis, at), scatter_survivors(g.shape(), axis, at, g.dtype())), shape)
                     : no_gradient());
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable scatter_add(const Variable& x, int axis, const Tensor& index, const Variable& src) {
  if (x.rank() == 0)
    return as_list(x, [&](const Variable& v) { return scatter_add(v, axis, as_list(index), as_list(src)); });
  Tensor y = scatter_add(x.value(), axis, index, src.value());
  if (!recording(x, src)) return y;
  return record(
      "scatter_add", std::move(y), {&x, &src},
      [shape = src.shape(), axis, index = Saved(index)](const Variable& g, Wants wants) {
        return gradients(wants[0] ? g : no_gradient(),
                         wants[1] ? padded(gather(g, axis, index.value()), shape) : no_gradient());
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable index_select(const Variable& x, int axis, const Tensor& index) {
  if (x.rank() == 0) return as_list(x, [&](const Variable& v) { return index_select(v, axis, index); });
  Tensor y = index_select(x.value(), axis, index);
  if (!recording(x)) return y;
  return record(
      "index_select", std::move(y), {&x},
      [shape = x.shape(), axis, index = Saved(index)](const Variable& g, Wants, Tensor so_far) -> Variable {
        if (!so_far.defined()) return spread(g, shape, axis, index.value());
        index_add_in_place(so_far, axis, index.value(), g.value());
        return so_far;
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable index_add(const Variable& x, int axis, const Tensor& index, const Variable& source, double alpha) {
  if (x.rank() == 0)
    return as_list(x, [&](const Variable& v) { return index_add(v, axis, index, as_list(source), alpha); });
  Tensor y = index_add(x.value(), axis, index, source.value(), alpha);
  if (!recording(x, source)) return y;
  return record(
      "index_add", std::move(y), {&x, &source},
      [axis, index = Saved(index), alpha](const Variable& g, Wants wants) {
        auto taken = [&] {
          const Variable slices = index_select(g, axis, index.value());
          return alpha == 1 ? slices : affine(slices, alpha, 0);
        };
        return gradients(wants[0] ? g : no_gradient(), wants[1] ? taken() : no_gradient());
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable index_fill(const Variable& x, int axis, const Tensor& index, double value) {
  if (x.rank() == 0) return as_list(x, [&](const Variable& v) { return index_fill(v, axis, index, value); });
  Tensor y = index_fill(x.value(), axis, index, value);
  if (!recording(x)) return y;
  return record(
      "index_fill", std::move(y), {&x},
      [axis, index = Saved(index)](const Variable& g, Wants) { return index_fill(g, axis, index.value(), 0); },
      settings(axis < 0 ? axis + x.rank() : axis));
}

Variable masked_select(const Variable& x, const Tensor& mask) {
  const Shape shape = broadcast_shapes("masked_select", x.shape(), mask.shape());
  return index_select(reshape(broadcast_to(x, shape), {count(shape)}), 0, positions_of(mask.broadcast_to(shape)));
}

}  // namespace espalier
