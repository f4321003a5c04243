// Normalisation of tensors: statistics, forward and backward in fused loops. Undefined weight or bias: 1 or 0.
//
// Statistics are f64 whatever the type of x. The same bytes at any thread count.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

/// y, and what the backward pass needs: mean and 1 / sqrt(variance + eps) of each group, f64 [groups, 2].
struct NormForward {
  Tensor y, statistics;
};
/// Undefined where not wanted.
struct NormBackward {
  Tensor x, weight, bias;
};
struct NormWants {
  bool x, weight, bias;
};

/// Each row of x, its last axes [n] of together as many elements as weight and bias have:
/// (x - mean) / sqrt(variance + eps) weight + bias; without `centered` x / sqrt(mean of squares + eps) weight + bias.
/// f32, f64. Errors: DTypeError.
NormForward normalize_rows(const char* op, const Tensor& x, Index n, const Tensor& weight, const Tensor& bias,
                           double eps, bool centered);
NormBackward normalize_rows_backward(const char* op, const Tensor& g, const Tensor& x, Index n, const Tensor& weight,
                                     const Tensor& statistics, bool centered, NormWants wants);

/// What x [N, C, ...] is normalised by.
enum class NormOver {
  batch,  ///< a channel of all N
  group,  ///< `groups` runs of neighbouring channels of one of the N
  fixed   ///< given statistics of each channel
};
struct NormChannels {
  NormOver over;
  Index groups = 1;
  double eps = 1e-5;
  bool relu = false;  ///< y = max(y, 0) in the same pass
};
/// (x - mean) / sqrt(variance + eps) weight[c] + bias[c]. `given` is read for NormOver::fixed: its statistics.
/// f32, f64. Errors: DTypeError.
NormForward normalize_channels(const char* op, const Tensor& x, const NormChannels& how, const Tensor& weight,
                               const Tensor& bias, const Tensor& given = {});
NormBackward normalize_channels_backward(const char* op, const Tensor& g, const Tensor& x, const NormChannels& how,
                                         const Tensor& weight, const Tensor& bias, const Tensor& statistics,
                                         NormWants wants);

}  // namespace espalier
