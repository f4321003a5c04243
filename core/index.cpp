#include "espalier/core/index.h"

#include <algorithm>
#include <cstring>
#include <limits>

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

/// True if all indices lie in [0, length). No branch, and nothing that SSE2 lacks: the sign of a word collects them.
bool all_inside(const std::int64_t* at, Index step, Index n, Index length) {
  std::uint64_t outside = 0;
  const auto most = static_cast<std::uint64_t>(length) - 1;
  const auto collect = [&](std::int64_t place) {
    outside |= static_cast<std::uint64_t>(place) | (most - static_cast<std::uint64_t>(place));
  };
  if (step == 1)
    for (Index i = 0; i < n; ++i) collect(at[i]);
  else
    for (Index i = 0; i < n; ++i) collect(at[i * step]);
  return static_cast<std::int64_t>(outside) >= 0;
}

/// Names the first index that is outside.
[[noreturn]] void fail_outside(const char* op, const Tensor& index, Index length, const std::string& what) {
  const Tensor dense = index.contiguous();
  const std::int64_t* at = dense.data<std::int64_t>();
  Index i = 0;
  while (all_inside(at + i, 1, 1, length)) ++i;
  fail<IndexError>("[", op, "] index ", at[i], " at ", place(index.shape(), i), " is outside [0, ", length, ") ", what);
}

void check_type(const char* op, const Tensor& index) {
  if (index.dtype() != DType::i64)
    fail<DTypeError>("[", op, "] index must be i64, got ", index.dtype(), ". Hint: .to(DType::i64)");
}

/// True if all indices lie in [0, length). Errors: as check_type.
bool inside(const char* op, const Tensor& index, Index length) {
  check_type(op, index);
  const Tensor dense = index.contiguous();
  const std::int64_t* at = dense.data<std::int64_t>();
  return !parallel_reduce<bool>(
      dense.size(), grain, [&](Index begin, Index end) { return !all_inside(at + begin, 1, end - begin, length); },
      [](bool a, bool b) { return a || b; });
}

/// What an error tells of the indices along an axis of a tensor of `shape`. Its text is made only then: the compiler
/// takes whatever follows the making of a text for cold, and makes it small instead of fast.
struct Along {
  const char* op;
  const Tensor& index;
  int axis;
  const Shape& shape;
  Index length() const { return shape[axis]; }
};
[[noreturn, gnu::cold, gnu::noinline]] void fail_along(const Along& a) {
  fail_outside(a.op, a.index, a.length(), along(a.axis, a.shape));
}

void check_along(const char* op, const Tensor& index, int axis, const Shape& shape) {
  if (!inside(op, index, shape[axis])) [[unlikely]]
    fail_along({op, index, axis, shape});
}

/// Calls use(first, last) for pieces of the n indices, each checked as a whole while it is in the L1 cache.
template <class Use>
void use_checked(const std::int64_t* at, Index step, Index n, const Along& of, const Use& use) {
  constexpr Index piece = 1024;
  for (Index first = 0; first < n; first += piece) {
    const Index last = std::min(n, first + piece);
    if (!all_inside(at + first * step, step, last - first, of.length())) [[unlikely]]
      fail_along(of);
    use(first, last);
  }
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

/// y[line][index] = or += src, y of index's shape but for the axis; it is a corner of a tensor of `shape`.
template <class T, class Put>
void scatter_lines(const char* op, const Tensor& index, int axis, const T* src, Tensor& y, const Shape& shape,
                   Put put) {
  const Lines to(y.shape(), axis), from(index.shape(), axis);
  const Index inner = from.inner, length = to.length;
  const Tensor places = index.contiguous();
  const std::int64_t* const at = places.data<std::int64_t>();
  T* const target = y.write<T>(op);
  const Along along_axis{op, index, axis, shape};
  for_lines(from.outer, from.length, inner, [&](Index o, Index first, Index last) {
    const std::int64_t* place = at + o * from.length * inner;
    const T* value = src + o * from.length * inner;
    T* line = target + o * length * inner;
    if (inner == 1)
      return use_checked(place, 1, from.length, along_axis, [&](Index begin, Index end) {
        for (Index j = begin; j < end; ++j) put(line[place[j]], value[j]);
      });
    for (Index j = 0; j < from.length; ++j, place += inner, value += inner)
      use_checked(place + first, 1, last - first, along_axis, [&](Index begin, Index end) {
        for (Index i = first + begin; i < first + end; ++i) put(line[place[i] * inner + i], value[i]);
      });
  });
}

int check_scatter(const char* op, const Tensor& x, int axis, const Tensor& index, const Tensor& src) {
  axis = checked_axis(op, axis, x.rank());
  check_same_dtype(op, x, src);
  check_within(op, index.shape(), "x", x.shape(), axis);
  check_within(op, index.shape(), "src", src.shape(), -1);
  check_type(op, index);
  return axis;
}

template <class T, class Put>
void scatter_into(const char* op, Tensor& y, int axis, const Tensor& index, const Tensor& src, Put put) {
  const Tensor values = corner(src, index.shape(), -1).contiguous();
  Tensor part = corner(y, index.shape(), axis);
  if (part.is_contiguous()) return scatter_lines<T>(op, index, axis, values.data<T>(), part, y.shape(), put);
  Tensor dense = part.clone();
  scatter_lines<T>(op, index, axis, values.data<T>(), dense, y.shape(), put);
  part.copy_from(dense, op);
}

struct Add {
  void operator()(auto& to, auto value) const { to += value; }
};

}  // namespace

void check_indices(const char* op, const Tensor& index, Index length, const std::string& what) {
  if (!inside(op, index, length)) [[unlikely]]
    fail_outside(op, index, length, what);
}

Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  axis = checked_axis("gather", axis, x.rank());
  check_within("gather", index.shape(), "x", x.shape(), axis);
  check_type("gather", index);
  Tensor y = Tensor::empty(index.shape(), x.dtype());
  Dims x_strides = x.strides();
  const Index step = x_strides[axis];
  x_strides[axis] = 0;
  const RowWalk<3> walk(index.shape(), {&index.strides(), &x_strides, &y.strides()});  // y's rows have stride 1
  const Along along_axis{"gather", index, axis, x.shape()};
  dispatch(x.dtype(), [&]<class T>() {
    const std::int64_t* first_place = index.data<std::int64_t>();
    const T* first_source = x.data<T>();
    T* first_target = y.write<T>("gather");
    const Index n = walk.row_length(), si = walk.inner_stride(0), sx = walk.inner_stride(1);
    auto part = [&](const std::array<Index, 3>& o, Index begin, Index end) {
      const std::int64_t* at = first_place + o[0] + begin * si;
      const T* from = first_source + o[1] + begin * sx;
      T* to = first_target + o[2] + begin;
      use_checked(at, si, end - begin, along_axis, [=](Index first, Index last) {
        if (si == 1 && sx == 0 && step == 1)
          for (Index i = first; i < last; ++i) to[i] = from[at[i]];
        else
          for (Index i = first; i < last; ++i) to[i] = from[i * sx + at[i * si] * step];
      });
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
  Tensor y = x.clone();
  dispatch(x.dtype(),
           [&]<class T>() { scatter_into<T>("scatter", y, axis, index, src, [](T& to, T value) { to = value; }); });
  return y;
}

void scatter_add_in_place(Tensor& into, int axis, const Tensor& index, const Tensor& src) {
  axis = check_scatter("scatter_add", into, axis, index, src);
  dispatch_floating("scatter_add", into.dtype(),
                    [&]<class T>() { scatter_into<T>("scatter_add", into, axis, index, src, Add()); });
}

Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& src) {
  Tensor y = x.clone();
  scatter_add_in_place(y, axis, index, src);
  return y;
}

Tensor scatter_survivors(const Shape& shape, int axis, const Tensor& index, DType type) {
  const Tensor order = Tensor::arange(0, static_cast<double>(index.size()), 1, DType::i64).reshape(index.shape());
  const Tensor winners = gather(scatter(Tensor::zeros(shape, DType::i64), axis, index, order), axis, index);
  return zip_with<bool>("scatter", winners, order, [](auto a, auto b) { return a == b; }).to(type);
}

Tensor index_select(const Tensor& x, int axis, const Tensor& index) {
  axis = checked_axis("index_select", axis, x.rank());
  check_list("index_select", index);
  check_along("index_select", index, axis, x.shape());
  Shape shape = x.shape();
  shape[axis] = index.size();
  Tensor y = Tensor::empty(shape, x.dtype());
  const Tensor dense = x.contiguous(), places = index.contiguous();
  const Lines from(x.shape(), axis), to(shape, axis);
  const std::int64_t* at = places.data<std::int64_t>();
  if (y.size() == 0) return y;
  // Rows o * length + j of y, a stretch of one o at a time.
  const auto for_stretches = [&](Index rows_at_once, auto&& copy) {
    parallel_for(to.outer * to.length, rows_at_once, [&](Index begin, Index end) {
      while (begin < end) {
        const Index o = begin / to.length, j = begin - o * to.length, n = std::min(to.length - j, end - begin);
        copy(begin, at + j, n, o * from.length);
        begin += n;
      }
    });
  };
  if (from.inner == 1) {
    dispatch(x.dtype(), [&]<class T>() {
      const T* source = dense.data<T>();
      T* target = y.write<T>("index_select");
      for_stretches(grain, [&](Index first, const std::int64_t* place, Index n, Index base) {
        for (Index j = 0; j < n; ++j) target[first + j] = source[base + place[j]];
      });
    });
    return y;
  }
  const std::byte* source = dense.bytes();
  std::byte* target = y.write_bytes("index_select");
  const std::size_t row = static_cast<std::size_t>(from.inner) * static_cast<std::size_t>(size_of(x.dtype()));
  for_stretches(std::max<Index>(1, grain / from.inner),
                [&](Index first, const std::int64_t* place, Index n, Index base) {
                  std::byte* out = target + static_cast<std::size_t>(first) * row;
                  for (Index j = 0; j < n; ++j, out += row)
                    std::memcpy(out, source + static_cast<std::size_t>(base + place[j]) * row, row);
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
  check_along("index_add", index, axis, into.shape());
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
  check_along("index_fill", index, axis, x.shape());
  Tensor y = x.clone();
  for (const std::int64_t at : index.to_vector<std::int64_t>()) y.select(axis, at).fill(value, "index_fill");
  return y;
}

Tensor positions_of(const Tensor& mask) {
  if (mask.dtype() != DType::boolean)
    fail<DTypeError>("[masked_select] mask must be bool, got ", mask.dtype(), ". Hint: .to(DType::boolean)");
  const Tensor dense = mask.contiguous();
  const bool* live = dense.data<bool>();
  const Index n = dense.size(), chunks = detail::chunk_count(n, grain);
  std::vector<Index> ends(static_cast<std::size_t>(chunks));  // of the places that each chunk finds
  parallel_for(n, grain, [&](Index begin, Index end) {
    ends[static_cast<std::size_t>(begin / grain)] = std::count(live + begin, live + end, true);
  });
  for (Index total = 0; Index & end : ends) end = total += end;
  Tensor result = Tensor::empty({chunks == 0 ? 0 : ends.back()}, DType::i64);
  std::int64_t* out = result.write<std::int64_t>("masked_select");
  parallel_for(n, grain, [&](Index begin, Index) {
    const auto chunk = static_cast<std::size_t>(begin / grain);
    std::int64_t* to = out + (chunk == 0 ? 0 : ends[chunk - 1]);
    std::int64_t* const last = out + ends[chunk];
    // Every place is written, and written over unless it is live: no branch that a random mask would make guess.
    for (Index i = begin; to != last; ++i) {
      *to = i;
      to += live[i];
    }
  });
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
  if (classes < -1) fail<ShapeError>("[one_hot] ", classes, " classes. Hint: -1 counts them by the labels");
  if (classes == -1) {
    if (dense.size() == 0)
      fail<ShapeError>("[one_hot] no labels to count the classes by, shape ", labels.shape(), ". Hint: name them");
    constexpr Index most = std::numeric_limits<Index>::max() - 1;
    classes = std::clamp<Index>(*std::max_element(label, label + dense.size()), -1, most) + 1;
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
