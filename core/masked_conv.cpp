#include "espalier/core/masked_conv.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <variant>
#include <vector>

#include "espalier/core/detail/packed_form.h"
#include "espalier/core/detail/patches.h"
#include "espalier/core/detail/race.h"
#include "espalier/core/detail/refreshed.h"

namespace espalier {
namespace {

using Pair = ConvGeometry::Pair;

/// One axis of the pixels `phase`, `phase` + stride, ... of x: which taps g gets to them by.
struct PhaseAxis {
  PhaseAxis(const ConvGeometry& g, std::size_t a, Index the_phase)
      : phase(the_phase), step(g.stride[a] / std::gcd(g.stride[a], g.dilation[a])) {
    const auto from = [&](Index tap) { return phase + g.before[a] - tap * g.dilation[a]; };
    while (first < g.kernel[a] && from(first) % g.stride[a] != 0) ++first;
    if (first >= g.kernel[a]) return;
    taps = (g.kernel[a] - 1 - first) / step + 1;
    dilation = step * g.dilation[a] / g.stride[a];
    before = (taps - 1) * dilation - from(first) / g.stride[a];
  }
  /// Tap of the weight that is tap `t` of this phase.
  Index tap(Index t) const { return first + step * (taps - 1 - t); }

  Index phase, step, first = 0, taps = 0;
  Index dilation = 1, before = 0;  // of the convolution of g; `before` may be negative
};
using Phase = std::array<PhaseAxis, 2>;

Index taps_of(const Phase& phase) { return phase[0].taps * phase[1].taps; }

/// The convolution of g that gives the pixels of this phase.
ConvGeometry geometry_of(const Phase& phase, const ConvGeometry& g) {
  ConvGeometry t{g.batch, 1, g.out, g.in, g.result, {}, {}, {1, 1}, {}, {}};
  for (std::size_t a = 0; a < 2; ++a) {
    t.kernel[a] = phase[a].taps;
    t.dilation[a] = phase[a].dilation;
    t.before[a] = phase[a].before;
    t.result[a] = std::max<Index>(0, (g.size[a] - phase[a].phase + g.stride[a] - 1) / g.stride[a]);
  }
  return t;
}

template <class T>
struct Products {
  detail::Refreshed<T> forward;                // [out, in * taps]
  std::vector<detail::Refreshed<T>> backward;  // of each phase: [in, out * its taps]
  // Live entries output by output, row[o] to row[o + 1]: the row of the forward panel, and where in the weight.
  std::vector<std::uint32_t> row, panel_row, entry;
};

/// Images [planes, size] from those of each phase, row by row of phases.
template <class T>
void join_phases(const std::vector<T*>& phases, const ConvGeometry& g, T* x) {
  const auto& kernels = kernels::conv<T>();
  const Index across = g.stride[1], width = g.size[1];
  parallel_for(g.batch * g.in * g.size[0], std::max<Index>(1, (Index{1} << 15) / width), [&](Index begin, Index end) {
    for (Index line = begin; line < end; ++line) {
      const Index plane = line / g.size[0], y = line % g.size[0], phase = y % g.stride[0];
      const Index rows = (g.size[0] - phase + g.stride[0] - 1) / g.stride[0];
      const auto from = [&](Index q) {
        return phases[static_cast<std::size_t>(phase * across + q)] +
               (plane * rows + y / g.stride[0]) * ((width - q + across - 1) / across);
      };
      T* const to = x + line * width;
      if (across == 1)
        std::copy_n(from(0), width, to);
      else if (across == 2)
        kernels.join_pairs(from(0), from(1), width, to);
      else
        for (Index q = 0; q < std::min(across, width); ++q) {
          const T* pixel = from(q);
          for (Index i = q; i < width; i += across) to[i] = *pixel++;
        }
    }
  });
}

}  // namespace

struct MaskedConv::Form {
  Shape shape;
  ConvGeometry geometry;
  DType type;
  std::vector<Phase> phases;
  std::variant<Products<float>, Products<double>> products;

  template <class T>
  Products<T>& as() {
    return std::get<Products<T>>(products);
  }
};

MaskedConv::MaskedConv(const Shape& weight, const ConvGeometry& g, DType type, std::span<const std::uint64_t> live) {
  const Index size = count(weight), taps = g.kernel[0] * g.kernel[1], columns = g.in * taps;
  if (size == 0 || size != g.out * columns || !suits(g) || static_cast<Index>(live.size()) != (size + 63) / 64)
    fail<ShapeError>("[masked_conv] ", live.size(), " words of live entries for a weight ", weight,
                     " and a convolution of ", g.groups, " groups and strides ", g.stride[0], " and ", g.stride[1],
                     " with ", g.weight_shape());
  if (size > Index{0xffffffff}) fail<ConfigError>("[masked_conv] ", size, " entries; at most 2^32 - 1");
  form_ = std::make_unique<Form>(Form{weight, g, type, {}, {}});
  for (Index down = 0; down < g.stride[0]; ++down)
    for (Index across = 0; across < g.stride[1]; ++across)
      form_->phases.push_back({PhaseAxis(g, 0, down), PhaseAxis(g, 1, across)});
  const auto where = [&](Index i) { return live[static_cast<std::size_t>(i >> 6)] >> (i & 63) & 1 ? i : -1; };
  dispatch_floating("masked_conv", type, [&]<class T>() {
    Products<T>& p = form_->products.template emplace<Products<T>>();
    p.forward.build(g.out, columns, [&](Index o, Index c) { return where(o * columns + c); });
    for (const Phase& phase : form_->phases) {
      const Index some = taps_of(phase), across = phase[1].taps;
      detail::Refreshed<T>& layout = p.backward.emplace_back();
      if (some == 0) continue;
      layout.build(g.in, g.out * some, [&](Index c, Index q) {
        const Index tap = phase[0].tap(q % some / across) * g.kernel[1] + phase[1].tap(q % some % across);
        return where(q / some * columns + c * taps + tap);
      });
    }
    p.row.push_back(0);
    for (Index i = 0; i < size; ++i) {
      if (where(i) >= 0) {
        p.panel_row.push_back(static_cast<std::uint32_t>(kernels::panel_row(p.forward.matrix, i % columns)));
        p.entry.push_back(static_cast<std::uint32_t>(i));
      }
      if ((i + 1) % columns == 0) p.row.push_back(static_cast<std::uint32_t>(p.entry.size()));
    }
  });
}

MaskedConv::~MaskedConv() = default;
MaskedConv::MaskedConv(MaskedConv&&) noexcept = default;
MaskedConv& MaskedConv::operator=(MaskedConv&&) noexcept = default;

void MaskedConv::refresh(const Tensor& weight) {
  if (!(weight.shape() == form_->shape) || !weight.is_contiguous())
    fail<ShapeError>("[masked_conv] weight ", weight.shape(), " must be ", form_->shape, " and contiguous");
  dispatch_floating("masked_conv", form_->type, [&]<class T>() {
    const T* values = weight.data<T>();
    form_->as<T>().forward.refresh(values);
    for (detail::Refreshed<T>& phase : form_->as<T>().backward) phase.refresh(values);
  });
}

bool MaskedConv::suits(const ConvGeometry& g) noexcept {
  return g.groups == 1 && std::max(g.stride[0], g.stride[1]) <= 8;
}

bool MaskedConv::fits(const ConvGeometry& g) const noexcept {
  const ConvGeometry& own = form_->geometry;
  return g.groups == 1 && g.out == own.out && g.in == own.in && g.kernel == own.kernel && g.stride == own.stride &&
         g.dilation == own.dilation && g.before == own.before;
}

void MaskedConv::check(const ConvGeometry& g) const {
  if (!fits(g))
    fail<ShapeError>("[masked_conv] products with weight ", form_->shape,
                     " for another convolution than they were made for, with ", g.weight_shape());
}

Tensor MaskedConv::conv2d(const Tensor& x, const Tensor* bias, const ConvGeometry& g) const {
  check(g);
  detail::check_fits("x", x, g.x_shape(), x);
  if (bias) detail::check_fits("bias", *bias, {g.out}, x);
  const Tensor from = x.contiguous(), shift = bias ? bias->contiguous() : Tensor();
  Tensor y = Tensor::empty(g.y_shape(), form_->type);
  if (y.size() == 0) return y;
  dispatch_floating("conv2d", form_->type, [&]<class T>() {
    detail::sparse_conv2d(form_->as<T>().forward.matrix, from.data<T>(), bias ? shift.data<T>() : nullptr, g, false,
                          y.write<T>("conv2d"));
  });
  return y;
}

Tensor MaskedConv::input_gradient(const Tensor& g, const ConvGeometry& geometry) const {
  check(geometry);
  detail::check_fits("g", g, geometry.y_shape(), g);
  const Tensor from = g.contiguous();
  Tensor x = Tensor::empty(geometry.x_shape(), form_->type);
  if (x.size() == 0) return x;
  dispatch_floating("conv2d", form_->type, [&]<class T>() {
    const Products<T>& p = form_->as<T>();
    const bool whole = p.backward.size() == 1;
    const detail::Scratch<T> apart(whole ? 0 : x.size());
    T *const to = x.write<T>("conv2d"), *next = whole ? to : apart.data();
    std::vector<T*> phases;
    for (std::size_t k = 0; k < p.backward.size(); ++k) {
      const ConvGeometry back = geometry_of(form_->phases[k], geometry);
      const Index size = count(back.y_shape());
      phases.push_back(next);
      if (taps_of(form_->phases[k]) == 0)
        std::fill_n(next, size, T(0));
      else if (size > 0)
        detail::sparse_conv2d<T>(p.backward[k].matrix, from.data<T>(), nullptr, back, false, next);
      next += size;
    }
    if (!whole) join_phases(phases, geometry, to);
  });
  return x;
}

Tensor MaskedConv::weight_gradient(const Tensor& g, const Tensor& x, const ConvGeometry& geometry) const {
  check(geometry);
  detail::check_fits("g", g, geometry.y_shape(), x);
  detail::check_fits("x", x, geometry.x_shape(), x);
  Tensor gradient = Tensor::zeros(form_->shape, form_->type);
  if (g.size() == 0) return gradient;
  const Tensor gs = g.contiguous(), xs = x.contiguous();
  dispatch_floating("conv2d", form_->type, [&]<class T>() {
    const Products<T>& p = form_->as<T>();
    const detail::Patches<T> patches(p.forward.matrix, geometry);
    const Index chunks = std::min<Index>(16, patches.parts()), out = geometry.out;
    const std::size_t live = p.entry.size();
    std::vector<T> sums(static_cast<std::size_t>(chunks) * live);
    patches.share_out(xs.data<T>(), chunks, [&](Index chunk, const detail::PixelPart<T>& part) {
      T* const own = sums.data() + static_cast<std::size_t>(chunk) * live;
      const detail::Scratch<T> rows(out * patches.longest());
      patches.each_panel(part, [&](const T* panel, Index length, std::span<const detail::PixelRun> runs) {
        if (runs.back().first + runs.back().count < length) std::fill_n(rows.data(), out * length, T(0));
        patches.gather(gs.data<T>(), runs, 0, out, rows.data(), length);
        for (Index o = 0; o < out; ++o) {
          const std::uint32_t k = p.row[static_cast<std::size_t>(o)], end = p.row[static_cast<std::size_t>(o) + 1];
          kernels::add_dots(rows.data() + o * length, panel, p.panel_row.data() + k, static_cast<Index>(end - k),
                            length, own + k);
        }
      });
    });
    T* const to = gradient.write<T>("conv2d");
    parallel_for(static_cast<Index>(live), Index{1} << 14, [&](Index begin, Index end) {
      for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
        T sum = sums[k];
        for (std::size_t at = live + k; at < sums.size(); at += live) sum += sums[at];
        to[p.entry[k]] = sum;
      }
    });
  });
  return gradient;
}

bool sparse_training_is_faster(const Shape& weight, DType type, std::span<const std::uint64_t> live, ConvGeometry g) {
  constexpr double margin = 1.10;
  const ThreadLimit alone(1);
  const Index each = std::max<Index>(1, count(weight) * g.result[0] * g.result[1]);
  g.batch = std::clamp<Index>((Index{1} << 26) / each, 1, std::max<Index>(1, g.batch));
  MaskedConv sparse(weight, g, type, live);
  const Tensor w = Tensor::ones(weight, type), whole = w.view(g.weight_shape()), x = Tensor::ones(g.x_shape(), type),
               y = Tensor::ones(g.y_shape(), type);
  const std::vector<double> times = detail::race({[&] {
                                                    conv2d(x, whole, nullptr, g);
                                                    conv2d_data(y, whole, nullptr, g);
                                                    conv2d_weight(x, y, g);
                                                  },
                                                  [&] {
                                                    sparse.refresh(w);
                                                    sparse.conv2d(x, nullptr, g);
                                                    sparse.input_gradient(y, g);
                                                    sparse.weight_gradient(y, x, g);
                                                  }});
  return times[0] >= margin * times[1];
}

}  // namespace espalier
