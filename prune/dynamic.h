// Dynamic sparse training: sparse from the first step to the last, with as many live weights all the way; only which
// they are changes. Every so many steps the smallest are dropped and as many grown elsewhere: at random (SET), or where
// the gradient is largest (RigL).
//
//   auto rigl = prune::rigl(model.parameters(), {.sparsity = 0.9, .steps = 10000});   // draws the masks
//   opt.attach(rigl);
//   SparseTraining sparse(model.parameters(),
//                         {.batch = 64, .dense_gradient = [&] { return rigl.wants_dense_gradient(opt.steps()); }});
//   for (...) { Tape tape; ... tape.backward(loss); opt.step(); }                     // as ever
//
// SparseTraining is for speed, and may be left out. With it, gradients of pruned weights are computed only in the steps
// in which RigL looks at them.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"
#include "espalier/prune/distribution.h"

namespace espalier::prune {

struct SetOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();   ///< must be given
  Distribution distribution = {};                               ///< of the first masks; the papers take erk()
  double fraction = 0.3;                                        ///< of the live weights, exchanged each time
  std::int64_t every = 100;                                     ///< in steps every, 2 every, ...
  std::int64_t end = std::numeric_limits<std::int64_t>::max();  ///< before this step
  std::uint64_t seed = 0;                                       ///< of the first masks, and of what grows
  optim::Select select = optim::select_rank(2);
};

struct RiglOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();  ///< must be given
  Distribution distribution = {};                              ///< of the first masks; the papers take erk()
  double alpha = 0.3;                                          ///< share of the live weights that is exchanged at first
  std::int64_t every = 100;                                    ///< in steps every, 2 every, ...
  std::int64_t steps = -1;                                     ///< of the whole training; must be given
  double until = 0.75;     ///< share of the steps after which masks stand still: T_end = until * steps
  std::uint64_t seed = 0;  ///< of the first masks
  optim::Select select = optim::select_rank(2);
};

/// What set() and rigl() return. A handle: copies, and the optimizer it is attached to, share one state.
///
/// When made, it draws a mask at random for each selected parameter that has none; a parameter that was pruned or loaded
/// before keeps its own, so a resumed run goes on where it stood. Before the update of each step that is due, in each
/// parameter: the k live weights of lowest |w| are dropped and k others are grown, never those just dropped; k is
/// round(fraction * live), halves to even, or all that are pruned if they are fewer. RigL leaves a parameter without a
/// gradient as it is. Grown weights start at exactly 0, and so do their moments. The step itself is made like any other,
/// with the new masks: a grown weight moves by its first gradient. (Algorithm 1 of the RigL paper has the exchange in
/// place of the update.)
/// The same bytes at any thread count; works with hard masks.
class DynamicSparsity {
 public:
  /// What Optimizer::attach() takes.
  std::shared_ptr<optim::StepHook> hook() const;
  /// Whether weights are exchanged in this step.
  bool due(std::int64_t step) const;
  /// Whether this step's backward must give the gradient of pruned weights, too: for SparseTrainingOptions.
  bool wants_dense_gradient(std::int64_t step) const;
  /// The exchange of step `step`, by hand. Errors: NonFiniteError for a NaN, ConfigError for a packed weight, a soft mask,
  /// or gradients that SparseTraining has left out; then no mask was changed. Cost: O(weights).
  void exchange(std::int64_t step);

  double sparsity() const;         ///< over the selected parameters; does not change
  std::int64_t exchanged() const;  ///< weights grown so far
  const ParameterList& parameters() const noexcept;
  std::string describe() const;

  /// "step" of the last exchange and "exchanged". The masks are saved with the model, and all chance is drawn from the
  /// seed and the step.
  std::map<std::string, Tensor> state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  friend DynamicSparsity set(const ParameterList& parameters, SetOptions options);
  friend DynamicSparsity rigl(const ParameterList& parameters, RiglOptions options);
  class Work;
  explicit DynamicSparsity(std::shared_ptr<Work> work) : work_(std::move(work)) {}
  std::shared_ptr<Work> work_;
};

/// Sparse evolutionary training: grows at random. Mocanu, Mocanu, Stone, Nguyen, Gibescu and Liotta 2018, algorithm 1,
/// but that the smallest |w| are dropped whatever their sign, as Evci et al. 2020 have it, and that new weights start at
/// 0. Errors: ConfigError if nothing is selected, for a sparsity or fraction outside [0, 1], every < 1, a packed weight,
/// a soft mask, or a distribution that does not give each parameter a sparsity.
DynamicSparsity set(const ParameterList& parameters, SetOptions options);

/// RigL: grows where |dL/dw| is largest, and exchanges the share alpha / 2 (1 + cos(pi t / T_end)) of the live weights at
/// step t. Evci, Gale, Menick, Castro and Elsen 2020, algorithm 1. Errors: as set(); ConfigError for steps < 0 or `until`
/// outside [0, 1].
DynamicSparsity rigl(const ParameterList& parameters, RiglOptions options);

}  // namespace espalier::prune
