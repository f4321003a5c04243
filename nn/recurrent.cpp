#include "espalier/nn/recurrent.h"

#include <string>

#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier::nn {
namespace {

std::vector<Variable> detached(const std::vector<Variable>& list) {
  std::vector<Variable> result;
  for (const Variable& v : list) result.push_back(v.detach());
  return result;
}

detail::DirectionWeights as_variables(const RecurrentWeights& w) {
  auto or_none = [](const Parameter& p) { return p.defined() ? Variable(p) : Variable(); };
  return {w.weight_ih, w.weight_hh, or_none(w.bias_ih), or_none(w.bias_hh)};
}

}  // namespace

RecurrentWeights::RecurrentWeights(Rng& rng, Index in, Index hidden, Index gates, bool bias, DType type) {
  auto draw = [&](const Shape& shape) {
    return Parameter(init::fan_in_uniform(rng, shape, static_cast<double>(hidden), type));
  };
  weight_ih = draw({gates * hidden, in});
  weight_hh = draw({gates * hidden, hidden});
  if (!bias) return;
  bias_ih = draw({gates * hidden});
  bias_hh = draw({gates * hidden});
}

void RecurrentWeights::members(Visitor& v, const std::string& suffix) {
  v("weight_ih" + suffix, weight_ih)("weight_hh" + suffix, weight_hh);
  v("bias_ih" + suffix, bias_ih)("bias_hh" + suffix, bias_hh);
}

RnnState RnnState::detach() const { return {detached(h)}; }
LstmState LstmState::detach() const { return {detached(h), detached(c)}; }

namespace detail {

namespace {
std::vector<Variable> listed(RnnResult y) { return {std::move(y.output), std::move(y.h)}; }
}  // namespace

std::vector<Variable> run_rnn_tanh(const Variable& x, std::span<const Variable> s, const DirectionWeights& w,
                                   const SequenceOptions& options) {
  return listed(rnn(x, s[0], w[0], w[1], w[2], w[3], options, Nonlinearity::tanh));
}
std::vector<Variable> run_rnn_relu(const Variable& x, std::span<const Variable> s, const DirectionWeights& w,
                                   const SequenceOptions& options) {
  return listed(rnn(x, s[0], w[0], w[1], w[2], w[3], options, Nonlinearity::relu));
}
std::vector<Variable> run_gru(const Variable& x, std::span<const Variable> s, const DirectionWeights& w,
                              const SequenceOptions& options) {
  return listed(gru(x, s[0], w[0], w[1], w[2], w[3], options));
}
std::vector<Variable> run_lstm(const Variable& x, std::span<const Variable> s, const DirectionWeights& w,
                               const SequenceOptions& options) {
  LstmResult y = lstm(x, s[0], s[1], w[0], w[1], w[2], w[3], options);
  return {std::move(y.output), std::move(y.h), std::move(y.c)};
}

namespace {
/// What the op says itself, but of an x that it gets to see transposed.
void check_batch_first(const char* op, const Variable& x, const Variable& weight_ih) {
  if (x.rank() != 3 || x.shape()[2] != weight_ih.shape()[-1])
    fail<ShapeError>("[", op, "] x ", x.shape(), " must be [N, T, in] with in = ", weight_ih.shape()[-1],
                     " as weight_ih ", weight_ih.shape(), " has it. Hint: unsqueeze() what is a single one");
}
}  // namespace

LayersOutput run_layers(const char* op, Recurrence run, const Variable& x, std::span<const DirectionWeights> weights,
                        std::span<const std::vector<Variable>> states, bool bidirectional,
                        const SequenceOptions& options, const Dropout* dropout) {
  const std::size_t directions = bidirectional ? 2 : 1, layers = weights.size() / directions;
  for (const std::vector<Variable>& list : states)
    if (!list.empty() && list.size() != weights.size())
      fail<ShapeError>("[", op, "] a state of ", list.size(), " tensors for ", layers, " layers in ", directions,
                       " directions; it must have one for each, or be empty");
  LayersOutput result{x, std::vector<std::vector<Variable>>(states.size())};
  SequenceOptions own = options;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    // Layers within work time first, so that nothing is reordered between them.
    const bool batch_first = options.batch_first && layer + 1 == layers;
    if (own.batch_first != batch_first) {
      if (layer == 0) check_batch_first(op, x, weights[0][0]);
      result.output = transpose(result.output, 0, 1);
    }
    own.batch_first = batch_first;
    std::array<Variable, 2> outputs;
    for (std::size_t d = 0; d < directions; ++d) {
      const std::size_t place = layer * directions + d;
      std::vector<Variable> first;
      for (const std::vector<Variable>& list : states) first.push_back(list.empty() ? Variable() : list[place]);
      own.reverse = d == 1;
      std::vector<Variable> out = run(result.output, first, weights[place], own);
      outputs[d] = std::move(out[0]);
      for (std::size_t k = 0; k < states.size(); ++k) result.states[k].push_back(std::move(out[k + 1]));
    }
    result.output = directions == 2 ? cat({outputs[0], outputs[1]}, 2) : std::move(outputs[0]);
    if (dropout && layer + 1 < layers) result.output = (*dropout)(result.output);
  }
  return result;
}

RecurrentStack::RecurrentStack(const char* op, Rng& rng, Index in, Index hidden, Index gates,
                               const RecurrentOptions& options)
    : op_(op), bidirectional_(options.bidirectional), batch_first_(options.batch_first) {
  if (options.num_layers < 1)
    fail<ConfigError>("[", op, "] num_layers is ", options.num_layers, ", must be at least 1");
  if (options.dropout != 0) dropout_.emplace(rng, options.dropout);
  const Index directions = bidirectional_ ? 2 : 1;
  for (int layer = 0; layer < options.num_layers; ++layer)
    for (Index d = 0; d < directions; ++d)
      weights_.emplace_back(rng, layer == 0 ? in : directions * hidden, hidden, gates, options.bias, options.dtype);
}

void RecurrentStack::members(Visitor& v) {
  const std::size_t directions = bidirectional_ ? 2 : 1;
  for (std::size_t k = 0; k < weights_.size(); ++k)
    weights_[k].members(v, "_l" + std::to_string(k / directions) + (k % directions == 1 ? "_reverse" : ""));
  v("dropout", dropout_);
}

RecurrentWeights& RecurrentStack::at(int layer, bool reverse) {
  const int directions = bidirectional_ ? 2 : 1, layers = static_cast<int>(weights_.size()) / directions;
  if (layer < 0 || layer >= layers || (reverse && directions == 1))
    fail<IndexError>("[", op_, "] no weights of layer ", layer, reverse ? ", reverse," : "", " among ", layers,
                     " layers in ", directions, directions == 1 ? " direction" : " directions");
  return weights_[static_cast<std::size_t>(layer * directions + (reverse ? 1 : 0))];
}

LayersOutput RecurrentStack::operator()(Recurrence run, const Variable& x,
                                        std::span<const std::vector<Variable>> states, const Tensor& lengths) const {
  std::vector<DirectionWeights> weights;
  for (const RecurrentWeights& w : weights_) weights.push_back(as_variables(w));
  return run_layers(op_, run, x, weights, states, bidirectional_,
                    {.batch_first = batch_first_, .reverse = false, .lengths = lengths},
                    dropout_ ? &*dropout_ : nullptr);
}

}  // namespace detail

namespace {
RnnOutput with_one_state(detail::LayersOutput out) { return {std::move(out.output), {std::move(out.states[0])}}; }
}  // namespace

RnnOutput Rnn::operator()(const Variable& x, const RnnState& state, const Tensor& lengths) const {
  return forward([&] {
    const auto run = nonlinearity_ == Nonlinearity::tanh ? detail::run_rnn_tanh : detail::run_rnn_relu;
    return with_one_state(stack_(run, x, {&state.h, 1}, lengths));
  });
}

LstmOutput Lstm::operator()(const Variable& x, const LstmState& state, const Tensor& lengths) const {
  return forward([&]() -> LstmOutput {
    const std::array<std::vector<Variable>, 2> states{state.h, state.c};
    detail::LayersOutput out = stack_(detail::run_lstm, x, states, lengths);
    return {std::move(out.output), {std::move(out.states[0]), std::move(out.states[1])}};
  });
}

RnnOutput Gru::operator()(const Variable& x, const RnnState& state, const Tensor& lengths) const {
  return forward([&] { return with_one_state(stack_(detail::run_gru, x, {&state.h, 1}, lengths)); });
}

Variable RnnCell::operator()(const Variable& x, const Variable& h) const {
  return forward([&] {
    const detail::DirectionWeights w = as_variables(weights);
    return rnn_cell(x, h, w[0], w[1], w[2], w[3], nonlinearity_);
  });
}

LstmCellResult LstmCell::operator()(const Variable& x, const LstmCellResult& state) const {
  return forward([&] {
    const detail::DirectionWeights w = as_variables(weights);
    return lstm_cell(x, state.h, state.c, w[0], w[1], w[2], w[3]);
  });
}

Variable GruCell::operator()(const Variable& x, const Variable& h) const {
  return forward([&] {
    const detail::DirectionWeights w = as_variables(weights);
    return gru_cell(x, h, w[0], w[1], w[2], w[3]);
  });
}

}  // namespace espalier::nn
