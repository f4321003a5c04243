// Names and shapes of every layer are those of PyTorch's state_dict(): weights move both ways.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/core/rng.h"
#include "espalier/io/model_file.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module_list.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/state_dict.h"
#include "espalier/nn/transformer.h"
#include "tests/support.h"
#include "tests/support/temp_folder.h"

namespace espalier {
namespace {

using testing::same_bytes;

using Entries = std::vector<std::pair<std::string, Shape>>;

struct Row {
  const char* python;  // the same layer in PyTorch
  std::unique_ptr<nn::Module> (*make)(Rng& rng);
  Entries entries;
};

template <class M, class... Args>
std::unique_ptr<nn::Module> layer(Args&&... args) {
  return std::make_unique<M>(std::forward<Args>(args)...);
}

/// `entries` are what {name: shape of value} of PyTorch 1.13.1's state_dict() is. Layers that it has not (RmsNorm) have
/// no row, and those without entries but one.
std::vector<Row> rows() {
  return {
      {"nn.Linear(3, 4)", [](Rng& rng) { return layer<nn::Linear>(rng, 3, 4); }, {{"weight", {4, 3}}, {"bias", {4}}}},
      {"nn.Linear(3, 4, bias=False)",
       [](Rng& rng) { return layer<nn::Linear>(rng, 3, 4, nn::LinearOptions{.bias = false}); },
       {{"weight", {4, 3}}}},
      {"nn.Conv1d(4, 6, 3, groups=2)",
       [](Rng& rng) { return layer<nn::Conv1d>(rng, 4, 6, 3, nn::Conv1dLayerOptions{.groups = 2}); },
       {{"weight", {6, 2, 3}}, {"bias", {6}}}},
      {"nn.Conv2d(4, 6, (3, 2), groups=2)",
       [](Rng& rng) { return layer<nn::Conv2d>(rng, 4, 6, IndexPair(3, 2), nn::Conv2dLayerOptions{.groups = 2}); },
       {{"weight", {6, 2, 3, 2}}, {"bias", {6}}}},
      {"nn.Conv2d(4, 4, 3, groups=4, bias=False)",
       [](Rng& rng) { return layer<nn::Conv2d>(rng, 4, 4, 3, nn::Conv2dLayerOptions{.groups = 4, .bias = false}); },
       {{"weight", {4, 1, 3, 3}}}},
      {"nn.ConvTranspose1d(4, 6, 3, groups=2)",
       [](Rng& rng) { return layer<nn::ConvTranspose1d>(rng, 4, 6, 3, nn::ConvTranspose1dLayerOptions{.groups = 2}); },
       {{"weight", {4, 3, 3}}, {"bias", {6}}}},
      {"nn.ConvTranspose2d(4, 6, (3, 2), groups=2)",
       [](Rng& rng) {
         return layer<nn::ConvTranspose2d>(rng, 4, 6, IndexPair(3, 2), nn::ConvTranspose2dLayerOptions{.groups = 2});
       },
       {{"weight", {4, 3, 3, 2}}, {"bias", {6}}}},
      {"nn.ConvTranspose2d(4, 6, 3, bias=False)",
       [](Rng& rng) {
         return layer<nn::ConvTranspose2d>(rng, 4, 6, 3, nn::ConvTranspose2dLayerOptions{.bias = false});
       },
       {{"weight", {4, 6, 3, 3}}}},
      {"nn.BatchNorm1d(5)",
       [](Rng&) { return layer<nn::BatchNorm1d>(5); },
       {{"weight", {5}}, {"bias", {5}}, {"running_mean", {5}}, {"running_var", {5}}, {"num_batches_tracked", {}}}},
      {"nn.BatchNorm2d(5)",
       [](Rng&) { return layer<nn::BatchNorm2d>(5); },
       {{"weight", {5}}, {"bias", {5}}, {"running_mean", {5}}, {"running_var", {5}}, {"num_batches_tracked", {}}}},
      {"nn.BatchNorm2d(5, affine=False)",
       [](Rng&) { return layer<nn::BatchNorm2d>(5, nn::BatchNormLayerOptions{.affine = false}); },
       {{"running_mean", {5}}, {"running_var", {5}}, {"num_batches_tracked", {}}}},
      {"nn.BatchNorm2d(5, track_running_stats=False)",
       [](Rng&) { return layer<nn::BatchNorm2d>(5, nn::BatchNormLayerOptions{.track_running_stats = false}); },
       {{"weight", {5}}, {"bias", {5}}}},
      {"nn.LayerNorm(6)", [](Rng&) { return layer<nn::LayerNorm>(6); }, {{"weight", {6}}, {"bias", {6}}}},
      {"nn.LayerNorm((2, 3))",
       [](Rng&) {
         return layer<nn::LayerNorm>(Shape{2, 3});
       },
       {{"weight", {2, 3}}, {"bias", {2, 3}}}},
      {"nn.LayerNorm(6, elementwise_affine=False)",
       [](Rng&) { return layer<nn::LayerNorm>(6, nn::LayerNormOptions{.affine = false}); },
       {}},
      {"nn.GroupNorm(2, 6)", [](Rng&) { return layer<nn::GroupNorm>(2, 6); }, {{"weight", {6}}, {"bias", {6}}}},
      {"nn.InstanceNorm1d(3, affine=True)",
       [](Rng&) { return layer<nn::InstanceNorm1d>(3, nn::InstanceNormOptions{.affine = true}); },
       {{"weight", {3}}, {"bias", {3}}}},
      {"nn.InstanceNorm2d(3, affine=True)",
       [](Rng&) { return layer<nn::InstanceNorm2d>(3, nn::InstanceNormOptions{.affine = true}); },
       {{"weight", {3}}, {"bias", {3}}}},
      {"nn.InstanceNorm2d(3)", [](Rng&) { return layer<nn::InstanceNorm2d>(3); }, {}},
      {"nn.PReLU()", [](Rng&) { return layer<nn::PRelu>(); }, {{"weight", {1}}}},
      {"nn.PReLU(3)", [](Rng&) { return layer<nn::PRelu>(3); }, {{"weight", {3}}}},
      {"nn.Embedding(7, 3)", [](Rng& rng) { return layer<nn::Embedding>(rng, 7, 3); }, {{"weight", {7, 3}}}},
      {"nn.EmbeddingBag(7, 3)", [](Rng& rng) { return layer<nn::EmbeddingBag>(rng, 7, 3); }, {{"weight", {7, 3}}}},
      {"nn.Dropout(0.5)", [](Rng& rng) { return layer<nn::Dropout>(rng, 0.5); }, {}},
      {"nn.RNN(3, 2, num_layers=2, bidirectional=True)",
       [](Rng& rng) { return layer<nn::Rnn>(rng, 3, 2, nn::RecurrentOptions{.num_layers = 2, .bidirectional = true}); },
       {{"weight_ih_l0", {2, 3}},
        {"weight_hh_l0", {2, 2}},
        {"bias_ih_l0", {2}},
        {"bias_hh_l0", {2}},
        {"weight_ih_l0_reverse", {2, 3}},
        {"weight_hh_l0_reverse", {2, 2}},
        {"bias_ih_l0_reverse", {2}},
        {"bias_hh_l0_reverse", {2}},
        {"weight_ih_l1", {2, 4}},
        {"weight_hh_l1", {2, 2}},
        {"bias_ih_l1", {2}},
        {"bias_hh_l1", {2}},
        {"weight_ih_l1_reverse", {2, 4}},
        {"weight_hh_l1_reverse", {2, 2}},
        {"bias_ih_l1_reverse", {2}},
        {"bias_hh_l1_reverse", {2}}}},
      {"nn.LSTM(3, 2, num_layers=2, bidirectional=True)",
       [](Rng& rng) {
         return layer<nn::Lstm>(rng, 3, 2, nn::RecurrentOptions{.num_layers = 2, .bidirectional = true});
       },
       {{"weight_ih_l0", {8, 3}},
        {"weight_hh_l0", {8, 2}},
        {"bias_ih_l0", {8}},
        {"bias_hh_l0", {8}},
        {"weight_ih_l0_reverse", {8, 3}},
        {"weight_hh_l0_reverse", {8, 2}},
        {"bias_ih_l0_reverse", {8}},
        {"bias_hh_l0_reverse", {8}},
        {"weight_ih_l1", {8, 4}},
        {"weight_hh_l1", {8, 2}},
        {"bias_ih_l1", {8}},
        {"bias_hh_l1", {8}},
        {"weight_ih_l1_reverse", {8, 4}},
        {"weight_hh_l1_reverse", {8, 2}},
        {"bias_ih_l1_reverse", {8}},
        {"bias_hh_l1_reverse", {8}}}},
      {"nn.GRU(3, 2, num_layers=2, bidirectional=True)",
       [](Rng& rng) { return layer<nn::Gru>(rng, 3, 2, nn::RecurrentOptions{.num_layers = 2, .bidirectional = true}); },
       {{"weight_ih_l0", {6, 3}},
        {"weight_hh_l0", {6, 2}},
        {"bias_ih_l0", {6}},
        {"bias_hh_l0", {6}},
        {"weight_ih_l0_reverse", {6, 3}},
        {"weight_hh_l0_reverse", {6, 2}},
        {"bias_ih_l0_reverse", {6}},
        {"bias_hh_l0_reverse", {6}},
        {"weight_ih_l1", {6, 4}},
        {"weight_hh_l1", {6, 2}},
        {"bias_ih_l1", {6}},
        {"bias_hh_l1", {6}},
        {"weight_ih_l1_reverse", {6, 4}},
        {"weight_hh_l1_reverse", {6, 2}},
        {"bias_ih_l1_reverse", {6}},
        {"bias_hh_l1_reverse", {6}}}},
      {"nn.LSTM(3, 2, num_layers=2, bias=False, dropout=0.5)",
       [](Rng& rng) {
         return layer<nn::Lstm>(rng, 3, 2, nn::RecurrentOptions{.num_layers = 2, .bias = false, .dropout = 0.5});
       },
       {{"weight_ih_l0", {8, 3}}, {"weight_hh_l0", {8, 2}}, {"weight_ih_l1", {8, 2}}, {"weight_hh_l1", {8, 2}}}},
      {"nn.RNNCell(3, 2)",
       [](Rng& rng) { return layer<nn::RnnCell>(rng, 3, 2); },
       {{"weight_ih", {2, 3}}, {"weight_hh", {2, 2}}, {"bias_ih", {2}}, {"bias_hh", {2}}}},
      {"nn.LSTMCell(3, 2)",
       [](Rng& rng) { return layer<nn::LstmCell>(rng, 3, 2); },
       {{"weight_ih", {8, 3}}, {"weight_hh", {8, 2}}, {"bias_ih", {8}}, {"bias_hh", {8}}}},
      {"nn.GRUCell(3, 2)",
       [](Rng& rng) { return layer<nn::GruCell>(rng, 3, 2); },
       {{"weight_ih", {6, 3}}, {"weight_hh", {6, 2}}, {"bias_ih", {6}}, {"bias_hh", {6}}}},
      {"nn.GRUCell(3, 2, bias=False)",
       [](Rng& rng) { return layer<nn::GruCell>(rng, 3, 2, nn::RecurrentCellOptions{.bias = false}); },
       {{"weight_ih", {6, 3}}, {"weight_hh", {6, 2}}}},
      {"nn.MultiheadAttention(4, 2)",
       [](Rng& rng) { return layer<nn::MultiheadAttention>(rng, 4, 2); },
       {{"in_proj_weight", {12, 4}}, {"in_proj_bias", {12}}, {"out_proj.weight", {4, 4}}, {"out_proj.bias", {4}}}},
      {"nn.MultiheadAttention(4, 2, bias=False)",
       [](Rng& rng) { return layer<nn::MultiheadAttention>(rng, 4, 2, nn::MultiheadAttentionOptions{.bias = false}); },
       {{"in_proj_weight", {12, 4}}, {"out_proj.weight", {4, 4}}}},
      {"nn.TransformerEncoderLayer(4, 2, 6)",
       [](Rng& rng) { return layer<nn::TransformerEncoderLayer>(rng, 4, 2, nn::TransformerOptions{.feedforward = 6}); },
       {{"self_attn.in_proj_weight", {12, 4}},
        {"self_attn.in_proj_bias", {12}},
        {"self_attn.out_proj.weight", {4, 4}},
        {"self_attn.out_proj.bias", {4}},
        {"linear1.weight", {6, 4}},
        {"linear1.bias", {6}},
        {"linear2.weight", {4, 6}},
        {"linear2.bias", {4}},
        {"norm1.weight", {4}},
        {"norm1.bias", {4}},
        {"norm2.weight", {4}},
        {"norm2.bias", {4}}}},
      {"nn.TransformerDecoderLayer(4, 2, 6)",
       [](Rng& rng) { return layer<nn::TransformerDecoderLayer>(rng, 4, 2, nn::TransformerOptions{.feedforward = 6}); },
       {{"self_attn.in_proj_weight", {12, 4}},
        {"self_attn.in_proj_bias", {12}},
        {"self_attn.out_proj.weight", {4, 4}},
        {"self_attn.out_proj.bias", {4}},
        {"multihead_attn.in_proj_weight", {12, 4}},
        {"multihead_attn.in_proj_bias", {12}},
        {"multihead_attn.out_proj.weight", {4, 4}},
        {"multihead_attn.out_proj.bias", {4}},
        {"linear1.weight", {6, 4}},
        {"linear1.bias", {6}},
        {"linear2.weight", {4, 6}},
        {"linear2.bias", {4}},
        {"norm1.weight", {4}},
        {"norm1.bias", {4}},
        {"norm2.weight", {4}},
        {"norm2.bias", {4}},
        {"norm3.weight", {4}},
        {"norm3.bias", {4}}}},
      {"nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2)",
       [](Rng& rng) { return layer<nn::TransformerEncoder>(rng, 2, 4, 2, nn::TransformerOptions{.feedforward = 6}); },
       {{"layers.0.self_attn.in_proj_weight", {12, 4}},
        {"layers.0.self_attn.in_proj_bias", {12}},
        {"layers.0.self_attn.out_proj.weight", {4, 4}},
        {"layers.0.self_attn.out_proj.bias", {4}},
        {"layers.0.linear1.weight", {6, 4}},
        {"layers.0.linear1.bias", {6}},
        {"layers.0.linear2.weight", {4, 6}},
        {"layers.0.linear2.bias", {4}},
        {"layers.0.norm1.weight", {4}},
        {"layers.0.norm1.bias", {4}},
        {"layers.0.norm2.weight", {4}},
        {"layers.0.norm2.bias", {4}},
        {"layers.1.self_attn.in_proj_weight", {12, 4}},
        {"layers.1.self_attn.in_proj_bias", {12}},
        {"layers.1.self_attn.out_proj.weight", {4, 4}},
        {"layers.1.self_attn.out_proj.bias", {4}},
        {"layers.1.linear1.weight", {6, 4}},
        {"layers.1.linear1.bias", {6}},
        {"layers.1.linear2.weight", {4, 6}},
        {"layers.1.linear2.bias", {4}},
        {"layers.1.norm1.weight", {4}},
        {"layers.1.norm1.bias", {4}},
        {"layers.1.norm2.weight", {4}},
        {"layers.1.norm2.bias", {4}}}},
      {"nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6), 2, norm=nn.LayerNorm(4))",
       [](Rng& rng) {
         return layer<nn::TransformerDecoder>(rng, 2, 4, 2, nn::TransformerOptions{.feedforward = 6}, true);
       },
       {{"layers.0.self_attn.in_proj_weight", {12, 4}},
        {"layers.0.self_attn.in_proj_bias", {12}},
        {"layers.0.self_attn.out_proj.weight", {4, 4}},
        {"layers.0.self_attn.out_proj.bias", {4}},
        {"layers.0.multihead_attn.in_proj_weight", {12, 4}},
        {"layers.0.multihead_attn.in_proj_bias", {12}},
        {"layers.0.multihead_attn.out_proj.weight", {4, 4}},
        {"layers.0.multihead_attn.out_proj.bias", {4}},
        {"layers.0.linear1.weight", {6, 4}},
        {"layers.0.linear1.bias", {6}},
        {"layers.0.linear2.weight", {4, 6}},
        {"layers.0.linear2.bias", {4}},
        {"layers.0.norm1.weight", {4}},
        {"layers.0.norm1.bias", {4}},
        {"layers.0.norm2.weight", {4}},
        {"layers.0.norm2.bias", {4}},
        {"layers.0.norm3.weight", {4}},
        {"layers.0.norm3.bias", {4}},
        {"layers.1.self_attn.in_proj_weight", {12, 4}},
        {"layers.1.self_attn.in_proj_bias", {12}},
        {"layers.1.self_attn.out_proj.weight", {4, 4}},
        {"layers.1.self_attn.out_proj.bias", {4}},
        {"layers.1.multihead_attn.in_proj_weight", {12, 4}},
        {"layers.1.multihead_attn.in_proj_bias", {12}},
        {"layers.1.multihead_attn.out_proj.weight", {4, 4}},
        {"layers.1.multihead_attn.out_proj.bias", {4}},
        {"layers.1.linear1.weight", {6, 4}},
        {"layers.1.linear1.bias", {6}},
        {"layers.1.linear2.weight", {4, 6}},
        {"layers.1.linear2.bias", {4}},
        {"layers.1.norm1.weight", {4}},
        {"layers.1.norm1.bias", {4}},
        {"layers.1.norm2.weight", {4}},
        {"layers.1.norm2.bias", {4}},
        {"layers.1.norm3.weight", {4}},
        {"layers.1.norm3.bias", {4}},
        {"norm.weight", {4}},
        {"norm.bias", {4}}}},
      {"nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)), nn.Tanh(), nn.Dropout(0.5), "
       "nn.Sequential(nn.Linear(4, 2)))",
       [](Rng& rng) {
         return layer<nn::Sequential>(nn::Sequential(nn::Linear(rng, 3, 4), relu, nn::BatchNorm1d(4)), nn::Tanh(),
                                      nn::Dropout(rng, 0.5), nn::Sequential(nn::Linear(rng, 4, 2)));
       },
       {{"0.0.weight", {4, 3}},
        {"0.0.bias", {4}},
        {"0.2.weight", {4}},
        {"0.2.bias", {4}},
        {"0.2.running_mean", {4}},
        {"0.2.running_var", {4}},
        {"0.2.num_batches_tracked", {}},
        {"3.0.weight", {2, 4}},
        {"3.0.bias", {2}}}},
      {"nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 2)])",
       [](Rng& rng) {
         return layer<nn::ModuleList<nn::Linear>>(
             std::vector<nn::Linear>{nn::Linear(rng, 2, 3), nn::Linear(rng, 3, 2)});
       },
       {{"0.weight", {3, 2}}, {"0.bias", {3}}, {"1.weight", {2, 3}}, {"1.bias", {2}}}},
  };
}

DType type_of(const std::string& name) { return name.ends_with("num_batches_tracked") ? DType::i64 : DType::f32; }

/// k, k + 1, k + 2 ... in the k-th tensor, so that none can be taken for another.
nn::StateDict counted(const Entries& entries) {
  nn::StateDict dict;
  for (const auto& [name, shape] : entries) {
    const auto k = static_cast<double>(dict.size());
    dict[name] = Tensor::arange(k, k + static_cast<double>(count(shape)), 1, type_of(name)).reshape(shape);
  }
  return dict;
}

void expect_same(const nn::StateDict& got, const nn::StateDict& expected) {
  EXPECT_EQ(got.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    const auto at = got.find(name);
    if (at == got.end()) {
      ADD_FAILURE() << "no '" << name << "'";
      continue;
    }
    EXPECT_TRUE(same_bytes(at->second, tensor)) << name;
  }
}

TEST(PyTorchNames, AreTheNamesAndShapesOfEveryLayer) {
  Rng rng(1);
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.python);
    Entries expected = row.entries;
    std::sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    Entries got;
    for (const auto& [name, tensor] : nn::state_dict(*row.make(rng))) {
      got.emplace_back(name, tensor.shape());
      EXPECT_EQ(tensor.dtype(), type_of(name)) << name;
    }
    std::string text;
    for (const auto& [name, shape] : got) text += join(name, " ", shape, "\n");
    EXPECT_TRUE(got == expected) << text;
  }
}

TEST(PyTorchNames, TakeEveryValue) {
  Rng rng(1);
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.python);
    const std::unique_ptr<nn::Module> model = row.make(rng);
    const nn::StateDict dict = counted(row.entries);
    const nn::StateDictReport report = nn::load_state_dict(*model, dict);
    EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
    expect_same(nn::state_dict(*model), dict);
  }
}

TEST(PyTorchNames, GoThroughAFileBitForBit) {
  const testing::TempFolder folder;
  const std::string path = folder / "state.safetensors";
  Rng rng(1);
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.python);
    const std::unique_ptr<nn::Module> model = row.make(rng), other = row.make(rng);
    nn::StateDict drawn;
    for (const auto& [name, shape] : row.entries)
      drawn[name] = type_of(name) == DType::i64 ? Tensor::scalar(1e15 + 1, DType::i64) : rng.normal(shape);
    nn::load_state_dict(*model, drawn);
    io::write_state(path, nn::state_dict(*model));
    nn::load_state_dict(*other, io::read_state(path));
    expect_same(nn::state_dict(*other), drawn);
  }
}

// One name less or more is an error that says which.
TEST(PyTorchNames, MissingAndUnknownNamesAreErrors) {
  Rng rng(1);
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.python);
    const std::unique_ptr<nn::Module> model = row.make(rng);
    const nn::StateDict before = nn::state_dict(*model);
    for (const auto& [name, shape] : row.entries) {
      if (type_of(name) == DType::i64) continue;  // may be left out
      nn::StateDict dict = counted(row.entries);
      dict.erase(name);
      EXPECT_TRUE(testing::throws<ConfigError>([&] { nn::load_state_dict(*model, dict); }, "missing: '" + name + "'"));
      dict[name + "x"] = Tensor::zeros(shape);
      EXPECT_TRUE(
          testing::throws<ConfigError>([&] { nn::load_state_dict(*model, dict); }, "unexpected: '" + name + "x'"));
    }
    expect_same(nn::state_dict(*model), before);
  }
}

}  // namespace
}  // namespace espalier
