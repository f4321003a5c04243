// Statistics: what a score may look at besides the weights, and how it is gathered from a few batches.
//
//   prune::Gathered g = prune::gather(model.parameters(), [&](Index b) { return nn::cross_entropy(model(x[b]), y[b]); },
//                                     batches, prune::wanda().needs());
//   Tensor score = prune::wanda()(named, g.of(*named.parameter));
//
// A Pruner does this by itself where PrunerOptions::loss is given.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>

#include "espalier/autograd/parameter.h"
#include "espalier/autograd/variable.h"

namespace espalier::prune {

/// What must be known before a score can be asked; see Statistics.
struct Needs {
  bool gradient = false;  ///< gathered, or without that the parameter's own of the last backward
  // These must be gathered.
  bool squared_gradient = false;
  bool unit_saliency = false;
  bool total_saliency = false;
  bool hessian_gradient = false;
  bool hessian_diagonal = false;
  bool inputs = false;   ///< input_sum, input_squares, input_rows
  bool gram = false;     ///< gram, input_rows
  bool outputs = false;  ///< output_mean, output_zeros
  bool output_saliency = false;
  bool norm = false;
  bool flow = false;  ///< from gather_flow() in synflow.h: needs no data
  friend bool operator==(const Needs&, const Needs&) = default;
};

/// Of one parameter w. Undefined where it was not asked for, or where the losses do not depend on w, or no layer reads
/// it. L: the loss; means are over batches. Everything but the gradient is f64, whatever the type of the weight.
///
/// Inputs and outputs are those of linear(), conv1d() and conv2d() with w as their weight, all together if there are
/// several. A row of inputs X is what one output value is computed from: of linear the last axis of x, of a convolution
/// a patch; it has one column for each weight of a unit, and of a grouped convolution each group has its own. Outputs
/// are those behind the activation: of the layer itself if it does one (linear(..., Activation)), else of the first
/// activation that follows directly, or behind normalisation and dropout; without any, what the layer itself gives.
struct Statistics {
  std::int64_t step = 0;               ///< steps done by the optimizer the pruner is attached to; 0 without one
  std::size_t parameter = 0;           ///< place of the parameter in the pruner's selection
  Tensor gradient = Tensor();          ///< mean of dL/dw, the weight's shape and type
  Tensor squared_gradient = Tensor();  ///< mean of (dL/dw)^2, the weight's shape
  Tensor unit_saliency = Tensor();     ///< [out]: mean of (sum over the unit of w dL/dw)^2
  /// Sum over all gathered parameters of |w dL/dw|, with the mean gradient.
  double total_saliency = std::numeric_limits<double>::quiet_NaN();
  Tensor hessian_gradient = Tensor();  ///< H g, the weight's shape: H = d2L/dw2 over all gathered parameters, g = dL/dw
  Tensor hessian_diagonal = Tensor();  ///< d2L/dw_i2, the weight's shape
  Tensor input_sum = Tensor();         ///< sum over rows of |X_j|; broadcasts to the weight's shape
  Tensor input_squares = Tensor();     ///< sum over rows of X_j^2; broadcasts to the weight's shape
  Tensor gram = Tensor();              ///< X^T X [groups, columns, columns]
  Index input_rows = 0;                ///< rows of X
  Tensor output_mean = Tensor();       ///< [out]
  Tensor output_zeros = Tensor();      ///< [out]: share of outputs that are exactly 0
  Tensor output_saliency = Tensor();   ///< [out]: mean of |mean over outputs h of h dL/dh|
  Tensor flow = Tensor();              ///< |w| dR/d|w|, the weight's shape; see synflow()
  ParameterRef norm = nullptr;         ///< the scale of the normalisation that directly follows the layer
};

/// Statistics of several parameters. A value.
class Gathered {
 public:
  /// Empty Statistics for a parameter that was not gathered.
  const Statistics& of(const ParameterState& parameter) const;
  Statistics& operator[](const ParameterRef& parameter) { return all_[parameter.get()].second; }
  void insert(const ParameterRef& parameter, Statistics statistics) {
    all_[parameter.get()] = {parameter, std::move(statistics)};
  }
  bool has(const ParameterState& parameter) const { return all_.contains(&parameter); }
  bool empty() const noexcept { return all_.empty(); }

 private:
  std::map<const ParameterState*, std::pair<ParameterRef, Statistics>> all_;  // never walked: order is of addresses
};

/// The loss of a batch, from 0 on; a scalar. For scores that need no derivative any value will do.
using Loss = std::function<Variable(Index batch)>;

struct GatherOptions {
  /// Random vectors z a batch for the Hessian's diagonal, h = mean of z (H z) with entries +-1 (Hutchinson 1990): exact
  /// where H is diagonal, else with an error that falls as 1 / sqrt(probes). 0: exactly, by one product with H for each
  /// weight.
  Index probes = 16;
  std::uint64_t seed = 0;  ///< of the probes
};

/// Runs loss(0), ..., loss(batches - 1), each on a tape of its own, and gathers what is needed of `parameters`, whose
/// values and gradients are left alone. hessian_gradient asks for each batch a second time. Modules run as they are set:
/// under a tape they are training, so say eval() first if running statistics and dropout are to keep still. A frozen
/// parameter is gathered like any other, one that is listed twice once. The same bytes at any thread count.
/// Errors: ConfigError for no batches, no loss, or negative probes; ShapeError for a loss that is no scalar; GradError
/// where an op is on the way that cannot be differentiated twice and the Hessian is asked for; what `loss` throws.
/// Cost: a forward and a backward pass a batch; for the Hessian's diagonal 2 more for each probe; for the Gram matrix
/// 2 rows columns^2.
Gathered gather(const ParameterList& parameters, const Loss& loss, Index batches, Needs needs,
                GatherOptions options = {});

}  // namespace espalier::prune
