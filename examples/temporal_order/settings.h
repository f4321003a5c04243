// The command line of temporal_order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "espalier/espalier.h"

namespace temporal_order {

using espalier::Index;

struct Settings {
  Index length = 100;  ///< symbols of a sequence
  Index seeds = 5;
  std::uint64_t first_seed = 1;
  Index updates = 100'000;         ///< at most, a run
  std::optional<double> clip = 1;  ///< none: only the arm without clipping is trained
  double lr = 0.01;
  Index hidden = 50;
  Index batch = 20;
  std::string init = "orthogonal";
  Index every = 500;    ///< updates from one look at the errors to the next
  Index test = 10'000;  ///< fresh sequences that decide
  std::string plot = "temporal_order.svg";
  std::string json;
};

/// Reads the command line. Exits with 0 after --help or --version, with 2 on an error in the usage.
Settings parse(int argc, char** argv);

}  // namespace temporal_order
