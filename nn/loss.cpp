#include "espalier/nn/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/compare.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/reduce.h"

namespace espalier::nn {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Broadcasting here is nearly always a mistake: [N] against [N, 1].
void check_same(const char* op, const Variable& x, const Variable& target, const char* x_name = "x",
                const char* target_name = "target") {
  if (!(x.shape() == target.shape()))
    fail<ShapeError>("[", op, "] shapes differ: ", x_name, " ", x.shape(), ", ", target_name, " ", target.shape(),
                     ". Hint: reshape() one");
}

/// x - target.
Variable residual(const char* op, const Variable& x, const Variable& target) {
  check_same(op, x, target);
  return sub(x, target);
}

Variable weighted(const char* op, const Variable& losses, const Tensor& weight) {
  if (!weight.defined()) return losses;
  if (!(broadcast_shapes(op, losses.shape(), weight.shape()) == losses.shape()))
    fail<ShapeError>("[", op, "] weight ", weight.shape(), " does not broadcast to ", losses.shape());
  return mul(losses, weight);
}

Variable positive_part(const Variable& x) { return clamp(x, 0, infinity); }

/// x where the condition holds, else 0, whatever x is there.
Variable only_where(const Tensor& condition, const Variable& x) {
  return where(condition, x, Tensor::scalar(0, x.dtype()));
}

/// [N, C, d1, ...] -> [N d1 ..., C]: the classes last. [C] -> [1, C].
Variable class_rows(const char* op, const Variable& x) {
  if (x.rank() < 1) fail<ShapeError>("[", op, "] logits must be [C], [N, C] or [N, C, d1, ...], got ", x.shape());
  if (x.rank() == 1) return reshape(x, {1, x.size()});
  if (x.rank() == 2) return x;
  Dims axes{0};
  Index rows = x.shape()[0];
  for (int axis = 2; axis < x.rank(); ++axis) {
    axes.push_back(axis);
    rows *= x.shape()[axis];
  }
  axes.push_back(1);
  return reshape(permute(x, axes), {rows, x.shape()[1]});
}

/// The shape of a label for each place of the logits.
Shape label_shape(const Shape& logits) {
  Shape shape = logits;
  shape.erase(shape.rank() == 1 ? 0 : 1);
  return shape;
}

void check_label_type(const char* op, const Tensor& labels) {
  if (labels.dtype() != DType::i64)
    fail<DTypeError>("[", op, "] labels must be i64, got ", labels.dtype(), " of shape ", labels.shape(),
                     ". Hint: .to(DType::i64)");
}
/// `probabilities`: the loss takes them, too.
void check_labels(const char* op, const Shape& logits, const Tensor& labels, bool probabilities) {
  if (!(label_shape(logits) == labels.shape()))
    fail<ShapeError>("[", op, "] labels ", labels.shape(), " for logits ", logits, "; they must be ",
                     label_shape(logits), probabilities ? join(", or class probabilities ", logits) : std::string());
  check_label_type(op, labels);
}

/// Losses of labels: the mean counts each by the weight of its label.
Variable reduce_labels(const Variable& losses, const Shape& shape, Reduction reduction, const Tensor& labels,
                       const ClassOptions& classes) {
  if (reduction == Reduction::mean) {
    double total = 0;
    if (classes.weight.defined()) {
      total = sum(label_weights(labels, classes, losses.dtype()).to(DType::f64)).item();
    } else {
      const Tensor list = labels.contiguous();
      const std::int64_t* label = list.data<std::int64_t>();
      total = static_cast<double>(list.size() - std::count(label, label + list.size(), classes.ignore_index));
    }
    return sum(losses) / total;
  }
  return reduce(losses.shape() == shape ? losses : reshape(losses, shape), reduction);
}

Variable cross_entropy_of_labels(const Variable& logits, const Tensor& labels, const CrossEntropyOptions& o) {
  const Variable rows = class_rows("cross_entropy", logits);
  check_labels("cross_entropy", logits.shape(), labels, true);
  const ClassOptions classes{o.weight, o.ignore_index, o.label_smoothing};
  const Tensor list = labels.rank() == 1 ? labels : labels.reshape({labels.size()});
  const Variable losses = softmax_cross_entropy(rows, list, classes);
  return reduce_labels(losses, labels.shape(), o.reduction, list, classes);
}

Variable cross_entropy_of_probabilities(const Variable& logits, const Variable& target, const CrossEntropyOptions& o) {
  const Variable rows = class_rows("cross_entropy", logits);
  const Index classes = rows.shape()[1];
  Variable t = class_rows("cross_entropy", target);
  if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
    fail<ConfigError>("[cross_entropy] label_smoothing must be in [0, 1], got ", o.label_smoothing);
  if (o.label_smoothing > 0)
    t = affine(t, 1 - o.label_smoothing, o.label_smoothing / static_cast<double>(std::max<Index>(1, classes)));
  t = weighted("cross_entropy", t, o.weight);
  const Variable losses = neg(sum(mul(t, log_softmax(rows, 1)), {1}));
  return reduce(reshape(losses, label_shape(logits.shape())), o.reduction);
}

}  // namespace

Variable reduce(const Variable& losses, Reduction reduction) {
  if (reduction == Reduction::none) return losses;
  if (reduction == Reduction::mean) return mean(losses);
  if (reduction == Reduction::sum) return sum(losses);
  if (losses.rank() == 0)
    fail<ShapeError>("[reduce] a scalar has no batch to take the mean over. Hint: Reduction::sum");
  return sum(losses) / static_cast<double>(losses.shape()[0]);
}

// --- classes --------------------------------------------------------------------------------------------------------

Variable cross_entropy(const Variable& logits, const Variable& target, const CrossEntropyOptions& options) {
  if (is_floating(target.dtype()) && target.shape() == logits.shape())
    return cross_entropy_of_probabilities(logits, target, options);
  return cross_entropy_of_labels(logits, target.value(), options);
}

Variable nll_loss(const Variable& log_p, const Tensor& labels, const NllOptions& options) {
  const Variable rows = class_rows("nll_loss", log_p);
  check_labels("nll_loss", log_p.shape(), labels, false);
  const ClassOptions classes{options.weight, options.ignore_index};
  const Tensor list = labels.reshape({labels.size()});
  return reduce_labels(nll(rows, list, classes), labels.shape(), options.reduction, list, classes);
}

Variable multi_margin_loss(const Variable& x, const Tensor& labels, const MultiMarginOptions& options) {
  if (x.rank() != 2 || !(labels.shape() == Shape{x.shape()[0]}))
    fail<ShapeError>("[multi_margin_loss] needs x [N, C] and labels [N], got ", x.shape(), " and ", labels.shape());
  check_label_type("multi_margin_loss", labels);
  const Index n = x.shape()[0], classes = x.shape()[1];
  const Tensor column = labels.reshape({n, 1});
  const Variable own = gather(x, 1, column);
  const Tensor own_place = ne(one_hot(labels, classes, x.dtype()), 0);
  Variable losses = positive_part(affine(sub(x, own), 1, options.margin));
  if (options.p != 1) losses = pow(losses, options.p);
  losses = masked_fill(losses, own_place, 0);
  if (options.weight.defined()) losses = mul(losses, reshape(index_select(options.weight, 0, labels), {n, 1}));
  return reduce(mean(losses, {1}), options.reduction);
}

// --- numbers against numbers ----------------------------------------------------------------------------------------

Variable l1_loss(const Variable& x, const Variable& target, LossOptions options) {
  return reduce(abs(residual("l1_loss", x, target)), options.reduction);
}

Variable mse_loss(const Variable& x, const Variable& target, LossOptions options) {
  return reduce(square(residual("mse_loss", x, target)), options.reduction);
}

Variable huber_loss(const Variable& x, const Variable& target, HuberOptions options) {
  return reduce(huber(residual("huber_loss", x, target), options.delta), options.reduction);
}

Variable smooth_l1_loss(const Variable& x, const Variable& target, SmoothL1Options options) {
  if (!(options.beta >= 0)) fail<ConfigError>("[smooth_l1_loss] beta must not be negative, got ", options.beta);
  const Variable d = residual("smooth_l1_loss", x, target);
  if (options.beta == 0) return reduce(abs(d), options.reduction);
  return reduce(huber(d, options.beta) / options.beta, options.reduction);
}

Variable poisson_nll_loss(const Variable& x, const Variable& target, PoissonNllOptions options) {
  check_same("poisson_nll_loss", x, target);
  Variable losses =
      options.log_input ? sub(exp(x), mul(target, x)) : sub(x, mul(target, log(affine(x, 1, options.eps))));
  if (!options.full) return reduce(losses, options.reduction);
  const Variable t = clamp(target, 1, infinity);  // log(target!) is next to 0 below
  const Variable stirling = add(sub(mul(t, log(t)), t), affine(log(affine(t, 2 * std::numbers::pi, 0)), 0.5, 0));
  return reduce(add(losses, only_where(gt(target.value(), 1), stirling)), options.reduction);
}

Variable gaussian_nll_loss(const Variable& x, const Variable& target, const Variable& variances,
                           GaussianNllOptions options) {
  const Variable d = residual("gaussian_nll_loss", x, target);
  Shape samples = x.shape();
  if (samples.rank() > 0) samples.erase(samples.rank() - 1);
  const bool one_each = x.rank() > 0 && variances.shape() == samples;
  const Variable var = one_each ? unsqueeze(variances, -1) : variances;
  if (!(broadcast_shapes("gaussian_nll_loss", x.shape(), var.shape()) == x.shape()))
    fail<ShapeError>("[gaussian_nll_loss] var ", var.shape(), " does not broadcast to x ", x.shape());
  // Held from below without stopping the gradient: a constant is added where the variance is too small.
  const Tensor lift = map_with("gaussian_nll_loss", var.value(), [eps = options.eps](auto v) {
    if (v < 0) fail<ConfigError>("[gaussian_nll_loss] a variance is negative: ", static_cast<double>(v));
    using T = decltype(v);
    return v < static_cast<T>(eps) ? static_cast<T>(eps) - v : T(0);
  });
  const Variable held = add(var, lift);
  const double constant = options.full ? std::log(2 * std::numbers::pi) / 2 : 0;
  return reduce(affine(add(log(held), div(square(d), held)), 0.5, constant), options.reduction);
}

// --- probabilities --------------------------------------------------------------------------------------------------

Variable binary_cross_entropy(const Variable& p, const Variable& target, const BceOptions& options) {
  return reduce(weighted("binary_cross_entropy", probability_cross_entropy(p, target), options.weight),
                options.reduction);
}

Variable binary_cross_entropy_with_logits(const Variable& x, const Variable& target,
                                          const BceWithLogitsOptions& options) {
  return reduce(weighted("binary_cross_entropy_with_logits", sigmoid_cross_entropy(x, target, options.pos_weight),
                         options.weight),
                options.reduction);
}

Variable multilabel_soft_margin_loss(const Variable& x, const Variable& target, const BceOptions& options) {
  return reduce(mean(weighted("multilabel_soft_margin_loss", sigmoid_cross_entropy(x, target), options.weight), {-1}),
                options.reduction);
}

Variable kl_div(const Variable& x, const Variable& target, KlDivOptions options) {
  check_same("kl_div", x, target);
  if (options.log_target) return reduce(mul(exp(target), sub(target, x)), options.reduction);
  return reduce(sub(xlogy(target, target), mul(target, x)), options.reduction);
}

// --- pairs and distances --------------------------------------------------------------------------------------------

Variable margin_ranking_loss(const Variable& a, const Variable& b, const Variable& target, MarginOptions options) {
  check_same("margin_ranking_loss", a, b, "a", "b");
  check_same("margin_ranking_loss", a, target, "a");
  return reduce(positive_part(affine(mul(target, sub(a, b)), -1, options.margin)), options.reduction);
}

Variable hinge_embedding_loss(const Variable& x, const Variable& target, MarginOptions options) {
  check_same("hinge_embedding_loss", x, target);
  const Variable near = only_where(ne(target.value(), -1), x);
  const Variable apart = only_where(ne(target.value(), 1), positive_part(affine(x, -1, options.margin)));
  return reduce(add(near, apart), options.reduction);
}

Variable cosine_embedding_loss(const Variable& a, const Variable& b, const Variable& target, MarginOptions options) {
  check_same("cosine_embedding_loss", a, b, "a", "b");
  Shape due = a.shape();
  if (due.rank() < 1 || due.rank() > 2) fail<ShapeError>("[cosine_embedding_loss] needs [N, n] or [n], got ", due);
  due.erase(due.rank() - 1);
  if (!(target.shape() == due))
    fail<ShapeError>("[cosine_embedding_loss] target ", target.shape(), " for a ", a.shape(), "; it must be ", due);
  auto length = [](const Variable& v) { return affine(sum(square(v), {-1}), 1, 1e-12); };
  const Variable cosine = div(sum(mul(a, b), {-1}), sqrt(mul(length(a), length(b))));
  const Variable near = only_where(eq(target.value(), 1), affine(cosine, -1, 1));
  const Variable apart = only_where(eq(target.value(), -1), positive_part(affine(cosine, 1, -options.margin)));
  return reduce(add(near, apart), options.reduction);
}

Variable soft_margin_loss(const Variable& x, const Variable& target, LossOptions options) {
  check_same("soft_margin_loss", x, target);
  return reduce(softplus(neg(mul(target, x)), 1, infinity), options.reduction);
}

Variable triplet_margin_loss(const Variable& anchor, const Variable& positive, const Variable& negative,
                             TripletOptions options) {
  check_same("triplet_margin_loss", anchor, positive, "anchor", "positive");
  check_same("triplet_margin_loss", anchor, negative, "anchor", "negative");
  const double p = options.p;
  if (!(p > 0 && p < infinity)) fail<ConfigError>("[triplet_margin_loss] p must be above 0 and finite, got ", p);
  auto distance = [&](const Variable& u, const Variable& v) {
    return norm(affine(sub(u, v), 1, options.eps), p, {-1});  // its slope is 0 at 0, as eps may be
  };
  Variable apart = distance(anchor, negative);
  if (options.swap) apart = minimum(apart, distance(positive, negative));
  return reduce(positive_part(affine(sub(distance(anchor, positive), apart), 1, options.margin)), options.reduction);
}

}  // namespace espalier::nn
