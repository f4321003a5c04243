// Averages of the weights over the steps, and their use for evaluation. They stand last in the chain:
//
//   auto opt = optim::Optimizer(model.parameters(), chain(adam({.lr = 1e-3}), ema({.decay = 0.999})));
//   ... train ...
//   {
//     optim::AverageGuard guard(opt, "ema");       // the model holds the averages
//     accuracy = evaluate(model);
//   }                                              // and the trained weights again
//
// An average is a state "average" like the weight: saved with the optimizer, exactly 0 where the mask is 0. Soft masks:
// it is of the values shown, mask * dense. How many steps are in it is remembered for each parameter, as "averaged". A
// parameter without a gradient in a step is not averaged in it. Only parameters are averaged: batch norm's running
// mean and variance are those of the trained weights. Run some training batches under the guard to measure them anew.
#pragma once

#include <string>
#include <vector>

#include "espalier/optim/chain.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct EmaOptions {
  Scalar decay = 0.999;
  bool warmup =
      false;  ///< decay <- min(decay, (1 + n) / (10 + n)) with n steps averaged before: young averages move fast
  std::int64_t every = 1;  ///< only in steps every - 1, 2 every - 1, ... from 0
};
/// a <- w at the first time, then a <- a + (1 - decay) (w - a): without a bias to zero.
/// Errors: ConfigError for a decay outside [0, 1) or an `every` below 1. Cost: within the last sweep, 2 accesses to memory
/// a weight. Polyak and Juditsky 1992 (averaging); Kingma and Ba 2015, section 7.2 (exponential).
Chain ema(EmaOptions options = {});

struct SwaOptions {
  std::int64_t begin = 0;  ///< steps before the first that counts
  std::int64_t every = 1;  ///< the last of every so many steps from there on is averaged
};
/// a <- a + (w - a) / n at the n-th time: stochastic weight averaging, all alike.
/// Errors: ConfigError for a negative `begin` or an `every` below 1. Cost: as ema. Izmailov, Podoprikhin, Garipov, Vetrov
/// and Wilson 2018, algorithm 1.
Chain swa(SwaOptions options = {});

/// While it lives, the parameters of the optimizer hold their averages; those that have none yet are as they were. Masks
/// stay; the trained values come back at the end, whatever happens meanwhile, but for what a mask set meanwhile prunes,
/// and for parameters that got another shape or type. Do not train under it.
/// Errors: ConfigError if the chain has no average of this name, or a parameter changed its shape or type since. Cost: a
/// copy of the parameters.
class [[nodiscard]] AverageGuard {
 public:
  explicit AverageGuard(const Optimizer& optimizer, const std::string& name = "ema");
  ~AverageGuard();
  AverageGuard(const AverageGuard&) = delete;
  AverageGuard& operator=(const AverageGuard&) = delete;

 private:
  struct Kept {
    ParameterRef parameter;
    Tensor value;
  };
  std::vector<Kept> kept_;
};

/// Writes the averages into the parameters of `to` that have the same names as the optimizer's, for good: a copy of the
/// model, or the trained model itself. Those that have no average yet get the trained value. Masks of `to` stay, names
/// unknown to the optimizer are left alone. Returns how many were written.
/// Errors: ConfigError if the chain has no average of this name, no parameter has a known name, or shapes or types
/// differ; then nothing was written.
Index copy_average(const Optimizer& optimizer, const std::string& name, const ParameterList& to);

}  // namespace espalier::optim
