#include "espalier/core/pool.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "espalier/core/detail/pool_rows.h"
#include "espalier/core/kernels/pool.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using Window = PoolGeometry::Window;

/// Planes of some 16 Ki elements' work for a thread.
Index grain_of(const PoolGeometry& g) {
  const Index work = std::max(
      {g.size[0] * g.size[1], g.result[0] * g.result[1] * std::min<Index>(g.kernel[0] * g.kernel[1], 64), Index{1}});
  return std::max<Index>(1, (Index{1} << 14) / work);
}
/// Adaptive windows of one size, side by side, are windows like any other.
PoolGeometry regular(PoolGeometry g) {
  if (!g.adaptive || g.size[0] % g.result[0] != 0 || g.size[1] % g.result[1] != 0) return g;
  g.adaptive = false;
  for (std::size_t a = 0; a < 2; ++a) g.kernel[a] = g.stride[a] = g.size[a] / g.result[a];
  g.dilation = {1, 1};
  g.before = {};
  return g;
}
/// Windows of one or two whole rows, and of pairs of columns side by side.
bool takes_pairs(const PoolGeometry& g) {
  return !g.adaptive && g.kernel[0] <= 2 && g.kernel[1] == 2 && g.stride[1] == 2 &&
         g.dilation == PoolGeometry::Pair{1, 1} && g.before == PoolGeometry::Pair{} &&
         (g.result[0] - 1) * g.stride[0] + g.kernel[0] <= g.size[0] && 2 * g.result[1] <= g.size[1];
}
/// Whose adjoint writes pairs of rows.
bool is_pairs(const PoolGeometry& g) { return takes_pairs(g) && g.kernel[0] == 2 && g.stride[0] == 2; }
bool fits_bytes(const PoolGeometry& g) { return g.kernel[0] * g.kernel[1] <= 256; }

/// Calls f.operator()<Place>() with the type of the places.
template <class F>
void with_places(const Tensor& places, F&& f) {
  if (places.dtype() == DType::u8)
    f.template operator()<std::uint8_t>();
  else
    f.template operator()<std::int32_t>();
}

/// Where the places of windows lie in the image.
class Positions {
 public:
  explicit Positions(const PoolGeometry& g) {
    for (std::size_t a = 0; a < 2; ++a)
      for (Index i = 0; i < g.result[a]; ++i) begin_[a].push_back(g.begin(a, i) * (a == 0 ? g.size[1] : 1));
    for (Index u = 0; u < g.kernel[0]; ++u)
      for (Index v = 0; v < g.kernel[1]; ++v) inside_.push_back(u * g.dilation[0] * g.size[1] + v * g.dilation[1]);
  }
  /// Calls f(output position, image position) for every output of a plane.
  template <class Place, class F>
  void each(const Place* places, F&& f) const {
    Index at = 0;
    for (const Index row : begin_[0])
      for (const Index column : begin_[1]) {
        f(at, row + column + inside_[static_cast<std::size_t>(places[at])]);
        ++at;
      }
  }

 private:
  std::vector<Index> begin_[2], inside_;
};

template <class T, class Place>
void max_plane(const PoolGeometry& g, const T* x, T* y, Place* places) {
  for (Index i = 0; i < g.result[0]; ++i) {
    const Window rows = g.window(0, i);
    for (Index j = 0; j < g.result[1]; ++j) {
      const Window columns = g.window(1, j);
      T best = x[rows.begin * g.size[1] + columns.begin];
      const Index first = (columns.begin - g.begin(1, j)) / g.dilation[1];
      Index row_place = (rows.begin - g.begin(0, i)) / g.dilation[0] * g.kernel[1] + first, place = row_place;
      for (Index u = rows.begin; u < rows.end; u += g.dilation[0], row_place += g.kernel[1]) {
        const T* row = x + u * g.size[1];
        Index here = row_place;
        for (Index v = columns.begin; v < columns.end; v += g.dilation[1], ++here) {
          if (!(row[v] > best) && !(std::isnan(row[v]) && !std::isnan(best))) continue;
          best = row[v];
          place = here;
        }
      }
      *y++ = best;
      *places++ = static_cast<Place>(place);
    }
  }
}

double divisor_of(const PoolGeometry& g, const Window& rows, const Window& columns) {
  return g.divisor != 0 ? g.divisor : static_cast<double>(rows.length * columns.length);
}

}  // namespace

Index PoolGeometry::begin(std::size_t a, Index i) const noexcept {
  return adaptive ? i * size[a] / result[a] : i * stride[a] - before[a];
}

PoolGeometry::Window PoolGeometry::window(std::size_t a, Index i) const noexcept {
  Index begin = this->begin(a, i);
  if (adaptive) {
    const Index end = ((i + 1) * size[a] + result[a] - 1) / result[a];
    return {begin, end, end - begin};
  }
  const Index padded_end = std::min(begin + (kernel[a] - 1) * dilation[a] + 1, size[a] + before[a]);
  const Index end = std::min(padded_end, size[a]), length = padded_end - begin;
  if (begin < 0) begin += (-begin + dilation[a] - 1) / dilation[a] * dilation[a];
  return {begin, end, count_padding ? length : end - begin};
}

MaxPool max_pool(const Tensor& x, const Shape& y_shape, const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  const Tensor from = x.contiguous();
  MaxPool out{Tensor::empty(y_shape, x.dtype()), Tensor::empty(y_shape, fits_bytes(g) ? DType::u8 : DType::i32)};
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  dispatch_floating("max_pool", x.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = out.values.write<T>("max_pool");
    with_places(out.places, [&]<class Place>() {
      Place* places = out.places.write<Place>("max_pool");
      if (!takes_pairs(g) && detail::pools_by_rows<T>(g)) {
        parallel_for(g.planes * g.result[0], detail::rows_grain(g),
                     [&](Index begin, Index end) { detail::max_pool_rows(g, source, begin, end, target, places); });
        return;
      }
      parallel_for(g.planes, grain_of(g), [&](Index begin, Index end) {
        for (Index p = begin; p < end; ++p) {
          const T* plane = source + p * image;
          if constexpr (std::is_same_v<Place, std::uint8_t>) {
            if (takes_pairs(g)) {
              for (Index i = 0; i < g.result[0]; ++i) {
                const T* top = plane + i * g.stride[0] * g.size[1];
                const Index to = p * pixels + i * g.result[1];
                kernels::pool<T>().max_pairs(top, top + (g.kernel[0] - 1) * g.size[1], g.result[1], target + to,
                                             places + to);
              }
              continue;
            }
          }
          max_plane(g, plane, target + p * pixels, places + p * pixels);
        }
      });
    });
  });
  return out;
}

Tensor max_pool_pick(const Tensor& x, const Tensor& places, const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  const Tensor from = x.contiguous();
  const Positions positions(g);
  Tensor y = Tensor::empty(places.shape(), x.dtype());
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  dispatch_floating("max_pool", x.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = y.write<T>("max_pool");
    with_places(places, [&]<class Place>() {
      const Place* place = places.data<Place>();
      parallel_for(g.planes, grain_of(g), [&](Index begin, Index end) {
        for (Index p = begin; p < end; ++p)
          positions.each(place + p * pixels,
                         [&](Index to, Index at) { target[p * pixels + to] = source[p * image + at]; });
      });
    });
  });
  return y;
}

Tensor max_pool_spread(const Tensor& gradient, const Tensor& places, const Shape& x_shape,
                       const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  const Tensor from = gradient.contiguous();
  Tensor x = Tensor::empty(x_shape, gradient.dtype());
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  const bool pairs = is_pairs(g) && places.dtype() == DType::u8;
  const Positions positions(g);
  dispatch_floating("max_pool", gradient.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = x.write<T>("max_pool_spread");
    with_places(places, [&]<class Place>() {
      const Place* place = places.data<Place>();
      parallel_for(g.planes, grain_of(g), [&](Index begin, Index end) {
        for (Index p = begin; p < end; ++p) {
          T* plane = target + p * image;
          const bool covered = pairs && 2 * g.result[0] == g.size[0] && 2 * g.result[1] == g.size[1];
          if (!covered) std::fill_n(plane, image, T(0));
          if constexpr (std::is_same_v<Place, std::uint8_t>) {
            if (pairs) {
              for (Index i = 0; i < g.result[0]; ++i)
                kernels::pool<T>().spread_pairs(source + p * pixels + i * g.result[1],
                                                place + p * pixels + i * g.result[1], g.result[1],
                                                plane + 2 * i * g.size[1], plane + (2 * i + 1) * g.size[1]);
              continue;
            }
          }
          positions.each(place + p * pixels, [&](Index to, Index at) { plane[at] += source[p * pixels + to]; });
        }
      });
    });
  });
  return x;
}

Tensor max_pool_indices(const Tensor& places, const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  Tensor y = Tensor::empty(places.shape(), DType::i64);
  auto* target = y.write<std::int64_t>("max_pool_indices");
  const Positions positions(g);
  const Index pixels = g.result[0] * g.result[1];
  with_places(places, [&]<class Place>() {
    const Place* place = places.data<Place>();
    for (Index p = 0; p < g.planes; ++p)
      positions.each(place + p * pixels, [&](Index to, Index at) { target[p * pixels + to] = at; });
  });
  return y;
}

Tensor avg_pool(const Tensor& x, const Shape& y_shape, const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  const Tensor from = x.contiguous();
  Tensor y = Tensor::empty(y_shape, x.dtype());
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  dispatch_floating("avg_pool", x.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = y.write<T>("avg_pool");
    if (detail::pools_by_rows<T>(g)) {
      parallel_for(g.planes * g.result[0], detail::rows_grain(g),
                   [&](Index begin, Index end) { detail::avg_pool_rows(g, source, begin, end, target); });
      return;
    }
    parallel_for(g.planes, grain_of(g), [&](Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        const T* plane = source + p * image;
        T* to = target + p * pixels;
        for (Index i = 0; i < g.result[0]; ++i) {
          const Window rows = g.window(0, i);
          for (Index j = 0; j < g.result[1]; ++j) {
            const Window columns = g.window(1, j);
            const Index width = columns.end - columns.begin;
            double sum = 0;
            if (width == g.size[1]) {  // whole rows are one run
              sum = kernels::reduce<T>().sum(plane + rows.begin * width, (rows.end - rows.begin) * width);
            } else {
              for (Index u = rows.begin; u < rows.end; ++u)
                for (Index v = columns.begin; v < columns.end; ++v)
                  sum += static_cast<double>(plane[u * g.size[1] + v]);
            }
            *to++ = static_cast<T>(sum / divisor_of(g, rows, columns));
          }
        }
      }
    });
  });
  return y;
}

Tensor avg_pool_spread(const Tensor& gradient, const Shape& x_shape, const PoolGeometry& geometry) {
  const PoolGeometry g = regular(geometry);
  const Tensor from = gradient.contiguous();
  Tensor x = Tensor::empty(x_shape, gradient.dtype());
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  dispatch_floating("avg_pool", gradient.dtype(), [&]<class T>() {
    const T* source = from.data<T>();
    T* target = x.write<T>("avg_pool_spread");
    if (detail::pools_by_rows<T>(g)) {
      parallel_for(g.planes * g.size[0], detail::rows_grain(g),
                   [&](Index begin, Index end) { detail::avg_pool_spread_rows(g, source, begin, end, target); });
      return;
    }
    const bool whole = g.result == PoolGeometry::Pair{1, 1} && g.kernel == g.size && g.before == PoolGeometry::Pair{};
    parallel_for(g.planes, grain_of(g), [&](Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        T* plane = target + p * image;
        const T* value = source + p * pixels;
        if (whole) {  // one value for all
          std::fill_n(plane, image,
                      static_cast<T>(static_cast<double>(*value) / divisor_of(g, g.window(0, 0), g.window(1, 0))));
          continue;
        }
        std::fill_n(plane, image, T(0));
        for (Index i = 0; i < g.result[0]; ++i) {
          const Window rows = g.window(0, i);
          for (Index j = 0; j < g.result[1]; ++j) {
            const Window columns = g.window(1, j);
            const T share = static_cast<T>(static_cast<double>(*value++) / divisor_of(g, rows, columns));
            for (Index u = rows.begin; u < rows.end; ++u)
              for (Index v = columns.begin; v < columns.end; ++v) plane[u * g.size[1] + v] += share;
          }
        }
      }
    });
  });
  return x;
}

}  // namespace espalier
