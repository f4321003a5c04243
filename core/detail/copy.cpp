#include "espalier/core/detail/copy.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "espalier/core/kernels/transpose.h"
#include "espalier/core/parallel.h"
#include "espalier/core/walk.h"

namespace espalier::detail {
namespace {

constexpr Index grain = Index{1} << 15;  // elements that a thread takes at a time
constexpr Index short_row = 16;

/// The axis on which `strides` step by one, other than the last; -1 if there is none.
int unit_axis(const Shape& shape, const Dims& strides) {
  for (int axis = shape.rank() - 1; axis-- > 0;)
    if (strides[axis] == 1 && shape[axis] > 1) return axis;
  return -1;
}

/// to[..., j, i] <- from[..., i, j], where from steps by one along `inner_from` and to along `inner_to`.
template <class T>
void copy_transposed(const T* from, const Dims& from_strides, T* to, const Dims& to_strides, const Shape& shape,
                     int inner_from, int inner_to) {
  const Index rows = shape[inner_to], cols = shape[inner_from];
  const Index from_step = from_strides[inner_to], to_step = to_strides[inner_from];
  const Index block = std::max<Index>(16, grain / rows / 16 * 16), blocks = (cols + block - 1) / block;
  Index matrices = 1;
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (axis != inner_from && axis != inner_to) matrices *= shape[axis];
  parallel_for(
      matrices * blocks, std::max<Index>(1, grain / (rows * std::min(block, cols))), [&](Index begin, Index end) {
        for (Index job = begin; job < end; ++job) {
          const T* x = from;
          T* y = to;
          Index rest = job / blocks;
          for (int axis = shape.rank(); axis-- > 0;) {
            if (axis == inner_from || axis == inner_to) continue;
            x += rest % shape[axis] * from_strides[axis];
            y += rest % shape[axis] * to_strides[axis];
            rest /= shape[axis];
          }
          const Index first = job % blocks * block;
          kernels::transpose(x + first, rows, std::min(block, cols - first), from_step, y + first * to_step, to_step);
        }
      });
}

/// Axes of length 1 left out, and neighbours joined that run through each other on both sides.
void merge_axes(Shape& shape, Dims& a, Dims& b) {
  int rank = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    const int last = rank - 1;
    if (rank > 0 && a[last] == a[axis] * shape[axis] && b[last] == b[axis] * shape[axis]) {
      shape[last] *= shape[axis];
      a[last] = a[axis];
      b[last] = b[axis];
    } else {
      shape[rank] = shape[axis];
      a[rank] = a[axis];
      b[rank++] = b[axis];
    }
  }
  while (shape.rank() > rank)
    for (Dims* dims : {&shape, &a, &b}) dims->erase(dims->rank() - 1);
}

/// Short rows, where a call for each would take longer than its copy: the last two axes are one loop.
template <class T>
void copy_short_rows(const T* from, Dims from_strides, T* to, Dims to_strides, Shape shape) {
  const int last = shape.rank() - 1;
  const Index n = shape[last], in = from_strides[last], out = to_strides[last], rows = count(shape) / n;
  for (Dims* dims : {&shape, &from_strides, &to_strides}) dims->erase(last);
  const RowWalk<2> planes(shape, {&from_strides, &to_strides});
  const Index height = planes.row_length(), from_step = planes.inner_stride(0), to_step = planes.inner_stride(1);
  parallel_for(rows, std::max<Index>(1, grain / n), [&](Index begin, Index end) {
    Index row = begin;
    planes.run(begin / height, (end - 1) / height + 1, [&](const std::array<Index, 2>& at) {
      const Index first = row % height, some = std::min(height - first, end - row);
      row += some;
      const auto copy = [&](auto in_step, auto out_step, auto length) {
        const T* source = from + at[0] + first * from_step;
        T* target = to + at[1] + first * to_step;
        for (Index r = 0; r < some; ++r, source += from_step, target += to_step)
          for (Index i = 0; i < length; ++i) target[i * out_step] = source[i * in_step];
      };
      constexpr std::integral_constant<Index, 0> stays;
      constexpr std::integral_constant<Index, 1> next;
      if (in == 0 && out == 1 && n == 2)
        copy(stays, next, std::integral_constant<Index, 2>());
      else if (in == 0 && out == 1 && n == 3)
        copy(stays, next, std::integral_constant<Index, 3>());
      else if (in == 0 && out == 1)
        copy(stays, next, n);
      else if (in == 1 && out == 1)
        copy(next, next, n);
      else
        copy(in, out, n);
    });
  });
}

template <class T>
void copy(const T* from, Dims from_strides, T* to, Dims to_strides, Shape shape) {
  if (count(shape) == 0) return;
  merge_axes(shape, from_strides, to_strides);
  const RowWalk<2> walk(shape, {&from_strides, &to_strides});
  const Index n = walk.row_length(), in = walk.inner_stride(0), out = walk.inner_stride(1);
  if constexpr (std::is_floating_point_v<T>) {
    if (in != out && (in == 1 || out == 1) && n > 1) {
      const int last = shape.rank() - 1;
      const int other = unit_axis(shape, out == 1 ? from_strides : to_strides);
      if (other >= 0) {
        const int inner_from = out == 1 ? other : last, inner_to = out == 1 ? last : other;
        if (from_strides[inner_to] >= shape[inner_from] && to_strides[inner_from] >= shape[inner_to]) {
          copy_transposed(from, from_strides, to, to_strides, shape, inner_from, inner_to);
          return;
        }
      }
    }
  }
  if (n < short_row && shape.rank() > 1) return copy_short_rows(from, from_strides, to, to_strides, shape);
  const auto copy_row = [in, out](const T* source, T* target, Index length) {
    if (in == 1 && out == 1)
      std::memcpy(target, source, static_cast<std::size_t>(length) * sizeof(T));
    else if (in == 0 && out == 1)
      std::fill_n(target, length, *source);
    else
      for (Index i = 0; i < length; ++i) target[i * out] = source[i * in];
  };
  if (walk.rows() == 1) {
    Index from_offset = 0, to_offset = 0;
    walk.run(0, 1, [&](const std::array<Index, 2>& at) {
      from_offset = at[0];
      to_offset = at[1];
    });
    parallel_for(n, grain, [&](Index begin, Index end) {
      copy_row(from + from_offset + begin * in, to + to_offset + begin * out, end - begin);
    });
    return;
  }
  parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
    walk.run(begin, end, [&](const std::array<Index, 2>& at) { copy_row(from + at[0], to + at[1], n); });
  });
}

}  // namespace

void copy_elements(const std::byte* from, const Dims& from_strides, std::byte* to, const Dims& to_strides,
                   const Shape& shape, std::size_t element_size) {
  const auto as = [&]<class T>() {  // a copy of bits: which type of this size they are of does not matter
    copy(reinterpret_cast<const T*>(from), from_strides, reinterpret_cast<T*>(to), to_strides, shape);
  };
  if (element_size == 4)
    as.template operator()<float>();
  else if (element_size == 8)
    as.template operator()<double>();
  else
    as.template operator()<std::uint8_t>();
}

}  // namespace espalier::detail
