// The layers of nn/ against PyTorch's, on the golden cases of their ops: weights go in through load_state_dict() under
// PyTorch's names; outputs, and gradients of inputs and parameters, must come out.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/join.h"
#include "espalier/core/rng.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/state_dict.h"
#include "tests/golden/runner.h"

namespace espalier::golden {
namespace {

/// One run of a layer on a tape: what goes in, and whose gradients are asked for.
class LayerCall {
 public:
  LayerCall(const Case& golden, DType type) : args(golden.args), dtype(type), golden_(golden) {
    for (const std::string& name : parse_strings(golden.metadata("inputs"))) waiting_.insert(name);
  }

  const Args& args;
  const DType dtype;
  Rng rng{1};

  bool has(const std::string& name) const { return golden_.has("in." + name); }
  Index dim(const std::string& name, int axis) const { return golden_.stored("in." + name).dim(axis); }
  int rank(const std::string& name) const { return golden_.stored("in." + name).rank(); }
  /// An argument of the layer; undefined if the case leaves it out.
  Variable input(const std::string& name) {
    if (!has(name)) return {};
    waiting_.erase(name);
    const Tensor value = golden_.get("in." + name, dtype);
    if (!golden_.has("grad." + name)) return value;
    leaves_.emplace_back(name, tape_.watch(value));
    return leaves_.back().second;
  }
  /// PyTorch has the states of all layers and directions in one tensor, [layers * directions, N, hidden].
  std::vector<Variable> states(const std::string& name) {
    return has(name) ? unbind(input(name), 0) : std::vector<Variable>();
  }
  /// All that no input() has taken goes into the layer, by name.
  void load(nn::Module& layer) {
    nn::StateDict dict;
    for (const std::string& name : waiting_) dict[name] = golden_.get("in." + name, dtype);
    nn::load_state_dict(layer, dict);
    for (const NamedParameter& named : layer.parameters())
      leaves_.emplace_back(named.name, tape_.leaf(named.parameter));
  }
  void compare(const std::vector<Variable>& outputs, Checker& checker) {
    std::vector<Variable> from, weights, leaves;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      const std::string place = std::to_string(k);
      checker.compare("out." + place, outputs[k].value());
      if (!golden_.has("gout." + place) || !outputs[k].recorded()) continue;
      from.push_back(outputs[k]);
      weights.emplace_back(golden_.get("gout." + place, dtype));
    }
    for (const auto& [name, leaf] : leaves_) leaves.push_back(leaf);
    const std::vector<Variable> gradients = tape_.gradient(from, weights, leaves);
    for (std::size_t k = 0; k < leaves.size(); ++k)
      checker.compare("grad." + leaves_[k].first,
                      gradients[k].defined() ? gradients[k].value() : Tensor::zeros(leaves[k].shape(), dtype));
  }

 private:
  const Case& golden_;
  Tape tape_;
  std::set<std::string> waiting_;
  std::vector<std::pair<std::string, Variable>> leaves_;
};

using Outputs = std::vector<Variable>;

Run layer_row(Outputs (*run)(LayerCall&)) {
  return [run](const Case& golden, DType type, Checker& checker) {
    LayerCall call(golden, type);
    call.compare(run(call), checker);
  };
}

/// Inputs are taken before the weights are loaded: what is left is weights.
template <class Layer>
Outputs of_input(LayerCall& c, Layer&& layer) {
  const Variable x = c.input("input");
  c.load(layer);
  return {layer(x)};
}

// --- convolution --------------------------------------------------------------------------------------------------------

IndexPair pair(const Args& args, const char* name) {
  const std::vector<Index> n = args.integers(name);
  return n.size() == 2 ? IndexPair(n[0], n[1]) : IndexPair(n[0]);
}
Index number(const Args& args, const char* name) { return args.integers(name)[0]; }

template <class Layer, class Options, class Kernel>
Outputs convolution(LayerCall& c, const Kernel& kernel, Options options, bool transposed) {
  options.groups = c.args.integer("groups");
  options.bias = c.has("bias");
  options.dtype = c.dtype;
  const Index first = c.dim("weight", 0), second = c.dim("weight", 1) * options.groups;
  return of_input(c, Layer(c.rng, transposed ? first : second, transposed ? second : first, kernel, options));
}
Outputs run_conv1d(LayerCall& c) {
  nn::Conv1dLayerOptions o;
  o.stride = number(c.args, "stride"), o.padding = number(c.args, "padding"), o.dilation = number(c.args, "dilation");
  return convolution<nn::Conv1d>(c, c.dim("weight", 2), o, false);
}
Outputs run_conv2d(LayerCall& c) {
  nn::Conv2dLayerOptions o;
  o.stride = pair(c.args, "stride"), o.padding = pair(c.args, "padding"), o.dilation = pair(c.args, "dilation");
  return convolution<nn::Conv2d>(c, IndexPair(c.dim("weight", 2), c.dim("weight", 3)), o, false);
}
Outputs run_conv_transpose1d(LayerCall& c) {
  nn::ConvTranspose1dLayerOptions o;
  o.stride = number(c.args, "stride"), o.padding = number(c.args, "padding"), o.dilation = number(c.args, "dilation");
  o.output_padding = number(c.args, "output_padding");
  return convolution<nn::ConvTranspose1d>(c, c.dim("weight", 2), o, true);
}
Outputs run_conv_transpose2d(LayerCall& c) {
  nn::ConvTranspose2dLayerOptions o;
  o.stride = pair(c.args, "stride"), o.padding = pair(c.args, "padding"), o.dilation = pair(c.args, "dilation");
  o.output_padding = pair(c.args, "output_padding");
  return convolution<nn::ConvTranspose2d>(c, IndexPair(c.dim("weight", 2), c.dim("weight", 3)), o, true);
}

// --- normalisation ------------------------------------------------------------------------------------------------------

template <class Layer>
Outputs batch_norm(LayerCall& c) {
  Layer layer(c.dim("input", 1), {.eps = c.args.number("eps"),
                                  .momentum = c.args.number("momentum"),
                                  .affine = c.has("weight"),
                                  .dtype = c.dtype});
  if (c.args.flag("training"))
    layer.train();
  else
    layer.eval();
  Outputs outputs = of_input(c, layer);
  outputs.emplace_back(layer.running_mean.value());
  outputs.emplace_back(layer.running_var.value());
  return outputs;
}
Outputs run_batch_norm(LayerCall& c) {
  return c.rank("input") == 4 ? batch_norm<nn::BatchNorm2d>(c) : batch_norm<nn::BatchNorm1d>(c);
}
Outputs run_layer_norm(LayerCall& c) {
  return of_input(
      c,
      nn::LayerNorm(c.args.dims("normalized_shape"),
                    {.eps = c.args.number("eps"), .affine = c.has("weight"), .bias = c.has("bias"), .dtype = c.dtype}));
}
Outputs run_rms_norm(LayerCall& c) {
  return of_input(c, nn::RmsNorm(c.dim("weight", 0), {.eps = c.args.number("eps"), .dtype = c.dtype}));
}
Outputs run_group_norm(LayerCall& c) {
  return of_input(c, nn::GroupNorm(c.args.integer("num_groups"), c.dim("input", 1),
                                   {.eps = c.args.number("eps"), .affine = c.has("weight"), .dtype = c.dtype}));
}
Outputs run_instance_norm(LayerCall& c) {
  const nn::InstanceNormOptions o{.eps = c.args.number("eps"), .affine = c.has("weight"), .dtype = c.dtype};
  const Index channels = c.dim("input", 1);
  return c.rank("input") == 4 ? of_input(c, nn::InstanceNorm2d(channels, o))
                              : of_input(c, nn::InstanceNorm1d(channels, o));
}

// --- recurrent layers ---------------------------------------------------------------------------------------------------

template <class Layer>
Layer recurrent(LayerCall& c) {
  return Layer(c.rng, c.dim("weight_ih_l0", 1), c.dim("weight_hh_l0", 1),
               {.num_layers = static_cast<int>(c.args.integer("num_layers")),
                .bias = c.has("bias_ih_l0"),
                .batch_first = c.args.flag("batch_first"),
                .bidirectional = c.args.flag("bidirectional"),
                .dtype = c.dtype});
}
template <class Layer>
Outputs run_recurrent(LayerCall& c) {
  auto layer = recurrent<Layer>(c);
  const Variable x = c.input("input");
  const nn::RnnState state{c.states("h0")};
  c.load(layer);
  const nn::RnnOutput y = layer(x, state);
  return {y.output, stack(y.state.h, 0)};
}
Outputs run_lstm(LayerCall& c) {
  auto layer = recurrent<nn::Lstm>(c);
  const Variable x = c.input("input");
  const nn::LstmState state{c.states("h0"), c.states("c0")};
  c.load(layer);
  const nn::LstmOutput y = layer(x, state);
  return {y.output, stack(y.state.h, 0), stack(y.state.c, 0)};
}

template <class Layer, class... Nonlinearities>
Layer cell(LayerCall& c, Nonlinearities... nonlinearity) {
  return Layer(c.rng, c.dim("weight_ih", 1), c.dim("weight_hh", 1), {.bias = c.has("bias_ih"), .dtype = c.dtype},
               nonlinearity...);
}
template <class Layer>
Outputs step(LayerCall& c, Layer&& layer) {
  const Variable x = c.input("input"), h = c.input("h0");
  c.load(layer);
  return {layer(x, h)};
}
Outputs run_rnn_cell(LayerCall& c) {
  const bool is_relu = c.args.text("nonlinearity") == "relu";
  return step(c, cell<nn::RnnCell>(c, is_relu ? Nonlinearity::relu : Nonlinearity::tanh));
}
Outputs run_gru_cell(LayerCall& c) { return step(c, cell<nn::GruCell>(c)); }
Outputs run_lstm_cell(LayerCall& c) {
  auto layer = cell<nn::LstmCell>(c);
  const Variable x = c.input("input"), h = c.input("h0"), state = c.input("c0");
  c.load(layer);
  const LstmCellResult y = layer(x, {h, state});
  return {y.h, y.c};
}

// --- the others ---------------------------------------------------------------------------------------------------------

Outputs run_linear(LayerCall& c) {
  return of_input(c,
                  nn::Linear(c.rng, c.dim("weight", 1), c.dim("weight", 0), {.bias = c.has("bias"), .dtype = c.dtype}));
}
Outputs run_prelu(LayerCall& c) { return of_input(c, nn::PRelu(c.dim("weight", 0), {.dtype = c.dtype})); }
Outputs run_embedding(LayerCall& c) {
  nn::EmbeddingLayerOptions o{.dtype = c.dtype};
  if (c.args.has("padding_idx")) o.padding_idx = c.args.integer("padding_idx");
  nn::Embedding layer(c.rng, c.dim("weight", 0), c.dim("weight", 1), o);
  const Tensor index = c.input("index").value();
  c.load(layer);
  return {layer(index)};
}
Outputs run_multi_head_attention(LayerCall& c) {
  nn::MultiheadAttention layer(c.rng, c.dim("query", 2), c.args.integer("num_heads"),
                               {.bias = c.has("in_proj_bias"), .dtype = c.dtype});
  const Variable query = c.input("query"), key = c.input("key"), value = c.input("value");
  const nn::AttentionCall call{.key_padding_mask = c.input("key_padding_mask").value(),
                               .causal = c.args.flag("is_causal")};
  c.load(layer);
  const AttentionResult y = layer.with_weights(query, key, value, call);
  // Without the weights it takes another way to the same output.
  EXPECT_TRUE(allclose(layer(query, key, value, call).value(), y.output.value(), 1e-5, 1e-5));
  return {y.output, y.weights};
}

Table layer_table() {
  const std::pair<const char*, Outputs (*)(LayerCall&)> rows[] = {{"linear", run_linear},
                                                                  {"conv1d", run_conv1d},
                                                                  {"conv2d", run_conv2d},
                                                                  {"conv_transpose1d", run_conv_transpose1d},
                                                                  {"conv_transpose2d", run_conv_transpose2d},
                                                                  {"batch_norm", run_batch_norm},
                                                                  {"layer_norm", run_layer_norm},
                                                                  {"rms_norm", run_rms_norm},
                                                                  {"group_norm", run_group_norm},
                                                                  {"instance_norm", run_instance_norm},
                                                                  {"rnn", run_recurrent<nn::Rnn>},
                                                                  {"lstm", run_lstm},
                                                                  {"gru", run_recurrent<nn::Gru>},
                                                                  {"rnn_cell", run_rnn_cell},
                                                                  {"lstm_cell", run_lstm_cell},
                                                                  {"gru_cell", run_gru_cell},
                                                                  {"multi_head_attention", run_multi_head_attention},
                                                                  {"embedding", run_embedding},
                                                                  {"prelu", run_prelu}};
  Table table;
  for (const auto& [op, run] : rows) table[{"ops", op}] = layer_row(run);
  return table;
}

/// The cases of the repository, and the whole collection where it is at hand: see run_shared.sh.
std::vector<std::string> folders() {
  const std::filesystem::path sources = ESPALIER_SOURCE_DIR;
  const char* given = std::getenv("ESPALIER_SHARED");
  const std::filesystem::path shared = given ? std::filesystem::path(given) : sources / ".." / "shared";
  std::vector<std::string> all{(sources / "tests/golden/cases/ops").string()};
  if (std::filesystem::exists(shared / "golden/ops")) all.push_back((shared / "golden/ops").string());
  return all;
}

TEST(GoldenLayers, ComputeWhatPyTorchDoesWithItsWeights) {
  const Table table = layer_table();
  std::set<std::string> seen;
  for (const std::filesystem::path& file : find_cases(folders())) {
    const std::string name = file.filename().string();
    if (!table.contains({"ops", name.substr(0, name.find('.'))})) continue;
    const Case golden(file);
    if (golden.metadata("views", "{}") != "{}") continue;  // what a view does is the ops' affair
    seen.insert(golden.op);
    const Outcome outcome = run_case(table, golden);
    EXPECT_EQ(outcome.verdict, Verdict::passed) << golden.name;
    for (const std::string& message : outcome.messages) ADD_FAILURE() << golden.name << ": " << message;
  }
  for (const auto& [key, run] : table) EXPECT_TRUE(seen.contains(key.second)) << "no case of " << key.second;
}

}  // namespace
}  // namespace espalier::golden
