// Transformer layers against their formulas, and a tiny one that learns.
#include "espalier/nn/transformer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "espalier/autograd/ops/reduce.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

std::set<std::string> names(const Module& m) {
  std::set<std::string> all;
  for (const NamedParameter& p : m.parameters()) all.insert(p.name);
  return all;
}

TEST(TransformerEncoderLayer, IsItsFormulaInEitherOrder) {
  Rng rng(1);
  const Tensor x = rng.normal({2, 5, 8}, 0, 1, DType::f64);
  for (bool first : {false, true}) {
    const TransformerEncoderLayer t(rng, 8, 2,
                                    {.feedforward = 16, .activation = tanh, .norm_first = first, .dtype = DType::f64});
    const AttentionCall call{.causal = true};
    Variable y;
    if (first) {
      y = x + t.self_attn(t.norm1(x), call);
      y = y + t.linear2(tanh(t.linear1(t.norm2(y))));
    } else {
      y = t.norm1(x + t.self_attn(x, call));
      y = t.norm2(y + t.linear2(tanh(t.linear1(y))));
    }
    EXPECT_TRUE(testing::same_bytes(t(x, call).value(), y.value()));
  }
}

TEST(TransformerDecoderLayer, IsItsFormula) {
  Rng rng(2);
  const Tensor x = rng.normal({2, 5, 8}), memory = rng.normal({2, 7, 8});
  const TransformerDecoderLayer t(rng, 8, 2, {.feedforward = 16});
  Variable y = t.norm1(x + t.self_attn(x, {.causal = true}));
  y = t.norm2(y + t.multihead_attn(y, memory, memory));
  y = t.norm3(y + t.linear2(relu(t.linear1(y))));
  EXPECT_TRUE(testing::same_bytes(t(x, memory, {.causal = true}).value(), y.value()));
}

/// A new copy draws the same numbers each time.
template <class Layer, class Call>
void check_dropout(Layer& layer, Layer& without, const Call& call) {
  for (const NamedParameter& p : without.parameters())
    for (const NamedParameter& own : layer.parameters())
      if (own.name == p.name) p.parameter->set_value(own.parameter->value());
  Rng rng(8);
  const Tensor x = rng.normal({2, 5, 8}, 0, 1, DType::f64), way = rng.normal({2, 5, 8}, 0, 1, DType::f64);
  EXPECT_TRUE(testing::same_bytes(call(layer, x).value(), call(without, x).value()));
  layer.train();
  auto value = [&](const Tensor& at) {
    const Layer copy = layer;
    return call(copy, at).value();
  };
  const Tensor y = value(x);
  EXPECT_FALSE(allclose(y, call(without, x).value(), 0, 1e-3));
  auto gradient = [&] {
    Tape tape;
    const Layer copy = layer;
    const Variable in = tape.watch(x);
    return tape.gradient(sum(square(call(copy, in))), {in})[0].value();
  };
  const Tensor g = gradient();
  const double h = 1e-6, slope = sum(Variable(g) * Variable(way)).item();
  auto loss = [&](double step) {
    return sum(square(Variable(value((Variable(x) + step * Variable(way)).value())))).item();
  };
  EXPECT_NEAR((loss(h) - loss(-h)) / (2 * h), slope, 1e-6 * std::max(1.0, std::abs(slope)));
  for (const int threads : {2, 4}) {
    const testing::Threads use(threads);
    EXPECT_TRUE(testing::same_bytes(value(x), y));
    EXPECT_TRUE(testing::same_bytes(gradient(), g));
  }
}

TEST(Transformer, DropsInTrainingOnly) {
  for (const bool first : {false, true}) {
    Rng rng(7);
    TransformerOptions options{.feedforward = 16, .activation = tanh, .norm_first = first, .dtype = DType::f64};
    TransformerEncoderLayer encoder(rng, 8, 2, options);
    TransformerDecoderLayer decoder(rng, 8, 2, options);
    EXPECT_TRUE(encoder.buffers().empty());
    options.dropout = 0.3;
    TransformerEncoderLayer encoder_with(rng, 8, 2, options);
    TransformerDecoderLayer decoder_with(rng, 8, 2, options);
    std::set<std::string> generators;
    for (const NamedBuffer& b : decoder_with.buffers()) generators.insert(b.name);
    EXPECT_EQ(generators, (std::set<std::string>{"self_attn.rng", "multihead_attn.rng", "dropout.rng", "dropout1.rng",
                                                 "dropout2.rng", "dropout3.rng"}));
    const Tensor memory = rng.normal({2, 7, 8}, 0, 1, DType::f64);
    check_dropout(encoder_with, encoder, [](const auto& layer, const Variable& x) { return layer(x); });
    check_dropout(decoder_with, decoder, [&](const auto& layer, const Variable& x) { return layer(x, memory); });
  }
}

TEST(Transformer, HasPyTorchsNames) {
  Rng rng(3);
  const std::set<std::string> layer{"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"},
      rest{"linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"};
  std::set<std::string> expected{"norm.weight", "norm.bias"};
  for (const std::string k : {"layers.0.", "layers.1."}) {
    for (const std::string& name : layer) expected.insert(k + "self_attn." + name);
    for (const std::string& name : rest) expected.insert(k + name);
    for (const char* name : {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}) expected.insert(k + name);
  }
  EXPECT_EQ(names(TransformerEncoder(rng, 2, 8, 2, {.feedforward = 16}, true)), expected);
  for (const std::string k : {"layers.0.", "layers.1."}) {
    for (const std::string& name : layer) expected.insert(k + "multihead_attn." + name);
    for (const char* name : {"norm3.weight", "norm3.bias"}) expected.insert(k + name);
  }
  EXPECT_EQ(names(TransformerDecoder(rng, 2, 8, 2, {.feedforward = 16}, true)), expected);
  EXPECT_EQ(names(TransformerEncoder(rng, 1, 8, 2)).count("norm.weight"), 0u);
}

TEST(Transformer, CopiesAreDeepAndErrorsNameTheLayer) {
  Rng rng(4);
  TransformerEncoder t(rng, 2, 8, 2, {.feedforward = 16});
  const Tensor x = rng.normal({1, 3, 8});
  const TransformerEncoder copy = t;
  const Tensor before = copy(x).value();
  t.layers[1].linear2.weight.set_value(Tensor::zeros({8, 16}));
  EXPECT_TRUE(testing::same_bytes(copy(x).value(), before));
  EXPECT_FALSE(testing::same_bytes(t(x).value(), before));
  t.parameters();
  EXPECT_TRUE(testing::throws<ShapeError>([&] { t(Tensor::ones({1, 3, 7})); }, "layers.0.self_attn"));
}

TEST(Transformer, LearnsToCopyTheFirstTokenToAll) {
  Rng rng(5);
  TransformerEncoder t(rng, 1, 8, 2, {.feedforward = 16, .norm_first = true});
  const Tensor x = rng.normal({8, 4, 8});
  const Variable target(x.narrow(1, 0, 1).broadcast_to({8, 4, 8}).clone());
  double first = 0, last = 0;
  for (int step = 0; step < 80; ++step) {
    Tape tape;
    const Variable loss = mean(square(t(x, {.causal = true}) - target));
    last = loss.item();
    if (step == 0) first = last;
    const ParameterList all = t.parameters();
    const std::vector<Variable> g = tape.gradient(loss, all);
    for (std::size_t k = 0; k < all.size(); ++k)
      all[k].parameter->set_value((Variable(all[k].parameter->value()) - 0.5 * g[k].detach()).value());
  }
  EXPECT_LT(last, 0.3 * first);
}

}  // namespace
}  // namespace espalier::nn
