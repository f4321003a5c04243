// Pruner: chooses which weights go, by a score, and writes the masks. What keeps the masked weights 0 afterwards is the
// optimizer's pipeline: a pruned model trains on without a Pruner and stays pruned.
//
//   auto pruner = prune::Pruner(model.parameters(),
//       {.score = prune::magnitude(), .scope = prune::Scope::global,
//        .schedule = prune::cubic({.final_sparsity = 0.9, .begin = 500, .end = 5000, .every = 100})});
//   opt.attach(pruner);                                      // during training, or without any optimizer:
//
//   prune::Pruner(model.parameters()).to_sparsity(0.5);
//
// Which way masks go, and what becomes of them:
//
// | verb     | masks                  | pruned weights                         | afterwards                   |
// |----------|------------------------|----------------------------------------|------------------------------|
// | freeze() | stay; soft become hard | are gone: dense values are dropped     | what is pruned stays so      |
// | thaw()   | stay; hard become soft | are 0, and learn: gradients reach them | each choice is made anew     |
// | undo()   | as at the snapshot()   | come back with the values they had     | as the mode says             |
// | strip()  | are dropped            | are plain zeros, free to change        | nothing is enforced any more |
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"
#include "espalier/prune/distribution.h"
#include "espalier/prune/granularity.h"
#include "espalier/prune/history.h"
#include "espalier/prune/report.h"
#include "espalier/prune/schedule.h"
#include "espalier/prune/score.h"

namespace espalier::prune {

/// Which weights, or pieces of granularity, compete with each other; each such set reaches the sparsity by itself.
enum class Scope : std::uint8_t {
  tensor,  ///< those of one parameter
  group,   ///< those of one of PrunerOptions::groups
  global   ///< all selected
};

/// What a new choice does to the mask that is there. A weight without a mask takes the choice as it is; counts are of
/// the choice, not of what comes of it.
enum class Combine : std::uint8_t {
  replace,    ///< it takes its place; in hard mode what is pruned counts first, and stays so
  intersect,  ///< live is what is live in both: only ever fewer
  unite       ///< live is what is live in one of them: what was live stays so; for soft masks
};

struct PrunerOptions {
  Score score = magnitude();
  Granularity granularity = elements();
  Scope scope = Scope::global;
  Distribution distribution = uniform();         ///< for Scope::tensor: how much of each
  Schedule schedule = Schedule();                ///< without one, call to_sparsity() or prune_fraction()
  optim::Select select = optim::select_rank(2);  ///< weights of layers, no biases or gains
  MaskMode mode = MaskMode::hard;
  Combine combine = Combine::replace;
  /// Live pieces (weights, units, blocks) left in every tensor, or group of units, so that none dies silently.
  Index min_keep = 1;
  std::vector<optim::Select> groups = {};  ///< for Scope::group: a parameter belongs to the first that matches
  /// What the score needs is gathered from these batches, of the selected parameters, each time before it is asked.
  /// None: from use(), and the gradient from the last backward.
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
  /// A parameter listed twice counts once. Errors: ConfigError if nothing is selected, min_keep is negative,
  /// Combine::unite meets hard masks, or scope and groups, or scope and distribution, do not go together.
  explicit Pruner(const ParameterList& parameters, PrunerOptions options = {});

  /// What Optimizer::attach() takes: before each step for which the schedule has a sparsity, to_sparsity() of it.
  std::shared_ptr<optim::StepHook> hook() const;

  /// What the score is to look at from now on, unless there is PrunerOptions::loss: gathered by hand. A gradient in it
  /// goes before the parameter's own.
  void use(Gathered gathered);

  // --- pruning -------------------------------------------------------------------------------------------------------
  // Exact counts of weights, or of the granularity's pieces, rounded half to even, in each set that competes; ties go
  // by (order of the list, flat index), the lower first. With a distribution other than uniform() the amount is of all
  // tensors together. Errors of all: ConfigError for a fraction outside [0, 1], a packed weight, what the score needs
  // and does not find, a score of units where pieces are others, or pieces that a parameter does not have;
  // NonFiniteError for a NaN score; what gather(), the loss and the distribution throw; then no mask was changed. Cost:
  // the score and O(weights).

  void to_sparsity(double sparsity);     ///< this share of all is pruned afterwards
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
  /// Hard mode ends: masks become soft, so that gradients reach pruned weights again. Their values stay 0 until a
  /// choice brings them back, with what they have learned by then. From now on this pruner works in soft mode.
  void thaw();
  /// Masks are dropped and nothing is enforced any more; the weights stay as they are, zeros are plain zeros, and dense
  /// values of soft mode are gone. For export to what knows no masks. A schedule that is still due prunes again.
  void strip();

  // --- looking -------------------------------------------------------------------------------------------------------
  double sparsity() const;  ///< share of weights that are pruned, over parameters()
  /// Of the granularity's pieces. A share of units says less of weights than one thinks: with half of the channels on
  /// both sides a weight keeps a quarter.
  PieceCount pieces() const;
  /// Those whose masks it sets: the selected, or all that have a part in its units.
  const ParameterList& parameters() const noexcept;
  std::vector<SparsityRow> report() const;
  std::string describe() const;
  /// What was done to the masks through it, the oldest first; by its schedule, too.
  const PruneHistory& history() const noexcept;

  /// All a later step depends on, but for the masks, which are saved with the model, and the step, which the optimizer
  /// saves: "mode", "step" and "target" (of the last scheduled pruning), "snapshot/<parameter>/value" and ".../mask",
  /// and "history" once there is one.
  PrunerState state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const PrunerState& state);

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

}  // namespace espalier::prune
