// What is run for each published result: all settings in one table (settings.cpp), each with its reason.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "espalier/core/error.h"

namespace results {

using espalier::Index;

enum class Network : std::uint8_t { lenet300, lenet5 };
const char* name_of(Network network);

enum class Method : std::uint8_t { sgd, adamw };
/// One training: the rate along half a cosine to 0, decay of weights (L2 for SGD, decoupled for AdamW), dropout.
struct Recipe {
  Index epochs;
  Index batch;
  double lr;
  double weight_decay;
  double drop_input, drop_hidden;  ///< dropout of inputs and of hidden units
  const char* why;
  Method method = Method::sgd;  ///< sgd: with Nesterov momentum 0.9
};

enum class Kind : std::uint8_t { retrain, snip, lottery, structured };

inline constexpr double no_bar = std::numeric_limits<double>::quiet_NaN();

/// One row of the table of results.
struct Row {
  const char* name;
  Network network;
  Kind kind;
  const char* title;
  const char* published;
  const char* bar;
  /// Kind::retrain: weights left in all, and if not empty the share left in each layer; Kind::snip: share left.
  double left = 0;
  std::vector<double> left_of_layer = {};
  Recipe recipe = {};
  /// Kind::retrain: epochs of gradual pruning at a constant rate before the recipe; the first so many to 7 % left, or to
  /// what is to be left, the others from there on, with sparse products.
  Index prune_epochs = 0, prune_further_epochs = 0;
  double temperature = 1, alpha = 0;  ///< distillation from the dense network; alpha 0: none
  double gain = 1.4142135623730951;   ///< of the initial weights, for Kind::snip
  bool centred = true;                ///< pixels normalised, else from 0 to 1
  const char* how = "";               ///< what is done, for the page
  const char* tried = "";             ///< what else was tried, for the page
  double most_error = no_bar;         ///< in per cent
  double over_dense = no_bar;         ///< in points above the dense network
};

const std::vector<Row>& rows();
/// Errors: ConfigError for an unknown name, with the names there are.
const Row& row_named(const std::string& name);
/// The row with changes "key=value"; keys: epochs, batch, lr, decay, drop_input, drop_hidden, temperature, alpha,
/// prune, further, centred, gain. Errors: ConfigError for another key, or what is no number.
Row changed(Row row, const std::vector<std::string>& changes);
/// The dense network that all retrained rows of a network start from.
const Recipe& dense_recipe(Network network);

/// Frankle and Carbin 2019, appendix: Adam 1.2e-3, batch 60; layer by layer 20 % a round, the output layer 10 %.
struct LotterySettings {
  Index iterations = 12000;  ///< of each training; theirs are 50,000, and the lowest validation loss lies before 9,000
  Index batch = 60;
  double lr = 1.2e-3;
  Index rounds = 15;        ///< 0.8^15 = 3.5 % of the hidden layers are left then
  Index every = 100;        ///< iterations between looks at the validation loss
  Index validation = 5000;  ///< last rows of the training part
  Index round_21 = 7, round_3_6 = 15;
};

/// One call of the program.
struct Settings {
  std::string row, data, out = "results_out";
  std::uint64_t seed = 1;
  int threads = 1;
  bool tiny = false;    ///< a few hundred shipped digits, one epoch: does every step run
  bool choose = false;  ///< train on all but the last 5,000 rows, and measure on these: for choosing settings
  bool render = false;
  std::vector<std::string> changes;  ///< "lr=0.1": settings of the row, changed; with --choose only
};

}  // namespace results
