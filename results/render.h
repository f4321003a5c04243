// The page about the results, from the files of the runs.
#pragma once

#include <string>

#include "results/settings.h"

namespace results {

/// Markdown: for each row with figures the bar, the published figure, mean and deviation over seeds, and whether the bar
/// is met or by how much it is missed. Rows without figures are named as such. Errors: IoError, FormatError.
std::string page_of(const Settings& settings);

}  // namespace results
