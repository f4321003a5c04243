// Differentiable recurrences: single steps, and whole sequences in one node.
//
// The sequence functions run one direction of one layer as one fused pass each way; they can be differentiated once. A
// recurrence stepped with the cells is slower, records a node for each part of each step, and can be differentiated
// twice; it is also the way to look at or to change d loss / d h_t between steps (clip it by a gradient hook on h_t),
// for inside a fused sequence there is no h_t on the tape.
//
// f32, f64. Undefined states start at 0, undefined biases are 0. Errors of all: ShapeError, DTypeError; GradError of
// backward for a packed weight.
// Settings of whole sequences: reverse, batch_first (0, 1).
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

enum class Nonlinearity : std::uint8_t { tanh, relu };

// --- one step: x [N, in], h and c [N, hidden], weights [gates * hidden, ...] ------------------------------------------

/// h' = act(W_ih x + b_ih + W_hh h + b_hh). Elman 1990.
Variable rnn_cell(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
                  const Variable& bias_ih = {}, const Variable& bias_hh = {},
                  Nonlinearity nonlinearity = Nonlinearity::tanh);

struct LstmCellResult {
  Variable h, c;
};
/// With [i f g o] = W_ih x + b_ih + W_hh h + b_hh, s the sigmoid: c' = s(f) c + s(i) tanh(g), h' = s(o) tanh(c').
/// Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000.
LstmCellResult lstm_cell(const Variable& x, const Variable& h, const Variable& c, const Variable& weight_ih,
                         const Variable& weight_hh, const Variable& bias_ih = {}, const Variable& bias_hh = {});

/// With [r z n] the rows of the weights: r and z = s(W_ih x + b_ih + W_hh h + b_hh), the sigmoid,
/// n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h.
/// Cho et al. 2014, with the reset gate behind the product, as PyTorch has it.
Variable gru_cell(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
                  const Variable& bias_ih = {}, const Variable& bias_hh = {});

// --- whole sequences: x [T, N, in] -> output [T, N, hidden] -----------------------------------------------------------

struct SequenceOptions {
  bool batch_first = false;  ///< x [N, T, in] -> output [N, T, hidden], without a copy
  bool reverse = false;      ///< from the last step to the first; output stays in the order of x
  /// i64 [N], each 0 to T: the steps of each sequence (packed sequences). Steps behind the end cost nothing, their
  /// output and gradient are 0; h and c are those of each sequence's own last step; in reverse it begins there.
  Tensor lengths = {};
};

struct RnnResult {
  Variable output, h;  ///< h [N, hidden]: the last state
};
struct LstmResult {
  Variable output, h, c;
};

/// rnn_cell along x. Cost of all three: 2 T N gates hidden (in + hidden) operations, twice that backward; memory for
/// backward: T N hidden times gates + 1 (rnn), + 3 (lstm), + 2 (gru) values. Errors: IndexError for a length.
RnnResult rnn(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
              const Variable& bias_ih = {}, const Variable& bias_hh = {}, const SequenceOptions& options = {},
              Nonlinearity nonlinearity = Nonlinearity::tanh);
/// lstm_cell along x; see rnn.
LstmResult lstm(const Variable& x, const Variable& h, const Variable& c, const Variable& weight_ih,
                const Variable& weight_hh, const Variable& bias_ih = {}, const Variable& bias_hh = {},
                const SequenceOptions& options = {});
/// gru_cell along x; see rnn.
RnnResult gru(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
              const Variable& bias_ih = {}, const Variable& bias_hh = {}, const SequenceOptions& options = {});

}  // namespace espalier
