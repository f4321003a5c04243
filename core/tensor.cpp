#include "espalier/core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "espalier/core/detail/copy.h"
#include "espalier/core/packed.h"
#include "espalier/core/walk.h"

namespace espalier {
namespace {

/// Value conversion with every result defined; see Tensor::to.
template <Element To, Element From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bool>) {
    return value != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(value)) return To(0);
    constexpr double low = static_cast<double>(std::numeric_limits<To>::min());
    constexpr double high = static_cast<double>(std::numeric_limits<To>::max());
    const double wide = static_cast<double>(value);
    if (wide <= low) return std::numeric_limits<To>::min();
    if (wide >= high) return std::numeric_limits<To>::max();
    return static_cast<To>(wide);
  } else if constexpr (std::is_integral_v<From> && std::is_integral_v<To> && !std::is_same_v<From, bool>) {
    return static_cast<To>(std::clamp<std::int64_t>(static_cast<std::int64_t>(value),
                                                    static_cast<std::int64_t>(std::numeric_limits<To>::min()),
                                                    static_cast<std::int64_t>(std::numeric_limits<To>::max())));
  } else {
    return static_cast<To>(value);
  }
}

/// out <- convert(in), both strided, of one shape.
template <Element From, Element To>
void copy_strided(const From* from, const Dims& from_strides, To* to, const Dims& to_strides, const Shape& shape) {
  if constexpr (std::is_same_v<From, To>) {
    detail::copy_elements(reinterpret_cast<const std::byte*>(from), from_strides, reinterpret_cast<std::byte*>(to),
                          to_strides, shape, sizeof(To));
    return;
  }
  const RowWalk<2> walk(shape, {&from_strides, &to_strides});
  const Index n = walk.row_length(), in = walk.inner_stride(0), out = walk.inner_stride(1);
  walk.run(0, walk.rows(), [&](const std::array<Index, 2>& at) {
    const From* source = from + at[0];
    To* target = to + at[1];
    if (in == 1 && out == 1) {
      for (Index i = 0; i < n; ++i) target[i] = convert<To>(source[i]);
    } else {
      for (Index i = 0; i < n; ++i) target[i * out] = convert<To>(source[i * in]);
    }
  });
}

/// `shape` with its -1, if any, replaced so that it holds `size` elements.
Shape resolve_shape(const char* op, const Shape& from, Shape shape) {
  const Index size = count(from);
  int open = -1;
  Index known = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == -1) {
      if (open >= 0) fail<ShapeError>("[", op, "] only one length may be -1, got ", shape);
      open = axis;
    } else if (shape[axis] < 0 || __builtin_mul_overflow(known, shape[axis], &known)) {
      fail<ShapeError>("[", op, "] ", from, " cannot become ", shape);
    }
  }
  if (open >= 0) {
    if (known == 0 || size % known != 0)
      fail<ShapeError>("[", op, "] no length in place of -1 makes ", shape, " hold the ", size, " elements of ", from);
    shape[open] = size / known;
    known = size;
  }
  if (known != size) fail<ShapeError>("[", op, "] ", from, " has ", size, " elements, ", shape, " would have ", known);
  return shape;
}

/// Strides with which `shape` shows the same elements in the same order; false if none exist.
bool strides_for_view(const Shape& from, const Dims& strides, const Shape& shape, Dims& result) {
  result = row_major(shape);
  if (count(from) == 0) return true;
  int axis = from.rank() - 1, out = shape.rank() - 1;
  while (axis >= 0 || out >= 0) {
    while (axis >= 0 && from[axis] == 1) --axis;
    while (out >= 0 && shape[out] == 1) --out;
    if (axis < 0 || out < 0) break;
    // One group: axes of `from` that run through each other, against axes of `shape` with the same product.
    Index have = from[axis], want = shape[out], stride = strides[axis];
    result[out] = stride;
    while (have != want) {
      if (have < want) {
        do --axis;
        while (from[axis] == 1);
        if (strides[axis] != stride * have) return false;
        have *= from[axis];
      } else {
        do --out;
        while (shape[out] == 1);
        result[out] = stride * want;
        want *= shape[out];
      }
    }
    --axis;
    --out;
  }
  return true;
}

void check_same_shape(const char* op, const Shape& a, const Shape& b) {
  if (!(a == b)) fail<ShapeError>("[", op, "] shapes differ: ", a, " and ", b);
}

}  // namespace

// --- making ---------------------------------------------------------------------------------------------------------

Tensor Tensor::empty(const Shape& shape, DType type) {
  const Index n = checked_count(shape);
  Index bytes;
  if (__builtin_mul_overflow(n, size_of(type), &bytes))
    fail<ShapeError>("[empty] a tensor of shape ", shape, " would need more than 2^63 bytes");
  Tensor result;
  result.storage_ = StoragePtr(Storage::take(static_cast<std::uint64_t>(bytes)));
  result.data_ = result.storage_->data();
  result.type_ = type;
  result.shape_ = shape;
  result.strides_ = row_major(shape);
  return result;
}

Tensor Tensor::zeros(const Shape& shape, DType type) {
  Tensor result = empty(shape, type);
  std::memset(result.write_bytes("zeros"), 0, static_cast<std::size_t>(result.size() * size_of(type)));
  return result;
}

Tensor Tensor::ones(const Shape& shape, DType type) { return full(shape, 1, type); }

Tensor Tensor::full(const Shape& shape, double value, DType type) {
  Tensor result = empty(shape, type);
  result.fill(value, "full");
  return result;
}

Tensor Tensor::arange(double start, double stop, double step, DType type) {
  if (step == 0 || std::isnan(step)) fail<ConfigError>("[arange] the step must not be ", step);
  const double steps = std::max(std::ceil((stop - start) / step), 0.);
  if (!(steps < 9e18)) fail<ShapeError>("[arange] no finite number of steps from ", start, " to ", stop, " by ", step);
  Tensor result = empty({static_cast<Index>(steps)}, type);
  dispatch(type, [&]<class T>() {
    T* out = result.write<T>("arange");
    for (Index i = 0; i < result.size(); ++i) out[i] = convert<T>(start + step * static_cast<double>(i));
  });
  return result;
}

Tensor Tensor::linspace(double first, double last, Index n, DType type) {
  Tensor result = empty({n}, type);
  const bool far = std::isfinite(first) && std::isfinite(last) && !std::isfinite(last - first);
  dispatch(type, [&]<class T>() {
    T* out = result.write<T>("linspace");
    for (Index i = 0; i < n; ++i) {
      const double share = n > 1 ? static_cast<double>(i) / static_cast<double>(n - 1) : 0;
      const double value = far ? first * (1 - share) + last * share : first + (last - first) * share;
      out[i] = convert<T>(i + 1 == n && n > 1 ? last : value);
    }
  });
  return result;
}

Tensor Tensor::eye(Index n, DType type) {
  Tensor result = zeros({n, n}, type);
  dispatch(type, [&]<class T>() {
    T* out = result.write<T>("eye");
    for (Index i = 0; i < n; ++i) out[i * (n + 1)] = T(1);
  });
  return result;
}

Tensor Tensor::from(const std::vector<bool>& values, const Shape& shape) {
  if (static_cast<Index>(values.size()) != checked_count(shape))
    fail<ShapeError>("[tensor] ", values.size(), " values do not fill the shape ", shape);
  Tensor result = empty(shape, DType::boolean);
  std::copy(values.begin(), values.end(), result.write<bool>("from"));
  return result;
}

Tensor Tensor::borrow(void* values, Index size, const Shape& shape, DType type, std::shared_ptr<void> owner) {
  if (size != checked_count(shape)) fail<ShapeError>("[borrow] ", size, " values do not fill the shape ", shape);
  Tensor result;
  result.storage_ = StoragePtr(Storage::take(0));
  result.storage_->keep_alive = std::move(owner);
  result.data_ = values ? static_cast<std::byte*>(values) : result.storage_->data();  // an empty vector has none
  result.type_ = type;
  result.shape_ = shape;
  result.strides_ = row_major(shape);
  return result;
}

Tensor Tensor::packed(const Shape& shape, DType type, std::unique_ptr<const Packed> representation) {
  checked_count(shape);
  Tensor result;
  result.storage_ = StoragePtr(Storage::take(0));
  result.storage_->packed = std::move(representation);
  result.type_ = type;
  result.shape_ = shape;
  result.strides_ = row_major(shape);
  return result;
}

// --- values ---------------------------------------------------------------------------------------------------------

void Tensor::refuse_access(DType type) const {
  if (!storage_)
    fail<ConfigError>("[tensor] an undefined tensor has no values. Hint: was it moved from, or never set?");
  if (storage_->packed)
    fail<ConfigError>("[tensor] the weight of shape ", shape_, " is packed (", storage_->packed->describe(),
                      "); its values cannot be read or written in place. Hint: .densify()");
  fail<DTypeError>("[tensor] holds ", type_, ", asked for ", type, ". Hint: .to(DType::", type, ")");
}

std::byte* Tensor::write_bytes(const char* op) {
  check_access(type_);
  ++storage_->version;
  storage_->writer = op;
  return data_;
}

std::byte* Tensor::write_bytes_with_others(const char* op) {
  check_access(type_);
  const std::uint32_t version = __atomic_load_n(&storage_->version, __ATOMIC_RELAXED);
  __atomic_store_n(&storage_->version, version + 1, __ATOMIC_RELAXED);
  __atomic_store_n(&storage_->writer, op, __ATOMIC_RELAXED);
  return data_;
}

double Tensor::item() const {
  if (!defined() || size() != 1) fail<ShapeError>("[item] needs exactly one element, got shape ", shape_);
  return dispatch(type_, [&]<class T>() { return static_cast<double>(*data<T>()); });
}

double Tensor::at(std::initializer_list<Index> position) const {
  if (static_cast<int>(position.size()) != rank())
    fail<IndexError>("[at] ", position.size(), " positions for shape ", shape_);
  Index offset = 0;
  int axis = 0;
  for (Index i : position) {
    const Index n = shape_[axis];
    if (i < -n || i >= n) fail<IndexError>("[at] position ", i, " on axis ", axis, " of shape ", shape_);
    offset += (i < 0 ? i + n : i) * strides_[axis++];
  }
  return dispatch(type_, [&]<class T>() { return static_cast<double>(data<T>()[offset]); });
}

void Tensor::copy_from(const Tensor& from, const char* op) {
  check_same_shape(op, shape_, from.shape_);
  // Overlapping views of one storage: read everything before the first write.
  const bool overlaps = shares_storage(from) && !(data_ == from.data_ && strides_ == from.strides_);
  const Tensor source = overlaps ? from.clone() : from;
  dispatch(source.type_, [&]<class From>() {
    const From* in = source.data<From>();
    dispatch(type_, [&]<class To>() { copy_strided(in, source.strides_, write<To>(op), strides_, shape_); });
  });
}

void Tensor::fill(double value, const char* op) {
  dispatch(type_, [&]<class T>() {
    T* out = write<T>(op);
    const T typed = convert<T>(value);
    const RowWalk<1> walk(shape_, {&strides_});
    const Index n = walk.row_length(), stride = walk.inner_stride(0);
    walk.run(0, walk.rows(), [&](const std::array<Index, 1>& at) {
      if (stride == 1) {
        std::fill_n(out + at[0], n, typed);
      } else {
        for (Index i = 0; i < n; ++i) out[at[0] + i * stride] = typed;
      }
    });
  });
}

// --- copies ---------------------------------------------------------------------------------------------------------

Tensor Tensor::clone() const {
  if (packed()) return *this;  // immutable
  Tensor result = empty(shape_, type_);
  dispatch(type_,
           [&]<class T>() { copy_strided(data<T>(), strides_, result.write<T>("clone"), result.strides_, shape_); });
  return result;
}

Tensor Tensor::contiguous() const { return contiguous_ ? *this : clone(); }

Tensor Tensor::to(DType type) const {
  if (type == type_) return *this;
  if (packed())
    fail<DTypeError>("[to] the weight of shape ", shape_, " is packed as ", type_,
                     ". Hint: densify() it, convert, and compact anew");
  Tensor result = empty(shape_, type);
  result.copy_from(*this, "to");
  return result;
}

Tensor Tensor::densify() const { return packed() ? packed()->densify() : *this; }

// --- views ----------------------------------------------------------------------------------------------------------

void Tensor::set_layout(const Shape& shape, const Dims& strides) {
  shape_ = shape;
  strides_ = strides;
  contiguous_ = true;
  Index run = 1;
  for (int axis = shape.rank(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != run) contiguous_ = false;
    run *= shape[axis];
  }
  if (run == 0) contiguous_ = true;  // nothing to be out of order
  if (contiguous_) strides_ = row_major(shape);
}

Tensor Tensor::as_strided(const Shape& shape, const Dims& strides, Index offset) const {
  if (packed()) refuse_access(type_);
  Tensor result = *this;
  result.data_ += offset * size_of(type_);
  result.set_layout(shape, strides);
  return result;
}

Tensor Tensor::view(const Shape& shape) const {
  const Shape resolved = resolve_shape("view", shape_, shape);
  Dims strides;
  if (!strides_for_view(shape_, strides_, resolved, strides))
    fail<ShapeError>("[view] no strides show the tensor of shape ", shape_, " and strides ", strides_, " as ", resolved,
                     ". Hint: reshape() copies where it must");
  return as_strided(resolved, strides);
}

Tensor Tensor::reshape(const Shape& shape) const {
  const Shape resolved = resolve_shape("reshape", shape_, shape);
  Dims strides;
  if (strides_for_view(shape_, strides_, resolved, strides)) return as_strided(resolved, strides);
  return clone().as_strided(resolved, row_major(resolved));
}

Tensor Tensor::flatten(int first_axis, int last_axis) const {
  const int first = named_axis("flatten", first_axis, rank()), last = named_axis("flatten", last_axis, rank());
  if (first > last) fail<IndexError>("[flatten] axis ", first_axis, " lies behind axis ", last_axis);
  if (rank() == 0) return reshape({1});
  Shape shape;
  for (int axis = 0; axis < rank(); ++axis) {
    if (axis > first && axis <= last)
      shape[-1] *= shape_[axis];
    else
      shape.push_back(shape_[axis]);
  }
  return reshape(shape);
}

Tensor Tensor::transpose(int axis_a, int axis_b) const {
  const int a = named_axis("transpose", axis_a, rank()), b = named_axis("transpose", axis_b, rank());
  if (a == b) return *this;
  Shape shape = shape_;
  Dims strides = strides_;
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return as_strided(shape, strides);
}

Tensor Tensor::permute(const Dims& axes) const {
  if (axes.rank() != rank()) fail<ShapeError>("[permute] ", axes, " does not name every axis of shape ", shape_);
  Shape shape;
  Dims strides;
  unsigned seen = 0;
  for (Index named : axes) {
    const int axis = checked_axis("permute", static_cast<int>(std::clamp<Index>(named, -99, 99)), rank());
    if (seen >> axis & 1) fail<IndexError>("[permute] ", axes, " names axis ", axis, " twice");
    seen |= 1u << axis;
    shape.push_back(shape_[axis]);
    strides.push_back(strides_[axis]);
  }
  return as_strided(shape, strides);
}

Tensor Tensor::slice(int axis, Index start, Index stop, Index step) const {
  const int at = checked_axis("slice", axis, rank());
  if (step < 1) fail<ConfigError>("[slice] the step must be at least 1, got ", step);
  const Index n = shape_[at];
  auto clamped = [n](Index i) { return std::clamp<Index>(i < 0 ? i + n : i, 0, n); };
  const Index first = clamped(start), last = std::max(first, clamped(stop));
  Shape shape = shape_;
  Dims strides = strides_;
  shape[at] = (last - first) / step + ((last - first) % step != 0);
  if (shape[at] > 1) strides[at] *= step;  // with fewer elements the step may be anything
  return as_strided(shape, strides, shape[at] == 0 ? 0 : first * strides_[at]);
}

Tensor Tensor::narrow(int axis, Index start, Index length) const {
  const int at = checked_axis("narrow", axis, rank());
  const Index n = shape_[at], first = start < 0 ? start + n : start;
  if (length < 0 || first < 0 || first > n || length > n - first)
    fail<IndexError>("[narrow] ", length, " elements from ", start, " on axis ", axis, " of shape ", shape_);
  return slice(at, first, first + length);
}

Tensor Tensor::select(int axis, Index index) const {
  const int at = checked_axis("select", axis, rank());
  const Index n = shape_[at];
  if (index < -n || index >= n) fail<IndexError>("[select] index ", index, " on axis ", axis, " of shape ", shape_);
  Shape shape = shape_;
  Dims strides = strides_;
  shape.erase(at);
  strides.erase(at);
  return as_strided(shape, strides, (index < 0 ? index + n : index) * strides_[at]);
}

Tensor Tensor::squeeze() const {
  Shape shape;
  Dims strides;
  for (int axis = 0; axis < rank(); ++axis) {
    if (shape_[axis] == 1) continue;
    shape.push_back(shape_[axis]);
    strides.push_back(strides_[axis]);
  }
  return as_strided(shape, strides);
}

Tensor Tensor::squeeze(int axis) const {
  const int at = named_axis("squeeze", axis, rank());
  return rank() > 0 && shape_[at] == 1 ? select(at, 0) : *this;
}

Tensor Tensor::unsqueeze(int axis) const {
  const int at = checked_axis("unsqueeze", axis, rank() + 1);
  Shape shape = shape_;
  Dims strides = strides_;
  shape.insert(at, 1);
  strides.insert(at, 1);
  return as_strided(shape, strides);
}

Tensor Tensor::broadcast_to(const Shape& shape) const {
  checked_count(shape);
  const int added = shape.rank() - rank();
  Dims strides;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const Index own = axis < added ? 1 : shape_[axis - added];
    if (added < 0 || (own != 1 && own != shape[axis]))
      fail<ShapeError>("[broadcast_to] ", shape_, " does not broadcast to ", shape);
    strides.push_back(own == 1 ? 0 : strides_[axis - added]);
  }
  if (added < 0) fail<ShapeError>("[broadcast_to] ", shape_, " has more axes than ", shape);
  return as_strided(shape, strides);
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  if (a == b) [[likely]]
    return a;
  Shape result = a.rank() >= b.rank() ? a : b;
  const Shape& other = a.rank() >= b.rank() ? b : a;
  const int added = result.rank() - other.rank();
  for (int axis = 0; axis < other.rank(); ++axis) {
    Index& length = result[axis + added];
    if (length == 1)
      length = other[axis];
    else if (other[axis] != 1 && other[axis] != length)
      fail<ShapeError>("[", op, "] shapes do not broadcast: a ", a, ", b ", b,
                       "; counted from the last, each pair of lengths must be equal or one of them 1");
  }
  return result;
}

// --- comparing ------------------------------------------------------------------------------------------------------

namespace {
/// True if same(a[i], b[i]) for all i.
template <class Same>
bool all_of_pairs(const Tensor& a, const Tensor& b, Same same) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  return dispatch(a.dtype(), [&]<class T>() {
    const Tensor left = a.contiguous(), right = b.contiguous();
    const T *x = left.data<T>(), *y = right.data<T>();
    for (Index i = 0; i < left.size(); ++i)
      if (!same(x[i], y[i])) return false;
    return true;
  });
}
}  // namespace

bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  return all_of_pairs(a, b, [&](auto left, auto right) {
    const double x = static_cast<double>(left), y = static_cast<double>(right);
    if (x == y) return true;  // infinities of one sign too
    if (std::isnan(x) && std::isnan(y)) return equal_nan;
    return std::isfinite(x) && std::isfinite(y) && std::abs(x - y) <= atol + rtol * std::abs(y);
  });
}

bool equal(const Tensor& a, const Tensor& b) {
  return all_of_pairs(a, b, [](auto x, auto y) { return x == y; });
}

}  // namespace espalier
