// Movement: which weights grow away from 0 while they train, and which shrink.
//
//   auto movement = prune::Movement(model.parameters(), {.lr = 0.01});
//   auto pruner = prune::Pruner(model.parameters(), {.score = movement.score(), .schedule = prune::cubic({...}),
//                                                    .mode = MaskMode::soft});
//   opt.attach(movement);                                    // before the pruner, so that it sees this step's gradient
//   opt.attach(pruner);
#pragma once

#include <map>
#include <memory>
#include <string>

#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"
#include "espalier/prune/score.h"

namespace espalier::prune {

struct MovementOptions {
  double lr = 1;      ///< scales all scores alike, so for the top v it does not matter unless lambda does
  double lambda = 0;  ///< of the sum of sigmoid(S), which draws scores down: for soft movement
  optim::Select select = optim::select_rank(2);
};

/// S <- S - lr (w dL/dw + lambda sigmoid'(S)) at every step, from S = 0, with raw gradients. In soft mode w is the dense
/// weight and the gradient that of the masked one, so that pruned weights go on scoring and may come back; in hard mode
/// their scores stand still. Keep the top v by a Pruner, or those above a threshold (soft movement) by prune_below().
/// Sanh, Wolf and Rush 2020, section 3. A handle: copies share one state.
class Movement {
 public:
  /// Errors: ConfigError if nothing is selected, or for an lr or a lambda that is not finite, or lr <= 0.
  explicit Movement(const ParameterList& parameters, MovementOptions options = {});

  /// What Optimizer::attach() takes.
  std::shared_ptr<optim::StepHook> hook() const;
  /// One accumulation by hand, for those who write their own update. Parameters without a gradient are left out.
  /// Errors: ConfigError if a parameter has changed its shape.
  void accumulate();
  /// S, f64. Its errors: ConfigError for a parameter that is not selected here.
  Score score() const;

  /// The scores by parameter name, for checkpoints.
  std::map<std::string, Tensor> state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

}  // namespace espalier::prune
