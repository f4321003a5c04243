#include "espalier/prune/scores_curvature.h"

#include "espalier/prune/detail/cholesky.h"
#include "espalier/prune/detail/exact.h"

namespace espalier::prune {

using detail::exact;

Score obd() {
  return Score("obd",
               [](const ParameterState& w, const Statistics& s) {
                 return exact(w, s.hessian_diagonal, [](auto v, auto h) { return h * v * v / 2; });
               },
               {.hessian_diagonal = true});
}

Score obs(ObsOptions options) {
  const double damping = options.damping;
  detail::check_damping("obs", damping);
  return Score(
      "obs",
      [damping](const ParameterState& w, const Statistics& s) {
        const Index groups = s.gram.dim(0), columns = s.gram.dim(1);
        Tensor importance = Tensor::zeros({groups, 1, columns}, DType::f64);  // 1 / (2 [H^-1]_jj), 0 if X_j is
        double* out = importance.write<double>("obs");
        for (Index g = 0; g < groups; ++g) {
          const detail::LayerHessian h("obs", w.full_name(), s.gram.select(0, g), damping);
          const Tensor inverse = h.inverse();
          const double* p = inverse.data<double>();
          for (Index j = 0; j < columns; ++j) out[g * columns + j] = h.dead(j) ? 0 : 1 / (2 * p[j * columns + j]);
        }
        const Shape shape = w.value().shape();
        const Tensor v = detail::exact_weights(w).reshape({groups, groups == 0 ? 0 : shape[0] / groups, columns});
        return zip_with("obs", v, importance, [](auto a, auto i) { return a * a * i; }).reshape(shape);
      },
      {.gram = true});
}

Score grasp() {
  return Score("grasp",
               [](const ParameterState& w, const Statistics& s) {
                 return exact(w, s.hessian_gradient, [](auto v, auto hg) { return v * hg; });
               },
               {.hessian_gradient = true});
}

}  // namespace espalier::prune
