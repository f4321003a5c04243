#include "espalier/autograd/ops/conv.h"

#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/conv.h"
#include "espalier/core/detail/window.h"
#include "espalier/core/elementwise.h"

namespace espalier {
namespace {

/// One convolution as its user sees it. y = C(x, w) is linear in both; with D its adjoint in x and W the one in w,
/// each of the three is a gradient of the other two, so together they can be differentiated without end.
struct Problem {
  const char* op;
  ConvGeometry geometry;
  bool line = false;    // sequences: images of height 1
  bool single = false;  // without the axis N
  bool transposed = false;
  ConvGeometry::Pair output_padding = {0, 0};

  /// As they are listed in the header.
  std::array<Index, 9> settings() const {
    std::array<Index, 9> all{};
    std::size_t n = 0;
    for (const ConvGeometry::Pair& pair : {geometry.stride, geometry.before, geometry.dilation, output_padding})
      for (std::size_t a = line ? 1 : 0; a < 2; ++a) all[n++] = pair[a];
    all[n] = geometry.groups;
    return all;
  }
  std::size_t settings_count() const { return line ? 5 : 9; }

  Tensor image(const Tensor& t) const {
    const Tensor batched = single ? t.unsqueeze(0) : t;
    return line ? batched.unsqueeze(2) : batched;
  }
  Tensor kernel(const Tensor& t) const { return line ? t.densify().unsqueeze(2) : t.densify(); }
  /// A packed weight stays as it is: it knows its rows, and the geometry the rest.
  Tensor forward_kernel(const Tensor& t) const { return t.packed() ? t : kernel(t); }
  Tensor user_image(const Tensor& t) const {
    const Tensor shorter = line ? t.squeeze(2) : t;
    return single ? shorter.squeeze(0) : shorter;
  }
  Tensor user_kernel(const Tensor& t) const { return line ? t.squeeze(2) : t; }
};

Variable correlate(const Problem& p, const Variable& x, const Variable& w, const Variable& bias);
Variable spread(const Problem& p, const Variable& g, const Variable& w, const Variable& bias,
                const MaskedConv* sparse = nullptr);
Variable weigh(const Problem& p, const Variable& x, const Variable& g, const MaskedConv* sparse = nullptr);

/// Sum over images and pixels.
Variable bias_gradient(const Problem& p, const Variable& g) {
  Dims axes;
  for (int axis = 0; axis < g.rank(); ++axis)
    if (axis != (p.single ? 0 : 1)) axes.push_back(axis);
  return sum(g, axes);
}
const Tensor* pointer(const Variable& bias) { return bias.defined() ? &bias.value() : nullptr; }

/// What trains this weight by its mask, if anything does.
const MaskedConv* sparse_products(const Problem& p, const Variable& w) {
  return p.transposed ? nullptr : SparseTraining::products_of(w.value(), p.geometry);
}

/// y, by the mask of the weight if it trains by that.
Tensor correlated(const Problem& p, const Tensor& x, const Variable& w, const Variable& bias) {
  if (const MaskedConv* sparse = sparse_products(p, w)) return sparse->conv2d(x, pointer(bias), p.geometry);
  return conv2d(x, p.forward_kernel(w.value()), pointer(bias), p.geometry);
}

/// C: y from x.
Variable correlate(const Problem& p, const Variable& x, const Variable& w, const Variable& bias) {
  Tensor y = p.user_image(correlated(p, p.image(x.value()), w, bias));
  if (!recording(x, w, bias)) return y;
  return record(
      p.op, std::move(y), {&x, &w, &bias},
      [p, x = Saved(x), w = Saved(w)](const Variable& g, Wants wants) {
        const MaskedConv* sparse = recording(g, x.get(), w.get()) ? nullptr : sparse_products(p, w.get());
        return gradients(wants[0] ? spread(p, g, w.get(), {}, sparse) : no_gradient(),
                         wants[1] ? weigh(p, x.get(), g, sparse) : no_gradient(),
                         wants[2] ? bias_gradient(p, g) : no_gradient());
      },
      std::span<const Index>(p.settings()).first(p.transposed ? 0 : p.settings_count()));
}

/// D: x from y. `sparse`: without bias, and not recorded.
Variable spread(const Problem& p, const Variable& g, const Variable& w, const Variable& bias,
                const MaskedConv* sparse) {
  if (sparse) return p.user_image(sparse->input_gradient(p.image(g.value()), p.geometry));
  Tensor x = p.user_image(conv2d_data(p.image(g.value()), p.kernel(w.value()), pointer(bias), p.geometry));
  if (!recording(g, w, bias)) return x;
  return record(
      p.op, std::move(x), {&g, &w, &bias},
      [p, y = Saved(g), w = Saved(w)](const Variable& h, Wants wants) {
        return gradients(wants[0] ? correlate(p, h, w.get(), {}) : no_gradient(),
                         wants[1] ? weigh(p, h, y.get()) : no_gradient(),
                         wants[2] ? bias_gradient(p, h) : no_gradient());
      },
      std::span<const Index>(p.settings()).first(p.transposed ? p.settings_count() : 0));
}

/// W: w from x and y. `sparse`: not recorded.
Variable weigh(const Problem& p, const Variable& x, const Variable& g, const MaskedConv* sparse) {
  if (sparse && !SparseTraining::wants_dense_gradient())
    return sparse->weight_gradient(p.image(g.value()), p.image(x.value()), p.geometry);
  Tensor w = p.user_kernel(conv2d_weight(p.image(x.value()), p.image(g.value()), p.geometry));
  if (!recording(x, g)) return w;
  return record(p.op, std::move(w), {&x, &g}, [p, x = Saved(x), y = Saved(g)](const Variable& h, Wants wants) {
    return gradients(wants[0] ? spread(p, y.get(), h, {}) : no_gradient(),
                     wants[1] ? correlate(p, x.get(), h, {}) : no_gradient());
  });
}

// --- checks ----------------------------------------------------------------------------------------------------------

void check_options(const char* op, const IndexPair& stride, const IndexPair& padding, const IndexPair& dilation,
                   Index groups) {
  if (std::min(stride[0], stride[1]) < 1 || std::min(dilation[0], dilation[1]) < 1 || groups < 1)
    fail<ConfigError>("[", op, "] stride, dilation and groups must be at least 1, got stride ", stride, ", dilation ",
                      dilation, ", groups ", groups);
  if (std::min(padding[0], padding[1]) < 0)
    fail<ConfigError>("[", op, "] padding must not be negative, got ", padding, ". Hint: slice x instead");
  detail::check_window(op, {stride, padding, dilation});
}

/// What conv2d and its adjoint check alike. `rank`: of x with N. `channels`, `per_group`: axes of the weight that hold
/// the channels of x, and those of y of one group.
Problem begin_problem(const char* op, const Variable& x, const Variable& weight, int rank, Index groups) {
  check_same_dtype(op, x.value(), weight.value());
  const char* want = rank == 4 ? "[N, C, H, W] or [C, H, W]" : "[N, C, L] or [C, L]";
  if (x.rank() != rank && x.rank() != rank - 1) fail<ShapeError>("[", op, "] x ", x.shape(), " must be ", want);
  if (weight.rank() != rank)
    fail<ShapeError>("[", op, "] weight ", weight.shape(), " must have ", rank, " axes, for x ", x.shape());
  Problem p{op, {}, rank == 3, x.rank() == rank - 1};
  for (std::size_t a = 0; a < 2; ++a) {
    const bool absent = p.line && a == 0;
    p.geometry.kernel[a] = absent ? 1 : weight.shape()[static_cast<int>(a) - 2];
    if (p.geometry.kernel[a] < 1) fail<ShapeError>("[", op, "] weight ", weight.shape(), " has an empty kernel");
  }
  p.geometry.groups = groups;
  p.geometry.batch = p.single ? 1 : x.shape()[0];
  return p;
}
/// Rows and columns of x; 1 where there are none.
ConvGeometry::Pair image_size(const Problem& p, const Variable& x) {
  return {p.line ? 1 : x.shape()[-2], x.shape()[-1]};
}

void check_channels(const Problem& p, const Variable& x, const Variable& weight, Index have, Index want,
                    const char* layout) {
  if (have != want)
    fail<ShapeError>("[", p.op, "] x ", x.shape(), " has ", have, " channels, weight ", weight.shape(), " with groups ",
                     p.geometry.groups, " takes ", want, ". Hint: weight is ", layout);
}
void check_groups(const Problem& p, const Variable& weight, Index channels) {
  if (channels % p.geometry.groups != 0)
    fail<ShapeError>("[", p.op, "] the first axis of weight ", weight.shape(), " must be a multiple of groups ",
                     p.geometry.groups);
}
void check_bias(const Problem& p, const Variable& x, const Variable& weight, const Variable& bias, Index out) {
  if (!bias.defined()) return;
  check_same_dtype(p.op, x.value(), bias.value());
  if (bias.rank() != 1 || bias.shape()[0] != out)
    fail<ShapeError>("[", p.op, "] bias ", bias.shape(), " for weight ", weight.shape(), "; it must be [", out, "]");
}

Variable convolve(const char* op, int rank, const Variable& x, const Variable& weight, const Variable& bias,
                  const Conv2dOptions& o) {
  check_options(op, o.stride, o.padding.zeros, o.dilation, o.groups);
  Problem p = begin_problem(op, x, weight, rank, o.groups);
  ConvGeometry& g = p.geometry;
  g.in = x.shape()[p.single ? 0 : 1];
  g.out = weight.shape()[0];
  check_channels(p, x, weight, g.in, weight.shape()[1] * o.groups, "[out, in / groups, kernel ...]");
  check_groups(p, weight, g.out);
  check_bias(p, x, weight, bias, g.out);
  g.size = image_size(p, x);
  g.stride = o.stride;
  g.dilation = o.dilation;
  const bool same = o.padding.mode == "same";
  if (!same && o.padding.mode != "valid" && !o.padding.mode.empty())
    fail<ConfigError>("[", op, "] padding \"", o.padding.mode, "\" is neither \"same\" nor \"valid\"");
  if (same && o.stride != IndexPair(1))
    fail<ConfigError>("[", op, "] padding \"same\" needs stride 1, got ", o.stride,
                      ". Hint: give the padding as a number");
  for (std::size_t a = 0; a < 2; ++a) {
    const bool absent = p.line && a == 0;
    const Index reach = g.dilation[a] * (g.kernel[a] - 1);
    g.before[a] = absent ? 0 : same ? reach / 2 : o.padding.zeros[a];
    const Index room = g.size[a] + (absent ? 0 : same ? reach : 2 * g.before[a]);
    if (room < reach + 1)
      fail<ShapeError>("[", op, "] the kernel of weight ", weight.shape(), " with dilation ", o.dilation,
                       " reaches further than x ", x.shape(), " with padding ", o.padding.zeros,
                       ". Hint: a smaller kernel, or more padding");
    g.result[a] = (room - reach - 1) / g.stride[a] + 1;
  }
  return correlate(p, x, weight, bias);
}

Variable convolve_transposed(const char* op, int rank, const Variable& x, const Variable& weight, const Variable& bias,
                             const ConvTranspose2dOptions& o) {
  check_options(op, o.stride, o.padding, o.dilation, o.groups);
  Problem p = begin_problem(op, x, weight, rank, o.groups);
  p.transposed = true;
  ConvGeometry& g = p.geometry;
  g.out = x.shape()[p.single ? 0 : 1];
  g.in = weight.shape()[1] * o.groups;
  check_channels(p, x, weight, g.out, weight.shape()[0], "[in, out / groups, kernel ...]");
  check_groups(p, weight, g.out);
  check_bias(p, x, weight, bias, g.in);
  g.result = image_size(p, x);
  g.stride = o.stride;
  g.dilation = o.dilation;
  g.before = o.padding;
  for (std::size_t a = 0; a < 2; ++a) {
    const bool absent = p.line && a == 0;
    if (absent) g.before[a] = 0;
    const Index more = absent ? 0 : o.output_padding[a];
    if (more < 0 || (more > 0 && more >= std::max(o.stride[a], o.dilation[a])))
      fail<ConfigError>("[", op, "] output_padding ", o.output_padding, " must be less than stride ", o.stride,
                        " or dilation ", o.dilation);
    p.output_padding[a] = more;
    checked_count({g.result[a], g.stride[a]});
    g.size[a] =
        absent ? 1 : (g.result[a] - 1) * g.stride[a] - 2 * g.before[a] + g.dilation[a] * (g.kernel[a] - 1) + more + 1;
    if (g.size[a] < 1)
      fail<ShapeError>("[", op, "] nothing is left of x ", x.shape(), " with weight ", weight.shape(),
                       " after padding ", o.padding, " is taken off. Hint: less padding");
  }
  return spread(p, x, weight, bias);
}

}  // namespace

Variable conv2d(const Variable& x, const Variable& weight, const Variable& bias, const Conv2dOptions& options) {
  return convolve("conv2d", 4, x, weight, bias, options);
}

Variable conv1d(const Variable& x, const Variable& weight, const Variable& bias, const Conv1dOptions& o) {
  ConvPadding padding = o.padding;
  if (padding.zeros[0] != padding.zeros[1])
    fail<ConfigError>("[conv1d] padding ", padding.zeros, " is a pair, of the two axes of an image; a sequence has one",
                      ". Hint: padding = ", padding.zeros[1], ", or pad(x, {", padding.zeros[0], ", ", padding.zeros[1],
                      "}) for ends that differ");
  padding.zeros = {0, o.padding.zeros[1]};
  return convolve("conv1d", 3, x, weight, bias, {{1, o.stride}, padding, {1, o.dilation}, o.groups});
}

Variable conv_transpose2d(const Variable& x, const Variable& weight, const Variable& bias,
                          const ConvTranspose2dOptions& options) {
  return convolve_transposed("conv_transpose2d", 4, x, weight, bias, options);
}

Variable conv_transpose1d(const Variable& x, const Variable& weight, const Variable& bias,
                          const ConvTranspose1dOptions& o) {
  return convolve_transposed("conv_transpose1d", 3, x, weight, bias,
                             {{1, o.stride}, {0, o.padding}, {0, o.output_padding}, {1, o.dilation}, o.groups});
}

}  // namespace espalier
