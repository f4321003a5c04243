// compact(): a deployed copy of a pruned model, with smaller tensors and sparse kernels, and the same outputs.
//
//   auto deployed = prune::compact(model, sample);                  // sample: a batch as the model takes it
//
// 1. Dead units are cut: what is constant (every weight to it is 0, or its gain is) and what nobody reads. Which layers
//    share units is read off the tape of one pass over the sample (prune/detail/units.h): rows and columns of linear
//    layers and convolutions, channels of norms, gates of recurrent units, heads of attention, through sums, joins,
//    pieces, reshapes and pools. Constants are folded into the next bias, or the running mean behind it, round by round
//    until nothing is left to cut. What stays although it is dead, and why, is in the report: network inputs and outputs,
//    what an op mixes that is not known to keep units apart, a constant that meets zero padding. A layer whose units all
//    die runs on empty tensors, so a residual branch adds its constant.
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

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/tape.h"
#include "espalier/autograd/variable.h"
#include "espalier/prune/pack.h"

namespace espalier::prune {

/// For round_to: with each layer the multiple of 1, 8 or 16 with which it runs at least 1.10 times faster on the sample.
inline constexpr Index round_measured = -1;

struct CompactOptions {
  Kernels kernels = Kernels::measured;  ///< fixed: round_measured goes by a rule, too
  bool cut = true;                      ///< cut dead units
  bool pack = true;                     ///< choose sparse kernels
  /// Units of a layer are cut to a multiple of this, the best of the dead ones filling up. 0: to no round number.
  Index round_to = 0;
  /// Largest |difference| / largest |output| allowed; NaN: 1e-5 for f32, 1e-10 for f64. Where outputs cancel to less
  /// than the terms they are made of, each layer is held to it against its own terms instead.
  double tolerance = std::numeric_limits<double>::quiet_NaN();
};

struct CompactReport {
  std::vector<CompactLayer> layers;
  Index cut_constant = 0, cut_unread = 0;  ///< units
  double difference = 0;                   ///< largest |difference| / largest |output| on the sample
  /// Of a pass over the sample, the median of several; NaN where kernels were not measured.
  double ms_before = std::numeric_limits<double>::quiet_NaN(), ms_after = ms_before;
  std::vector<std::string> remarks;  ///< dead units that stay, and why; layers that have died as a whole
  std::string table() const;
};

/// A value that can be copied deeply and lists its parameters: every nn::Module, and whatever looks like one.
template <class M>
concept Compactable = std::copy_constructible<M> && requires(const M& m) {
  { m.parameters() } -> std::convertible_to<ParameterList>;
};

namespace detail {

struct AnyField {
  template <class T>
  operator T() const;  // NOLINT
};
template <class T>
constexpr int fields() {
  if constexpr (requires { T{AnyField(), AnyField(), AnyField()}; })
    return 3;
  else if constexpr (requires { T{AnyField(), AnyField()}; })
    return 2;
  else
    return 1;
}

inline void collect(std::vector<Variable>& all, const Variable& output) { all.push_back(output); }
/// Of containers, tuples, and structs of up to three members, as recurrent layers return.
template <class Outputs>
requires(!std::convertible_to<const Outputs&, Variable>) void collect(std::vector<Variable>& all,
                                                                      const Outputs& outputs) {
  if constexpr (requires { outputs.begin(); }) {
    for (const auto& output : outputs) collect(all, output);
  } else if constexpr (requires { std::tuple_size<Outputs>::value; }) {
    std::apply([&](const auto&... output) { (collect(all, output), ...); }, outputs);
  } else if constexpr (fields<Outputs>() == 3) {
    const auto& [a, b, c] = outputs;
    collect(all, a);
    collect(all, b);
    collect(all, c);
  } else if constexpr (fields<Outputs>() == 2) {
    const auto& [a, b] = outputs;
    collect(all, a);
    collect(all, b);
  } else {
    const auto& [a] = outputs;
    collect(all, a);
  }
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
/// A model as compact() and shrink() see it.
struct Subject {
  ParameterList parameters;
  BufferList buffers;
  Run run;
};
template <class M>
Subject subject_of(const M& model) {
  Subject subject{model.parameters(), {}, runner(model)};
  if constexpr (requires { subject.buffers = model.buffers(); }) subject.buffers = model.buffers();
  return subject;
}
template <class M>
M copy_for_sample(const M& model) {
  M copy = model;
  if constexpr (requires { copy.eval(); }) copy.eval();
  return copy;
}
/// False: once more on a fresh copy, without trust (see detail::Trust).
bool compact(const Subject& copy, const Tensor& sample, const CompactOptions& options, bool trusting,
             CompactReport& report);
/// Chooses anew for the weights that are packed, as `copy` of their model reads them; what it no longer reads as a weight
/// alone becomes dense.
std::vector<CompactLayer> repack(const ParameterList& parameters, const Subject& copy, const Tensor& sample,
                                 Kernels how);

}  // namespace detail

/// Errors: ConfigError, which names the layer, if the outputs differ, or if the network does not run once it is cut
/// (sizes written down in forward code); whatever the model throws. The model itself is left alone; the copy stays in
/// eval(). Soft masks are frozen in the copy. Cost: two passes over the sample, one more for each round of cuts, and
/// some milliseconds a layer to measure.
template <Compactable Model>
Model compact(const Model& model, const Tensor& sample, CompactOptions options = {}, CompactReport* report = nullptr) {
  CompactReport unused;
  Model copy = detail::copy_for_sample(model);
  if (detail::compact(detail::subject_of(copy), sample, options, true, report ? *report : unused)) return copy;
  Model again = detail::copy_for_sample(model);
  detail::compact(detail::subject_of(again), sample, options, false, report ? *report : unused);
  return again;
}

/// Chooses anew for the weights that are packed, on the machine it runs on. The sample tells how large the images of
/// convolutions are. Cost: a pass over the sample by a copy of the model, and some milliseconds a layer to measure.
template <Compactable Model>
void repack(Model& model, const Tensor& sample, CompactOptions options = {}, CompactReport* report = nullptr) {
  const Model copy = detail::copy_for_sample(model);
  std::vector<CompactLayer> layers =
      detail::repack(model.parameters(), detail::subject_of(copy), sample, options.kernels);
  if (!report) return;
  *report = {};
  report->layers = std::move(layers);
}

}  // namespace espalier::prune
