// Splicing: weights are cut off while they are small, and come back when they have grown.
//
//   auto splice = prune::splice(model.parameters(), {.sparsity = 0.98, .end = 10000});
//   opt.attach(splice);
//   ...                                     // train past .end
//   splice.freeze();                        // the masks are for good
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"

namespace espalier::prune {

/// Either `sparsity` or `c` must be given; so must `end`.
struct SpliceOptions {
  /// The threshold t of a tensor is the number that this share of its |w| lies below, found anew each time.
  double sparsity = std::numeric_limits<double>::quiet_NaN();
  /// t = mean + c * deviation of the |w| that are not 0, found once, at the first time, for each tensor.
  double c = std::numeric_limits<double>::quiet_NaN();
  double lower = 0.9, upper = 1.1;  ///< a = lower t, b = upper t
  std::int64_t begin = 0;           ///< the masks are looked at in this step, in step `end`, and by chance between them
  std::int64_t end = -1;
  std::int64_t rise = 0;  ///< of `sparsity`: it rises as cubic() does, for so many steps
  double gamma = 1e-4;    ///< at step t with probability (1 + gamma (t - begin))^-power
  double power = 1;
  std::uint64_t seed = 0;
  Index min_keep = 1;  ///< the largest weights of a tensor that stay live whatever the threshold
  optim::Select select = optim::select_rank(2);
};

/// Dynamic network surgery: soft masks with hysteresis. Of each selected tensor, with w its dense weights: mask 0 where
/// |w| < a, 1 where |w| >= b, and as it was between the two. The gradient reaches pruned weights, too (straight
/// through), so those that grow are spliced in again, with the value they have by then. As the band between a and b stays
/// as it was, the sparsity reached is near the one asked for, not equal to it: Pruner::to_sparsity() afterwards makes it
/// exact. Behind `end` masks stand still; they stay soft until freeze(). Guo, Yao and Chen 2016, algorithm 1 and eq. 3; their
/// program's thresholds are those of `c`. A handle: copies, and the optimizer it is attached to, share one state.
class Splice {
 public:
  /// Errors: ConfigError if nothing is selected, neither or both of sparsity and c are given, or an option is out of range.
  Splice(const ParameterList& parameters, SpliceOptions options);

  /// What Optimizer::attach() takes.
  std::shared_ptr<optim::StepHook> hook() const;
  /// The masks of step `step`, by hand and whatever chance says. Errors: NonFiniteError for a weight that is NaN or
  /// infinite, ConfigError for a packed one; then no mask was changed. Cost: some passes over the weights.
  void update(std::int64_t step);
  /// Whether it looks at the masks in this step: the same answer for the same seed.
  bool due(std::int64_t step) const;
  /// Soft mode ends: what is pruned is gone.
  void freeze();

  double sparsity() const;  ///< over the selected parameters
  const ParameterList& parameters() const noexcept;
  std::string describe() const;

  /// "step" of the last time, "threshold/<parameter>" (NaN: not found yet). The masks are saved with the model.
  std::map<std::string, Tensor> state() const;
  /// Errors: ConfigError for a key that is missing, unknown, or of another shape or type; then nothing was changed.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

inline Splice splice(const ParameterList& parameters, SpliceOptions options) {
  return {parameters, std::move(options)};
}

}  // namespace espalier::prune
