// Recurrent layers: Rnn, Lstm and Gru over whole sequences, and their single steps.
//
//   nn::Lstm lstm(rng, 64, 256, {.num_layers = 2, .batch_first = true});
//   nn::LstmState state;                                  // empty: starts at 0
//   for (auto& [x, y] : loader) {
//     Tape tape;
//     auto [output, next] = lstm(x, state);               // x [N, T, 64] -> output [N, T, 256]
//     ...
//     state = next.detach();                              // carried on, without its history
//   }
//
// Parameters have PyTorch's names and layouts: weight_ih_l0 [gates * hidden, in], weight_hh_l0 [gates * hidden, hidden],
// bias_ih_l0 and bias_hh_l0 [gates * hidden], then _l1 and so on; those of the backward direction end in _reverse. All
// are drawn from U(-k, k), k = 1 / sqrt(hidden). Sizes are read off the weights, so each layer may be pruned to a hidden
// size of its own; hence a state is one tensor for each layer and direction, where PyTorch has all in one.
//
// To see or change d loss / d h_t between steps (clip it), step an LstmCell instead: see autograd/ops/recurrent.h.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/ops/recurrent.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/init.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct RecurrentOptions {
  int num_layers = 1;  ///< each but the first reads the outputs of the one before
  bool bias = true;
  bool batch_first = false;    ///< x [N, T, in], else [T, N, in]
  double dropout = 0;          ///< of what a layer reads from the one before, in training
  bool bidirectional = false;  ///< the outputs of both directions one behind the other: 2 hidden values
  DType dtype = DType::f32;
};

/// The weights of one direction of one layer.
struct RecurrentWeights {
  Parameter weight_ih, weight_hh, bias_ih, bias_hh;

  RecurrentWeights() = default;
  RecurrentWeights(Rng& rng, Index in, Index hidden, Index gates, bool bias, DType type);
  void members(Visitor& v, const std::string& suffix);
  Index hidden() const { return weight_hh.shape()[1]; }
};

/// Undefined or empty: starts at 0. h[layer * directions + direction] is [N, hidden].
struct RnnState {
  std::vector<Variable> h;
  RnnState detach() const;
};
struct LstmState {
  std::vector<Variable> h, c;
  LstmState detach() const;
};
struct RnnOutput {
  Variable output;  ///< [T, N, directions * hidden] of the last layer, or [N, T, ...] if batch_first
  RnnState state;   ///< behind each sequence's last step
};
struct LstmOutput {
  Variable output;
  LstmState state;
};

namespace detail {

/// weight_ih, weight_hh, bias_ih, bias_hh.
using DirectionWeights = std::array<Variable, 4>;
/// Runs one direction of one layer: output and last states, from x and the first states (h; c).
using Recurrence = std::vector<Variable> (*)(const Variable& x, std::span<const Variable> states,
                                             const DirectionWeights& weights, const SequenceOptions& options);
std::vector<Variable> run_rnn_tanh(const Variable&, std::span<const Variable>, const DirectionWeights&,
                                   const SequenceOptions&);
std::vector<Variable> run_rnn_relu(const Variable&, std::span<const Variable>, const DirectionWeights&,
                                   const SequenceOptions&);
std::vector<Variable> run_lstm(const Variable&, std::span<const Variable>, const DirectionWeights&,
                               const SequenceOptions&);
std::vector<Variable> run_gru(const Variable&, std::span<const Variable>, const DirectionWeights&,
                              const SequenceOptions&);

struct LayersOutput {
  Variable output;
  std::vector<std::vector<Variable>> states;  ///< as given in
};
/// Layers one behind the other: weights [layer * directions + direction], states[k] one list a kind of state, in the
/// same order, or empty; `dropout` between layers, or null. Errors: ShapeError for another number of states.
LayersOutput run_layers(const char* op, Recurrence run, const Variable& x, std::span<const DirectionWeights> weights,
                        std::span<const std::vector<Variable>> states, bool bidirectional,
                        const SequenceOptions& options, const Dropout* dropout = nullptr);

/// What Rnn, Lstm and Gru hold.
class RecurrentStack final {
 public:
  RecurrentStack(const char* op, Rng& rng, Index in, Index hidden, Index gates, const RecurrentOptions& options);
  void members(Visitor& v);
  LayersOutput operator()(Recurrence run, const Variable& x, std::span<const std::vector<Variable>> states,
                          const Tensor& lengths) const;
  /// Errors: IndexError.
  RecurrentWeights& at(int layer, bool reverse);

 private:
  const char* op_;
  bool bidirectional_, batch_first_;
  std::vector<RecurrentWeights> weights_;
  std::optional<Dropout> dropout_;
};

}  // namespace detail

/// h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh). Elman 1990. x [T, N, in] -> output [T, N, directions * hidden].
/// lengths: i64 [N], the steps of each sequence; undefined: all T. Errors: ConfigError, ShapeError, DTypeError,
/// IndexError for a length outside [0, T].
class Rnn final : public Module {
 public:
  Rnn(Rng& rng, Index in, Index hidden, const RecurrentOptions& options = {},
      Nonlinearity nonlinearity = Nonlinearity::tanh)
      : stack_("rnn", rng, in, hidden, 1, options), nonlinearity_(nonlinearity) {}

  RnnOutput operator()(const Variable& x, const RnnState& state = {}, const Tensor& lengths = {}) const;
  void members(Visitor& v) override { stack_.members(v); }
  RecurrentWeights& weights(int layer = 0, bool reverse = false) { return stack_.at(layer, reverse); }

 private:
  detail::RecurrentStack stack_;
  Nonlinearity nonlinearity_;
};

/// Long short-term memory; formulas at lstm_cell in autograd/ops/recurrent.h, gates i, f, g, o. Shapes, errors: as Rnn.
/// Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.
class Lstm final : public Module {
 public:
  Lstm(Rng& rng, Index in, Index hidden, const RecurrentOptions& options = {})
      : stack_("lstm", rng, in, hidden, 4, options) {}

  LstmOutput operator()(const Variable& x, const LstmState& state = {}, const Tensor& lengths = {}) const;
  void members(Visitor& v) override { stack_.members(v); }
  RecurrentWeights& weights(int layer = 0, bool reverse = false) { return stack_.at(layer, reverse); }

 private:
  detail::RecurrentStack stack_;
};

/// Gated recurrent unit; formulas at gru_cell in autograd/ops/recurrent.h, gates r, z, n. Shapes, errors: as Rnn.
/// Cho et al. 2014.
class Gru final : public Module {
 public:
  Gru(Rng& rng, Index in, Index hidden, const RecurrentOptions& options = {})
      : stack_("gru", rng, in, hidden, 3, options) {}

  RnnOutput operator()(const Variable& x, const RnnState& state = {}, const Tensor& lengths = {}) const;
  void members(Visitor& v) override { stack_.members(v); }
  RecurrentWeights& weights(int layer = 0, bool reverse = false) { return stack_.at(layer, reverse); }

 private:
  detail::RecurrentStack stack_;
};

// --- single steps: x [N, in] and h [N, hidden], undefined: 0. Parameters: weight_ih, weight_hh, bias_ih, bias_hh -------

struct RecurrentCellOptions {
  bool bias = true;
  DType dtype = DType::f32;
};

/// One step of Rnn: h'.
class RnnCell final : public Module {
 public:
  RnnCell(Rng& rng, Index in, Index hidden, RecurrentCellOptions options = {},
          Nonlinearity nonlinearity = Nonlinearity::tanh)
      : weights(rng, in, hidden, 1, options.bias, options.dtype), nonlinearity_(nonlinearity) {}

  Variable operator()(const Variable& x, const Variable& h = {}) const;
  void members(Visitor& v) override { weights.members(v, ""); }

  RecurrentWeights weights;

 private:
  Nonlinearity nonlinearity_;
};

/// One step of Lstm: h' and c'.
class LstmCell final : public Module {
 public:
  LstmCell(Rng& rng, Index in, Index hidden, RecurrentCellOptions options = {})
      : weights(rng, in, hidden, 4, options.bias, options.dtype) {}

  LstmCellResult operator()(const Variable& x, const LstmCellResult& state = {}) const;
  void members(Visitor& v) override { weights.members(v, ""); }

  RecurrentWeights weights;
};

/// One step of Gru: h'.
class GruCell final : public Module {
 public:
  GruCell(Rng& rng, Index in, Index hidden, RecurrentCellOptions options = {})
      : weights(rng, in, hidden, 3, options.bias, options.dtype) {}

  Variable operator()(const Variable& x, const Variable& h = {}) const;
  void members(Visitor& v) override { weights.members(v, ""); }

  RecurrentWeights weights;
};

}  // namespace espalier::nn
