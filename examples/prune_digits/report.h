// What prune_digits prints and writes at its end.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "examples/prune_digits/settings.h"

namespace prune_digits {

/// One of the three networks.
struct Figures {
  double accuracy = 0;                           ///< on the test rows, a fraction
  espalier::Index weights = 0;                   ///< live weights and biases
  std::uint64_t bytes = 0;                       ///< of the saved file
  double latency_1 = 0, latency_64 = 0;          ///< median microseconds of a forward pass at batch 1 and 64
  std::vector<std::string> shapes;               ///< of each layer's weight
  std::vector<std::string> kernel_1, kernel_64;  ///< what runs each layer at these batch sizes
};

/// What clipping did while the pruned network was trained.
struct ClipFigures {
  espalier::Index steps = 0;
  double clipped_share = 0, norm_p50 = 0, norm_p90 = 0, norm_p99 = 0;
};

struct Report {
  std::vector<std::string> layers;
  Figures dense, masked, deployed;
  ClipFigures clip;
  double sparsity = 0;            ///< reached, of the weights
  double largest_difference = 0;  ///< of the logits, masked against loaded
};

std::string as_text(const Report& report, const Settings& settings);
/// Errors: espalier::IoError.
void write_json(const std::string& path, const Report& report, const Settings& settings);

}  // namespace prune_digits
