#include "espalier/autograd/ops/interpolate.h"

#include <cmath>
#include <vector>

namespace espalier {
namespace {

/// Of the axes behind the first two.
using Sizes = std::vector<Resize>;

Variable stretch(const Variable& x, const Sizes& sizes);
Variable gather_back(const Variable& g, const Sizes& sizes) {
  Tensor x = resize_adjoint(g.value(), sizes);
  if (!recording(g)) return x;
  return record("interpolate", std::move(x), {&g}, [=](const Variable& h, Wants) { return stretch(h, sizes); });
}
Variable stretch(const Variable& x, const Sizes& sizes) {
  Tensor y = resize(x.value(), sizes);
  if (!recording(x)) return y;
  return record("interpolate", std::move(y), {&x}, [=](const Variable& g, Wants) { return gather_back(g, sizes); });
}

/// Bilinear weights are products: each axis is resized by itself.
Variable along_all(const Variable& x, const Dims& size, double scale, Interpolation mode,
                   const InterpolateOptions& options) {
  Sizes sizes;
  for (int axis = 2; axis < x.rank(); ++axis) {
    const Index from = x.shape()[axis], to = size[axis - 2];
    if (from < 1 || to < 1)
      fail<ShapeError>("[interpolate] x ", x.shape(), " cannot become ", size, "; no length may be 0");
    double inputs = scale > 0 ? 1 : static_cast<double>(from), outputs = scale > 0 ? scale : static_cast<double>(to);
    if (options.align_corners && mode == Interpolation::linear) {
      inputs = to > 1 ? static_cast<double>(from - 1) : 0;
      outputs = to > 1 ? static_cast<double>(to - 1) : 1;
    }
    sizes.push_back({mode, from, to, inputs, outputs, options.align_corners});
  }
  return stretch(x, sizes);
}

void check_image(const Variable& x) {
  if (x.rank() < 3) fail<ShapeError>("[interpolate] x ", x.shape(), " must be [N, C, ...]");
}

}  // namespace

Variable interpolate(const Variable& x, const Dims& size, Interpolation mode, const InterpolateOptions& options) {
  check_image(x);
  if (size.rank() != x.rank() - 2)
    fail<ShapeError>("[interpolate] size ", size, " for x ", x.shape(), " must name the ", x.rank() - 2,
                     " axes behind the first two");
  return along_all(x, size, 0, mode, options);
}

Variable interpolate_by(const Variable& x, double scale, Interpolation mode, const InterpolateOptions& options) {
  check_image(x);
  if (!(scale > 0) || !std::isfinite(scale))
    fail<ConfigError>("[interpolate] scale must be positive and finite, got ", scale);
  Dims size;
  for (int axis = 2; axis < x.rank(); ++axis) {
    const double length = std::floor(static_cast<double>(x.shape()[axis]) * scale);
    if (!(length < 0x1p63))
      fail<ShapeError>("[interpolate] x ", x.shape(), " cannot become ", scale, " times as long: no Index holds that");
    size.push_back(static_cast<Index>(length));
  }
  return along_all(x, size, scale, mode, options);
}

}  // namespace espalier
