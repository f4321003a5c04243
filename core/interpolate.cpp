#include "espalier/core/interpolate.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/parallel.h"

namespace espalier {
namespace {

/// As [outer, length, inner].
struct Blocks {
  Blocks(const Shape& shape, int axis) : length(shape[axis]) {
    for (int a = 0; a < axis; ++a) outer *= shape[a];
    for (int a = axis + 1; a < shape.rank(); ++a) inner *= shape[a];
  }
  Index outer = 1, length, inner = 1;
};
Index grain_of(const Blocks& b) {
  return std::max<Index>(1, (Index{1} << 15) / std::max<Index>(1, b.length * b.inner));
}

}  // namespace

Resize::Place Resize::place(Index i) const noexcept {
  const auto at = static_cast<double>(i);
  const Index last = from - 1;
  if (mode == Interpolation::nearest) {
    const Index low = std::min(static_cast<Index>(std::floor(at * step)), last);
    return {low, low, 0};
  }
  const double x = align_corners ? at * step : std::max(0.0, (at + 0.5) * step - 0.5);
  const Index low = std::min(static_cast<Index>(x), last);
  return {low, std::min(low + 1, last), std::clamp(x - static_cast<double>(low), 0.0, 1.0)};
}

Tensor resize(const Tensor& x, int axis, const Resize& r) {
  const Tensor from = x.contiguous();
  Shape shape = x.shape();
  shape[axis] = r.to;
  Tensor y = Tensor::empty(shape, x.dtype());
  const Blocks b(shape, axis);
  dispatch_floating("interpolate", x.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = y.write<T>("interpolate");
    parallel_for(b.outer, grain_of(b), [&](Index begin, Index end) {
      for (Index i = 0; i < r.to; ++i) {
        const Resize::Place p = r.place(i);
        const T share = static_cast<T>(p.share), rest = T(1) - share;
        for (Index o = begin; o < end; ++o) {
          const T *low = source + (o * r.from + p.low) * b.inner, *high = source + (o * r.from + p.high) * b.inner;
          T* to = target + (o * r.to + i) * b.inner;
          if (p.share == 0) {
            std::copy_n(low, b.inner, to);
            continue;
          }
          for (Index k = 0; k < b.inner; ++k) to[k] = rest * low[k] + share * high[k];
        }
      }
    });
  });
  return y;
}

Tensor resize_adjoint(const Tensor& g, int axis, const Resize& r) {
  const Tensor from = g.contiguous();
  Shape shape = g.shape();
  shape[axis] = r.from;
  Tensor x = Tensor::empty(shape, g.dtype());
  const Blocks b(g.shape(), axis);
  dispatch_floating("interpolate", g.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = x.write<T>("interpolate_adjoint");
    parallel_for(b.outer, grain_of(b), [&](Index begin, Index end) {
      std::fill_n(target + begin * r.from * b.inner, (end - begin) * r.from * b.inner, T(0));
      for (Index i = 0; i < r.to; ++i) {
        const Resize::Place p = r.place(i);
        const T share = static_cast<T>(p.share), rest = T(1) - share;
        for (Index o = begin; o < end; ++o) {
          T *low = target + (o * r.from + p.low) * b.inner, *high = target + (o * r.from + p.high) * b.inner;
          const T* value = source + (o * r.to + i) * b.inner;
          for (Index k = 0; k < b.inner; ++k) low[k] += rest * value[k];
          if (p.share == 0) continue;
          for (Index k = 0; k < b.inner; ++k) high[k] += share * value[k];
        }
      }
    });
  });
  return x;
}

}  // namespace espalier
