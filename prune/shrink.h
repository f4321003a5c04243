// shrink(): cuts pruned units out of a model in place, and out of all that belongs to its parameters; training goes on.
//
//   prune::shrink(model, sample, optimizer);                         // between two steps
//   prune::shrink(model, sample, {.round_to = 8}, optimizer, pruner);
//
// Units are cut by their masks, not by weights that happen to be 0: what the mask calls live may yet be learned. Which
// units belong together, and where constants go, is as compact() has it; names and identities of parameters stay. Masks
// are cut with the values, and so are moments, averages and the other states of optimizers, snapshots of pruners, running
// statistics, and gradients that have come since the last step. Where all that belongs to a unit is masked (mask_units), a
// step of the smaller model is the step of the larger one. A unit whose weights are masked but whose bias is not goes on
// as a constant in the next bias, and is no longer trained apart from it; averages of that bias that an optimizer keeps
// do not contain the constant.
#pragma once

#include <vector>

#include "espalier/optim/reshape.h"
#include "espalier/prune/compact.h"

namespace espalier::prune {

struct ShrinkOptions {
  Index round_to = 0;                                           ///< see CompactOptions
  Kernels kernels = Kernels::measured;                          ///< how round_measured decides
  double tolerance = std::numeric_limits<double>::quiet_NaN();  ///< see CompactOptions
};

namespace detail {

/// Everything that is to be written, ready.
class Shrinking final {
 public:
  /// Cuts the copy. False: once more on a fresh copy, without trust.
  bool plan(const Subject& copy, const Tensor& sample, const ShrinkOptions& options, bool trusting);
  /// Prepares what the model will hold.
  void prepare(const ParameterList& parameters, const BufferList& buffers);
  const std::vector<optim::ParameterCut>& cuts() const noexcept { return cuts_; }
  /// Writes it, and then calls what those who follow have prepared.
  void commit(const std::vector<optim::Commit>& followers);
  CompactReport report;

 private:
  struct Change {
    ParameterRef parameter;
    Tensor value, dense, gradient;
    Mask mask;
  };
  std::vector<optim::KeptAxes> kept_parameters_, kept_buffers_;
  std::vector<Tensor> folded_parameters_, folded_buffers_;  // undefined where nothing was folded
  std::vector<Mask> folded_masks_;
  std::vector<optim::ParameterCut> cuts_;
  std::vector<Change> changes_;
  std::vector<std::pair<const Buffer*, Tensor>> buffers_;
};

}  // namespace detail

/// `holders`: optimizers, pruners, and whatever else has prepare_cut(). An optimizer of these parameters that is left out
/// says so in its next step(). All or nothing: the cut is tried, and its outputs are compared, on a copy; any error leaves
/// everything as it was. Packed weights: ConfigError. Errors: as compact().
template <Compactable Model, optim::FollowsCuts... Holders>
CompactReport shrink(Model& model, const Tensor& sample, ShrinkOptions options, Holders&... holders) {
  detail::Shrinking work;
  const auto attempt = [&](bool trusting) {
    const Model copy = detail::copy_for_sample(model);
    return work.plan(detail::subject_of(copy), sample, options, trusting);
  };
  if (!attempt(true)) attempt(false);
  const detail::Subject subject = detail::subject_of(model);
  work.prepare(subject.parameters, subject.buffers);
  work.commit({holders.prepare_cut(work.cuts())...});
  return work.report;
}
template <Compactable Model, optim::FollowsCuts... Holders>
CompactReport shrink(Model& model, const Tensor& sample, Holders&... holders) {
  return shrink(model, sample, ShrinkOptions(), holders...);
}

}  // namespace espalier::prune
