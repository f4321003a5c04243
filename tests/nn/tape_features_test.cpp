// What the tape offers, on the layers that it was made for.
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/anomaly.h"
#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/packed_linear.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/state_dict.h"
#include "espalier/nn/summary.h"
#include "espalier/prune/pruner.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;

nn::Sequential noisy_block(Rng& rng) {
  return nn::Sequential(nn::Linear(rng, 6, 8), nn::BatchNorm1d(8), nn::Dropout(rng, 0.3), tanh, nn::Linear(rng, 8, 6));
}

TEST(CheckpointedLayers, DropoutAndBatchNormComeOutAsIfTheyHadRunOnce) {
  Rng rng(1);
  const nn::Sequential plain = noisy_block(rng), twin = plain;
  const Tensor x = rng.normal({16, 6});
  auto train = [&](const nn::Sequential& model, bool recompute) {
    for (int step = 0; step < 3; ++step) {
      Tape tape;
      Variable h = tape.watch(x);
      for (int depth = 0; depth < 2; ++depth) h = recompute ? checkpoint(model, h) : model(h);
      tape.backward(sum(square(h)));
    }
  };
  train(plain, false);
  train(twin, true);
  const ParameterList a = plain.parameters(), b = twin.parameters();
  for (std::size_t i = 0; i < a.size(); ++i)
    // Not the same bytes: the two passes through a layer are summed in another order.
    EXPECT_TRUE(allclose(a[i].parameter->grad(), b[i].parameter->grad(), 1e-4, 1e-4)) << a[i].name;
  const BufferList p = plain.buffers(), q = twin.buffers();
  ASSERT_EQ(p.size(), 4u) << "mean, variance, batches, generator";
  for (std::size_t i = 0; i < p.size(); ++i)
    EXPECT_TRUE(same_bytes(p[i].buffer->value(), q[i].buffer->value())) << p[i].name;
}

TEST(StateDictOfLayers, LeavesGeneratorsOutAndKeepsStatistics) {
  Rng rng(1);
  nn::Sequential model = noisy_block(rng);
  std::vector<std::string> names;
  const nn::StateDict dict = nn::state_dict(model);
  for (const auto& [name, tensor] : dict) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean",
                                             "1.running_var", "1.weight", "4.bias", "4.weight"}));
  EXPECT_TRUE(nn::load_state_dict(model, dict).missing.empty());
}

TEST(SummaryOfLayers, RecurrentAndAttention) {
  Rng rng(1);
  const nn::Lstm lstm(rng, 4, 3, {.num_layers = 2, .batch_first = true});
  const nn::Summary s = nn::summary(lstm, Tensor::zeros({2, 5, 4}));
  ASSERT_EQ(s.layers.size(), 1u);
  EXPECT_EQ(s.layers[0].output, (Shape{2, 5, 3}));
  EXPECT_EQ(s.total.macs, 10 * 12 * (4 + 3) + 10 * 12 * (3 + 3));
  const nn::Gru gru(rng, 4, 3);
  EXPECT_EQ(nn::summary(gru, Tensor::zeros({5, 2, 4})).total.macs, 10 * 9 * (4 + 3));
  const nn::Rnn rnn(rng, 4, 3, {.bidirectional = true});
  EXPECT_EQ(nn::summary(rnn, Tensor::zeros({5, 2, 4})).total.macs, 2 * 10 * 3 * (4 + 3));
}

TEST(SummaryOfLayers, TheTableOfABlock) {
  Rng rng(1);
  const nn::Summary s = nn::summary(noisy_block(rng), Tensor::zeros({16, 6}));
  ASSERT_EQ(s.layers.size(), 4u);
  EXPECT_EQ(s.layers[1].type, "BatchNorm1d");
  EXPECT_EQ(s.layers[1].parameters, 16);
  EXPECT_EQ(s.layers[2].type, "Dropout");
  EXPECT_EQ(s.total.macs, 16 * 6 * 8 * 2);
}

TEST(SummaryOfLayers, PackedWeights) {
  Rng rng(4);
  nn::Sequential model(nn::Linear(rng, 64, 64), relu, nn::Linear(rng, 64, 4));
  prune::Pruner(model.parameters()).to_sparsity(0.95);
  const Tensor sample = rng.normal({1, 64});
  nn::Sequential deployed = model;
  // Packed by hand: whether compact() packs depends on what is measured.
  Parameter& weight = deployed.get<nn::Linear>(0).weight;
  weight.ref()->replace(Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight.value())),
                        weight.mask());
  const Tensor before = deployed(sample).value();
  const nn::Summary s = nn::summary(deployed, sample), of_masked = nn::summary(model, sample);
  EXPECT_EQ(s.total.live, of_masked.total.live);
  EXPECT_EQ(s.total.live_macs, of_masked.total.live_macs);
  EXPECT_LT(s.total.live_macs, 0.2 * s.total.macs);
  EXPECT_NE(weight.value().packed(), nullptr);
  EXPECT_TRUE(same_bytes(deployed(sample).value(), before));
}

TEST(Hooks, ClipTheStateOfALstmCellInEveryStep) {
  Rng rng(2);
  const nn::LstmCell cell(rng, 3, 3);
  const Tensor x = rng.normal({4, 3});
  std::vector<double> largest;
  Tape tape;
  Variable h = Tensor::zeros({4, 3}), c = Tensor::zeros({4, 3});
  for (int t = 0; t < 6; ++t) {
    const LstmCellResult next = cell(x, LstmCellResult{h, c});
    h = next.h;
    c = next.c;
    on_gradient(h, [](const Variable& g) { return clamp(g, -0.01, 0.01); });
    on_gradient(h, [&](const Variable& g) { largest.push_back(amax(abs(g)).item()); });
  }
  tape.backward(sum(h) * 100.0);
  ASSERT_EQ(largest.size(), 6u);
  for (const double g : largest) EXPECT_LE(g, static_cast<double>(0.01f));
}

TEST(Anomaly, NamesTheModuleItWasRaisedIn) {
  Rng rng(3);
  nn::Sequential model(nn::Linear(rng, 2, 2), nn::LayerNorm(Index{2}));
  model.parameters();
  Tensor weight = model.get<nn::Linear>(0).weight.value();
  weight.write<float>("the test")[1] = std::numeric_limits<float>::infinity();
  std::string text;
  try {
    Tape tape;
    const Anomaly anomaly(tape);
    model(Tensor::ones({1, 2}));
  } catch (const NonFiniteError& error) {
    text = error.what();
  }
  EXPECT_NE(text.find("'0.weight' (in module 0)"), text.npos) << text;
}

}  // namespace
}  // namespace espalier
