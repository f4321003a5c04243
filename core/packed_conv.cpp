// Convolution with a packed weight: patches are laid out for one panel of pixels at a time, and multiplied.
#include <algorithm>

#include "espalier/core/detail/conv_layout.h"
#include "espalier/core/detail/packed_form.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace detail {
namespace {

/// Pixels of a panel that stand side by side in one row of one image.
struct Run {
  Index image, row, column;  // of the output
  Index first, count;        // in the panel
};

/// The pixels [begin, end) of all images, image after image, as runs. Returns their number.
Index runs_of(const ConvGeometry& g, Index begin, Index end, Run* runs) {
  const Index width = g.result[1], pixels = g.result[0] * width;
  Index n = 0;
  for (Index at = begin; at < end;) {
    const Index column = at % width, count = std::min(end - at, width - column);
    runs[n++] = {at / pixels, at % pixels / width, column, at - begin, count};
    at += count;
  }
  return n;
}

/// One tap of one channel for one run: to[j] = row[from + j * stride], 0 outside of [0, width).
template <class T>
void copy_tap(const T* row, Index width, Index from, Index stride, Index count, T* to) {
  if (stride == 1 && from >= 0 && from + count <= width) {
    if (count == 16)
      std::copy_n(row + from, 16, to);
    else
      std::copy_n(row + from, count, to);
    return;
  }
  for (Index j = 0; j < count; ++j) {
    const Index at = from + j * stride;
    to[j] = at >= 0 && at < width ? row[at] : T(0);
  }
}

template <class T>
void lay_out_patches(const kernels::SparseMatrix<T>& w, const T* x, const ConvGeometry& g, const Run* runs, Index count,
                     Index samples, T* panel, Index length) {
  const Index plane = g.size[0] * g.size[1];
  Index column = 0;
  for (Index c = 0; c < g.in; ++c) {
    for (Index a = 0; a < g.kernel[0]; ++a) {
      for (Index b = 0; b < g.kernel[1]; ++b, ++column) {
        T* to = panel + kernels::panel_row(w, column) * length;
        for (Index k = 0; k < count; ++k) {
          const Run& run = runs[k];
          const Index row = run.row * g.stride[0] + a * g.dilation[0] - g.before[0];
          if (row < 0 || row >= g.size[0])
            std::fill_n(to + run.first, run.count, T(0));
          else
            copy_tap(x + (run.image * g.in + c) * plane + row * g.size[1], g.size[1],
                     run.column * g.stride[1] + b * g.dilation[1] - g.before[1], g.stride[1], run.count,
                     to + run.first);
        }
        std::fill(to + samples, to + length, T(0));
      }
    }
  }
}

}  // namespace

template <class T>
void sparse_conv2d(const kernels::SparseMatrix<T>& w, const T* x, const T* bias, const ConvGeometry& g, bool relu,
                   T* y) {
  const Index plane = g.result[0] * g.result[1], pixels = g.batch * plane;
  const Index most = kernels::panel_length<T>(pixels), tiles = chunk_count(pixels, most);
  // One panel's patches serve all rows of W; a 1x1 kernel of stride 1 on whole planes is the same with one tap.
  parallel_for(tiles, 1, [&](Index begin, Index end) {
    const Scratch<T> panel(w.panel_rows() * most), sums(w.window * most);
    const Scratch<Run> runs(most);
    for (Index tile = begin; tile < end; ++tile) {
      const Index from = tile * most, samples = std::min(most, pixels - from);
      const Index length = kernels::panel_length<T>(samples), count = runs_of(g, from, from + samples, runs.data());
      kernels::clear_padding(w, panel.data(), length);
      lay_out_patches(w, x, g, runs.data(), count, samples, panel.data(), length);
      for (Index window = 0; window < w.windows(); ++window) {
        kernels::sparse_panel(w, window, panel.data(), length, bias, sums.data());
        const Index first = window * w.window, rows = std::min(w.window, w.rows - first);
        if (relu)
          for (Index i = 0; i < rows * length; ++i) sums[i] = sums[i] < T(0) ? T(0) : sums[i];
        for (Index k = 0; k < count; ++k) {
          const Run& run = runs[k];
          T* to = y + (run.image * g.out + first) * plane + run.row * g.result[1] + run.column;
          for (Index r = 0; r < rows; ++r) std::copy_n(sums.data() + r * length + run.first, run.count, to + r * plane);
        }
      }
    }
  });
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
