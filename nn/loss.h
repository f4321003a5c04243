// Losses: compositions of the ops in autograd/ops/loss.h with a reduction. PyTorch's names, meanings and defaults.
//
//   Variable loss = nn::cross_entropy(model(x), labels, {.label_smoothing = 0.1});
#pragma once

#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/tape.h"

namespace espalier::nn {

/// What becomes of the losses of single elements or samples. batch_mean: their sum over the length of the first axis.
enum class Reduction : std::uint8_t { mean, sum, none, batch_mean };
/// Errors: ShapeError for batch_mean of a scalar.
Variable reduce(const Variable& losses, Reduction reduction);

// Errors of all: ShapeError unless the shapes fit (x and target: are the same), DTypeError, ConfigError for options
// without a meaning.

struct LossOptions {
  Reduction reduction = Reduction::mean;
};

// --- classes --------------------------------------------------------------------------------------------------------

struct CrossEntropyOptions {
  Tensor weight = {};         ///< [C], of each class
  Index ignore_index = -100;  ///< samples with this label count for nothing; for labels, not for probabilities
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0;  ///< this much of each target is spread over all classes
};
/// -log softmax(logits)[target]. logits [N, C] or [N, C, d1, ...]; target: labels i64 [N] or [N, d1, ...], or
/// probabilities of the logits' shape. Of one sample alone: logits [C], a label [] or probabilities [C]. The mean over
/// labels is weighted by the weight of each label and leaves ignored ones out (NaN if all are); the one over
/// probabilities divides by their number. Errors: also IndexError.
Variable cross_entropy(const Variable& logits, const Variable& target, const CrossEntropyOptions& options = {});

struct NllOptions {
  Tensor weight = {};
  Index ignore_index = -100;
  Reduction reduction = Reduction::mean;
};
/// The same of log-probabilities: -log_p[target]. Errors: also IndexError.
Variable nll_loss(const Variable& log_p, const Tensor& labels, const NllOptions& options = {});

struct MultiMarginOptions {
  double p = 1;
  double margin = 1;
  Tensor weight = {};  ///< [C]
  Reduction reduction = Reduction::mean;
};
/// sum over c != label of max(0, margin - x[label] + x[c])^p / C. x [N, C], labels i64 [N]. Errors: also IndexError.
Variable multi_margin_loss(const Variable& x, const Tensor& labels, const MultiMarginOptions& options = {});

// --- numbers against numbers ----------------------------------------------------------------------------------------

/// |x - target|
Variable l1_loss(const Variable& x, const Variable& target, LossOptions options = {});
/// (x - target)^2
Variable mse_loss(const Variable& x, const Variable& target, LossOptions options = {});
struct HuberOptions {
  double delta = 1;
  Reduction reduction = Reduction::mean;
};
/// d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = x - target. Huber 1964.
Variable huber_loss(const Variable& x, const Variable& target, HuberOptions options = {});
struct SmoothL1Options {
  double beta = 1;  ///< 0: l1_loss
  Reduction reduction = Reduction::mean;
};
/// d^2 / (2 beta) where |d| <= beta, else |d| - beta / 2. Girshick 2015.
Variable smooth_l1_loss(const Variable& x, const Variable& target, SmoothL1Options options = {});
struct PoissonNllOptions {
  bool log_input = true;  ///< x is the logarithm of the rate
  bool full = false;      ///< add Stirling's approximation of log(target!)
  double eps = 1e-8;
  Reduction reduction = Reduction::mean;
};
/// exp(x) - target x, or x - target log(x + eps); Stirling's part, for targets above 1, is t log t - t + log(2 pi t) / 2.
Variable poisson_nll_loss(const Variable& x, const Variable& target, PoissonNllOptions options = {});
struct GaussianNllOptions {
  bool full = false;  ///< add log(2 pi) / 2
  double eps = 1e-6;  ///< variances are held above it; their gradient passes
  Reduction reduction = Reduction::mean;
};
/// (log(var) + (x - target)^2 / var) / 2. var broadcasts to x, or has x's shape but for the last axis: one variance a
/// sample. Nix and Weigend 1994.
Variable gaussian_nll_loss(const Variable& x, const Variable& target, const Variable& var,
                           GaussianNllOptions options = {});

// --- probabilities --------------------------------------------------------------------------------------------------

struct BceOptions {
  Tensor weight = {};  ///< of each element; broadcasts
  Reduction reduction = Reduction::mean;
};
/// -(t log p + (1 - t) log(1 - p)) for probabilities p, the logarithms held above -100. Errors: also ConfigError for a p
/// outside [0, 1]; a NaN passes, for the optimizer to find.
Variable binary_cross_entropy(const Variable& p, const Variable& target, const BceOptions& options = {});
struct BceWithLogitsOptions {
  Tensor weight = {};      ///< of each element; broadcasts
  Tensor pos_weight = {};  ///< of the part with t = 1; broadcasts
  Reduction reduction = Reduction::mean;
};
/// The same of p = sigmoid(x), in one stable step.
Variable binary_cross_entropy_with_logits(const Variable& x, const Variable& target,
                                          const BceWithLogitsOptions& options = {});
/// The mean of it over the last axis: several labels for one sample. x, target [..., C].
Variable multilabel_soft_margin_loss(const Variable& x, const Variable& target, const BceOptions& options = {});
struct KlDivOptions {
  bool log_target = false;  ///< the target is a logarithm, too
  Reduction reduction = Reduction::mean;
};
/// target (log target - x), x a logarithm: the divergence of Kullback and Leibler 1951, with batch_mean as they define
/// it. 0 where the target is 0, NaN where it is negative. The gradient by a target of 0 is NaN, as in PyTorch.
Variable kl_div(const Variable& x, const Variable& target, KlDivOptions options = {});

// --- pairs and distances; targets are 1 or -1 -------------------------------------------------------------------------

struct MarginOptions {
  double margin = 0;
  Reduction reduction = Reduction::mean;
};
/// max(0, -target (a - b) + margin). a, b and target of one shape.
Variable margin_ranking_loss(const Variable& a, const Variable& b, const Variable& target, MarginOptions options = {});
/// x where the target is 1, max(0, margin - x) where it is -1.
Variable hinge_embedding_loss(const Variable& x, const Variable& target, MarginOptions options = {.margin = 1});
/// 1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1. a, b [N, n], target [N]; or [n], [].
Variable cosine_embedding_loss(const Variable& a, const Variable& b, const Variable& target,
                               MarginOptions options = {});
/// log(1 + exp(-target x))
Variable soft_margin_loss(const Variable& x, const Variable& target, LossOptions options = {});
struct TripletOptions {
  double margin = 1;
  double p = 2;  ///< of the distance |u - v + eps|_p over the last axis, finite
  double eps = 1e-6;
  bool swap = false;  ///< take the nearer of anchor and positive for the negative (Balntas et al. 2016)
  Reduction reduction = Reduction::mean;
};
/// max(0, |anchor - positive| - |anchor - negative| + margin). [N, n] or [n]. Schroff, Kalenichenko, Philbin 2015.
Variable triplet_margin_loss(const Variable& anchor, const Variable& positive, const Variable& negative,
                             TripletOptions options = {});

}  // namespace espalier::nn
