// Recurrent layers over whole sequences: one direction of one layer, forward and backward through time.
//
// Forward: one product for the input projections of all steps; then, step by step, h W_hh^T with a weight that is laid
// out once, and one loop for all gates. Backward: the same in reverse; the gradients of the weights, of the bias and of
// the input are one product each over all steps. Sequences do not see each other, so threads share out the batch and
// each runs through time on its own; where the batch is small they share out the columns of large steps. Chunks depend
// on shapes only.
#pragma once

#include <vector>

#include "espalier/core/tensor.h"

namespace espalier {

class MaskedLinear;

namespace kernels {
struct CellKernel;  // core/kernels/recurrent.h
}

/// What kind of cell runs along the sequence. Its formulas stand in core/kernels/recurrent.h.
struct RecurrentCell {
  const char* name;   ///< the op, for error texts
  Index gates;        ///< rows of a weight are gates * hidden
  bool carries_cell;  ///< a second state, c
  bool inner_kept;    ///< backward needs the values that CellForward calls inner
  bool split_bias;    ///< the recurrent bias of the last gate stays with the product (gru)
  const kernels::CellKernel& (*kernel)() noexcept;
};
namespace cell_kinds {
const RecurrentCell& rnn_tanh() noexcept;
const RecurrentCell& rnn_relu() noexcept;
const RecurrentCell& lstm() noexcept;
const RecurrentCell& gru() noexcept;
}  // namespace cell_kinds

/// Undefined tensors are absent: biases are then 0, states start at 0, all sequences are T long.
struct RecurrentArguments {
  Tensor x;                     ///< [T, N, in], or [N, T, in] if batch_first
  Tensor h, c;                  ///< [N, hidden]
  Tensor weight_ih, weight_hh;  ///< [gates * hidden, in], [gates * hidden, hidden]; may be packed if nothing is kept
  Tensor bias_ih, bias_hh;      ///< [gates * hidden]
  Tensor lengths;               ///< i64 [N]: steps of each sequence, 0 to T
  bool reverse = false;         ///< from the last step of each sequence to its first
  bool batch_first = false;
  /// Products of the live entries of weight_ih and weight_hh, up to date; null: dense ones.
  const MaskedLinear *products_ih = nullptr, *products_hh = nullptr;
};

/// Where the rows of a batch of sequences lie: one row per step of a sequence that is not over yet.
struct SequenceLayout {
  Index steps = 0, batch = 0, rows = 0;
  Index step_stride = 0, batch_stride = 0;  ///< all of one length: row = t * step_stride + n * batch_stride
  std::vector<Index> order;                 ///< else: sequences, the longest first,
  std::vector<Index> active;                ///< how many of them are still running at step t,
  std::vector<Index> first_row;             ///< and the row of the first of them at step t
  bool ragged() const noexcept { return !order.empty(); }
};

/// What forward leaves for backward, a row for every row of the layout.
struct RecurrentTrace {
  SequenceLayout layout;
  Tensor gates, h_before, c_before, inner;
};

struct RecurrentOutput {
  Tensor y;     ///< as x, with hidden in place of in; 0 behind the end of a sequence
  Tensor h, c;  ///< [N, hidden]: the state behind the last step of each sequence
};

struct RecurrentGradients {
  Tensor x, h, c, weight_ih, weight_hh, bias_ih, bias_hh;
};
struct RecurrentWants {
  bool x, h, c, weight_ih, weight_hh, bias_ih, bias_hh;
  bool pruned_weights = false;  ///< gradients of weights that have products also where they are pruned, not 0 there
};

/// Runs the sequences. `trace` null: nothing is kept. Errors: ShapeError, DTypeError, IndexError for a length outside
/// [0, T]. Cost: 2 rows gates hidden (in + hidden) operations.
RecurrentOutput recurrent_forward(const RecurrentCell& cell, const RecurrentArguments& a, RecurrentTrace* trace);
/// Gradients of what is wanted, from those of the outputs (undefined: none came). `a` are the same arguments.
RecurrentGradients recurrent_backward(const RecurrentCell& cell, const RecurrentArguments& a,
                                      const RecurrentTrace& trace, const RecurrentOutput& gradients,
                                      const RecurrentWants& wants);

/// The checks of recurrent_forward, in the name of `op`; with x [N, in] instead if it is one step.
void check_recurrent(const char* op, const RecurrentCell& cell, const RecurrentArguments& a, bool one_step = false);

/// One pointwise step of a batch: a, product [N, gates * hidden], h and c [N, hidden] -> the next states. With `trace`,
/// what backward needs. Shapes are the caller's care.
RecurrentOutput cell_forward(const RecurrentCell& cell, const Tensor& a, const Tensor& product, const Tensor& h,
                             const Tensor& c, RecurrentTrace* trace);
struct CellGradients {
  Tensor a, product, h, c;  ///< product is `a` itself unless the cell splits its bias
};
/// Gradients of a, product, h (gru) and c (lstm), from those of the next states.
CellGradients cell_backward(const RecurrentCell& cell, const RecurrentTrace& trace, const Tensor& dh, const Tensor& dc);

}  // namespace espalier
