// Fused losses: value and gradient in one stable pass. nn/loss.h adds reductions and options.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// What the losses of class labels have in common.
struct ClassOptions {
  Tensor weight = {};          ///< [C], of each class; undefined: all 1
  Index ignore_index = -100;   ///< rows with this label have loss and gradient 0
  double label_smoothing = 0;  ///< this much of the target is spread over all classes (Szegedy et al. 2016, section 7)
};

/// y[r] = -log softmax(logits[r])[labels[r]], times the weight of the class; with smoothing e, (1 - e) times that plus
/// e / C times the weighted sum over all classes. logits [N, C], labels i64 [N] in [0, C) -> y [N]. The softmax is not
/// kept. Gradient: softmax(logits) - onehot(labels) for plain labels, row r weighted by g[r]. Errors: ShapeError,
/// DTypeError; ConfigError for a smoothing outside [0, 1]; IndexError, which names row and label.
Variable softmax_cross_entropy(const Variable& logits, const Tensor& labels, const ClassOptions& options = {});

/// y[r] = -weight[labels[r]] log_p[r][labels[r]] of log-probabilities [N, C]. Smoothing is not for it. Gradient: -weight
/// g[r] at the label. Errors: as softmax_cross_entropy.
Variable nll(const Variable& log_p, const Tensor& labels, const ClassOptions& options = {});
/// The weight of each row's label, 0 where it is ignored: f32 or f64 [N]. The mean of a loss divides by their sum.
Tensor label_weights(const Tensor& labels, const ClassOptions& options, DType type);

/// y = (1 - t) x + (1 + (pos_weight - 1) t) log(1 + exp(-x)): binary cross-entropy of sigmoid(x) against t, without
/// cancellation for any finite x. x and t of one shape; pos_weight broadcasts to it, undefined: 1. Gradient: without
/// pos_weight, dx = g (sigmoid(x) - t), dt = -g x. Errors: ShapeError, DTypeError.
Variable sigmoid_cross_entropy(const Variable& x, const Variable& target, const Tensor& pos_weight = {});

/// y = x^2 / 2 where |x| <= delta, else delta (|x| - delta / 2). Huber 1964. Gradient: x held in [-delta, delta].
/// Errors: ConfigError unless delta > 0, DTypeError.
Variable huber(const Variable& x, double delta);

/// y = -(t log p + (1 - t) log(1 - p)), each logarithm at least -100, so that p = 0 and p = 1 stay finite.
/// Gradient: dp = g (p - t) / max(p (1 - p), 1e-12), dt = g (log(1 - p) - log p). Errors: ShapeError, DTypeError;
/// ConfigError for a p outside [0, 1].
Variable probability_cross_entropy(const Variable& p, const Variable& target);

}  // namespace espalier
