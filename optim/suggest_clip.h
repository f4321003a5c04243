// suggest_clip: measures gradient norms over a trial run and says where a clip would cut.
//
//   auto s = optim::suggest_clip(model.parameters(), [&](std::int64_t) {
//     auto [x, y] = loader.next();
//     Tape tape;
//     tape.backward(nn::cross_entropy(model(x), y));
//   }, sgd({.lr = 0.1}));
//   std::puts(s.table().c_str());
//   auto opt = optim::Optimizer(model.parameters(), chain(clip_by_global_norm(s.max_norm), sgd({.lr = 0.1})));
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "espalier/optim/optimizer.h"

namespace espalier::optim {

struct SuggestClipOptions {
  std::int64_t steps = 200;  ///< of the trial run
  std::int64_t ignore = 20;  ///< first steps that are left out: gradients of untrained weights are not typical
  double percentile = 90;    ///< of the norms, recommended as max_norm: so many percent of such steps are left alone
  double p = 2;              ///< of the norm
};

struct ClipSuggestion {
  double max_norm = 0;  ///< the recommendation
  /// Norms of all steps of the trial, the ignored ones first; steps with a non-finite gradient are not among them.
  std::vector<double> norms;
  std::int64_t ignored = 0;    ///< how many at the front of `norms` were left out below
  std::int64_t nonfinite = 0;  ///< steps whose gradient was not finite; the trial skipped them
  double mean = 0, p1 = 0, p10 = 0, median = 0, p90 = 0, p99 = 0, largest = 0;
  /// The weight of the tail, p99 / median: below 2 or 3 a clip hardly matters, far above it is what keeps training
  /// together.
  double tail = 0;
  struct OfParameter {
    std::string name;
    double median = 0, largest = 0;  ///< of its own norm
    double share = 0;                ///< mean share of the squared global norm (p = 2), else of the sum of |g|^p
  };
  std::vector<OfParameter> parameters;
  std::string table() const;
};

/// Runs `backward(step)`, which fills the gradients of `parameters`, and a step of `chain` behind it, options.steps
/// times, without clipping; an empty chain leaves the weights where they are. At the end values and masks are as they
/// were, bit for bit, and the gradients are gone. Buffers that the forward pass changes (running statistics) are not
/// seen here: give it a copy of the model if it has any.
/// Pascanu, Mikolov and Bengio 2013 (section 3.2) look at the mean norm and take 0.5 to 10 times of it; a percentile
/// says besides how often the clip will be at work.
/// Errors: ConfigError for steps <= ignore, a percentile outside [0, 100], or a chain that clips by itself;
/// NonFiniteError if every step that counts was non-finite; what `backward` and step() throw, after the values are back.
ClipSuggestion suggest_clip(const ParameterList& parameters, const std::function<void(std::int64_t)>& backward,
                            const Chain& chain = {}, SuggestClipOptions options = {});

}  // namespace espalier::optim
