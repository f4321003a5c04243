// Cutting dead units of a model in place, round by round, held to the outputs it had.
#pragma once

#include <string>
#include <vector>

#include "espalier/prune/compact.h"
#include "espalier/prune/detail/plan.h"

namespace espalier::prune::detail {

struct CutSettings {
  const char* who;      // "compact", "shrink"
  const char* way_out;  // behind "Hint: ...; "
  double tolerance;
  Rounding rounding;
};

/// What became of a model's parameters and buffers, by their places in its lists.
struct Outcome {
  std::vector<optim::KeptAxes> parameters, buffers;
  std::vector<std::uint8_t> folded_parameters, folded_buffers;  // took up constants
  std::vector<optim::KeptAxes> nodes;                           // see Plan::kept
  Index cut_constant = 0, cut_unread = 0, rounded = 0;
  std::vector<Stay> stays;
  double difference = 0;
};

/// Cuts until nothing is left to cut; `before` is the trace of the model as it is, `after` becomes that of what is left.
/// Returns false if the network does not run any more, or not with the same outputs, and the trust was misplaced: then it
/// is to be done once more, without, on a fresh copy. Errors: ConfigError, which names the layer.
bool cut(const Subject& subject, const Tensor& sample, const CutSettings& settings, Trust trust, const Graph& before,
         Graph& after, Outcome& outcome);

/// The relative difference of the outputs. Errors: ConfigError, which names the layer.
double verify(const Graph& before, const Graph& after, const std::vector<optim::KeptAxes>& kept,
              const ParameterList& parameters, const CutSettings& settings, const std::string& stage);
/// A trace of what was changed by `stage`. Errors: ConfigError with a hint if it does not run.
Graph traced_again(const Subject& subject, const Tensor& sample, const CutSettings& settings, const char* stage);

/// Rounds up to multiples of `round_to`, or to that one of 1, 8 and 16 with which the layer runs fastest.
Rounding rounding_of(const char* who, Index round_to, Kernels kernels);

/// Why dead units stay, and what has died as a whole, in words.
std::vector<std::string> remarks(const Outcome& outcome, const ParameterList& parameters,
                                 const std::vector<CompactLayer>& layers);

}  // namespace espalier::prune::detail
