// Convolution with a packed weight: panels of patches, multiplied.
#include <algorithm>

#include "espalier/core/detail/packed_form.h"
#include "espalier/core/detail/patches.h"

namespace espalier {
namespace detail {

template <class T>
void sparse_conv2d(const kernels::SparseMatrix<T>& w, const T* x, const T* bias, const ConvGeometry& g, bool relu,
                   T* y) {
  const Patches<T> patches(w, g);
  patches.share_out(x, patches.parts(), [&](Index, const PixelPart<T>& part) {
    const Scratch<T> sums(w.window * patches.longest());
    patches.each_panel(part, [&](const T* panel, Index length, std::span<const PixelRun> runs) {
      for (Index window = 0; window < w.windows(); ++window) {
        const Index first = window * w.window, rows = std::min(w.window, w.rows - first);
        kernels::sparse_panel(w, window, panel, length, bias, sums.data());
        if (relu)
          for (Index i = 0; i < rows * length; ++i) sums[i] = sums[i] < T(0) ? T(0) : sums[i];
        patches.scatter(sums.data(), length, runs, first, rows, y);
      }
    });
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
