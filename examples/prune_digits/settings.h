// The command line of prune_digits.
#pragma once

#include <cstdint>
#include <string>

#include "espalier/espalier.h"

namespace prune_digits {

struct Settings {
  std::string data;  ///< empty: the digits that ship with Espalier; else a folder with MNIST's four files
  std::string out = "prune_digits_models";
  std::string json;
  std::string kernels = "measured";
  std::uint64_t seed = 1;
  int threads = 0;             ///< 0: all processors
  espalier::Index epochs = 0;  ///< 0: 100 on the digits, 20 on other data
  espalier::Index batch_size = 64;
  double lr = 1e-3;
  double clip_norm = 1.0;
  double sparsity = 0.9;
};

/// Reads the command line. Exits with 0 after --help or --version, with 2 on an error in the usage.
Settings parse(int argc, char** argv);

}  // namespace prune_digits
