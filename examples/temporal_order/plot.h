// The picture of an experiment, as SVG.
#pragma once

#include <string>
#include <vector>

#include "examples/temporal_order/experiment.h"

namespace temporal_order {

/// Three panels over the updates: share of the seeds solved, errors of each run, largest gradient norms (logarithmic).
std::string draw(const std::vector<Run>& runs, const Settings& settings);

}  // namespace temporal_order
