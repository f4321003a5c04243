// Layer-wise reconstruction: weights go, and those of the same unit that stay are set so that the layer's outputs change
// as little as they can. From the layer's inputs alone, without a gradient: min || X (W - W')^T ||^2.
//
//   prune::reconstruct(model.parameters(), [&](Index b) { return model(x[b]); }, batches, {.sparsity = 0.5});
//
// H = X^T X + lambda I, lambda = damping times the mean of the diagonal of X^T X. Weights are [out, ...], seen as rows of
// columns; of grouped convolutions each group has its H. All in f64, the same bytes at any thread count.
#pragma once

#include <limits>
#include <string>

#include "espalier/autograd/mask.h"
#include "espalier/optim/select.h"
#include "espalier/prune/statistics.h"

namespace espalier::prune {

struct Reconstruction {
  Tensor weight;     ///< of the old one's shape and type, 0 where the mask is
  Mask mask;         ///< undefined: all live
  double error = 0;  ///< ||X (W - W')^T||^2 / ||X W^T||^2; 0 if there is no output
};

/// Errors of all: ShapeError if weight, gram [groups, columns, columns] and mask do not fit together; NonFiniteError for
/// weights or inputs that are not finite; ConfigError for options out of range, or a singular H. `name` is for texts.

/// The mask is given: W'_L = W_L + H_LL^-1 H_LP W_P in each row, L live and P pruned; the best there is. Hassibi and Stork
/// 1993, eq. 5, for several weights at once. Cost: sum over rows of live^3 / 3.
Reconstruction compensate(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                          double damping = 0.01);

struct ObsPruneOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();  ///< over the whole tensor; must be given
  double damping = 0.01;
};
/// The optimal brain surgeon: one weight after the other, that with the smallest w_j^2 / (2 [H^-1]_jj) of all rows, each
/// time with the update of its row, -w_j / [H^-1]_jj times column j of H^-1, H being that of the columns live in the row.
/// What `mask` prunes goes first, and counts. Hassibi and Stork 1993; rows side by side: Frantar, Singh and Alistarh 2022,
/// algorithm 1. Cost: about 2 out columns^3.
Reconstruction obs_prune(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                         ObsPruneOptions options);

struct SparseGptOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();  ///< or keep and of; one of the two must be given
  Index keep = 0, of = 0;  ///< of each run of `of` neighbouring columns so many stay: 2 of 4
  double damping = 0.01;
  Index block = 128;  ///< columns that are chosen from together
};
/// One sweep over the columns: within each block of columns the lowest w^2 / U_jj^2 go, U^T U = H^-1 (of all rows together,
/// the same share in each block); then column by column the error of what went is made up for by the columns behind it.
/// For a given mask each column's update is that of the optimal brain surgeon with the columns before it settled. A last
/// run shorter than `of` loses floor(its length (of - keep) / of). What `mask` prunes goes first, and counts. Frantar and
/// Alistarh 2023, algorithm 1. Cost: columns^3 + out columns^2.
Reconstruction sparsegpt(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                         SparseGptOptions options);

struct ReconstructOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();
  Index keep = 0, of = 0;
  double damping = 0.01;
  Index block = 128;
  optim::Select select = optim::select_rank(2);
};
/// sparsegpt() on every selected parameter that a linear or convolution layer reads, in the order of the list, each with
/// inputs that the layers before it give when they are done already; sets value and mask (hard). Returns the largest error
/// of a layer. Cost: a pass forward over all batches for each layer.
double reconstruct(const ParameterList& parameters, const Loss& run, Index batches, ReconstructOptions options);

}  // namespace espalier::prune
