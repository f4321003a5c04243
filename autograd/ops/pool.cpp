#include "espalier/autograd/ops/pool.h"

#include "espalier/core/detail/window.h"
#include "espalier/core/pool.h"

namespace espalier {
namespace {

/// A pool as its user sees it.
struct Problem {
  const char* op;
  PoolGeometry geometry;
  Shape x, y;
  int axes;
};

/// As they are listed in the header; `mean`: those of a mean behind those of a window.
class Settings final {
 public:
  Settings(const Problem& p, bool mean) {
    const PoolGeometry& g = p.geometry;
    if (g.adaptive) return;
    for (const PoolGeometry::Pair& pair : {g.kernel, g.stride, g.before, g.dilation})
      for (std::size_t a = p.axes == 2 ? 0 : 1; a < 2; ++a) all_[count_++] = pair[a];
    if (!mean) return;
    all_[count_++] = g.count_padding ? 1 : 0;
    all_[count_++] = static_cast<Index>(g.divisor);
  }
  std::span<const Index> list() const { return {all_.data(), count_}; }

 private:
  std::array<Index, 10> all_{};
  std::size_t count_ = 0;
};

/// Fills in the shapes; `axes`: 2 for images, 1 for sequences.
Problem begin_problem(const char* op, const Variable& x, int axes) {
  if (x.rank() != axes + 1 && x.rank() != axes + 2)
    fail<ShapeError>("[", op, "] x ", x.shape(), " must be ",
                     axes == 2 ? "[N, C, H, W] or [C, H, W]" : "[N, C, L] or [C, L]");
  Problem p{op, {}, x.shape(), x.shape(), axes};
  p.geometry.planes = x.shape()[0] * (x.rank() == axes + 2 ? x.shape()[1] : 1);
  p.geometry.size = {axes == 2 ? x.shape()[-2] : 1, x.shape()[-1]};
  p.geometry.dilation = {1, 1};
  if (p.geometry.size[0] < 1 || p.geometry.size[1] < 1)
    fail<ShapeError>("[", op, "] x ", x.shape(), " has nothing to pool over");
  return p;
}
void set_result(Problem& p, int axes) {
  if (axes == 2) p.y[-2] = p.geometry.result[0];
  p.y[-1] = p.geometry.result[1];
}

Problem windows(const char* op, const Variable& x, int axes, const IndexPair& kernel, const IndexPair& stride,
                const IndexPair& padding, const IndexPair& dilation, bool ceil_mode) {
  Problem p = begin_problem(op, x, axes);
  PoolGeometry& g = p.geometry;
  g.kernel = kernel;
  g.before = padding;
  g.dilation = dilation;
  detail::check_window(op, {kernel, stride, padding, dilation});
  for (std::size_t a = 0; a < 2; ++a) {
    g.stride[a] = stride[a] == 0 ? kernel[a] : stride[a];
    if (kernel[a] < 1 || g.stride[a] < 1 || dilation[a] < 1)
      fail<ConfigError>("[", op, "] kernel_size, stride and dilation must be at least 1, got ", kernel, ", ", stride,
                        " and ", dilation);
    if (padding[a] < 0 || 2 * padding[a] > kernel[a])
      fail<ConfigError>("[", op, "] padding ", padding, " must be at most half of kernel_size ", kernel,
                        ", so that no window sees nothing but padding");
    const Index room = g.size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1;
    if (room < 0 && !(ceil_mode && room > -g.stride[a]))
      fail<ShapeError>("[", op, "] windows of ", kernel, " with dilation ", dilation, " reach further than x ",
                       x.shape(), " with padding ", padding, ". Hint: a smaller kernel_size, or adaptive pooling");
    g.result[a] = (room + (ceil_mode ? g.stride[a] - 1 : 0)) / g.stride[a] + 1;
    if (ceil_mode && (g.result[a] - 1) * g.stride[a] >= g.size[a] + padding[a]) --g.result[a];
    for (Index i = 0; i < g.result[a]; ++i)
      if (const auto w = g.window(a, i); w.begin >= w.end)
        fail<ShapeError>("[", op, "] window ", i, " over x ", x.shape(), " sees nothing but padding ", padding,
                         ". Hint: less padding or dilation");
  }
  set_result(p, axes);
  return p;
}

Problem adaptive(const char* op, const Variable& x, int axes, const IndexPair& output) {
  Problem p = begin_problem(op, x, axes);
  PoolGeometry& g = p.geometry;
  g.adaptive = true;
  g.result = output;
  for (std::size_t a = 0; a < 2; ++a) {
    if (output[a] < 1) fail<ConfigError>("[", op, "] output_size must be at least 1, got ", output);
    g.kernel[a] = (g.size[a] + output[a] - 1) / output[a] + 1;  // no window is longer
  }
  set_result(p, axes);
  return p;
}

// --- largest values --------------------------------------------------------------------------------------------------

/// y[i] = x[place of i], and its adjoint; each is the other's gradient.
Variable pick(const Problem& p, const Variable& x, const Tensor& places);
Variable spread(const Problem& p, const Variable& g, const Tensor& places) {
  Tensor x = max_pool_spread(g.value(), places, p.x, p.geometry);
  if (!recording(g)) return x;
  return record(p.op, std::move(x), {&g}, [p, places](const Variable& h, Wants) { return pick(p, h, places); });
}
Variable pick(const Problem& p, const Variable& x, const Tensor& places) {
  Tensor y = max_pool_pick(x.value(), places, p.geometry);
  if (!recording(x)) return y;
  return record(p.op, std::move(y), {&x}, [p, places](const Variable& g, Wants) { return spread(p, g, places); });
}

/// The values, and where they came from in `places`.
Variable largest(const Problem& p, const Variable& x, Tensor* places = nullptr) {
  MaxPool out = max_pool(x.value(), p.y, p.geometry);
  if (places) *places = out.places;
  if (!recording(x)) return out.values;
  return record(
      p.op, std::move(out.values), {&x},
      [p, places = std::move(out.places)](const Variable& g, Wants) { return spread(p, g, places); },
      Settings(p, false).list());
}

// --- means -----------------------------------------------------------------------------------------------------------

Variable average(const Problem& p, const Variable& x);
Variable share(const Problem& p, const Variable& g) {
  Tensor x = avg_pool_spread(g.value(), p.x, p.geometry);
  if (!recording(g)) return x;
  return record(p.op, std::move(x), {&g}, [p](const Variable& h, Wants) { return average(p, h); });
}
Variable average(const Problem& p, const Variable& x) {
  Tensor y = avg_pool(x.value(), p.y, p.geometry);
  if (!recording(x)) return y;
  return record(
      p.op, std::move(y), {&x}, [p](const Variable& g, Wants) { return share(p, g); }, Settings(p, true).list());
}

Variable average_windows(const char* op, const Variable& x, int axes, const IndexPair& kernel,
                         const AvgPool2dOptions& o) {
  Problem p = windows(op, x, axes, kernel, o.stride, o.padding, 1, o.ceil_mode);
  p.geometry.count_padding = o.count_include_pad;
  p.geometry.divisor = static_cast<double>(o.divisor_override);
  return average(p, x);
}

}  // namespace

Variable max_pool2d(const Variable& x, IndexPair kernel_size, const MaxPool2dOptions& o) {
  return largest(windows("max_pool2d", x, 2, kernel_size, o.stride, o.padding, o.dilation, o.ceil_mode), x);
}

Variable max_pool1d(const Variable& x, Index kernel_size, const MaxPool1dOptions& o) {
  const IndexPair stride = {1, o.stride == 0 ? kernel_size : o.stride};
  return largest(windows("max_pool1d", x, 1, {1, kernel_size}, stride, {0, o.padding}, {1, o.dilation}, o.ceil_mode),
                 x);
}

MaxPoolResult max_pool2d_with_indices(const Variable& x, IndexPair kernel_size, const MaxPool2dOptions& o) {
  const Problem p = windows("max_pool2d", x, 2, kernel_size, o.stride, o.padding, o.dilation, o.ceil_mode);
  Tensor places;
  Variable values = largest(p, x, &places);
  return {std::move(values), max_pool_indices(places, p.geometry)};
}

Variable avg_pool2d(const Variable& x, IndexPair kernel_size, const AvgPool2dOptions& options) {
  return average_windows("avg_pool2d", x, 2, kernel_size, options);
}

Variable avg_pool1d(const Variable& x, Index kernel_size, const AvgPool1dOptions& o) {
  const IndexPair stride = {1, o.stride == 0 ? kernel_size : o.stride};
  return average_windows("avg_pool1d", x, 1, {1, kernel_size},
                         {stride, {0, o.padding}, o.ceil_mode, o.count_include_pad, o.divisor_override});
}

Variable adaptive_max_pool2d(const Variable& x, IndexPair output_size) {
  return largest(adaptive("adaptive_max_pool2d", x, 2, output_size), x);
}
Variable adaptive_max_pool1d(const Variable& x, Index output_size) {
  return largest(adaptive("adaptive_max_pool1d", x, 1, {1, output_size}), x);
}
Variable adaptive_avg_pool2d(const Variable& x, IndexPair output_size) {
  return average(adaptive("adaptive_avg_pool2d", x, 2, output_size), x);
}
Variable adaptive_avg_pool1d(const Variable& x, Index output_size) {
  return average(adaptive("adaptive_avg_pool1d", x, 1, {1, output_size}), x);
}

}  // namespace espalier
