// Normalisation layers. Weight starts at 1, bias at 0, as in PyTorch, whose names they have; sizes are read off the
// weights and off x, so that pruned layers are simply layers.
#pragma once

#include <optional>

#include "espalier/autograd/ops/norm.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  bool affine = true;  ///< with weight and bias
  bool bias = true;    ///< false: a weight alone
  DType dtype = DType::f32;
};

/// (x - mean) / sqrt(variance + eps) weight + bias over the last axes of x, as many as `shape` has; weight and bias
/// have that shape. Ba, Kiros and Hinton 2016. Errors: ShapeError.
class LayerNorm final : public Module {
 public:
  explicit LayerNorm(const Shape& shape, LayerNormOptions options = {});
  explicit LayerNorm(Index width, LayerNormOptions options = {}) : LayerNorm(Shape{width}, options) {}

  Variable operator()(const Variable& x) const;
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Shape shape_;  // of a layer without weights
  double eps_;
};

struct RmsNormOptions {
  double eps = 1e-6;
  bool affine = true;
  DType dtype = DType::f32;
};

/// x / sqrt(mean of x^2 + eps) weight over the last axes. Zhang and Sennrich 2019. Errors: ShapeError.
class RmsNorm final : public Module {
 public:
  explicit RmsNorm(const Shape& shape, RmsNormOptions options = {});
  explicit RmsNorm(Index width, RmsNormOptions options = {}) : RmsNorm(Shape{width}, options) {}

  Variable operator()(const Variable& x) const;
  void members(Visitor& v) override { v("weight", weight); }

  Parameter weight;

 private:
  Shape shape_;  // of a layer without weights
  double eps_;
};

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;
  DType dtype = DType::f32;
};

/// (x - mean) / sqrt(variance + eps) weight[c] + bias[c], x [N, C, ...], over each of `groups` runs of channels of each
/// of the N. Wu and He 2018. Whole groups may be pruned: with weights there are as many as these hold. Errors:
/// ShapeError; ConfigError if the channels do not fall into equal groups.
class GroupNorm final : public Module {
 public:
  GroupNorm(Index groups, Index channels, GroupNormOptions options = {});

  Variable operator()(const Variable& x) const;
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Index groups_, together_;  // together_: channels of a group
  double eps_;
};

struct InstanceNormOptions {
  double eps = 1e-5;
  bool affine = false;
  DType dtype = DType::f32;
};

/// The same for each channel of each of the N alone. x [N, C, ...] with `axes` axes behind the channels. Ulyanov,
/// Vedaldi and Lempitsky 2016. Errors: ShapeError.
template <int axes>
class InstanceNorm final : public Module {
 public:
  explicit InstanceNorm(Index channels, InstanceNormOptions options = {});

  Variable operator()(const Variable& x) const;
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  double eps_;
};
using InstanceNorm1d = InstanceNorm<1>;
using InstanceNorm2d = InstanceNorm<2>;

struct BatchNormLayerOptions {
  double eps = 1e-5;
  /// Share of the newest batch in the running statistics; none: all batches count alike.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;  ///< false: batch statistics in evaluation too
  bool relu = false;                ///< max(y, 0) in the same pass, as saves a layer behind it
  DType dtype = DType::f32;
};

/// (x - mean) / sqrt(variance + eps) weight[c] + bias[c], x [N, C, ...] with `axes` axes behind the channels
/// (BatchNorm1d takes [N, C] too). In training mean and variance are those of the batch, and
///   running = (1 - momentum) running + momentum batch (its variance by n - 1);
/// in evaluation they are the running ones. Ioffe and Szegedy 2015. Errors: ShapeError, also for one value a channel in
/// training.
///
/// A channel whose batch mean or variance is not finite keeps its running statistics, and the batch counts among those
/// tracked all the same. PyTorch moves them, and one NaN stays in them for ever. Here an optimizer may skip the step of
/// such a batch (Nonfinite::skip_step), and the model is to be afterwards as good as before; a NaN still comes out of
/// the layer and is seen by the loss, by the optimizer and by Anomaly.
template <int axes>
class BatchNorm final : public Module {
 public:
  explicit BatchNorm(Index channels, BatchNormLayerOptions options = {});

  Variable operator()(const Variable& x) const;
  void members(Visitor& v) override {
    v("weight", weight)("bias", bias)("running_mean", running_mean)("running_var", running_var);
    v("num_batches_tracked", num_batches_tracked);
  }

  Parameter weight, bias;
  Buffer running_mean, running_var;
  Buffer num_batches_tracked;  ///< i64, a scalar

 private:
  double eps_;
  std::optional<double> momentum_;
  bool relu_;
};
using BatchNorm1d = BatchNorm<1>;
using BatchNorm2d = BatchNorm<2>;

}  // namespace espalier::nn
