// Runs one row for one seed.
#pragma once

#include "results/settings.h"

namespace results {

/// Trains, measures, and writes <row>-<seed>.json into the output folder; nothing if it is there already. Errors: what
/// reading data, training and writing throw.
void run_row(const Row& row, const Settings& settings);

}  // namespace results
