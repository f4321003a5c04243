#include "espalier/core/index.h"

#include <algorithm>
#include <cstring>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/parallel.h"
#include "espalier/core/walk.h"

namespace espalier {
namespace {

constexpr Index grain = 1 << 14;  // elements a thread takes at a time

/// A place in a shape: "[2, 1]".
Dims place(const Shape& shape, Index flat) {
  Dims at = shape;
  for (int axis = shape.rank(); axis-- > 0; flat /= shape[axis]) at[axis] = flat % shape[axis];
  return at;
}

std::string along(int axis, const Shape& shape) { return join("along axis ", axis, " of x ", shape); }

void check_list(const char* op, const Tensor& index) {
  if (index.rank() != 1)
    fail<ShapeError>("[", op, "] index must be a list [n], got ", index.shape(), ". Hint: flatten() it");
}

/// index may be shorter than `of` on every axis, but for `free_axis`, where its length is free (-1: none).
void check_within(const char* op, const Shape& index, const char* name, const Shape& of, int free_axis) {
  bool fits = index.rank() == of.rank();
  for (int axis = 0; fits && axis < of.rank(); ++axis) fits = axis == free_axis || index[axis] <= of[axis];
  if (!fits) [[unlikely]] {
    if (free_axis < 0)
      fail<ShapeError>("[", op, "] index ", index, " must fit into ", name, " ", of,
                       ": the same number of axes, none longer");
    fail<ShapeError>("[", op, "] index ", index, " must fit into ", name, " ", of,
                     ": the same number of axes, none longer but axis ", free_axis);
  }
}

/// The first corner of x that has index's shape, but for the axis.
Tensor corner(Tensor x, const Shape& index, int axis) {
  for (int a = 0; a < x.rank(); ++a)
    if (a != axis && x.shape()[a] != index[a]) x = x.narrow(a, 0, index[a]);
  return x;
}

/// A tensor seen along one axis: [outer, length, inner].
struct Lines {
  Lines(const Shape& shape, int axis) : length(shape[axis]) {
    for (int a = 0; a < axis; ++a) outer *= shape[a];
    for (int a = axis + 1; a < shape.rank(); ++a) inner *= shape[a];
  }
  Index outer = 1, length, inner = 1;
};

/// Calls body(o, first, last) for pieces of lines that never collide: whole lines if there are many, else pieces of the
/// inner axis. `steps` is the work along the axis.
template <class F>
void for_lines(Index outer, Index steps, Index inner, F&& body) {
  if (outer == 0 || inner == 0 || steps == 0) return;
  Index width = inner;
  if (outer < 16 && inner >= 32) width = std::max<Index>(16, std::min(inner, (inner * outer / 16 + 15) / 16 * 16));
  const Index pieces = detail::chunk_count(inner, width);
  parallel_for(outer * pieces, std::max<Index>(1, grain / std::max<Index>(1, steps * width)),
               [&](Index begin, Index end) {
                 for (Index k = begin; k < end; ++k) {
                   const Index first = k % pieces * width;
                   body(k / pieces, first, std::min(inner, first + width));
                 }
               });
}

/// y[line][index] = or += src, all contiguous and of one shape but for the axis.
template <class T, class Put>
void scatter_lines(const Shape& y_shape, const Shape& index_shape, int axis, const std::int64_t* index, const T* src,
                   T* y, Put put) {
  const Lines to(y_shape, axis), from(index_shape, axis);
  const Index inner = from.inner;
  for_lines(from.outer, from.length, inner, [&](Index o, Index first, Index last) {
    T* target = y + o * to.length * inner;
    for (Index j = 0; j < from.length; ++j) {
      const Index row = (o * from.length + j) * inner;
      for (Index i = first; i < last; ++i) put(target[index[row + i] * inner + i], src[row + i]);
    }
  });
}

template <class T, class Put>
Tensor scatter_with(const char* op, const Tensor& x, int axis, const Tensor& index, const Tensor& src, Put put) {
  Tensor y = x.clone();
  const Tensor places = index.contiguous(), values = corner(src, index.shape(), -1).contiguous();
  Tensor part = corner(y, index.shape(), axis);
  const bool whole = part.shape() == y.shape();
  Tensor target = whole ? y : part.clone();  // one with the shape of index, but for the axis
  scatter_lines<T>(target.shape(), index.shape(), axis, places.data<std::int64_t>(), values.data<T>(),
                   target.write<T>(op), put);
  if (!whole) part.copy_from(target, op);
  return y;
}

int check_scatter(const char* op, const Tensor& x, int axis, const Tensor& index, const Tensor& src) {
  axis = checked_axis(op, axis, x.rank());
  check_same_dtype(op, x, src);
  check_within(op, index.shape(), "x", x.shape(), axis);
  check_within(op, index.shape(), "src", src.shape(), -1);
  check_indices(op, index, x.shape()[axis], along(axis, x.shape()));
  return axis;
}

}  // namespace

void check_indices(const char* op, const Tensor& index, Index length, const std::string& what) {
  if (index.dtype() != DType::i64)
    fail<DTypeError>("[", op, "] index must be i64, got ", index.dtype(), ". Hint: .to(DType::i64)");
  const Tensor dense = index.contiguous();
  const std::int64_t* at = dense.data<std::int64_t>();
  const auto outside = [&](Index i) { return static_cast<std::uint64_t>(at[i]) >= static_cast<std::uint64_t>(length); };
  const bool bad = parallel_reduce<bool>(
      dense.size(), grain,
      [&](Index begin, Index end) {
        bool any = false;
        for (Index i = begin; i < end; ++i) any |= outside(i);
        return any;
      },
      [](bool a, bool b) { return a || b; });
  if (!bad) [[likely]]
    return;
  Index i = 0;
  while (!outside(i)) ++i;
  fail<IndexError>("[", op, "] index ", at[i], " at ", place(index.shape(), i), " is outside [0, ", length, ") ", what);
}

Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  axis = checked_axis("gather", axis, x.rank());
  check_within("gather", index.shape(), "x", x.shape(), axis);
  check_indices("gather", index, x.shape()[axis], along(axis, x.shape()));
  Tensor y = Tensor::empty(index.shape(), x.dtype());
  Dims x_strides = x.strides();
  const Index step = x_strides[axis];
  x_strides[axis] = 0;
  const RowWalk<3> walk(index.shape(), {&index.strides(), &x_strides, &y.strides()});
  dispatch(x.dtype(), [&]<class T>() {
    const std::int64_t* at = index.data<std::int64_t>();
    const T* from = x.data<T>();
    T* to = y.write<T>("gather");
    const Index n = walk.row_length(), si = walk.inner_stride(0), sx = walk.inner_stride(1), sy = walk.inner_stride(2);
    auto part = [=](const std::array<Index, 3>& o, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) to[o[2] + i * sy] = from[o[1] + i * sx + at[o[0] + i * si] * step];
    };
    if (walk.rows() == 1)
      parallel_for(n, grain, [&](Index begin, Index end) { part({0, 0, 0}, begin, end); });
    else
      parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
        walk.run(begin, end, [&](const std::array<Index, 3>& o) { part(o, 0, n); });
      });
  });
  return y;
}

Tensor scatter(const Tensor& x, int axis, const Tensor& index, const Tensor& src) {
  axis = check_scatter("scatter", x, axis, index, src);
  return dispatch(x.dtype(),
                  [&]<class T>() { return scatter_with<T>("scatter", x, axis, index, src, [](T& y, T v) { y = v; }); });
}

Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& src) {
  axis = check_scatter("scatter_add", x, axis, index, src);
  return dispatch_floating("scatter_add", x.dtype(), [&]<class T>() {
    return scatter_with<T>("scatter_add", x, axis, index, src, [](T& y, T v) { y += v; });
  });
}

Tensor scatter_survivors(const Shape& shape, int axis, const Tensor& index, DType type) {
  const Tensor order = Tensor::arange(0, static_cast<double>(index.size()), 1, DType::i64).reshape(index.shape());
  const Tensor winners = gather(scatter(Tensor::zeros(shape, DType::i64), axis, index, order), axis, index);
  return zip_with<bool>("scatter", winners, order, [](auto a, auto b) { return a == b; }).to(type);
}

Tensor index_select(const Tensor& x, int axis, const Tensor& index) {
  axis = checked_axis("index_select", axis, x.rank());
  check_list("index_select", index);
  check_indices("index_select", index, x.shape()[axis], along(axis, x.shape()));
  Shape shape = x.shape();
  shape[axis] = index.size();
  Tensor y = Tensor::empty(shape, x.dtype());
  const Tensor dense = x.contiguous(), places = index.contiguous();
  const Lines from(x.shape(), axis), to(shape, axis);
  const std::int64_t* at = places.data<std::int64_t>();
  if (from.inner == 1) {
    dispatch(x.dtype(), [&]<class T>() {
      const T* source = dense.data<T>();
      T* target = y.write<T>("index_select");
      parallel_for(y.size(), grain, [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) target[r] = source[r / to.length * from.length + at[r % to.length]];
      });
    });
    return y;
  }
  const auto width = static_cast<std::size_t>(size_of(x.dtype()));
  const std::byte* source = dense.bytes();
  std::byte* target = y.write_bytes("index_select");
  const std::size_t row = static_cast<std::size_t>(from.inner) * width;
  if (y.size() == 0) return y;
  parallel_for(to.outer * to.length, std::max<Index>(1, grain / from.inner), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index o = r / to.length, j = r % to.length;
      std::memcpy(target + static_cast<std::size_t>(r) * row,
                  source + static_cast<std::size_t>(o * from.length + at[j]) * row, row);
    }
  });
  return y;
}

void index_add_in_place(Tensor& into, int axis, const Tensor& index, const Tensor& source, double alpha) {
  axis = checked_axis("index_add", axis, into.rank());
  check_list("index_add", index);
  check_same_dtype("index_add", into, source);
  Shape due = into.shape();
  due[axis] = index.size();
  if (!(source.shape() == due))
    fail<ShapeError>("[index_add] source ", source.shape(), " must be ", due, " for x ", into.shape(), ", axis ", axis,
                     " and index ", index.shape());
  check_indices("index_add", index, into.shape()[axis], along(axis, into.shape()));
  const Tensor values = source.contiguous(), places = index.contiguous();
  dispatch_floating("index_add", into.dtype(), [&]<class T>() {
    const Lines to(into.shape(), axis);
    const Index inner = to.inner, steps = index.size();
    const std::int64_t* at = places.data<std::int64_t>();
    const T* from = values.data<T>();
    T* y = into.write<T>("index_add");
    const T factor = static_cast<T>(alpha);
    const auto add = kernels::binary().add.get<T>().vv;
    const auto add_scaled = kernels::binary().add_scaled.get<T>().vv;
    for_lines(to.outer, steps, inner, [&](Index o, Index first, Index last) {
      T* target = y + o * to.length * inner;
      const T* value = from + o * steps * inner;
      if (inner == 1) {
        for (Index j = 0; j < steps; ++j) target[at[j]] += factor * value[j];
        return;
      }
      for (Index j = 0; j < steps; ++j) {
        T* row = target + at[j] * inner + first;
        (alpha == 1 ? add : add_scaled)(row, value + j * inner + first, row, last - first, factor, T(0));
      }
    });
  });
}

Tensor index_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source, double alpha) {
  Tensor y = x.clone();
  index_add_in_place(y, axis, index, source, alpha);
  return y;
}

Tensor index_fill(const Tensor& x, int axis, const Tensor& index, double value) {
  axis = checked_axis("index_fill", axis, x.rank());
  check_list("index_fill", index);
  check_indices("index_fill", index, x.shape()[axis], along(axis, x.shape()));
  Tensor y = x.clone();
  for (const std::int64_t at : index.to_vector<std::int64_t>()) y.select(axis, at).fill(value, "index_fill");
  return y;
}

Tensor positions_of(const Tensor& mask) {
  if (mask.dtype() != DType::boolean)
    fail<DTypeError>("[masked_select] mask must be bool, got ", mask.dtype(), ". Hint: .to(DType::boolean)");
  const Tensor dense = mask.contiguous();
  const bool* live = dense.data<bool>();
  const Index n = dense.size();
  Tensor result = Tensor::empty({static_cast<Index>(std::count(live, live + n, true))}, DType::i64);
  std::int64_t* out = result.write<std::int64_t>("masked_select");
  for (Index i = 0; i < n; ++i)
    if (live[i]) *out++ = i;
  return result;
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  const Shape shape = broadcast_shapes("masked_select", x.shape(), mask.shape());
  const Tensor places = positions_of(mask.broadcast_to(shape));
  return index_select(x.broadcast_to(shape).reshape({count(shape)}), 0, places);
}

Tensor one_hot(const Tensor& labels, Index classes, DType type) {
  if (labels.dtype() != DType::i64)
    fail<DTypeError>("[one_hot] labels must be i64, got ", labels.dtype(), ". Hint: .to(DType::i64)");
  if (type != DType::i64 && !is_floating(type)) fail<DTypeError>("[one_hot] gives i64, f32 or f64, not ", type);
  const Tensor dense = labels.contiguous();
  const std::int64_t* label = dense.data<std::int64_t>();
  if (classes < 0) {
    if (dense.size() == 0)
      fail<ShapeError>("[one_hot] no labels to count the classes by, shape ", labels.shape(), ". Hint: name them");
    classes = *std::max_element(label, label + dense.size()) + 1;
  }
  check_indices("one_hot", labels, classes, "of the labels");
  Shape shape = labels.shape();
  shape.push_back(classes);
  Tensor y = Tensor::zeros(shape, type);
  dispatch(type, [&]<class T>() {
    T* out = y.write<T>("one_hot");
    for (Index i = 0; i < dense.size(); ++i) out[i * classes + label[i]] = static_cast<T>(1);
  });
  return y;
}

}  // namespace espalier
