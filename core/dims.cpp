#include "espalier/core/dims.h"

#include <ostream>

namespace espalier {

Index checked_count(const Shape& shape) {
  Index n = 1;
  bool empty = false;
  for (Index length : shape) {
    if (length < 0) fail<ShapeError>("[shape] a negative length in ", shape);
    if (length == 0)
      empty = true;  // the other lengths may be anything that fits by itself
    else if (__builtin_mul_overflow(n, length, &n))
      fail<ShapeError>("[shape] the number of elements of ", shape, " does not fit in 63 bits");
  }
  return empty ? 0 : n;
}

Dims row_major(const Shape& shape) noexcept {
  Dims strides = shape;
  Index run = 1;
  for (int axis = shape.rank(); axis-- > 0;) {
    strides[axis] = run;
    run *= shape[axis];
  }
  return strides;
}

int checked_axis(const char* op, int axis, int rank) {
  if (axis < -rank || axis >= rank) [[unlikely]] {
    if (rank == 0) fail<IndexError>("[", op, "] axis ", axis, " of a scalar, which has none");
    fail<IndexError>("[", op, "] axis ", axis, " is outside [", -rank, ", ", rank - 1, "]");
  }
  return axis < 0 ? axis + rank : axis;
}

void append(std::string& text, const Dims& dims) {
  text += '[';
  for (int axis = 0; axis < dims.rank(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(dims[axis]);
  }
  text += ']';
}

std::ostream& operator<<(std::ostream& out, const Dims& dims) {
  std::string text;
  append(text, dims);
  return out << text;
}

}  // namespace espalier
