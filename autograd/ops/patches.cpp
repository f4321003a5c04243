#include "espalier/autograd/ops/patches.h"

#include "espalier/core/detail/window.h"
#include "espalier/core/patches.h"

namespace espalier {
namespace {

std::array<Index, 8> settings_of(const PatchGeometry& g) {
  return settings(g.kernel[0], g.kernel[1], g.stride[0], g.stride[1], g.before[0], g.before[1], g.dilation[0],
                  g.dilation[1]);
}

Variable to_columns(const PatchGeometry& g, const Variable& x, const Shape& columns);
Variable to_images(const PatchGeometry& g, const Variable& columns, const Shape& x) {
  Tensor y = fold(columns.value(), x, g);
  if (!recording(columns)) return y;
  return record(
      "fold", std::move(y), {&columns},
      [g, shape = columns.shape()](const Variable& h, Wants) { return to_columns(g, h, shape); }, settings_of(g));
}
Variable to_columns(const PatchGeometry& g, const Variable& x, const Shape& columns) {
  Tensor y = unfold(x.value(), columns, g);
  if (!recording(x)) return y;
  return record(
      "unfold", std::move(y), {&x}, [g, shape = x.shape()](const Variable& h, Wants) { return to_images(g, h, shape); },
      settings_of(g));
}

void fill(const char* op, PatchGeometry& g, const IndexPair& size, const IndexPair& kernel, const PatchOptions& o) {
  g.size = size;
  g.kernel = kernel;
  g.stride = o.stride;
  g.dilation = o.dilation;
  g.before = o.padding;
  detail::check_window(op, {kernel, o.stride, o.padding, o.dilation});
  for (std::size_t a = 0; a < 2; ++a) {
    if (kernel[a] < 1 || o.stride[a] < 1 || o.dilation[a] < 1 || o.padding[a] < 0)
      fail<ConfigError>("[", op, "] kernel_size ", kernel, ", stride ", o.stride, " and dilation ", o.dilation,
                        " must be at least 1, padding ", o.padding, " at least 0");
    const Index room = size[a] + 2 * o.padding[a] - o.dilation[a] * (kernel[a] - 1) - 1;
    if (room < 0)
      fail<ShapeError>("[", op, "] windows of ", kernel, " with dilation ", o.dilation,
                       " reach further than images of ", size, " with padding ", o.padding,
                       ". Hint: a smaller kernel_size");
    g.result[a] = room / o.stride[a] + 1;
  }
}

}  // namespace

Variable unfold(const Variable& x, IndexPair kernel_size, const PatchOptions& options) {
  if (x.rank() != 3 && x.rank() != 4) fail<ShapeError>("[unfold] x ", x.shape(), " must be [N, C, H, W] or [C, H, W]");
  PatchGeometry g;
  g.images = x.rank() == 4 ? x.shape()[0] : 1;
  g.channels = x.shape()[-3];
  fill("unfold", g, {x.shape()[-2], x.shape()[-1]}, kernel_size, options);
  checked_count({g.channels, g.kernel[0], g.kernel[1]});
  return to_columns(g, x, x.rank() == 4 ? Shape{g.images, g.rows(), g.windows()} : Shape{g.rows(), g.windows()});
}

Variable fold(const Variable& columns, IndexPair output_size, IndexPair kernel_size, const PatchOptions& options) {
  if (columns.rank() != 2 && columns.rank() != 3)
    fail<ShapeError>("[fold] columns ", columns.shape(), " must be [N, C kh kw, L] or [C kh kw, L]");
  PatchGeometry g;
  fill("fold", g, output_size, kernel_size, options);
  g.images = columns.rank() == 3 ? columns.shape()[0] : 1;
  const Index taps = kernel_size[0] * kernel_size[1], rows = columns.shape()[-2];
  g.channels = rows / taps;
  if (rows % taps != 0 || columns.shape()[-1] != g.windows())
    fail<ShapeError>("[fold] columns ", columns.shape(), " must have a multiple of ", taps, " rows and ", g.windows(),
                     " columns, the windows of ", kernel_size, " in images of ", output_size);
  const Shape image{g.images, g.channels, g.size[0], g.size[1]};
  return to_images(g, columns, columns.rank() == 3 ? image : Shape{g.channels, g.size[0], g.size[1]});
}

}  // namespace espalier
