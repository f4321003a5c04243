// What a model costs to run on a sample: arithmetic and time, layer by layer.
#pragma once

#include <vector>

#include "espalier/prune/compact.h"

namespace espalier::prune::detail {

struct LayerCost {
  double flops = 0;       ///< 2 for each multiply-add
  double live_flops = 0;  ///< of those with a weight that is not 0
  double seconds = 0;     ///< of the ops that read it as their weight, the median of several runs; NaN if not measured
};
struct ModelCost {
  std::vector<LayerCost> layers;  ///< of the parameters of rank 2 and more, in their order
  double live_flops = 0;          ///< of all ops, those that read no weight among them
  double seconds = 0;             ///< of the whole model, the median; NaN if not measured
};

/// One pass to look, and some more to measure; see multiply_adds() for what is counted. Time is that between the end of
/// one recorded op and of the next; an op with two weights shares both out by their sizes.
ModelCost cost_of(const Subject& subject, const Tensor& sample, bool measure);

/// All outputs are the same for the sample as for zeros in its place.
bool is_dead(const Subject& subject, const Tensor& sample);

/// Writes what the model cost before and after into the report.
void fill_costs(CompactReport& report, const ModelCost& before, const ModelCost& after);

}  // namespace espalier::prune::detail
