// Convolution with a packed weight: images are laid out with their border once, patches for one panel of pixels at a
// time, and multiplied.
#include <algorithm>

#include "espalier/core/detail/conv_layout.h"
#include "espalier/core/detail/packed_form.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace detail {
namespace {

/// Pixels of a panel that stand side by side in one row of one image.
struct Run {
  Index image, pixel;  // of the output
  Index from;          // in the laid out images
  Index first, count;  // in the panel
};

template <class T>
class SparseConvolution final {
 public:
  SparseConvolution(const kernels::SparseMatrix<T>& w, const ConvGeometry& g, const T* bias, bool relu)
      : w_(w), g_(g), bias_(bias), relu_(relu), layout_(layout_of(g)), room_(layout_.elements(kernels_.lanes)) {}

  void run(const T* x, T* y) const {
    const Index plane = g_.result[0] * g_.result[1], each = std::max<Index>(1, 256 / plane);  // images of a unit
    const Index units = chunk_count(g_.batch, each), image = g_.in * g_.size[0] * g_.size[1];
    if (units >= 8) {  // a thread takes whole images
      parallel_for(units, 1, [&](Index begin, Index end) {
        const Scratch<T> laid_out(room_ * each);
        for (Index unit = begin; unit < end; ++unit) {
          const Index first = unit * each, images = std::min(each, g_.batch - first);
          prepare(x + first * image, images, laid_out.data());
          tiles(laid_out.data(), 0, images * plane, y + first * g_.out * plane);
        }
      });
      return;
    }
    const Scratch<T> laid_out(room_ * g_.batch);
    parallel_for(g_.batch, std::max<Index>(1, (Index{1} << 15) / room_), [&](Index begin, Index end) {
      prepare(x + begin * image, end - begin, laid_out.data() + begin * room_);
    });
    const Index most = kernels::panel_length<T>(g_.batch * plane);
    parallel_for(g_.batch * plane, most, [&](Index begin, Index end) { tiles(laid_out.data(), begin, end, y); });
  }

 private:
  static ImageLayout layout_of(const ConvGeometry& g) {
    ConvGeometry::Pair needed;
    for (std::size_t a = 0; a < 2; ++a)
      needed[a] = (g.result[a] - 1) * g.stride[a] + (g.kernel[a] - 1) * g.dilation[a] + 1;
    return make_layout(g.in, g.size, g.before, g.stride, needed, false);
  }
  void prepare(const T* x, Index images, T* to) const {
    std::fill_n(to, images * room_, T(0));
    for (Index n = 0; n < images; ++n)
      lay_out(layout_, x + n * g_.in * g_.size[0] * g_.size[1], 0, g_.in, to + n * room_);
  }

  /// Pixels [begin, end) of these images.
  void tiles(const T* images, Index begin, Index end, T* y) const {
    const Index most = kernels::panel_length<T>(end - begin);
    const Scratch<T> panel(w_.panel_rows() * most), sums(w_.window * most);
    const Scratch<Run> runs(most);
    for (Index at = begin; at < end; at += most) {
      const Index pixels = std::min(most, end - at), length = kernels::panel_length<T>(pixels);
      const Index count = find_runs(at, at + pixels, runs.data());
      kernels::clear_padding(w_, panel.data(), length);
      for (Index k = 0; k < count; ++k) lay_out_patches(images, runs[k], panel.data(), length);
      if (pixels < length)
        for (Index row = 0; row < w_.panel_rows(); ++row)
          std::fill_n(panel.data() + row * length + pixels, length - pixels, T(0));
      for (Index window = 0; window < w_.windows(); ++window) {
        kernels::sparse_panel(w_, window, panel.data(), length, bias_, sums.data());
        store(window, sums.data(), length, runs.data(), count, y);
      }
    }
  }
  Index find_runs(Index begin, Index end, Run* runs) const {
    const Index width = g_.result[1], pixels = g_.result[0] * width;
    Index n = 0;
    for (Index at = begin; at < end; ++n) {
      const Index image = at / pixels, pixel = at % pixels, column = pixel % width;
      const Index count = std::min(end - at, width - column);
      runs[n] = {image, pixel, image * room_ + pixel / width * layout_.pitch() + column, at - begin, count};
      at += count;
    }
    return n;
  }
  /// A tap of all channels at a time: their rows in the panel stand `taps` apart, but for what lies between blocks.
  void lay_out_patches(const T* images, const Run& run, T* panel, Index length) const {
    const Index taps = g_.kernel[0] * g_.kernel[1];
    for (Index tap = 0; tap < taps; ++tap) {
      const T* from =
          images + run.from + layout_.at(tap / g_.kernel[1] * g_.dilation[0], tap % g_.kernel[1] * g_.dilation[1]);
      for (Index c = 0; c < g_.in;) {
        const Index column = c * taps + tap, block_end = (column / w_.width + 1) * w_.width;
        const Index next = std::min(g_.in, c + (block_end - column - 1) / taps + 1);
        kernels_.copy_rows(from + c * layout_.plane(), next - c, run.count, layout_.plane(),
                           panel + kernels::panel_row(w_, column) * length + run.first, taps * length);
        c = next;
      }
    }
  }
  void store(Index window, T* sums, Index length, const Run* runs, Index count, T* y) const {
    const Index plane = g_.result[0] * g_.result[1];
    const Index first = window * w_.window, rows = std::min(w_.window, w_.rows - first);
    if (relu_)
      for (Index i = 0; i < rows * length; ++i) sums[i] = sums[i] < T(0) ? T(0) : sums[i];
    for (Index k = 0; k < count; ++k)
      kernels_.copy_rows(sums + runs[k].first, rows, runs[k].count, length,
                         y + (runs[k].image * g_.out + first) * plane + runs[k].pixel, plane);
  }

  const kernels::SparseMatrix<T>& w_;
  const ConvGeometry& g_;
  const T* bias_;
  bool relu_;
  const kernels::ConvKernels<T>& kernels_ = kernels::conv<T>();
  ImageLayout layout_;
  Index room_;  // of a laid out image
};

}  // namespace

template <class T>
void sparse_conv2d(const kernels::SparseMatrix<T>& w, const T* x, const T* bias, const ConvGeometry& g, bool relu,
                   T* y) {
  SparseConvolution<T>(w, g, bias, relu).run(x, y);
}

template void sparse_conv2d(const kernels::SparseMatrix<float>&, const float*, const float*, const ConvGeometry&, bool,
                            float*);
template void sparse_conv2d(const kernels::SparseMatrix<double>&, const double*, const double*, const ConvGeometry&,
                            bool, double*);

}  // namespace detail

Tensor PackedLinear::conv2d(const Tensor& x, const Tensor* bias, const ConvGeometry& g, bool relu) const {
  const KernelChoice choice = choices_.at(g.batch);
  if (choice == KernelChoice::dense || g.groups != 1) {
    const Tensor dense = form_->dense.defined() ? form_->dense : densify();
    return espalier::conv2d(x, dense.view(g.weight_shape()), bias, g, relu);
  }
  detail::check_fits("x", x, g.x_shape(), x);
  if (type_ != x.dtype() || count(shape_) != count(g.weight_shape()) || shape_[0] != g.out)
    detail::check_fits("weight", densify(), g.weight_shape(), x);
  if (bias) detail::check_fits("bias", *bias, {g.out}, x);
  const Tensor from = x.contiguous(), plain_bias = bias ? bias->contiguous() : Tensor();
  Tensor y = Tensor::empty(g.y_shape(), type_);
  if (y.size() == 0) return y;
  dispatch_floating("conv2d", type_, [&]<class T>() {
    detail::sparse_conv2d(form_->as<T>(choice), from.data<T>(), bias ? plain_bias.data<T>() : nullptr, g, relu,
                          y.write<T>("conv2d"));
  });
  return y;
}

}  // namespace espalier
