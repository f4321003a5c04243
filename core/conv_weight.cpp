// The gradient of a convolution's weight.
#include "espalier/core/conv.h"
#include "espalier/core/detail/conv_layout.h"
#include "espalier/core/kernels/transpose.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using detail::ImageLayout;
using detail::Scratch;
using detail::VectorGroups;
using Pair = ConvGeometry::Pair;

constexpr Index block_pixels = 256;  // pixels whose part of g stays in the first-level cache

/// partial[0] += the others, pairwise; each holds n values.
template <class T>
void add_pairwise(T* partial, Index count, Index n) {
  for (Index step = 1; step < count; step *= 2) {
    for (Index k = 0; k + step < count; k += 2 * step) {
      T* __restrict into = partial + k * n;
      const T* __restrict from = partial + (k + step) * n;
      parallel_for(n, Index{1} << 15, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) into[i] += from[i];
      });
    }
  }
}

template <class T>
class WeightGradient final {
 public:
  explicit WeightGradient(const ConvGeometry& g)
      : g_(g),
        kernels_(kernels::conv<T>()),
        in_(g.in / g.groups),
        out_(g.out / g.groups),
        taps_(g.kernel[0] * g.kernel[1]),
        pixels_(g.result[0] * g.result[1]),
        by_dots_(2 * out_ < kernels_.lanes),
        across_(out_, kernels_.lanes, kernels_.most_vectors),
        layout_(make_layout()),
        step_(by_dots_ || layout_.split[1] > 1 ? 1 : g.stride[1]),
        parts_(std::clamp<Index>(std::min(g.batch, g.batch * pixels_ / 1024), 1, 8)),
        splits_(std::min(g.groups > 1 ? g.groups : in_, (8 + parts_ - 1) / parts_)),
        batch_(std::clamp<Index>(block_pixels / std::max<Index>(1, pixels_), 1, (g.batch + parts_ - 1) / parts_)),
        room_(layout_.direct ? layout_.channels * layout_.plane() : layout_.elements(in_, kernels_.lanes)),
        offsets_(in_ * taps_),
        rows_(batch_ * g.result[0]) {
    for (Index c = 0; c < in_; ++c)
      for (Index a = 0; a < g.kernel[0]; ++a)
        for (Index b = 0; b < g.kernel[1]; ++b)
          offsets_[(c * g.kernel[0] + a) * g.kernel[1] + b] =
              c * layout_.plane() + layout_.at(a * g.dilation[0], b * g.dilation[1]);
    const Index down = layout_.split[0] > 1 ? 1 : g.stride[0];
    for (Index b = 0; b < batch_; ++b)
      for (Index i = 0; i < g.result[0]; ++i) rows_[b * g.result[0] + i] = b * room_ + i * down * layout_.pitch();
  }

  void run(const T* x, const T* g, T* dw) const {
    const Index size = by_dots_ ? g_.out * in_ * taps_ : g_.groups * across_.vectors * kernels_.lanes * in_ * taps_;
    const Index work = std::max<Index>(1, g_.batch * pixels_ * g_.out * in_ * taps_);
    const Scratch<T> partial(by_dots_ && parts_ == 1 ? 0 : parts_ * size);
    T* const sums = by_dots_ && parts_ == 1 ? dw : partial.data();
    const Index grain = work < Index{1} << 18 ? parts_ * splits_ : 1;
    parallel_for(parts_ * splits_, grain, [&](Index begin, Index end) {
      for (Index q = begin; q < end; ++q) part(x, g, q / splits_, q % splits_, sums + q / splits_ * size);
    });
    add_pairwise(sums, parts_, size);
    if (by_dots_) {
      if (sums != dw) std::copy_n(sums, size, dw);
      return;
    }
    const Index k = in_ * taps_, width = across_.vectors * kernels_.lanes;
    parallel_for(g_.groups, g_.groups * width * k < Index{1} << 15 ? g_.groups : 1, [&](Index begin, Index end) {
      for (Index group = begin; group < end; ++group)
        for (Index v = 0; v < across_.count; ++v)
          kernels::transpose(sums + (group * width + across_.first_vector(v) * kernels_.lanes) * k, k,
                             across_.channels_of(v), across_.vectors_of(v) * kernels_.lanes,
                             dw + (group * out_ + across_.first_channel(v)) * k, k);
    });
  }

 private:
  /// Dot products want neighbouring pixels side by side; else a stride is but a step.
  ImageLayout make_layout() const {
    return detail::make_layout(g_.in, g_.size, g_.before, by_dots_ ? g_.stride : Pair{1, 1}, g_.reach(), true);
  }

  /// The images of one part, for some input channels (or groups, where there are several), added up in d.
  void part(const T* x, const T* g, Index part, Index split, T* d) const {
    const Index first = g_.batch * part / parts_, last = g_.batch * (part + 1) / parts_;
    const Index shared = g_.groups > 1 ? g_.groups : in_;
    const Index begin = shared * split / splits_, end = shared * (split + 1) / splits_;
    const Index group_begin = g_.groups > 1 ? begin : 0, group_end = g_.groups > 1 ? end : 1;
    const Index channel_begin = g_.groups > 1 ? 0 : begin, channel_end = g_.groups > 1 ? in_ : end;
    const Index k0 = channel_begin * taps_, k = (channel_end - channel_begin) * taps_;
    const Index width = across_.vectors * kernels_.lanes;
    const Scratch<T> image(layout_.direct ? 0 : batch_ * room_);
    const Scratch<T> packed(by_dots_ ? 0 : batch_ * pixels_ * width);
    if (!layout_.direct) std::fill_n(image.data(), batch_ * room_, T(0));
    if (!by_dots_) std::fill_n(packed.data(), batch_ * pixels_ * width, T(0));
    for (Index group = group_begin; group < group_end; ++group) {
      if (by_dots_) {
        for (Index o = 0; o < out_; ++o) std::fill_n(d + (group * out_ + o) * in_ * taps_ + k0, k, T(0));
      } else {
        for (Index v = 0; v < across_.count; ++v) {
          const Index w = across_.vectors_of(v) * kernels_.lanes;
          std::fill_n(d + (group * width + across_.first_vector(v) * kernels_.lanes) * in_ * taps_ + k0 * w, k * w,
                      T(0));
        }
      }
    }
    const Index x_image = layout_.channels * layout_.size[0] * layout_.size[1];
    for (Index n = first; n < last; n += batch_) {
      const Index images = std::min(batch_, last - n);
      for (Index group = group_begin; group < group_end; ++group) {
        const T* g_group = g + (n * g_.out + group * out_) * pixels_;
        const T* x_group = layout_.direct ? x + n * x_image + group * in_ * layout_.plane() : image.data();
        for (Index b = 0; b < images && !layout_.direct; ++b)
          lay_out(layout_, x + (n + b) * x_image, group * in_ + channel_begin, group * in_ + channel_end,
                  image.data() + b * room_ + channel_begin * layout_.plane());
        if (by_dots_)
          dots(x_group, g_group, images, k0, k, d + group * out_ * in_ * taps_);
        else
          products(x_group, g_group, images, k0, k, packed.data(), d + group * width * in_ * taps_);
      }
    }
  }

  void dots(const T* x, const T* g, Index images, Index k0, Index k, T* d) const {
    for (Index b = 0; b < images; ++b)
      for (Index o = 0; o < out_; ++o)
        kernels_.dots({.x = x,
                       .rows = rows_.data() + b * g_.result[0],
                       .row_count = g_.result[0],
                       .width = g_.result[1],
                       .offsets = offsets_.data() + k0,
                       .k = k,
                       .g = g + (b * g_.out + o) * pixels_,
                       .d = d + o * in_ * taps_ + k0});
  }

  void products(const T* x, const T* g, Index images, Index k0, Index k, T* packed, T* d) const {
    const Index line = g_.result[1], rows = images * g_.result[0];
    const Index step = std::max<Index>(1, block_pixels / std::max<Index>(1, line));
    for (Index v = 0; v < across_.count; ++v) {
      const Index w = across_.vectors_of(v) * kernels_.lanes, channel = across_.first_channel(v);
      T* const to = packed + across_.first_vector(v) * kernels_.lanes * batch_ * pixels_;
      for (Index b = 0; b < images; ++b)
        kernels::transpose(g + (b * g_.out + channel) * pixels_, across_.channels_of(v), pixels_, pixels_,
                           to + b * pixels_ * w, w);
      for (Index row = 0; row < rows; row += step)
        kernels_.weights({.x = x,
                          .rows = rows_.data() + row,
                          .row_count = std::min(step, rows - row),
                          .width = line,
                          .step = step_,
                          .offsets = offsets_.data() + k0,
                          .k = k,
                          .g = to + row * line * w,
                          .vectors = across_.vectors_of(v),
                          .d = d + across_.first_vector(v) * kernels_.lanes * in_ * taps_ + k0 * w});
    }
  }

  const ConvGeometry& g_;
  const kernels::ConvKernels<T>& kernels_;
  Index in_, out_, taps_, pixels_;
  bool by_dots_;
  VectorGroups across_;
  ImageLayout layout_;
  Index step_;
  Index parts_;   // of the images, summed apart
  Index splits_;  // of the channels
  Index batch_;   // images that are laid out together
  Index room_;
  Scratch<Index> offsets_, rows_;
};

}  // namespace

Tensor conv2d_weight(const Tensor& x, const Tensor& gradient, const ConvGeometry& g) {
  detail::check_fits("x", x, g.x_shape(), x);
  detail::check_fits("g", gradient, g.y_shape(), x);
  Tensor y = Tensor::empty(g.weight_shape(), x.dtype());
  const Tensor from = x.contiguous(), by = gradient.contiguous();
  dispatch_floating("conv2d", x.dtype(), [&]<class T>() {
    T* target = y.write<T>("conv2d_weight");
    if (y.size() == 0) return;
    if (by.size() == 0) {
      std::fill_n(target, y.size(), T(0));
      return;
    }
    WeightGradient<T>(g).run(from.data<T>(), by.data<T>(), target);
  });
  return y;
}

}  // namespace espalier
