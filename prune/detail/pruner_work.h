// What the handles of one Pruner share.
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "espalier/prune/detail/grain.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {

class Pruner::Work final : public optim::StepHook {
 public:
  struct Snapshot {
    Tensor value;
    Mask mask;
  };
  /// How many of a set are to be pruned afterwards.
  struct Amount {
    std::string what;                                   // for the history
    std::function<Index(Index pieces, Index live)> of;  // a set's
    std::optional<double> sparsity = {};                // or that of all
  };

  Work(const ParameterList& parameters, PrunerOptions options);

  bool due(std::int64_t step) const override { return options.schedule(step).has_value(); }

  void begin(const optim::StepContext& context) override;
  const detail::Grain& grain() const { return options.granularity.grain(); }

  /// `who`: what the history calls it.
  Amount to_sparsity(const char* op, const std::string& who, double sparsity) const;
  /// All masks are made before the first is set. `step`: the optimizer's, -1 without one.
  void prune(const char* op, std::int64_t step, const Amount& amount);

  /// Runs what changes masks and writes it down.
  template <class F>
  void change(std::int64_t step, const std::string& what, F f) {
    const Index before = pruned();
    f();
    detail::add(history, {step, what, before, pruned()});
  }

  /// Weights that are pruned now.
  Index pruned() const;
  PieceCount pieces() const;
  /// By the distribution, a share of pieces for each set; none where all have the same.
  std::vector<double> shares_of_tensors(const char* op, const Amount& amount) const;

  /// What PrunerOptions::combine makes of both; undefined if nothing is pruned.
  Mask combined(Mask made, const Mask& present) const;
  void undo();

  ParameterList scored;               // the selection
  std::vector<detail::Field> fields;  // what competes
  ParameterList list;                 // those whose masks are set
  std::vector<std::vector<std::size_t>> sets;
  PrunerOptions options;
  Gathered gathered;
  PruneHistory history;
  std::vector<std::optional<Snapshot>> snapshots;  // all or none
  std::int64_t last_step = -1;
  double last_target = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace espalier::prune
