// fine_tune: prune, train on, and again: the driver of retraining, with a rule for the learning rate and, if wanted, a
// teacher.
//
//   const LeNet teacher = model;                                          // the dense network, as it was trained
//   prune::Pruner pruner(model.parameters());
//   train::fine_tune(model, loader, train::distill(teacher, {.temperature = 2}), {
//       .stages = 3,
//       .prune = [&](Index stage) { pruner.to_sparsity(std::array{0.5, 0.8, 0.9}[static_cast<std::size_t>(stage)]); },
//       .epochs = 5,
//       .lr = train::cosine_from(0.01)});
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "espalier/autograd/sparse_training.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/schedule.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/report.h"
#include "espalier/train/fit.h"

namespace espalier::train {

/// The learning rate of a stage that is so many steps long, as a schedule that counts from the stage's first step.
using RetrainRate = std::function<optim::Schedule(Index stage, Index steps)>;

/// The same small rate throughout: Han et al. 2015 take a tenth of that of training.
RetrainRate constant_at(double lr);
/// From lr down to 0 along half a cosine in every stage: the restarts of Le and Hua 2021 without their warm-up.
RetrainRate cosine_from(double lr);
/// Learning-rate rewinding: every stage plays `schedule`, the one of the training before, again from step k on.
/// Renda, Frankle and Carbin 2020. Errors, of what it returns: ConfigError for k < 0.
RetrainRate rewound(optim::Schedule schedule, std::int64_t k);

struct DistillOptions {
  double temperature = 1;  ///< T: both distributions are softened by it
  double alpha = 0.5;      ///< share of the teacher in the loss; 0: labels alone
};
/// (1 - alpha) CE(logits, target) + alpha T^2 KL(softmax(teacher / T) || softmax(logits / T)), means over rows; the T^2
/// keeps the gradients of both parts of one size. target: labels i64 [N], or probabilities. logits, teacher [N, C].
/// Hinton, Vinyals and Dean 2015, section 2. Errors: ConfigError unless T > 0 and 0 <= alpha <= 1; ShapeError;
/// DTypeError.
Variable distillation_loss(const Variable& logits, const Tensor& target, const Tensor& teacher,
                           const DistillOptions& options = {});

/// A loss for fit() and fine_tune() that asks the teacher about each batch, in evaluation and without recording.
/// `teacher` is copied. Cost: one pass forward of the teacher more a step.
template <class Teacher>
auto distill(const Teacher& teacher, DistillOptions options = {}) {
  Teacher copy = teacher;
  if constexpr (requires { copy.eval(); }) copy.eval();
  return [copy = std::move(copy), options](const auto& model, const Tensor& x, const Tensor& y) {
    Tensor told;
    {
      const NoTape quiet;
      told = copy(x).value();
    }
    return distillation_loss(model(x), y, told, options);
  };
}

struct FineTuneOptions {
  Index stages = 1;
  std::function<void(Index stage)> prune = {};  ///< called before each stage; none: the masks are there already
  /// What is to join the optimizer of a stage: a Pruner with a schedule, which counts from the stage's first step.
  std::function<void(Index stage, optim::Optimizer&)> attach = {};
  Index epochs = 1;  ///< of each stage
  RetrainRate lr = constant_at(1e-3);
  /// What trains, made anew for each stage, so moments start at 0.
  std::function<optim::Chain(const optim::Schedule& rate)> chain = [](const optim::Schedule& rate) {
    return optim::sgd({.lr = rate, .momentum = 0.9});
  };
  bool sparse_training = false;  ///< see SparseTraining; measured for each stage
  std::function<void(const StepInfo&)> on_step = {};
  std::function<void(Index stage, const EpochInfo&)> on_epoch = {};
};

struct FineTuneStage {
  double sparsity;               ///< of the weights of layers, at its end
  double first_loss, last_loss;  ///< means over its first and its last epoch
};

/// For each stage: prune, make an optimizer, fit. loss(model, x, y) as for fit(). Returns a row for each stage. Errors:
/// ConfigError for no stages or epochs; what pruning and fit() throw. Cost: stages x epochs of fit().
template <class Model, class Loss>
std::vector<FineTuneStage> fine_tune(const Model& model, data::Loader& loader, Loss loss,
                                     const FineTuneOptions& options) {
  if (options.stages < 1 || options.epochs < 1)
    fail<ConfigError>("[fine_tune] stages and epochs must be at least 1, got ", options.stages, " and ",
                      options.epochs);
  std::vector<FineTuneStage> rows;
  for (Index stage = 0; stage < options.stages; ++stage) {
    if (options.prune) options.prune(stage);
    const ParameterList parameters = model.parameters();
    optim::Optimizer optimizer(parameters, options.chain(options.lr(stage, options.epochs * loader.batches())));
    if (options.attach) options.attach(stage, optimizer);
    std::optional<SparseTraining> sparse;
    if (options.sparse_training) sparse.emplace(parameters, SparseTrainingOptions{.batch = loader.batch_size()});
    FineTuneStage row{};
    fit(model, optimizer, loader, loss,
        {.epochs = options.epochs, .on_step = options.on_step, .on_epoch = [&](const EpochInfo& info) {
           if (info.epoch == 0) row.first_loss = info.mean_loss;
           row.last_loss = info.mean_loss;
           if (options.on_epoch) options.on_epoch(stage, info);
         }});
    row.sparsity = prune::sparsity(parameters);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace espalier::train
