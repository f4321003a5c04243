#include "espalier/core/reduce.h"

#include <algorithm>
#include <type_traits>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

constexpr Index grain_elements = Index{1} << 14;  // what a thread takes at a time

Index rows_per_chunk(Index row_length) { return std::max<Index>(1, grain_elements / std::max<Index>(1, row_length)); }

/// A contiguous tensor seen as [outer, reduced, inner], the sums running over the middle.
struct Middle {
  Tensor x;
  Index outer, reduced, inner;
};

/// Brings the reduced axes together: in place where they are neighbours, else by a copy with them last.
Middle gather_axes(const Tensor& x, const Dims& axes) {
  const Shape& shape = x.shape();
  Index outer = 1, reduced = 1, inner = 1;
  bool neighbours = true;
  unsigned named = 0;
  for (Index axis : axes) named |= 1u << axis;
  // Axes of length 1 are neither here nor there.
  int state = 0;  // before, within, behind the reduced ones
  for (int axis = 0; axis < x.rank(); ++axis) {
    const bool is_reduced = named >> axis & 1;
    if (is_reduced) reduced *= shape[axis];
    if (shape[axis] == 1) continue;
    if (is_reduced) {
      neighbours = neighbours && state < 2;
      state = 1;
    } else {
      state = state == 1 ? 2 : state;
      (state == 0 ? outer : inner) *= shape[axis];
    }
  }
  if (neighbours) return {x.contiguous(), outer, reduced, inner};
  Dims order;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (!(named >> axis & 1)) order.push_back(axis);
  for (Index axis : axes) order.push_back(axis);
  return {x.permute(order).contiguous(), outer * inner, reduced, 1};
}

template <class T>
void sum_middle(const Middle& m, T* out) {
  const T* x = m.x.data<T>();
  const auto& kernel = kernels::reduce<T>();
  if (m.inner == 1) {
    if (m.outer == 1) {
      out[0] = static_cast<T>(parallel_reduce<double>(
          m.reduced, grain_elements, [&](Index begin, Index end) { return kernel.sum(x + begin, end - begin); },
          [](double a, double b) { return a + b; }));
      return;
    }
    parallel_for(m.outer, rows_per_chunk(m.reduced), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) out[r] = static_cast<T>(kernel.sum(x + r * m.reduced, m.reduced));
    });
    return;
  }
  // Columns are cut between threads, in runs of at least a cache line; each is summed down its rows in a fixed order.
  const Index columns = std::max<Index>(64, grain_elements / std::max<Index>(1, m.reduced) / 16 * 16);
  const Index strips = (m.inner + columns - 1) / columns;
  const Index grain = std::max<Index>(1, grain_elements / std::max<Index>(1, m.reduced * std::min(columns, m.inner)));
  parallel_for(m.outer * strips, grain, [&](Index begin, Index end) {
    for (Index job = begin; job < end; ++job) {
      const Index at = job / strips, first = job % strips * columns;
      kernel.add_rows(x + at * m.reduced * m.inner + first, m.reduced, std::min(columns, m.inner - first), m.inner,
                      out + at * m.inner + first);
    }
  });
}

/// Runs kernel(first_row, second_row, y_row, n) on every line along `axis`, which is moved last and back. `choose` gets
/// the kernels of the element type.
template <class Choose>
Tensor along_axis(const char* op, const Tensor& first, const Tensor& second, int axis, Choose choose) {
  check_same_dtype(op, first, second);
  if (first.rank() == 0) return along_axis(op, first.reshape({1}), second.reshape({1}), axis, choose).reshape({});
  const int at = checked_axis(op, axis, first.rank());
  const bool last = at == first.rank() - 1;
  const Tensor a = (last ? first : first.transpose(at, -1)).contiguous();
  const Tensor b = (last ? second : second.transpose(at, -1)).contiguous();
  Tensor y = Tensor::empty(a.shape(), a.dtype());
  const Index n = a.shape()[a.rank() - 1], lines = n == 0 ? 0 : a.size() / n;
  dispatch_floating(op, a.dtype(), [&]<class T>() {
    const auto kernel = choose(kernels::reduce<T>());
    const T *p = a.data<T>(), *q = b.data<T>();
    T* out = y.write<T>(op);
    parallel_for(lines, std::max<Index>(1, rows_per_chunk(n) / 8), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        if constexpr (std::is_invocable_v<decltype(kernel), const T*, T*, Index>)
          kernel(p + r * n, out + r * n, n);
        else
          kernel(p + r * n, q + r * n, out + r * n, n);
      }
    });
  });
  return last ? y : y.transpose(at, -1).contiguous();
}

}  // namespace

Dims reduced_axes(const char* op, const Dims& axes, int rank) {
  Dims result;
  unsigned named = 0;
  for (Index axis : axes) {
    const int at = checked_axis(op, static_cast<int>(std::clamp<Index>(axis, -99, 99)), rank);
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
  const Dims over = reduced_axes("sum", axes, x.rank());
  Tensor y = Tensor::empty(reduced_shape(x.shape(), over, keepdim), x.dtype());
  dispatch_floating("sum", x.dtype(), [&]<class T>() {
    T* out = y.write<T>("sum");
    const Middle m = gather_axes(x, over);
    if (m.reduced == 0)
      std::fill_n(out, y.size(), T(0));
    else if (y.size() > 0)
      sum_middle(m, out);
  });
  return y;
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

MaxResult max_along(const Tensor& x, int axis) {
  const int at = checked_axis("max_along", axis, x.rank());
  const Tensor moved = x.transpose(at, -1).contiguous();
  const Index n = moved.shape()[-1];
  if (n == 0)
    fail<ShapeError>("[max_along] axis ", axis, " of shape ", x.shape(), " is empty: there is no largest element");
  Shape shape = moved.shape();
  shape.erase(shape.rank() - 1);
  MaxResult result{Tensor::empty(shape, x.dtype()), Tensor::empty(shape, DType::i64)};
  dispatch_floating("max_along", x.dtype(), [&]<class T>() {
    const T* p = moved.data<T>();
    T* values = result.values.write<T>("max_along");
    Index* places = result.indices.write<Index>("max_along");
    parallel_for(result.values.size(), rows_per_chunk(n), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        places[r] = kernels::reduce<T>().argmax(p + r * n, n);
        values[r] = p[r * n + places[r]];
      }
    });
  });
  if (at < x.rank() - 1) {  // the last axis took the place of the one that went
    Dims back;              // the axes now read: before, last, between
    for (int a = 0; a < at; ++a) back.push_back(a);
    for (int a = at + 1; a < shape.rank(); ++a) back.push_back(a);
    back.push_back(at);
    result.values = result.values.permute(back).contiguous();
    result.indices = result.indices.permute(back).contiguous();
  }
  return result;
}

Tensor softmax(const Tensor& x, int axis) {
  return along_axis("softmax", x, x, axis, [](const auto& kernels) { return kernels.softmax_row; });
}
Tensor log_softmax(const Tensor& x, int axis) {
  return along_axis("log_softmax", x, x, axis, [](const auto& kernels) { return kernels.log_softmax_row; });
}
Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along_axis("softmax", g, y, axis, [](const auto& kernels) { return kernels.softmax_backward_row; });
}
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along_axis("log_softmax", g, y, axis, [](const auto& kernels) { return kernels.log_softmax_backward_row; });
}

}  // namespace espalier
