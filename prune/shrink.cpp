#include "espalier/prune/shrink.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/prune/detail/cost.h"
#include "espalier/prune/detail/cut.h"

namespace espalier::prune::detail {
namespace {

using optim::KeptAxes, optim::taken;

/// A live weight that is 0 counts as present: for the trial it gets the smallest number there is.
void mark_live_zeros(ParameterState& p) {
  Tensor value = p.value().clone();
  dispatch_floating("shrink", value.dtype(), [&]<class T>() {
    T* v = value.write<T>("shrink");
    for (Index i = 0; i < value.size(); ++i)
      if (v[i] == 0 && (!p.mask().defined() || p.mask()[i])) v[i] = std::numeric_limits<T>::min();
  });
  p.set_value(value);
}
/// And back.
Tensor without_marks(const Tensor& marked) {
  Tensor value = marked.clone();
  dispatch_floating("shrink", value.dtype(), [&]<class T>() {
    T* v = value.write<T>("shrink");
    for (Index i = 0; i < value.size(); ++i)
      if (std::abs(v[i]) <= std::numeric_limits<T>::min()) v[i] = 0;
  });
  return value;
}

bool cuts_anything(const KeptAxes& kept) {
  return std::any_of(kept.begin(), kept.end(), [](const auto& axis) { return axis.has_value(); });
}

CompactLayer unchanged_row(const NamedParameter& named) {
  CompactLayer row = row_before(named);
  row.kernel.fill("dense");
  return row;
}

}  // namespace

bool Shrinking::plan(const Subject& copy, const Tensor& sample, const ShrinkOptions& options, bool trusting) {
  if (!sample.defined() || sample.size() == 0)
    fail<ConfigError>("[shrink] the sample is empty. Hint: one batch as the model takes it");
  if (options.tolerance < 0) fail<ConfigError>("[shrink] the tolerance must not be negative, got ", options.tolerance);
  const CutSettings settings{"shrink", "a model that cannot be shrunk trains on under its masks", options.tolerance,
                             rounding_of("shrink", options.round_to, options.kernels)};
  report = CompactReport();
  for (const NamedParameter& named : copy.parameters) {
    if (named.parameter->value().packed())
      fail<ConfigError>("[shrink] '", named.name, "' is packed. Hint: shrink the model that compact() was given");
    if (named.parameter->value().rank() >= 2) report.layers.push_back(unchanged_row(named));
    densify(*named.parameter);
    mark_live_zeros(*named.parameter);
  }
  const ModelCost cost_before = cost_of(copy, sample, false);
  const Graph before = trace(copy.run, sample, copy.buffers);
  Graph after;
  Outcome outcome;
  if (!cut(copy, sample, settings, trusting ? Trust::derived_sizes : Trust::none, before, after, outcome)) return false;
  folded_parameters_.assign(copy.parameters.size(), Tensor());
  folded_masks_.assign(copy.parameters.size(), Mask());
  folded_buffers_.assign(copy.buffers.size(), Tensor());
  for (std::size_t k = 0; k < copy.parameters.size(); ++k)
    if (outcome.folded_parameters[k]) {
      folded_parameters_[k] = without_marks(copy.parameters[k].parameter->value());
      folded_masks_[k] = copy.parameters[k].parameter->mask();
    }
  for (std::size_t k = 0; k < copy.buffers.size(); ++k)
    if (outcome.folded_buffers[k]) folded_buffers_[k] = copy.buffers[k].buffer->value();
  report.cut_constant = outcome.cut_constant;
  report.cut_unread = outcome.cut_unread;
  report.difference = outcome.difference;
  std::size_t layer = 0;
  for (const NamedParameter& named : copy.parameters)
    if (named.parameter->value().rank() >= 2) row_after(report.layers[layer++], *named.parameter);
  fill_costs(report, cost_before, cost_of(copy, sample, false));
  report.remarks = remarks(outcome, copy.parameters, report.layers);
  kept_parameters_ = std::move(outcome.parameters);
  kept_buffers_ = std::move(outcome.buffers);
  return true;
}

void Shrinking::prepare(const ParameterList& parameters, const BufferList& buffers) {
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    const ParameterState& p = *parameters[k].parameter;
    const KeptAxes& kept = kept_parameters_[k];
    const bool cut = cuts_anything(kept), folded = folded_parameters_[k].defined();
    if (!cut && !folded) continue;
    Change change{parameters[k].parameter, folded ? folded_parameters_[k] : taken(p.value(), kept), {}, {}, {}};
    change.mask = folded ? folded_masks_[k] : taken(p.mask(), p.value().shape(), kept);
    if (p.has_grad()) change.gradient = taken(p.grad(), kept);
    if (p.mask_mode() == MaskMode::soft && change.value.size() > 0) {
      if (!change.mask.defined()) change.mask = Mask(change.value.size());
      change.dense = taken(p.dense(), kept).clone();
      if (folded)  // what is live has the new value, what is not keeps its dense one
        dispatch_floating("shrink", change.dense.dtype(), [&]<class T>() {
          T* dense = change.dense.write<T>("shrink");
          const T* value = change.value.data<T>();
          for (Index i = 0; i < change.dense.size(); ++i)
            if (change.mask[i]) dense[i] = value[i];
        });
    }
    if (cut) cuts_.push_back({change.parameter, kept});
    changes_.push_back(std::move(change));
  }
  for (std::size_t k = 0; k < buffers.size(); ++k) {
    const bool folded = folded_buffers_[k].defined();
    if (folded || cuts_anything(kept_buffers_[k]))
      buffers_.emplace_back(buffers[k].buffer,
                            folded ? folded_buffers_[k] : taken(buffers[k].buffer->value(), kept_buffers_[k]));
  }
}

void Shrinking::commit(const std::vector<optim::Commit>& followers) {
  for (Change& change : changes_) {
    ParameterState& p = *change.parameter;
    p.replace(std::move(change.value), change.mask);
    if (change.dense.defined()) {
      p.set_mask(std::move(change.mask), MaskMode::soft);
      p.mutable_dense().copy_from(change.dense, "shrink");
      p.refresh_from_dense();
    }
    if (change.gradient.defined()) p.accumulate(std::move(change.gradient));
  }
  for (auto& [buffer, value] : buffers_) buffer->set(std::move(value));
  for (const optim::Commit& commit : followers) commit();
}

}  // namespace espalier::prune::detail
