// summary: what a model is made of, read off one sample pass.
//
//   std::cout << nn::summary(model, sample);
//
//   layer     type    output    parameters  sparsity   MACs
//   -------------------------------------------------------
//   layers.0  Linear  [16, 32]         288     0.0 %  4,096
//   layers.1  Linear  [16, 4]          132     0.0 %  2,048
//   -------------------------------------------------------
//   total             [16, 4]          420     0.0 %  6,144
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <type_traits>
#include <vector>

#include "espalier/nn/module.h"

namespace espalier::nn {

/// A layer: a module with parameters of its own, one that ran ops of its own, or one without layers below it.
struct LayerSummary {
  std::string name;      ///< its full name; empty: the model itself
  std::string type;      ///< its class
  Shape output;          ///< of its last run
  bool ran = false;      ///< else it has no output
  Index parameters = 0;  ///< its own, those of layers below it apart
  Index live = 0;        ///< of these, what is not pruned
  Index frozen = 0;      ///< of these, what is frozen
  double macs = 0;       ///< multiply-adds of its ops, all its runs together, as if nothing were pruned
  double live_macs = 0;  ///< the same without those of pruned weights
};

struct Summary {
  std::vector<LayerSummary> layers;  ///< in the order of the members' lists
  LayerSummary total;

  /// The table; with a column of live MACs if anything is pruned.
  std::string to_string() const;
};
std::ostream& operator<<(std::ostream& out, const Summary& summary);

namespace detail {
Summary summarize(const Module& model, const std::function<Variable(Tape&)>& run);

template <class T>
decltype(auto) watched(Tape& tape, const T& sample) {
  if constexpr (std::is_same_v<T, Tensor>)
    return is_floating(sample.dtype()) ? tape.watch(sample) : Variable(sample);
  else
    return (sample);
}
}  // namespace detail

/// Runs the model once on the sample, in evaluation mode whatever its own, and counts. Nothing in the model has
/// changed afterwards; no other thread may use it meanwhile. Layers whose operator() does not run in Module::forward
/// are seen by their parameters; without any, their ops count for the module around them. Multiply-adds are those of
/// matrix products, convolutions, attention and recurrent ops; all else is left out, and what a causal mask spares is
/// counted. Errors: what the model throws.
template <class Model, class... Sample>
Summary summary(const Model& model, const Sample&... sample) {
  return detail::summarize(model, [&](Tape& tape) -> Variable {
    auto run = [&](const auto&... in) -> Variable {
      if constexpr (std::is_convertible_v<decltype(model(in...)), Variable>) {
        return model(in...);
      } else {
        model(in...);
        return {};
      }
    };
    if constexpr (std::is_invocable_v<const Model&, decltype(detail::watched(tape, sample))...>)
      return run(detail::watched(tape, sample)...);
    else
      return run(sample...);
  });
}

}  // namespace espalier::nn
