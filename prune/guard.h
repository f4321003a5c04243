// Guard: prunes as long as a metric bears it.
//
//   prune::Guard guard(pruner, [&] { return accuracy(model, validation); },
//                      {.max_drop = 0.01, .action = prune::GuardAction::roll_back, .recover = 50});
//   opt.attach(guard);                        // in place of the pruner
//
//   while (guard.prune_fraction(0.1)) {}      // or by hand: as far as it goes
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "espalier/prune/metric.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {

/// What is done when the metric has dropped too far. Either way nothing is pruned from then on.
enum class GuardAction : std::uint8_t {
  stop,      ///< masks stay as they are
  roll_back  ///< masks and weights go back to what they were before the pruning that was too much
};

struct GuardOptions {
  double max_drop = std::numeric_limits<double>::quiet_NaN();  ///< against the baseline; must be given
  Better better = Better::higher;
  GuardAction action = GuardAction::stop;
  /// Steps of training between a pruning and the metric that judges it; fewer if the next pruning is due before. By hand
  /// it is judged at once.
  std::int64_t recover = 0;
  Index patience = 0;  ///< so many bad metrics in a row are let pass; roll_back goes back to before the first of them
  double baseline = std::numeric_limits<double>::quiet_NaN();  ///< NaN: the metric before the first pruning
  /// What roll_back puts back besides the pruner's parameters: with `recover`, all of the model's, so that biases go back
  /// together with the weights.
  ParameterList parameters = {};
};

/// A handle: copies, and the optimizer it is attached to, share one state. A metric of NaN counts as too bad.
///
/// A roll-back restores values and masks to the bytes. Moments of the optimizer are not saved: of weights that were pruned
/// for at least one step they are 0 afterwards, as of any weight that comes back. Without `recover` and `patience` the
/// roll-back comes before the step is made, gradients are put back, too, and it is as if nothing had been pruned.
class Guard {
 public:
  /// Errors: ConfigError without a metric, for a max_drop that is negative or not given, a negative recover or patience.
  Guard(Pruner pruner, Metric metric, GuardOptions options);

  /// What Optimizer::attach() takes: the pruner's hook, guarded. Errors of a step: what the pruner and the metric throw;
  /// ConfigError if weights are to go back whose shape has changed.
  std::shared_ptr<optim::StepHook> hook() const;

  // By hand. True if the metric is within the bound afterwards. False, and nothing is done, once it has stopped.
  bool to_sparsity(double sparsity);
  bool prune_fraction(double fraction);
  /// Judges what the hook has pruned and not judged yet. True if all is within the bound.
  bool check();

  /// For shrink(), in the pruner's place: what it would go back to is cut, and so is the pruner's snapshot.
  optim::Commit prepare_cut(std::span<const optim::ParameterCut> cuts);

  bool stopped() const noexcept;
  double baseline() const noexcept;  ///< NaN: not asked yet
  double metric() const noexcept;    ///< the last; NaN: not asked yet
  std::string describe() const;

  /// "baseline", "metric", "pruned_at", "waiting", "bad", "stopped"; and, while there is something to go back to,
  /// "before/<parameter>/value" and ".../mask". The pruner is saved by itself.
  PrunerState state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const PrunerState& state);

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

}  // namespace espalier::prune
