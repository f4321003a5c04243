// compact(): a deployed copy of a pruned model, with smaller tensors and sparse kernels, and the same outputs.
//
//   auto deployed = prune::compact(model, sample);                  // sample: a batch as the model takes it
//
// 1. Dead units are cut: units of linear layers that are constant (every weight to them is 0) and units that nobody
//    reads. Which layers share units is read off the tape of one pass over the sample; the constants are folded into
//    the next bias, round by round until nothing is left to cut. Network inputs and outputs stay, and whatever an op
//    other than linear, an elementwise function or a reshape that keeps the last axis reads. A layer whose units all
//    die runs on empty tensors.
// 2. Each sparse weight that only linear() reads is packed, with the kernel of each batch class chosen; dense where no
//    class gains. The choice is part of the weight.
// 3. After both, old and new outputs on the sample are compared.
#pragma once

#include <concepts>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/autograd/tape.h"
#include "espalier/autograd/variable.h"
#include "espalier/prune/pack.h"

namespace espalier::prune {

struct CompactOptions {
  Kernels kernels = Kernels::measured;
  bool cut = true;   ///< cut dead units
  bool pack = true;  ///< choose sparse kernels
  /// Largest |difference| / largest |output| allowed; NaN: 1e-5 for f32, 1e-10 for f64. Where outputs cancel to less
  /// than the terms they are made of, each linear layer is held to it against its own terms instead.
  double tolerance = std::numeric_limits<double>::quiet_NaN();
};

struct CompactReport {
  std::vector<CompactLayer> layers;
  Index cut_constant = 0, cut_unread = 0;  ///< units
  double difference = 0;                   ///< largest |difference| / largest |output| on the sample
  std::string table() const;
};

/// A value that can be copied deeply and lists its parameters: every nn::Module, and whatever looks like one.
template <class M>
concept Compactable = std::copy_constructible<M> && requires(const M& m) {
  { m.parameters() } -> std::convertible_to<ParameterList>;
};

namespace detail {

inline void collect(std::vector<Variable>& all, const Variable& output) { all.push_back(output); }
template <class Outputs>
requires(!std::convertible_to<const Outputs&, Variable>) void collect(std::vector<Variable>& all,
                                                                      const Outputs& outputs) {
  if constexpr (requires { outputs.begin(); })
    for (const auto& output : outputs) collect(all, output);
  else
    std::apply([&](const auto&... output) { (collect(all, output), ...); }, outputs);
}

/// The model as a function from one Variable to all of its outputs.
template <class M>
auto runner(const M& model) {
  return [&model](const Variable& x) {
    std::vector<Variable> all;
    if constexpr (std::is_invocable_v<const M&, const Variable&>)
      collect(all, model(x));
    else
      collect(all, model(x.value()));
    return all;
  };
}

using Run = std::function<std::vector<Variable>(const Variable& x)>;
void compact(const ParameterList& parameters, const Run& run, const Tensor& sample, const CompactOptions& options,
             CompactReport* report);

}  // namespace detail

/// Errors: ConfigError, which names the layer, if the outputs differ, or if the network does not run once it is cut
/// (sizes written down in forward code); whatever the model throws. The model itself is left alone; the copy stays in
/// eval(). Soft masks are frozen in the copy. Cost: two passes over the sample, one more for each round of cuts, and
/// some milliseconds a layer to measure.
template <Compactable Model>
Model compact(const Model& model, const Tensor& sample, CompactOptions options = {}, CompactReport* report = nullptr) {
  Model copy = model;
  if constexpr (requires { copy.eval(); }) copy.eval();
  detail::compact(copy.parameters(), detail::runner(copy), sample, options, report);
  return copy;
}

/// Chooses anew for the weights that are packed, on the machine it runs on.
template <Compactable Model>
void repack(Model& model, CompactOptions options = {}, CompactReport* report = nullptr) {
  std::vector<CompactLayer> layers = detail::repack(model.parameters(), options.kernels);
  if (!report) return;
  *report = {};
  report->layers = std::move(layers);
}

}  // namespace espalier::prune
