#include <cmath>
#include <utility>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/autograd/ops/shape.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

/// One sequence's state.
struct State {
  std::vector<double> h, c;
};

/// What a step does with W_ih x + b_ih and W_hh h + b_hh of one sequence.
using Step = State (*)(const std::vector<double>& a, const std::vector<double>& p, const State& state);

template <class F>
State each_unit(const State& before, F f) {
  State after = before;
  for (std::size_t j = 0; j < before.h.size(); ++j) f(j, after);
  return after;
}
State rnn_step(const std::vector<double>& a, const std::vector<double>& p, const State& s) {
  return each_unit(s, [&](std::size_t j, State& to) { to.h[j] = std::tanh(a[j] + p[j]); });
}
State relu_step(const std::vector<double>& a, const std::vector<double>& p, const State& s) {
  return each_unit(s, [&](std::size_t j, State& to) { to.h[j] = std::max(0., a[j] + p[j]); });
}
State lstm_step(const std::vector<double>& a, const std::vector<double>& p, const State& s) {
  const std::size_t n = s.h.size();
  return each_unit(s, [&](std::size_t j, State& to) {
    const double i = sigmoid_of(a[j] + p[j]), f = sigmoid_of(a[n + j] + p[n + j]);
    const double g = std::tanh(a[2 * n + j] + p[2 * n + j]), o = sigmoid_of(a[3 * n + j] + p[3 * n + j]);
    to.c[j] = f * s.c[j] + i * g;
    to.h[j] = o * std::tanh(to.c[j]);
  });
}
State gru_step(const std::vector<double>& a, const std::vector<double>& p, const State& s) {
  const std::size_t n = s.h.size();
  return each_unit(s, [&](std::size_t j, State& to) {
    const double r = sigmoid_of(a[j] + p[j]), z = sigmoid_of(a[n + j] + p[n + j]);
    const double candidate = std::tanh(a[2 * n + j] + r * p[2 * n + j]);
    to.h[j] = (1 - z) * candidate + z * s.h[j];
  });
}

/// W v + b; b may be missing.
std::vector<double> affine_of(const Array& weight, const double* v, const Array* bias) {
  const Index rows = weight.shape[0], columns = weight.shape[1];
  std::vector<double> y;
  for (Index i = 0; i < rows; ++i) {
    double sum = bias ? (*bias)[i] : 0;
    for (Index j = 0; j < columns; ++j) sum += weight[i * columns + j] * v[j];
    y.push_back(sum);
  }
  return y;
}

/// How a row of the table runs its sequences. Inputs: x, h, (c,) weight_ih, weight_hh, (bias_ih, bias_hh).
struct Run {
  Step step;
  bool has_c = false, reverse = false, batch_first = false, bias = true;
  Index (*length)(Index n, Index steps) = nullptr;  ///< of sequence n; null: all of them
};

Index ragged(Index n, Index steps) { return (5 * n + 2) % (steps + 1); }

/// output + h + 2 c, the states along every step: so one result has the gradients of all.
Array expected(const Run& run, std::span<const Array> in) {
  const Array &x = in[0], &h0 = in[1];
  const std::size_t weights = run.has_c ? 3 : 2;
  const Index batch = h0.shape[0], hidden = h0.shape[1], width = x.shape[2], steps = x.shape[run.batch_first ? 1 : 0];
  Array y({x.shape[0], x.shape[1], hidden});
  auto row = [&](Index t, Index n) { return run.batch_first ? n * steps + t : t * batch + n; };
  for (Index n = 0; n < batch; ++n) {
    State state{{}, std::vector<double>(static_cast<std::size_t>(hidden))};
    for (Index j = 0; j < hidden; ++j) {
      state.h.push_back(h0[n * hidden + j]);
      if (run.has_c) state.c[static_cast<std::size_t>(j)] = in[2][n * hidden + j];
    }
    const Index length = run.length ? run.length(n, steps) : steps;
    for (Index s = 0; s < length; ++s) {
      const Index t = run.reverse ? length - 1 - s : s;
      state =
          run.step(affine_of(in[weights], x.values.data() + row(t, n) * width, run.bias ? &in[weights + 2] : nullptr),
                   affine_of(in[weights + 1], state.h.data(), run.bias ? &in[weights + 3] : nullptr), state);
      for (Index j = 0; j < hidden; ++j) y[row(t, n) * hidden + j] = state.h[static_cast<std::size_t>(j)];
    }
    for (Index t = 0; t < steps; ++t)
      for (Index j = 0; j < hidden; ++j) {
        const auto at = static_cast<std::size_t>(j);
        y[row(t, n) * hidden + j] += state.h[at] + (run.has_c ? 2 * state.c[at] : 0);
      }
  }
  return y;
}

/// One step, as a sequence of one: 2 h' + 2 c'.
Array expected_cell(const Run& run, std::span<const Array> in) {
  std::vector<Array> sequence(in.begin(), in.end());
  sequence[0].shape = {1, in[0].shape[0], in[0].shape[1]};
  Array y = expected(run, sequence);
  y.shape = in[1].shape;
  return y;
}

std::vector<Shape> shapes_of(Lengths& draw, Index gates, const Run& run, bool cell) {
  const Index steps = draw.length(), batch = draw.length(), in = draw.length(), hidden = draw.positive();
  std::vector<Shape> shapes{cell              ? Shape{batch, in}
                            : run.batch_first ? Shape{batch, steps, in}
                                              : Shape{steps, batch, in}};
  for (int states = run.has_c ? 2 : 1; states-- > 0;) shapes.push_back({batch, hidden});
  shapes.push_back({gates * hidden, in});
  shapes.push_back({gates * hidden, hidden});
  if (run.bias)
    for (int biases = 2; biases-- > 0;) shapes.push_back({gates * hidden});
  return shapes;
}

SequenceOptions options_of(const Run& run, const Shape& x) {
  SequenceOptions options{.batch_first = run.batch_first, .reverse = run.reverse, .lengths = {}};
  if (!run.length) return options;
  std::vector<std::int64_t> lengths;
  for (Index n = 0; n < x[run.batch_first ? 0 : 1]; ++n) lengths.push_back(run.length(n, x[run.batch_first ? 1 : 0]));
  options.lengths = Tensor::from(lengths, {static_cast<Index>(lengths.size())});
  return options;
}

/// output + h + 2 c.
Variable combined(const Run& run, const Variable& output, const Variable& h, const Variable& c) {
  Variable state = c.defined() ? add(h, affine(c, 2, 0)) : h;
  if (run.batch_first) state = reshape(state, {state.shape()[0], 1, state.shape()[1]});
  return add(output, state);
}

using Inputs = std::span<const Variable>;
Variable bias(const Run& run, Inputs v, std::size_t k) { return run.bias ? v[k] : Variable(); }

OpCase sequence_case(std::string name, Index gates, const Run& run,
                     std::function<Variable(const Run&, Inputs, const SequenceOptions&)> call) {
  OpCase row{std::move(name), [run, call](Inputs v) { return call(run, v, options_of(run, v[0].shape())); },
             [run](std::span<const Array> in) { return expected(run, in); },
             [run, gates](Lengths& draw) { return shapes_of(draw, gates, run, false); }};
  row.domain = {-0.25, 0.25};  // wider weights make long sequences chaotic
  row.twice = false;
  row.f32_error = 2e-5;
  return row;
}

OpCase cell_case(std::string name, Index gates, const Run& run, std::function<Variable(const Run&, Inputs)> call) {
  OpCase row{std::move(name), [run, call](Inputs v) { return call(run, v); },
             [run](std::span<const Array> in) { return expected_cell(run, in); },
             [run, gates](Lengths& draw) { return shapes_of(draw, gates, run, true); }};
  row.domain = {-1, 1};
  row.f32_error = 1e-5;
  return row;
}

Variable call_rnn(const Run& run, Inputs v, const SequenceOptions& options) {
  const RnnResult y = rnn(v[0], v[1], v[2], v[3], bias(run, v, 4), bias(run, v, 5), options,
                          run.step == relu_step ? Nonlinearity::relu : Nonlinearity::tanh);
  return combined(run, y.output, y.h, {});
}
Variable call_lstm(const Run& run, Inputs v, const SequenceOptions& options) {
  const LstmResult y = lstm(v[0], v[1], v[2], v[3], v[4], bias(run, v, 5), bias(run, v, 6), options);
  return combined(run, y.output, y.h, y.c);
}
Variable call_gru(const Run& run, Inputs v, const SequenceOptions& options) {
  const RnnResult y = gru(v[0], v[1], v[2], v[3], bias(run, v, 4), bias(run, v, 5), options);
  return combined(run, y.output, y.h, {});
}
// As `expected`: the output of the step, which is h', plus h' and 2 c'.
Variable call_rnn_cell(const Run& run, Inputs v) {
  return affine(rnn_cell(v[0], v[1], v[2], v[3], bias(run, v, 4), bias(run, v, 5)), 2, 0);
}
Variable call_lstm_cell(const Run& run, Inputs v) {
  const LstmCellResult y = lstm_cell(v[0], v[1], v[2], v[3], v[4], bias(run, v, 5), bias(run, v, 6));
  return affine(add(y.h, y.c), 2, 0);
}
Variable call_gru_cell(const Run& run, Inputs v) {
  return affine(gru_cell(v[0], v[1], v[2], v[3], bias(run, v, 4), bias(run, v, 5)), 2, 0);
}

}  // namespace

std::vector<OpCase> recurrent_cases() {
  return {
      cell_case("rnn_cell", 1, {.step = rnn_step}, call_rnn_cell),
      cell_case("lstm_cell", 4, {.step = lstm_step, .has_c = true}, call_lstm_cell),
      cell_case("lstm_cell: no bias", 4, {.step = lstm_step, .has_c = true, .bias = false}, call_lstm_cell),
      cell_case("gru_cell", 3, {.step = gru_step}, call_gru_cell),
      sequence_case("rnn", 1, {.step = rnn_step}, call_rnn),
      sequence_case("rnn: relu, reverse, lengths", 1, {.step = relu_step, .reverse = true, .length = ragged}, call_rnn),
      sequence_case("lstm", 4, {.step = lstm_step, .has_c = true}, call_lstm),
      sequence_case("lstm: batch first, no bias", 4,
                    {.step = lstm_step, .has_c = true, .batch_first = true, .bias = false}, call_lstm),
      sequence_case("lstm: reverse, batch first", 4,
                    {.step = lstm_step, .has_c = true, .reverse = true, .batch_first = true}, call_lstm),
      sequence_case("lstm: lengths", 4, {.step = lstm_step, .has_c = true, .length = ragged}, call_lstm),
      sequence_case("gru", 3, {.step = gru_step}, call_gru),
      sequence_case("gru: no bias, reverse", 3, {.step = gru_step, .reverse = true, .bias = false}, call_gru),
      sequence_case("gru: lengths, batch first, reverse", 3,
                    {.step = gru_step, .reverse = true, .batch_first = true, .length = ragged}, call_gru),
  };
}

}  // namespace espalier::testing
