// fit: the training loop, small enough to copy out and change.
#pragma once

#include <cmath>
#include <functional>

#include "espalier/autograd/tape.h"
#include "espalier/data/loader.h"
#include "espalier/optim/optimizer.h"

namespace espalier::train {

/// What on_step sees. The loss is the one before this step's update.
struct StepInfo {
  Index epoch;        ///< from 0
  Index step, steps;  ///< of the whole run: done, this one included, and planned
  double loss;
  const optim::StepReport& report;
};
struct EpochInfo {
  Index epoch;       ///< from 0: the one that ended
  double mean_loss;  ///< over its steps
};

struct FitOptions {
  Index epochs = 1;
  std::function<void(const StepInfo&)> on_step;
  std::function<void(const EpochInfo&)> on_epoch;
};

/// For each batch: record, backward, step. loss(model, x, y) returns a Variable of one element.
/// Errors: what the step throws; NonFiniteError for a loss that is not finite, before the weights are touched.
template <class Model, class Loss>
void fit(const Model& model, optim::Optimizer& optimizer, data::Loader& loader, Loss loss, const FitOptions& options) {
  Index step = 0;
  const Index steps = options.epochs * loader.batches();
  for (Index epoch = 0; epoch < options.epochs; ++epoch) {
    double total = 0;
    Index batches = 0;
    for (auto& [x, y] : loader) {
      Tape tape;
      const Variable value = loss(model, x, y);
      tape.backward(value);
      if (!std::isfinite(value.item()))
        fail<NonFiniteError>("[fit] the loss became ", value.item(), " at step ", step + 1,
                             ". Hint: clip, or lower lr");
      const optim::StepReport report = optimizer.step();
      total += value.item();
      ++batches;
      ++step;
      if (options.on_step) options.on_step({epoch, step, steps, value.item(), report});
    }
    if (options.on_epoch) options.on_epoch({epoch, batches > 0 ? total / static_cast<double>(batches) : 0});
  }
}

}  // namespace espalier::train
