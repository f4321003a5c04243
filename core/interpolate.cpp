#include "espalier/core/interpolate.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "espalier/core/kernels/resize.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using kernels::RowSums;

/// The matrix that resizes an axis, or its transpose: value i is the sum of weight x[from] over its taps, begin[i] up to
/// begin[i + 1].
template <class T>
struct Taps {
  Index n, inputs;
  std::vector<Index> begin, from;
  std::vector<T> weight;
  Index count(Index i) const { return begin[at(i) + 1] - begin[at(i)]; }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  explicit Taps(const Resize& r) : n(r.to), inputs(r.from) {
    begin.reserve(at(n) + 1);
    begin.push_back(0);
    for (Index i = 0; i < n; ++i) {
      const Resize::Place p = r.place(i);
      const T share = static_cast<T>(p.share), rest = T(1) - share;
      for (const auto& [place, part] : {std::pair(p.low, rest), std::pair(p.low + 1, share)}) {
        if (part == 0) continue;
        from.push_back(place);
        weight.push_back(part);
      }
      begin.push_back(static_cast<Index>(from.size()));
    }
  }

  Taps transposed() const {
    Taps t;
    t.n = inputs;
    t.inputs = n;
    t.begin.assign(at(inputs) + 1, 0);
    for (Index k : from) ++t.begin[at(k) + 1];
    for (std::size_t k = 0; k < at(inputs); ++k) t.begin[k + 1] += t.begin[k];
    std::vector<Index> next = t.begin;
    t.from.resize(from.size());
    t.weight.resize(weight.size());
    for (Index i = 0; i < n; ++i) {
      for (Index k = begin[at(i)]; k < begin[at(i) + 1]; ++k) {
        const auto to = at(next[at(from[at(k)])]++);
        t.from[to] = i;
        t.weight[to] = weight[at(k)];
      }
    }
    return t;
  }

  /// Every value is the input of the same place.
  bool is_identity() const {
    if (n != inputs) return false;
    for (Index i = 0; i < n; ++i)
      if (!is_copy(i) || from[at(begin[at(i)])] != i) return false;
    return true;
  }
  bool is_copy(Index i) const { return count(i) == 1 && weight[at(begin[at(i)])] == 1; }

 private:
  Taps() = default;
};

/// The same sums laid out for vectors.
template <class T>
RowSums<T> row_sums(const Taps<T>& taps) {
  using Offset = typename RowSums<T>::Offset;
  const Index lanes = kernels::resize<T>().lanes, vectors = (taps.n + lanes - 1) / lanes;
  RowSums<T> s;
  s.n = taps.n;
  s.inputs = taps.inputs;
  s.copies = true;
  s.near = true;
  for (Index i = 0; i < taps.n; ++i) {
    s.taps = std::max(s.taps, taps.count(i));
    s.copies = s.copies && taps.is_copy(i);
  }
  const auto cells = static_cast<std::size_t>(vectors * s.taps);
  s.base.assign(cells, 0);
  s.offset.assign(cells * static_cast<std::size_t>(lanes), 0);
  s.weight.assign(s.offset.size(), T(0));
  for (Index v = 0; v < vectors; ++v) {
    for (Index t = 0; t < s.taps; ++t) {
      const Index last = std::min(taps.n, (v + 1) * lanes);
      Index low = taps.inputs - 1, high = 0;
      auto each = [&](auto&& f) {
        for (Index i = v * lanes; i < last; ++i)
          if (t < taps.count(i)) f(i - v * lanes, Taps<T>::at(taps.begin[Taps<T>::at(i)] + t));
      };
      each([&](Index, std::size_t k) {
        low = std::min(low, taps.from[k]);
        high = std::max(high, taps.from[k]);
      });
      low = std::max<Index>(0, std::min(low, taps.inputs - lanes));
      if (high - low >= lanes) s.near = false;
      const Index cell = v * s.taps + t;
      s.base[static_cast<std::size_t>(cell)] = low;
      each([&](Index lane, std::size_t k) {
        const auto to = static_cast<std::size_t>(cell * lanes + lane);
        s.offset[to] = static_cast<Offset>(taps.from[k] - low);
        s.weight[to] = taps.weight[k];
      });
    }
  }
  return s;
}

/// x as [planes, rows.inputs, columns] becomes y, [planes, rows.n, columns or sums->n]: each row of y is a sum of rows
/// of x, then resized itself by `sums` if there are any.
template <class T>
void resize_planes(const T* x, Index planes, const Taps<T>& rows, Index columns, const RowSums<T>* sums, T* y) {
  const auto& kernel = kernels::resize<T>();
  const Index width = sums ? sums->n : columns, work = std::max({width, columns, Index{1}});
  parallel_for(planes * rows.n, std::max<Index>(1, (Index{1} << 15) / work), [&](Index begin, Index end) {
    std::vector<T> buffer(sums ? static_cast<std::size_t>(columns) : 0);
    for (Index k = begin; k < end; ++k) {
      const T* plane = x + k / rows.n * rows.inputs * columns;
      const Index i = k % rows.n;
      const auto first = Taps<T>::at(rows.begin[Taps<T>::at(i)]);
      T* to = y + k * width;
      if (!sums || !rows.is_copy(i)) {
        T* sum = sums ? buffer.data() : to;
        kernel.sum_of_rows(plane, rows.from.data() + first, rows.weight.data() + first, rows.count(i), columns, sum);
      }
      if (sums) kernel.row_sums(rows.is_copy(i) ? plane + rows.from[first] * columns : buffer.data(), *sums, to);
    }
  });
}

/// x with a matrix applied to each of its last axes; to the last two at once.
template <class T>
Tensor apply(const char* op, const Tensor& x, const std::vector<Taps<T>>& axes) {
  static const Taps<T> single(Resize{Interpolation::nearest, 1, 1, 1, 1, false});
  Tensor y;
  auto pass = [&](const Taps<T>& rows, Index columns, const RowSums<T>* sums, const Shape& shape) {
    const Tensor from = y.defined() ? std::move(y) : x.contiguous();
    y = Tensor::empty(shape, x.dtype());
    const Index planes = from.size() / (rows.inputs * columns);
    resize_planes<T>(from.data<T>(), planes, rows, columns, sums, y.write<T>(op));
  };
  const std::size_t last = axes.size() - 1;
  const RowSums<T> in_rows = axes[last].is_identity() ? RowSums<T>() : row_sums(axes[last]);
  const RowSums<T>* sums = in_rows.n > 0 ? &in_rows : nullptr;
  Shape shape = x.shape();
  const int first = x.rank() - static_cast<int>(axes.size());
  for (std::size_t k = 0; k < last; ++k) {
    const int axis = first + static_cast<int>(k);
    const bool joined = sums && k + 1 == last;
    if (!joined && axes[k].is_identity()) continue;
    Index columns = 1;
    for (int a = axis + 1; a < x.rank(); ++a) columns *= shape[a];
    shape[axis] = axes[k].n;
    if (joined) shape[axis + 1] = in_rows.n;
    pass(axes[k], columns, joined ? sums : nullptr, shape);
  }
  if (sums && last == 0) {
    const Index columns = shape[-1];
    shape[-1] = in_rows.n;
    pass(single, columns, sums, shape);
  }
  return y.defined() ? y : x.clone();
}

Tensor apply(const char* op, const Tensor& x, std::span<const Resize> axes, bool adjoint) {
  Tensor y;
  dispatch_floating("interpolate", x.dtype(), [&]<class T>() {
    std::vector<Taps<T>> all;
    for (const Resize& r : axes) all.push_back(adjoint ? Taps<T>(r).transposed() : Taps<T>(r));
    y = apply<T>(op, x, all);
  });
  return y;
}

}  // namespace

Resize::Place Resize::place(Index i) const noexcept {
  const auto in_inputs = [this](double at) { return at * inputs / outputs; };
  const auto at = static_cast<double>(i);
  const Index last = from - 1;
  if (mode == Interpolation::nearest) return {std::min(static_cast<Index>(std::floor(in_inputs(at))), last), 0};
  const double x = align_corners ? in_inputs(at) : std::max(0.0, in_inputs(at + 0.5) - 0.5);
  const Index low = std::min(static_cast<Index>(x), last);
  return {low, low == last ? 0 : x - static_cast<double>(low)};
}

Tensor resize(const Tensor& x, std::span<const Resize> axes) { return apply("interpolate", x, axes, false); }

Tensor resize_adjoint(const Tensor& g, std::span<const Resize> axes) {
  return apply("interpolate_adjoint", g, axes, true);
}

}  // namespace espalier
