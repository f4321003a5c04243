#include "espalier/core/patches.h"

#include <algorithm>

#include "espalier/core/parallel.h"

namespace espalier {
namespace {

/// Windows [first, last) of an axis whose tap `tap` lies inside of the image, and where the first one's lies.
struct Reach {
  Index first, last, at;
};
Reach reach(const PatchGeometry& g, std::size_t a, Index tap) {
  const Index shift = tap * g.dilation[a] - g.before[a];
  const Index first = shift >= 0 ? 0 : (-shift + g.stride[a] - 1) / g.stride[a];
  const Index last = g.size[a] <= shift ? 0 : (g.size[a] - shift - 1) / g.stride[a] + 1;
  return {std::min(first, g.result[a]), std::clamp(last, std::min(first, g.result[a]), g.result[a]),
          first * g.stride[a] + shift};
}

/// Calls f(tap's row of the columns, window row, its row in the plane, horizontal reach) for all that lie inside.
template <class F>
void each_run(const PatchGeometry& g, F&& f) {
  for (Index a = 0; a < g.kernel[0]; ++a) {
    const Reach down = reach(g, 0, a);
    for (Index b = 0; b < g.kernel[1]; ++b) {
      const Reach across = reach(g, 1, b);
      for (Index i = down.first; i < down.last; ++i)
        f((a * g.kernel[1] + b) * g.windows() + i * g.result[1], (down.at + (i - down.first) * g.stride[0]) * g.size[1],
          across);
    }
  }
}

Index grain_of(const PatchGeometry& g) {
  const Index work = std::max<Index>(1, g.kernel[0] * g.kernel[1] * g.windows());
  return std::max<Index>(1, (Index{1} << 14) / work);
}

}  // namespace

Tensor unfold(const Tensor& x, const Shape& shape, const PatchGeometry& g) {
  const Tensor from = x.contiguous();
  Tensor columns = Tensor::empty(shape, x.dtype());
  const Index image = g.size[0] * g.size[1], block = g.kernel[0] * g.kernel[1] * g.windows();
  dispatch_floating("unfold", x.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = columns.write<T>("unfold");
    parallel_for(g.images * g.channels, grain_of(g), [&](Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        const T* plane = source + p * image;
        T* to = target + p * block;
        std::fill_n(to, block, T(0));
        each_run(g, [&](Index row, Index line, const Reach& r) {
          for (Index j = r.first; j < r.last; ++j) to[row + j] = plane[line + r.at + (j - r.first) * g.stride[1]];
        });
      }
    });
  });
  return columns;
}

Tensor fold(const Tensor& columns, const Shape& shape, const PatchGeometry& g) {
  const Tensor from = columns.contiguous();
  Tensor x = Tensor::empty(shape, columns.dtype());
  const Index image = g.size[0] * g.size[1], block = g.kernel[0] * g.kernel[1] * g.windows();
  dispatch_floating("fold", columns.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = x.write<T>("fold");
    parallel_for(g.images * g.channels, grain_of(g), [&](Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        T* plane = target + p * image;
        const T* column = source + p * block;
        std::fill_n(plane, image, T(0));
        each_run(g, [&](Index row, Index line, const Reach& r) {
          for (Index j = r.first; j < r.last; ++j) plane[line + r.at + (j - r.first) * g.stride[1]] += column[row + j];
        });
      }
    });
  });
  return x;
}

}  // namespace espalier
