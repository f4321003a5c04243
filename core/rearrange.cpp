#include "espalier/core/rearrange.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "espalier/core/detail/groups.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"

namespace espalier {
namespace {

using detail::Groups;
using detail::groups_along;

void check_some(const char* op, std::span<const Tensor> pieces) {
  if (pieces.empty()) fail<ShapeError>("[", op, "] needs at least one tensor");
  for (const Tensor& piece : pieces) check_same_dtype(op, pieces[0], piece);
}

bool is_nothing(const Tensor& x) { return x.rank() == 1 && x.shape()[0] == 0; }

/// Elements begin, begin + step, ... of x go to `to`, to + 1, ...
struct Run {
  Index to, from, length, step;
};
std::vector<Run> runs_of(std::span<const Index> places) {
  std::vector<Run> runs;
  for (Index j = 0; const Index place : places) {
    if (!runs.empty()) {
      Run& last = runs.back();
      const Index step = place - (last.from + (last.length - 1) * last.step);
      if (last.length == 1 ? step == 1 || step == -1 : step == last.step) {
        last.step = step;
        ++last.length;
        ++j;
        continue;
      }
    }
    runs.push_back({j++, place, 1, 1});
  }
  return runs;
}

/// Where each of 0 ... length - 1 stands among the places; nothing, if one is not there exactly once.
std::vector<Index> inverse_of(std::span<const Index> places, Index length) {
  std::vector<Index> inverse;
  if (static_cast<Index>(places.size()) != length) return inverse;
  inverse.assign(places.size(), -1);
  for (Index j = 0; const Index place : places) {
    Index& found = inverse[static_cast<std::size_t>(place)];
    if (found >= 0) return {};
    found = j++;
  }
  return inverse;
}

}  // namespace

Tensor concatenated(std::span<const Tensor> pieces, int axis) {
  check_some("cat", pieces);
  const Tensor* first = &pieces[0];
  for (const Tensor& piece : pieces)
    if (is_nothing(*first)) first = &piece;
  const int at = checked_axis("cat", axis, first->rank());
  Shape shape = first->shape();
  shape[at] = 0;
  for (Index k = 0; const Tensor& piece : pieces) {
    if (!is_nothing(piece) || first->rank() == 1) {
      bool fits = piece.rank() == shape.rank();
      for (int a = 0; a < shape.rank() && fits; ++a) fits = a == at || piece.shape()[a] == shape[a];
      if (!fits)
        fail<ShapeError>("[cat] tensor ", k, " of shape ", piece.shape(), " does not fit ", first->shape(),
                         " along axis ", axis, ". Hint: all other axes must be equal");
      shape[at] += piece.shape()[at];
    }
    ++k;
  }
  Tensor y = Tensor::empty(shape, first->dtype());
  for (Index begin = 0; const Tensor& piece : pieces) {
    if (is_nothing(piece)) continue;
    y.narrow(at, begin, piece.shape()[at]).copy_from(piece, "cat");
    begin += piece.shape()[at];
  }
  return y;
}

Tensor stacked(std::span<const Tensor> pieces, int axis) {
  check_some("stack", pieces);
  const int at = checked_axis("stack", axis, pieces[0].rank() + 1);
  Shape shape = pieces[0].shape();
  shape.insert(at, static_cast<Index>(pieces.size()));
  Tensor y = Tensor::empty(shape, pieces[0].dtype());
  for (Index k = 0; const Tensor& piece : pieces) {
    if (!(piece.shape() == pieces[0].shape()))
      fail<ShapeError>("[stack] tensor ", k, " of shape ", piece.shape(), " differs from the first, ",
                       pieces[0].shape(), ". Hint: cat() joins along an axis that is there already");
    y.select(at, k++).copy_from(piece, "stack");
  }
  return y;
}

Tensor take_axis(const Tensor& x, std::span<const Index> places, int axis) {
  const int at = checked_axis("take_axis", axis, x.rank());
  for (const Index place : places)
    if (place < 0 || place >= x.shape()[at])
      fail<IndexError>("[take_axis] place ", place, " on axis ", axis, " of shape ", x.shape());
  const Groups g = groups_along(x, at);
  const auto m = static_cast<Index>(places.size());
  Shape shape = x.shape();
  shape[at] = m;
  Tensor y = Tensor::empty(shape, x.dtype());
  if (y.size() == 0) return y;
  const std::vector<Run> runs = runs_of(places);
  dispatch(x.dtype(), [&]<class T>() {
    const T* p = g.x.data<T>();
    T* out = y.write<T>("take_axis");
    // One job is a stretch of places, in one outer position.
    const Index stretch = std::max<Index>(1, detail::tile_elements / g.inner), stretches = (m + stretch - 1) / stretch;
    parallel_for(
        g.outer * stretches, detail::rows_per_chunk(std::min(m, stretch) * g.inner), [&](Index begin, Index end) {
          for (Index job = begin; job < end; ++job) {
            const Index o = job / stretches, first = job % stretches * stretch, last = std::min(m, first + stretch);
            const T* from = p + o * g.n * g.inner;
            T* to = out + o * m * g.inner;
            auto run =
                std::upper_bound(runs.begin(), runs.end(), first, [](Index j, const Run& r) { return j < r.to; }) - 1;
            for (Index j = first; j < last; ++run) {
              const Index length = std::min(last, run->to + run->length) - j;
              const Index source = run->from + (j - run->to) * run->step;
              if (run->step == 1) {
                std::memcpy(to + j * g.inner, from + source * g.inner,
                            static_cast<std::size_t>(length * g.inner) * sizeof(T));
              } else if (g.inner == 1) {
                for (Index k = 0; k < length; ++k) to[j + k] = from[source - k];
              } else {
                for (Index k = 0; k < length; ++k)
                  std::memcpy(to + (j + k) * g.inner, from + (source - k) * g.inner,
                              static_cast<std::size_t>(g.inner) * sizeof(T));
              }
              j += length;
            }
          }
        });
  });
  return y;
}

Tensor add_axis(const Tensor& g, std::span<const Index> places, Index length, int axis) {
  const int at = checked_axis("add_axis", axis, g.rank());
  const Groups from = groups_along(g, at);
  if (static_cast<Index>(places.size()) != from.n)
    fail<ShapeError>("[add_axis] ", places.size(), " places for axis ", axis, " of shape ", g.shape());
  for (const Index place : places)
    if (place < 0 || place >= length) fail<IndexError>("[add_axis] place ", place, " of ", length);
  if (const std::vector<Index> inverse = inverse_of(places, length); !inverse.empty()) return take_axis(g, inverse, at);
  Shape shape = g.shape();
  shape[at] = length;
  Tensor y = Tensor::zeros(shape, g.dtype());
  if (y.size() == 0 || g.size() == 0) return y;
  const std::vector<Run> runs = runs_of(places);
  dispatch_floating("add_axis", g.dtype(), [&]<class T>() {
    const T* p = from.x.data<T>();
    T* out = y.write<T>("add_axis");
    const auto add = kernels::binary().add.get<T>().vv;
    // Strips of the inner axis, so that no two jobs write to one element, and each is added to in the order of places.
    const Index width = std::min<Index>(from.inner, detail::tile_elements);
    const Index strips = (from.inner + width - 1) / width;
    parallel_for(from.outer * strips, detail::rows_per_chunk(from.n * width), [&](Index begin, Index end) {
      for (Index job = begin; job < end; ++job) {
        const Index o = job / strips, first = job % strips * width, size = std::min(width, from.inner - first);
        const T* source = p + o * from.n * from.inner + first;
        T* target = out + o * length * from.inner + first;
        for (const Run& run : runs) {
          if (from.inner == 1 && run.step == 1) {
            add(target + run.from, source + run.to, target + run.from, run.length, T(0), T(0));
            continue;
          }
          if (from.inner == 1) {  // down: turned round in small pieces, which the kernel then adds
            std::array<T, 256> turned;
            for (Index k = 0; k < run.length;) {
              const Index some = std::min<Index>(run.length - k, 256);
              std::reverse_copy(source + run.to + k, source + run.to + k + some, turned.begin());
              k += some;
              T* row = target + run.from - k + 1;
              add(row, turned.data(), row, some, T(0), T(0));
            }
            continue;
          }
          for (Index k = 0; k < run.length; ++k) {
            T* row = target + (run.from + k * run.step) * from.inner;
            const T* added = source + (run.to + k) * from.inner;
            add(row, added, row, size, T(0), T(0));
          }
        }
      }
    });
  });
  return y;
}

Tensor padded(const Tensor& x, std::span<const Index> pads, double value) {
  if (pads.size() % 2 != 0 || static_cast<int>(pads.size()) > 2 * x.rank())
    fail<ShapeError>("[pad] ", pads.size(), " pads for shape ", x.shape(),
                     "; they are pairs (before, behind), from the last axis on. Hint: {left, right, top, bottom}");
  Shape shape = x.shape();
  for (std::size_t k = 0; k < pads.size(); ++k) {
    Index& length = shape[-1 - static_cast<int>(k / 2)];
    if (__builtin_add_overflow(length, pads[k], &length))
      fail<ShapeError>("[pad] shape ", x.shape(), " and a pad of ", pads[k], ": no Index holds such a length");
  }
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (shape[axis] < 0)
      fail<ShapeError>("[pad] axis ", axis, " of shape ", x.shape(), " would have the length ", shape[axis]);
  Tensor y = Tensor::empty(shape, x.dtype());
  if (y.size() == 0) return y;
  if (x.rank() == 0) return x.clone();
  // Along each axis: `before` places are added, `kept` are copied from place `cut` on, what is left is added.
  struct Axis {
    Index before = 0, kept = 0, cut = 0, stride = 0;
  };
  std::array<Axis, Shape::max_rank> axes;
  const Tensor from = x.rank() == 0 || x.strides()[-1] == 1 ? x : x.contiguous();
  for (int axis = 0; axis < x.rank(); ++axis) {
    const auto k = static_cast<std::size_t>(2 * (x.rank() - 1 - axis));
    const Index n = x.shape()[axis], m = shape[axis], low = k < pads.size() ? pads[k] : 0;
    Axis& a = axes[static_cast<std::size_t>(axis)];
    a.cut = std::clamp<Index>(-low, 0, n);
    a.before = std::clamp<Index>(low, 0, m);
    a.kept = std::max<Index>(0, std::min(n - a.cut, m - a.before));
    a.stride = from.strides()[axis];
  }
  const int last = x.rank() - 1;
  const Axis& along = axes[static_cast<std::size_t>(last)];
  const Tensor typed = Tensor::full({}, value, x.dtype());
  const Index width = shape[last], rows = y.size() / width;
  dispatch(x.dtype(), [&]<class T>() {
    const T* p = from.data<T>();
    T* out = y.write<T>("pad");
    const T filler = *typed.data<T>();
    // Adds where a plane comes from by the axes before `end`; false if it is added itself.
    auto find = [&](Index row, int end, Index& offset) {
      bool inside = true;
      for (int axis = end; axis-- > 0; row /= shape[axis]) {
        const Axis& a = axes[static_cast<std::size_t>(axis)];
        const Index place = row % shape[axis] - a.before;
        inside = inside && place >= 0 && place < a.kept;
        offset += (place + a.cut) * a.stride;
      }
      return inside;
    };
    const int second = std::max(0, last - 1);
    const Index height = last > 0 ? shape[second] : 1;
    parallel_for(rows, detail::rows_per_chunk(width), [&](Index begin, Index end) {
      for (Index row = begin; row < end;) {  // what the outer axes say holds for the rows of a plane
        const Index first = row % height, stop = std::min(end, row - first + height);
        Index plane = along.cut;
        const bool inside = find(row / height, second, plane);
        const Axis across = last > 0 ? axes[static_cast<std::size_t>(second)] : Axis{.kept = 1};
        for (Index place = first - across.before; row < stop; ++row, ++place) {
          T* const to = out + row * width;
          const bool here = inside && place >= 0 && place < across.kept;
          const Index before = here ? along.before : width, kept = here ? along.kept : 0;
          for (Index i = 0; i < before; ++i) to[i] = filler;
          if (kept > 0) std::copy_n(p + plane + (place + across.cut) * across.stride, kept, to + before);
          for (Index i = before + kept; i < width; ++i) to[i] = filler;
        }
      }
    });
  });
  return y;
}

namespace {

Tensor triangle(const char* op, const Tensor& x, Index diagonal, bool lower) {
  if (x.rank() < 2) fail<ShapeError>("[", op, "] needs at least two axes, got ", x.shape());
  const Tensor dense = x.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  const Index rows = x.shape()[-2], cols = x.shape()[-1];
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const T* from = dense.data<T>();
    T* to = y.write<T>(op);
    if (y.size() == 0) return;
    parallel_for(y.size() / cols, detail::rows_per_chunk(cols), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        // Columns below `split` are the left part of the row.
        const Index limit = std::clamp<Index>(diagonal, -rows - 1, cols + 1);
        const Index split = std::clamp<Index>(r % rows + limit + (lower ? 1 : 0), 0, cols);
        const T* source = from + r * cols;
        T* target = to + r * cols;
        if (lower) {
          std::copy_n(source, split, target);
          std::fill_n(target + split, cols - split, T(0));
        } else {
          std::fill_n(target, split, T(0));
          std::copy_n(source + split, cols - split, target + split);
        }
      }
    });
  });
  return y;
}

}  // namespace

Tensor tril(const Tensor& x, Index diagonal) { return triangle("tril", x, diagonal, true); }
Tensor triu(const Tensor& x, Index diagonal) { return triangle("triu", x, diagonal, false); }

Tensor diagonal(const Tensor& x, Index offset, int axis_a, int axis_b) {
  const int a = checked_axis("diagonal", axis_a, x.rank()), b = checked_axis("diagonal", axis_b, x.rank());
  if (a == b) fail<IndexError>("[diagonal] axes ", axis_a, " and ", axis_b, " of shape ", x.shape(), " are one");
  const Index rows = x.shape()[a], cols = x.shape()[b];
  const Index near = std::clamp(offset, -rows, cols);  // the least Index has no negative
  const Index down = std::max<Index>(-near, 0), across = std::max<Index>(near, 0);
  const Index length = std::min(rows - down, cols - across);
  Shape shape;
  Dims strides;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (axis == a || axis == b) continue;
    shape.push_back(x.shape()[axis]);
    strides.push_back(x.strides()[axis]);
  }
  shape.push_back(length);
  strides.push_back(x.strides()[a] + x.strides()[b]);
  return x.as_strided(shape, strides, length == 0 ? 0 : down * x.strides()[a] + across * x.strides()[b]);
}

}  // namespace espalier
