// Scores from second derivatives.
#pragma once

#include "espalier/prune/score.h"

namespace espalier::prune {

/// h w^2 / 2, h = d2L/dw2: the loss to second order when w goes, at a minimum, if weights do not act together. h is
/// found by random probes or exactly (GatherOptions::probes). LeCun, Denker and Solla 1990, eq. 5.
Score obd();

struct ObsOptions {
  /// lambda, as a share of the mean of the diagonal of X^T X.
  double damping = 0.01;
};
/// w_j^2 / (2 [H^-1]_jj), H = X^T X + lambda I of the layer's inputs: the change of the layer's output if w_j goes and the
/// other weights of its unit make up for it, which they do by compensate() (reconstruct.h). A weight that reads a
/// constant 0 scores 0. H is that of all columns, also of those pruned already. Hassibi and Stork 1993, eq. 5;
/// layer by layer: Dong, Chen and Pan 2017. Errors: ConfigError unless damping >= 0, or if H is singular. Cost:
/// columns^3.
Score obs(ObsOptions options = {});

/// w (H g): how much the squared norm of the gradient falls, to first order and halved, when w goes, negated: pruned
/// are the weights whose going lets the gradient flow. The paper scores -w (H g) and removes the largest; here as
/// everywhere the smallest go. May be negative. Wang, Zhang and Grosse 2020 (GraSP), eq. 8.
Score grasp();

}  // namespace espalier::prune
