// Pruner: chooses which weights go, by a score, and writes the masks. What keeps the masked weights 0 afterwards is the
// optimizer's pipeline: a pruned model trains on without a Pruner and stays pruned.
//
//   auto pruner = prune::Pruner(model.parameters(),
//       {.score = prune::magnitude(), .scope = prune::Scope::global,
//        .schedule = prune::cubic({.final_sparsity = 0.9, .begin = 500, .end = 5000, .every = 100})});
//   opt.attach(pruner);                                      // during training, or without any optimizer:
//
//   prune::Pruner(model.parameters()).to_sparsity(0.5);
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"
#include "espalier/prune/report.h"
#include "espalier/prune/schedule.h"
#include "espalier/prune/score.h"

namespace espalier::prune {

/// Which weights compete with each other; each such set reaches the sparsity by itself.
enum class Scope : std::uint8_t {
  tensor,  ///< those of one parameter
  group,   ///< those of one of PrunerOptions::groups
  global   ///< all selected
};

struct PrunerOptions {
  Score score = magnitude();
  Scope scope = Scope::global;
  Schedule schedule = Schedule();                ///< without one, call to_sparsity() or prune_fraction()
  optim::Select select = optim::select_rank(2);  ///< weights of layers, no biases or gains
  MaskMode mode = MaskMode::hard;
  Index min_keep = 1;                      ///< live weights left in every tensor, so that none dies silently
  std::vector<optim::Select> groups = {};  ///< for Scope::group: a parameter belongs to the first that matches
  /// What the score needs is gathered from these batches, of the selected parameters, each time before it is asked. None:
  /// from use(), and the gradient from the last backward.
  Loss loss = {};
  Index batches = 1;
  GatherOptions gather = {};
};

/// Tensors by key, for checkpoints.
using PrunerState = std::map<std::string, Tensor>;

/// A handle: copies, and the optimizer it is attached to, share one state, so any of them may go first.
///
/// Hard mode: a pruned weight is gone; it stays pruned and counts first, so the sparsity never falls. Soft mode: the
/// choice is made anew each time from the dense weights, so a pruned weight may come back.
class Pruner {
 public:
  /// A parameter listed twice counts once. Errors: ConfigError if nothing is selected, min_keep is negative, or scope
  /// and groups do not go together.
  explicit Pruner(const ParameterList& parameters, PrunerOptions options = {});

  /// What Optimizer::attach() takes: before each step for which the schedule has a sparsity, to_sparsity() of it.
  std::shared_ptr<optim::StepHook> hook() const;

  /// What the score is to look at from now on, unless there is PrunerOptions::loss: gathered by hand. A gradient in it
  /// goes before the parameter's own.
  void use(Gathered gathered);

  // --- pruning -------------------------------------------------------------------------------------------------------
  // Exact counts, rounded half to even, in each set that competes; ties go by (order of the list, flat index), the
  // lower first. Errors of all: ConfigError for a fraction outside [0, 1], a packed weight, what the
  // score needs and does not find, or a score of units; NonFiniteError for a NaN score; what gather() and the loss throw;
  // then no mask was changed. Cost: the score and O(weights).

  void to_sparsity(double sparsity);     ///< this share of all weights is pruned afterwards
  void prune_fraction(double fraction);  ///< this share of those live now
  void prune_count(Index count);         ///< so many of those live now

  // --- and back ------------------------------------------------------------------------------------------------------
  /// Keeps a copy of masks and values, for undo().
  void snapshot();
  /// Masks as they were at the snapshot; weights that come back have the value they had then, or in soft mode their
  /// dense value. In soft mode without a snapshot: no masks. Errors: ConfigError in hard mode without a snapshot, or if
  /// a shape has changed since; then nothing was changed.
  void undo();
  /// For shrink(): the snapshot keeps what belongs to what stays. See optim::Commit.
  optim::Commit prepare_cut(std::span<const optim::ParameterCut> cuts);
  /// Soft mode ends: what is pruned is gone. From now on this pruner works in hard mode.
  void freeze();

  // --- looking -------------------------------------------------------------------------------------------------------
  double sparsity() const;  ///< over the selected parameters
  const ParameterList& parameters() const noexcept;
  std::vector<SparsityRow> report() const;
  std::string describe() const;

  /// All a later step depends on, but for the masks, which are saved with the model, and the step, which the optimizer
  /// saves: "mode", "step" and "target" (of the last scheduled pruning), "snapshot/<parameter>/value" and ".../mask".
  PrunerState state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const PrunerState& state);

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

}  // namespace espalier::prune
