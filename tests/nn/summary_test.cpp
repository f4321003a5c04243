#include "espalier/nn/summary.h"

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/core/rng.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module_list.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "tests/support.h"

namespace espalier {
namespace {

using nn::LayerSummary;
using nn::Summary;

/// Two heads read one trunk, which runs twice; one layer is never used.
class Forked final : public nn::Module {
 public:
  explicit Forked(Rng& rng) : trunk(rng, 6, 4), a(rng, 4, 2), unused(rng, 4, 9) {}
  Variable operator()(const Variable& x) const {
    saw_training = training();
    const Variable h = relu(trunk(x)), again = trunk(x * 2.0);
    return a(h + again) + matmul(h, Tensor::ones({4, 2}));
  }
  void members(nn::Visitor& v) override { v("trunk", trunk)("a", a)("unused", unused); }
  nn::Linear trunk, a, unused;
  mutable bool saw_training = false;
};

/// Does not run in Module::forward.
class Bare final : public nn::Module {
 public:
  explicit Bare(Rng& rng) : weight(rng.normal({5, 3})) {}
  Variable operator()(const Variable& x) const { return tanh(linear(x, weight)); }
  void members(nn::Visitor& v) override { v("weight", weight); }
  Parameter weight;
};

const LayerSummary& row(const Summary& s, const std::string& name) {
  for (const LayerSummary& layer : s.layers)
    if (layer.name == name) return layer;
  fail<ConfigError>("no row ", name);
}

TEST(Summary, CountsEachLayer) {
  Rng rng(1);
  const Forked model(rng);
  const Summary s = nn::summary(model, Tensor::ones({8, 6}));
  ASSERT_EQ(s.layers.size(), 4u);
  EXPECT_EQ(row(s, "trunk").output, (Shape{8, 4}));
  EXPECT_EQ(row(s, "trunk").type, "Linear");
  EXPECT_EQ(row(s, "trunk").parameters, 28);
  EXPECT_EQ(row(s, "trunk").macs, 2 * 8 * 4 * 6) << "it runs twice";
  EXPECT_EQ(row(s, "a").macs, 8 * 2 * 4);
  EXPECT_FALSE(row(s, "unused").ran);
  EXPECT_EQ(row(s, "unused").parameters, 45);
  EXPECT_EQ(row(s, "").macs, 8 * 4 * 2) << "the product in the model's own operator()";
  EXPECT_EQ(row(s, "").type, "Forked");
  EXPECT_EQ(s.total.parameters, model.parameter_count());
  EXPECT_EQ(s.total.macs, 2 * 8 * 24 + 64 + 64);
  EXPECT_EQ(s.total.output, (Shape{8, 2}));
}

TEST(Summary, RunsInEvaluationAndLeavesTheModelAsItWas) {
  Rng rng(1);
  Forked model(rng);
  model.trunk.train();
  model.a.eval();
  nn::summary(model, Tensor::ones({1, 6}));
  EXPECT_FALSE(model.saw_training);
  EXPECT_TRUE(model.trunk.training());
  EXPECT_FALSE(model.a.training());
  EXPECT_FALSE(model.training());
  {
    Tape tape;
    EXPECT_TRUE(model.training()) << "back to following the tape";
    nn::summary(model, Tensor::ones({1, 6}));
    EXPECT_EQ(tape.size(), 0u);
  }
  EXPECT_FALSE(model.trunk.weight.grad().defined());
  EXPECT_EQ(nn::ModuleTrace::current(), nullptr);
  EXPECT_THROW(nn::summary(model, Tensor::ones({1, 7})), ShapeError);
  EXPECT_TRUE(model.trunk.training()) << "after an error, too";
  EXPECT_EQ(nn::ModuleTrace::current(), nullptr);
}

TEST(Summary, SeesFrozenAndPrunedWeights) {
  Rng rng(1);
  Forked model(rng);
  model.trunk.freeze();
  Mask mask(8);
  for (Index i = 0; i < 4; ++i) mask.set(i, false);
  model.a.weight.set_mask(mask);
  const Summary s = nn::summary(model, Tensor::ones({8, 6}));
  EXPECT_EQ(row(s, "trunk").frozen, 28);
  EXPECT_EQ(row(s, "trunk").macs, 2 * 8 * 24) << "a constant on other tapes, but seen here";
  EXPECT_EQ(row(s, "a").live, 6);
  EXPECT_EQ(row(s, "a").live_macs, 32);
  EXPECT_EQ(s.total.frozen, 28);
  EXPECT_TRUE(model.trunk.weight.frozen());
  const std::string text = s.to_string();
  EXPECT_NE(text.find("28 (frozen)"), text.npos) << text;
  EXPECT_NE(text.find("live MACs"), text.npos) << text;
  EXPECT_NE(text.find("frozen: 28 of 83\n"), text.npos) << text;
}

TEST(Summary, LayersOutsideOfForwardAreSeenByTheirParameters) {
  Rng rng(1);
  const Bare layer(rng);
  const nn::Sequential model(layer);
  const Summary s = nn::summary(model, Tensor::ones({2, 3}));
  ASSERT_EQ(s.layers.size(), 1u);
  EXPECT_EQ(s.layers[0].macs, 2 * 5 * 3);
  EXPECT_EQ(s.layers[0].output, (Shape{2, 5}));
}

TEST(Summary, TheTableReadsLikeKeras) {
  Rng rng(1);
  nn::Sequential model(nn::Flatten(), nn::Linear(rng, 784, 300), relu, nn::Residual(nn::Linear(rng, 300, 300)),
                       nn::Linear(rng, 300, 10));
  std::ostringstream text;
  text << nn::summary(model, Tensor::zeros({2, 1, 28, 28}));
  EXPECT_EQ(text.str(),
            "layer   type     output    parameters  sparsity     MACs\n"
            "--------------------------------------------------------\n"
            "0       Flatten  [2, 784]           0                  0\n"
            "1       Linear   [2, 300]     235,500     0.0 %  470,400\n"
            "3.body  Linear   [2, 300]      90,300     0.0 %  180,000\n"
            "4       Linear   [2, 10]        3,010     0.0 %    6,000\n"
            "--------------------------------------------------------\n"
            "total            [2, 10]      328,810     0.0 %  656,400\n");
}

/// Any function of one Variable as a model.
template <class F>
class Calls final : public nn::Module {
 public:
  explicit Calls(F f) : f_(std::move(f)) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return f_(x); });
  }
  void members(nn::Visitor&) override {}

 private:
  F f_;
};

TEST(Summary, LayersOverAxesAreCalledAsTheirAliases) {
  Rng rng(1);
  EXPECT_EQ(nn::Conv2d(rng, 1, 1, 1).type_name(), "Conv2d");
  EXPECT_EQ(nn::ConvTranspose1d(rng, 1, 1, 1).type_name(), "ConvTranspose1d");
  EXPECT_EQ(nn::BatchNorm1d(3).type_name(), "BatchNorm1d");
  EXPECT_EQ(nn::MaxPool2d(2).type_name(), "MaxPool2d");
  EXPECT_EQ(nn::Linear(rng, 1, 1).type_name(), "Linear");
}

TEST(Summary, MultiplyAddsOfConvolutionsAndAttention) {
  Rng rng(1);
  auto macs = [](const auto& model, const Shape& shape) { return nn::summary(model, Tensor::zeros(shape)).total.macs; };
  EXPECT_EQ(macs(nn::Conv2d(rng, 1, 6, 5), {2, 1, 28, 28}), 2 * 6 * 24 * 24 * 25);
  EXPECT_EQ(macs(nn::Conv2d(rng, 8, 8, 3, {.padding = 1, .groups = 8}), {1, 8, 10, 10}), 8 * 100 * 9);
  EXPECT_EQ(macs(nn::Conv1d(rng, 4, 6, 3), {2, 4, 10}), 2 * 6 * 8 * 4 * 3);
  EXPECT_EQ(macs(nn::ConvTranspose2d(rng, 4, 6, 2, {.stride = 2}), {1, 4, 5, 5}), 25 * 4 * 6 * 4);
  const Calls self([](const Variable& x) { return self_attention(x, 2); });
  EXPECT_EQ(macs(self, {3, 7, 24}), 3 * 2 * 7 * 7 * (4 + 4)) << "batch, heads, T, T, width of a head twice";
  const Calls cross([](const Variable& q) {
    return scaled_dot_product_attention(q, Tensor::zeros({3, 2, 9, 4}), Tensor::zeros({3, 2, 9, 5}));
  });
  EXPECT_EQ(macs(cross, {3, 2, 7, 4}), 3 * 2 * 7 * 9 * (4 + 5));
}

TEST(Summary, TakesSeveralSamplesAndModelsWithoutParameters) {
  class Two final : public nn::Module {
   public:
    Variable operator()(const Variable& a, const Tensor& chosen) const { return a * chosen.to(DType::f32); }
    void members(nn::Visitor&) override {}
  };
  EXPECT_EQ(nn::summary(Two(), Tensor::ones({2, 3}), Tensor::zeros({3}, DType::i64)).total.output, (Shape{2, 3}));
  const nn::Identity model;
  const Summary s = nn::summary(model, Tensor::ones({2, 3}));
  ASSERT_EQ(s.layers.size(), 1u);
  EXPECT_EQ(s.layers[0].output, (Shape{2, 3}));
  EXPECT_EQ(s.total.parameters, 0);
  EXPECT_NE(s.to_string().find("Identity"), std::string::npos);
}

TEST(TypeNames, AreBare) {
  Rng rng(1);
  class Local final : public nn::Module {
   public:
    void members(nn::Visitor&) override {}
  };
  EXPECT_EQ(nn::Linear(rng, 1, 1).type_name(), "Linear");
  EXPECT_EQ(Bare(rng).type_name(), "Bare");
  EXPECT_EQ(Local().type_name(), "Local");
  EXPECT_EQ(nn::Residual(nn::Linear(rng, 1, 1)).type_name(), "Residual");
  EXPECT_EQ(nn::Residual([](const Variable& x) { return x; }).type_name(), "Residual");
  EXPECT_EQ(nn::ModuleList<nn::Residual<nn::Linear>>().type_name(), "ModuleList");
}

TEST(Summary, ActivationsAreCalledAsTheirAliases) {
  EXPECT_EQ(nn::Relu().type_name(), "Relu");
  EXPECT_EQ(nn::LogSigmoid().type_name(), "LogSigmoid");
  const Summary s = nn::summary(nn::Sequential(nn::Tanh(), nn::Silu()), Tensor::ones({2, 3}));
  EXPECT_EQ(row(s, "0").type, "Tanh");
  EXPECT_EQ(row(s, "1").type, "Silu");
}

TEST(Summary, LayersThatRestInEvaluationHaveRun) {
  Rng rng(1);
  const nn::Sequential model(nn::Dropout(rng, 0.5), nn::ChannelDropout(rng), nn::DropPath(rng));
  for (const LayerSummary& layer : nn::summary(model, Tensor::ones({2, 3, 4})).layers) {
    EXPECT_TRUE(layer.ran) << layer.name;
    EXPECT_EQ(layer.output, (Shape{2, 3, 4}));
  }
}

TEST(Summary, ATiedWeightDoesNotHideTheOutputOfItsLayer) {
  class Language final : public nn::Module {
   public:
    explicit Language(Rng& rng) : table(rng, 7, 4), body(rng, 4, 4) {}
    Variable operator()(const Tensor& index) const { return linear(body(table(index)), table.weight); }
    void members(nn::Visitor& v) override { v("table", table)("body", body)("head.weight", table.weight); }
    nn::Embedding table;
    nn::Linear body;
  };
  Rng rng(1);
  const Summary s = nn::summary(Language(rng), Tensor::zeros({2, 3}, DType::i64));
  EXPECT_EQ(row(s, "table").output, (Shape{2, 3, 4}));
  EXPECT_EQ(row(s, "table").macs, 6 * 4 * 7) << "of the product with its weight";
  EXPECT_EQ(s.total.output, (Shape{2, 3, 7}));
}

TEST(Summary, ALayerListedTwiceHasOneRow) {
  class Twice final : public nn::Module {
   public:
    explicit Twice(Rng& rng) : part(nn::Linear(rng, 4, 4)) {}
    Variable operator()(const Variable& x) const { return part(part(x)); }
    void members(nn::Visitor& v) override { v("first", part)("second", part); }
    nn::Residual<nn::Linear> part;
  };
  Rng rng(1);
  const Summary s = nn::summary(Twice(rng), Tensor::ones({2, 4}));
  ASSERT_EQ(s.layers.size(), 1u);
  EXPECT_EQ(s.layers[0].name, "first.body");
  EXPECT_EQ(s.layers[0].output, (Shape{2, 4}));
  EXPECT_EQ(s.layers[0].parameters, 20);
  EXPECT_EQ(s.layers[0].macs, 2 * 2 * 16);
}

TEST(Summary, TheModelsOwnRowAgreesWithTheTotal) {
  class Scaled final : public nn::Module {
   public:
    explicit Scaled(Rng& rng) : scale(rng.normal({6, 6})), last(rng, 6, 2) {}
    Variable operator()(const Variable& x) const { return last(matmul(x, scale)); }
    void members(nn::Visitor& v) override { v("scale", scale)("last", last); }
    Parameter scale;
    nn::Linear last;
  };
  Rng rng(1);
  const Summary s = nn::summary(Scaled(rng), Tensor::ones({3, 6}));
  EXPECT_EQ(row(s, "").output, (Shape{3, 2}));
  EXPECT_EQ(s.total.output, (Shape{3, 2}));
  EXPECT_EQ(row(s, "").type, "Scaled");
  EXPECT_EQ(s.total.type, "Scaled");
}

}  // namespace
}  // namespace espalier
