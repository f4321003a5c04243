// Tensor: a strided view on counted storage. It knows nothing of gradients.
//
//   Tensor a = Tensor::zeros({3, 4});              // f32 unless told otherwise
//   Tensor b = a.transpose(0, 1);                  // a view: same storage, no copy
//   float* p = a.write<float>("fill by hand");     // write access is named, so that versions are reliable
//
// Copying a Tensor copies the handle, not the values; clone() copies the values. Every operation takes tensors of
// size 0. Element types and shapes that do not match are errors, never promotions.
#pragma once

#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/core/dims.h"
#include "espalier/core/dtype.h"
#include "espalier/core/storage.h"

namespace espalier {

class Tensor {
 public:
  /// Undefined: holds nothing, and every access is an error.
  Tensor() noexcept = default;

  // --- making ------------------------------------------------------------------------------------------------------
  // Errors of all: ShapeError for a negative length or a count beyond 63 bits; std::bad_alloc.
  static Tensor empty(const Shape& shape, DType type = DType::f32);  ///< uninitialised
  static Tensor zeros(const Shape& shape, DType type = DType::f32);
  static Tensor ones(const Shape& shape, DType type = DType::f32);
  static Tensor full(const Shape& shape, double value, DType type = DType::f32);
  /// start, start + step, ... below `stop` (above it for a negative step). Errors: ConfigError for step 0.
  static Tensor arange(double start, double stop, double step = 1, DType type = DType::f32);
  /// `n` values from `first` to `last`, both included.
  static Tensor linspace(double first, double last, Index n, DType type = DType::f32);
  static Tensor eye(Index n, DType type = DType::f32);  ///< the identity matrix [n, n]
  static Tensor scalar(double value, DType type = DType::f32) { return full({}, value, type); }

  /// A copy of `values` in row-major order. Errors: ShapeError if the count differs from the shape's.
  template <Element T>
  static Tensor from(std::span<const T> values, const Shape& shape);
  template <Element T>
  static Tensor from(const std::vector<T>& values, const Shape& shape) {
    return from(std::span<const T>(values), shape);
  }
  static Tensor from(const std::vector<bool>& values, const Shape& shape);
  template <Element T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape) {
    return from(std::span<const T>(values.begin(), values.size()), shape);
  }
  /// [n]
  template <Element T>
  static Tensor from(std::initializer_list<T> values) {
    return from(values, {static_cast<Index>(values.size())});
  }
  /// No copy: the tensor reads and writes `values`, which must outlive it, or be kept alive by `owner`.
  template <Element T>
  static Tensor borrow(std::span<T> values, const Shape& shape, std::shared_ptr<void> owner = nullptr) {
    return borrow(values.data(), static_cast<Index>(values.size()), shape, dtype_of<T>, std::move(owner));
  }
  /// A weight in a sparse representation.
  static Tensor packed(const Shape& shape, DType type, std::unique_ptr<const Packed> representation);

  // --- looking -----------------------------------------------------------------------------------------------------
  bool defined() const noexcept { return static_cast<bool>(storage_); }
  const Shape& shape() const noexcept { return shape_; }
  const Dims& strides() const noexcept { return strides_; }  ///< in elements
  int rank() const noexcept { return shape_.rank(); }
  Index size() const noexcept { return count(shape_); }  ///< number of elements
  /// Length of an axis; negative ones count from the last. Errors: IndexError.
  Index dim(int axis) const { return shape_[checked_axis("dim", axis, rank())]; }
  DType dtype() const noexcept { return type_; }
  bool is_contiguous() const noexcept { return contiguous_; }  ///< dense row-major
  const Packed* packed() const noexcept { return storage_ && !data_ ? storage_->packed.get() : nullptr; }
  std::uint32_t version() const noexcept { return storage_ ? storage_->version : 0; }
  const char* writer() const noexcept { return storage_ ? storage_->writer : "nothing"; }
  /// True if no other tensor shares the storage, so that it may be reused.
  bool sole_owner() const noexcept { return storage_ && storage_.unique(); }
  bool shares_storage(const Tensor& other) const noexcept { return storage_ == other.storage_; }
  /// Asks for the cache line that writing, copying and dropping the tensor touch.
  void prefetch() const noexcept { storage_.prefetch(); }

  // --- values ------------------------------------------------------------------------------------------------------
  /// First element, to be read with strides(). Errors: DTypeError; ConfigError for undefined or packed storage.
  template <Element T>
  const T* data() const {
    check_access(dtype_of<T>);
    return reinterpret_cast<const T*>(data_);
  }
  /// The same for writing: raises the version and leaves `op`, a string literal, as the writer's name.
  template <Element T>
  T* write(const char* op) {
    check_access(dtype_of<T>);
    ++storage_->version;
    storage_->writer = op;
    return reinterpret_cast<T*>(data_);
  }
  /// First byte, whatever the element type; for copying and files. Errors as data().
  const std::byte* bytes() const {
    check_access(type_);
    return data_;
  }
  std::byte* write_bytes(const char* op);
  /// The same where other threads do so with tensors of the same storage: of all they raise the version by, one is sure.
  std::byte* write_bytes_with_others(const char* op);

  /// The only element, as double. Errors: ShapeError for any other size.
  double item() const;
  /// Element at these positions, as double; negative ones count from the end. Errors: IndexError.
  double at(std::initializer_list<Index> position) const;
  /// All elements in row-major order. Errors: DTypeError.
  template <Element T>
  std::vector<T> to_vector() const;

  /// Copies the values of `from` (same shape, any element type) into this view. Errors: ShapeError.
  void copy_from(const Tensor& from, const char* op = "copy_from");
  void fill(double value, const char* op = "fill");

  // --- copies ------------------------------------------------------------------------------------------------------
  Tensor clone() const;       ///< contiguous copy with storage of its own
  Tensor contiguous() const;  ///< this, if it is contiguous, else a clone
  /// Converted values; this, if the type is the same. Float to integer truncates toward zero; NaN becomes 0 and what
  /// is out of range the nearest bound; to bool is != 0.
  Tensor to(DType type) const;
  Tensor densify() const;  ///< packed: the dense weight; else this

  // --- views: same storage, no copy ----------------------------------------------------------------------------------
  /// Any strided window, unchecked beyond the element type: `offset` in elements from the first.
  Tensor as_strided(const Shape& shape, const Dims& strides, Index offset = 0) const;
  /// Same elements in row-major order in another shape; one length may be -1. Copies if no view can do it.
  Tensor reshape(const Shape& shape) const;
  /// As reshape, but a ShapeError where that would copy.
  Tensor view(const Shape& shape) const;
  Tensor flatten(int first_axis = 0, int last_axis = -1) const;
  Tensor transpose(int axis_a, int axis_b) const;
  Tensor t() const { return transpose(-2, -1); }  ///< matrix transpose
  Tensor permute(const Dims& axes) const;
  /// Elements start, start + step, ... below stop along `axis`. Negative positions count from the end and all are
  /// clamped as Python's slices are. Errors: ConfigError for step < 1.
  Tensor slice(int axis, Index start, Index stop, Index step = 1) const;
  /// `length` elements from `start`. Errors: IndexError if they do not exist.
  Tensor narrow(int axis, Index start, Index length) const;
  Tensor select(int axis, Index index) const;  ///< drops the axis
  Tensor squeeze() const;                      ///< drops all axes of length 1
  Tensor squeeze(int axis) const;              ///< drops the axis if its length is 1
  Tensor unsqueeze(int axis) const;            ///< puts an axis of length 1 before `axis`, in [-rank-1, rank]
  /// Repeats axes of length 1, and leading ones, with stride 0. Errors: ShapeError.
  Tensor broadcast_to(const Shape& shape) const;

  /// At most 1,000 elements in full, beyond that the three first and last of each axis, as NumPy prints.
  std::string to_string() const;

 private:
  static Tensor borrow(void* values, Index size, const Shape& shape, DType type, std::shared_ptr<void> owner);
  void check_access(DType type) const {
    if (!storage_ || !data_ || type_ != type) [[unlikely]]
      refuse_access(type);
  }
  [[noreturn]] void refuse_access(DType type) const;
  void set_layout(const Shape& shape, const Dims& strides);

  StoragePtr storage_;
  std::byte* data_ = nullptr;  // null if packed
  DType type_ = DType::f32;
  bool contiguous_ = true;
  Shape shape_;
  Dims strides_;
};

std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

/// True if shapes and types match and |a - b| <= atol + rtol |b| everywhere. NaN equals NaN only if `equal_nan`.
bool allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false);
/// True if shapes, types and all values are the same (NaN differs from NaN).
bool equal(const Tensor& a, const Tensor& b);
/// The shape both broadcast to, NumPy's rule. Errors: ShapeError, which names `op` and both shapes.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

// --- templates -------------------------------------------------------------------------------------------------------

template <Element T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape) {
  if (static_cast<Index>(values.size()) != checked_count(shape))
    fail<ShapeError>("[tensor] ", values.size(), " values do not fill the shape ", shape);
  Tensor result = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), result.write<T>("from"));
  return result;
}

template <Element T>
std::vector<T> Tensor::to_vector() const {
  const Tensor dense = contiguous();
  const T* first = dense.data<T>();
  return std::vector<T>(first, first + size());
}

}  // namespace espalier
