// Differentiable normalisation. f32, f64; weight and bias may be undefined: 1 and 0. Statistics are found in one pass
// over memory, soundly where the mean is far larger than the spread; the backward pass is fused too: x, its gradient
// and the statistics are all that is kept. Errors of all: ShapeError, DTypeError.
// Settings: of layer_norm and rms_norm the number of axes normalised and eps; of the others groups (0: over the batch),
// eps, relu (0, 1). eps as bits: see number_of.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// (x - mean) / sqrt(variance + eps) weight + bias over the last axes, which are `normalized_shape`, as weight and bias
/// are. Ba, Kiros and Hinton 2016, eq. 4.
Variable layer_norm(const Variable& x, const Shape& normalized_shape, const Variable& weight = {},
                    const Variable& bias = {}, double eps = 1e-5);
/// x / sqrt(mean of x^2 + eps) weight over the last axes. Zhang and Sennrich 2019, eq. 4.
Variable rms_norm(const Variable& x, const Shape& normalized_shape, const Variable& weight = {}, double eps = 1e-6);

/// (x - mean) / sqrt(variance + eps) weight[c] + bias[c], x [N, C, ...], for each of the N over each of `groups` runs of
/// neighbouring channels. Wu and He 2018, eq. 7.
Variable group_norm(const Variable& x, Index groups, const Variable& weight = {}, const Variable& bias = {},
                    double eps = 1e-5);
/// The same for each channel alone. Ulyanov, Vedaldi and Lempitsky 2016.
Variable instance_norm(const Variable& x, const Variable& weight = {}, const Variable& bias = {}, double eps = 1e-5);

struct BatchNormOptions {
  double eps = 1e-5;
  bool relu = false;  ///< max(y, 0) in the same pass, forward and backward
};
/// What a batch showed of each channel: f64 [C]; variance by n, and the n it is of.
struct BatchStatistics {
  Tensor mean, variance;
  Index count = 0;
};
/// (x - mean) / sqrt(variance + eps) weight[c] + bias[c], x [N, C, ...], for each channel over all else; what is found
/// goes to `statistics` if it is given. Ioffe and Szegedy 2015, algorithm 1. Errors: ShapeError too for one value a
/// channel, which has no variance.
Variable batch_norm(const Variable& x, const Variable& weight = {}, const Variable& bias = {},
                    BatchNormOptions options = {}, BatchStatistics* statistics = nullptr);
/// The same with given mean and variance [C], which are constants: an affine map. Recorded with the inputs x, weight,
/// bias, mean, variance.
Variable batch_norm_inference(const Variable& x, const Tensor& mean, const Tensor& variance,
                              const Variable& weight = {}, const Variable& bias = {}, BatchNormOptions options = {});

}  // namespace espalier
