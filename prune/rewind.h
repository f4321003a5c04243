// Rewind: the weights of a step k, kept, and the way back to them once masks have been found: lottery tickets.
//
//   prune::Rewind start(model.parameters());          // k = 0: the initial weights
//   ... train, prune ...
//   start.rewind();                                   // live weights as they were, pruned ones 0
//
//   prune::Rewind early(model.parameters(), opt);     // behind step k: the optimizer's state as well
//   ... train on, prune ...
//   early.rewind(opt);                                // weights and learning rate of step k
//   early.rewind(opt, {.weights = false});            // the trained weights, at the learning rates from step k on
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/parameter.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/reshape.h"

namespace espalier::prune {

/// What the optimizer remembers of each weight after a rewind.
enum class Moments : std::uint8_t {
  anew,     ///< nothing: the next step is the first of every parameter
  as_saved  ///< what it did at step k, 0 where the mask is 0 now
};

struct RewindOptions {
  bool weights = true;        ///< values, and running statistics if they were kept
  bool learning_rate = true;  ///< the number of the step, and with it every schedule
  Moments moments = Moments::anew;
};

/// Tensors by key, for checkpoints.
using RewindState = std::map<std::string, Tensor>;

/// Values of parameters, by name, as they are when this is made, and if an optimizer is given all it remembers. Copied,
/// so nothing that is done later changes them; masks are not kept: those of the moment of the rewind stay. In soft mode
/// the dense values are kept and come back. A parameter listed twice counts once.
/// Frankle and Carbin 2019 (k = 0); Frankle, Dziugaite, Roy and Carbin 2020 (k > 0); Renda, Frankle and Carbin 2020
/// (learning rate). Memory: a copy of the weights, and of the optimizer's state.
class Rewind final {
 public:
  /// `buffers`: running statistics that belong to the weights (Module::buffers()). Errors: ConfigError for no parameters,
  /// or a packed weight.
  explicit Rewind(const ParameterList& parameters, const BufferList& buffers = {});
  Rewind(const ParameterList& parameters, const optim::Optimizer& optimizer, const BufferList& buffers = {});

  /// The weights alone, for those who make a new optimizer. Live weights are the kept bytes, pruned ones stay 0, and
  /// gradients are dropped. Errors: ConfigError if a parameter has another shape or type than it had, or is packed; then
  /// nothing was changed.
  void rewind() const;
  /// Weights, learning rate, or both, and the moments. What the optimizer's transforms remember besides moments (counts
  /// of averages, histories of clips) goes with the learning rate. Pruner schedules go by the same step: freeze or leave
  /// out a pruner that is not to fire again. Errors: as rewind(); ConfigError if the learning rate is asked for and no
  /// optimizer was kept, or it was of another chain; then nothing was changed.
  void rewind(optim::Optimizer& optimizer, RewindOptions options = {}) const;
  /// The same for another model whose parameters have the same names: its weights become the kept ones. Returns how many
  /// were written. Errors: as rewind(); ConfigError if no name is known.
  Index copy_to(const ParameterList& parameters) const;

  /// The step k; 0 without an optimizer.
  std::int64_t step() const;
  /// The kept value of a parameter. Errors: ConfigError for an unknown name.
  const Tensor& value(const std::string& name) const;

  /// For shrink(): the kept values follow the cut. The optimizer's state does not: from then on only Moments::anew.
  optim::Commit prepare_cut(std::span<const optim::ParameterCut> cuts);
  /// "value/<parameter>", "buffer/<name>", "optimizer/<key>".
  RewindState state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const RewindState& state);

 private:
  struct Kept;
  std::shared_ptr<Kept> kept_;
};

}  // namespace espalier::prune
