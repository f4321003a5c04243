#include "espalier/train/fine_tune.h"

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"

namespace espalier::train {

RetrainRate constant_at(double lr) {
  return [schedule = optim::constant({.lr = lr})](Index, Index) { return schedule; };
}

RetrainRate cosine_from(double lr) {
  return [lr](Index, Index steps) { return optim::cosine({.lr = lr, .T_max = steps, .hold = true}); };
}

RetrainRate rewound(optim::Schedule schedule, std::int64_t k) {
  return [schedule = std::move(schedule), k](Index, Index) {
    if (k < 0) fail<ConfigError>("[rewound] k must not be negative, got ", k);
    return optim::Schedule("rewound", [schedule, k](std::int64_t t) { return schedule(t + k); });
  };
}

Variable distillation_loss(const Variable& logits, const Tensor& target, const Tensor& teacher,
                           const DistillOptions& options) {
  const double t = options.temperature, alpha = options.alpha;
  if (!(t > 0) || !(alpha >= 0 && alpha <= 1))
    fail<ConfigError>("[distill] temperature must be positive and alpha within [0, 1], got ", t, " and ", alpha);
  const Variable of_labels = nn::cross_entropy(logits, target);
  if (alpha == 0) return of_labels;
  const Variable soft = [&] {
    const NoTape quiet;
    return log_softmax(affine(teacher, 1 / t, 0), 1);
  }();
  const Variable of_teacher = nn::kl_div(log_softmax(affine(logits, 1 / t, 0), 1), soft,
                                         {.log_target = true, .reduction = nn::Reduction::batch_mean});
  return of_labels * (1 - alpha) + of_teacher * (alpha * t * t);
}

}  // namespace espalier::train
