#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/nn/recurrent.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

using nn::detail::DirectionWeights;

DirectionWeights weights_of(const Call& call, const std::string& suffix) {
  return {call.named("weight_ih" + suffix), call.named("weight_hh" + suffix), call.named("bias_ih" + suffix),
          call.named("bias_hh" + suffix)};
}

/// PyTorch has the states of all layers and directions in one tensor, [layers * directions, N, hidden].
std::vector<Variable> unstacked(const Variable& states) {
  return states.defined() ? unbind(states, 0) : std::vector<Variable>();
}

/// output, h_n and, for the LSTM, c_n.
Run layers(const char* op, nn::detail::Recurrence run, std::vector<std::string> state_names) {
  return differentiable([op, run, state_names](const Call& call) {
    const bool bidirectional = call.args.flag("bidirectional");
    std::vector<DirectionWeights> weights;
    for (Index layer = 0; layer < call.args.integer("num_layers"); ++layer)
      for (const char* direction : {"", "_reverse"})
        if (*direction == '\0' || bidirectional)
          weights.push_back(weights_of(call, "_l" + std::to_string(layer) + direction));
    std::vector<std::vector<Variable>> states;
    for (const std::string& name : state_names) states.push_back(unstacked(call.named(name)));
    const nn::detail::LayersOutput y =
        nn::detail::run_layers(op, run, call[0], weights, states, bidirectional,
                               {.batch_first = call.args.flag("batch_first"), .reverse = false, .lengths = {}});
    std::vector<Variable> outputs{y.output};
    for (const std::vector<Variable>& list : y.states) outputs.push_back(stack(list, 0));
    return outputs;
  });
}

Run rnn_cell_row() {
  return of_call([](const Call& call) {
    const DirectionWeights w = weights_of(call, "");
    const std::string act = call.args.text("nonlinearity", "tanh");
    if (act != "tanh" && act != "relu") throw Unsupported{"nonlinearity " + act};
    return rnn_cell(call[0], call.named("h0"), w[0], w[1], w[2], w[3],
                    act == "relu" ? Nonlinearity::relu : Nonlinearity::tanh);
  });
}

Run lstm_cell_row() {
  return differentiable([](const Call& call) {
    const DirectionWeights w = weights_of(call, "");
    LstmCellResult y = lstm_cell(call[0], call.named("h0"), call.named("c0"), w[0], w[1], w[2], w[3]);
    return std::vector<Variable>{std::move(y.h), std::move(y.c)};
  });
}

Run gru_cell_row() {
  return of_call([](const Call& call) {
    const DirectionWeights w = weights_of(call, "");
    return gru_cell(call[0], call.named("h0"), w[0], w[1], w[2], w[3]);
  });
}

}  // namespace

std::vector<Row> recurrent_rows() {
  return {
      {"rnn_cell", rnn_cell_row()},
      {"lstm_cell", lstm_cell_row()},
      {"gru_cell", gru_cell_row()},
      {"rnn", layers("rnn", nn::detail::run_rnn_tanh, {"h0"})},
      {"lstm", layers("lstm", nn::detail::run_lstm, {"h0", "c0"})},
      {"gru", layers("gru", nn::detail::run_gru, {"h0"})},
  };
}

}  // namespace espalier::golden
