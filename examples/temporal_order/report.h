// What temporal_order prints and writes.
#pragma once

#include <string>
#include <vector>

#include "examples/temporal_order/experiment.h"

namespace temporal_order {

/// Three digits: "0.0123", "4.56", "7.89e+12", "inf".
std::string short_number(double value);

std::string as_text(const Settings& settings);
/// A table that is printed as it grows.
std::string table_header();
std::string table_row(const Run& run);
/// "clipped: 5 of 5 solved, after 12,000 updates in the median" and the same for the other arm.
std::string summary(const std::vector<Run>& runs);

/// Errors of both: espalier::IoError.
void write_json(const std::string& path, const std::vector<Run>& runs, const Settings& settings);
/// The plot of plot.h.
void write_plot(const std::string& path, const std::vector<Run>& runs, const Settings& settings);

}  // namespace temporal_order
