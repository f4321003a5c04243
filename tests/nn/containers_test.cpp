// ModuleList, Residual, Flatten, Identity; freezing and converting.
#include <gtest/gtest.h>

#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module_list.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

std::vector<std::string> names(const nn::Module& module) {
  std::vector<std::string> result;
  for (const NamedParameter& p : module.parameters()) result.push_back(p.name);
  return result;
}

/// With what stands for running statistics.
class Normed final : public nn::Module {
 public:
  explicit Normed(Rng& rng) : layer(rng, 2, 2), mean(Tensor::zeros({2})), count(Tensor::scalar(0, DType::i64)) {}
  Variable operator()(const Variable& x) const { return layer(x); }
  void members(nn::Visitor& v) override { v("layer", layer)("mean", mean)("count", count); }
  nn::Linear layer;
  Buffer mean, count;
};

TEST(ModuleList, NamesGrowsAndIsAValue) {
  Rng rng(1);
  nn::ModuleList<nn::Linear> list;
  const ParameterRef first = list.emplace_back(rng, 2, 2).weight.ref();
  for (int i = 0; i < 20; ++i) list.push_back(nn::Linear(rng, 2, 2, {.bias = false}));
  EXPECT_EQ(list.size(), 21u);
  EXPECT_EQ(list[0].weight.ref(), first) << "growing moves identities along";
  EXPECT_EQ(names(list)[0], "0.weight");
  EXPECT_EQ(names(list)[1], "0.bias");
  EXPECT_EQ(names(list).back(), "20.weight");
  const nn::ModuleList<nn::Linear> copy = list;
  EXPECT_NE(copy[0].weight.ref(), first);
  EXPECT_TRUE(same_bytes(copy[7].weight.value(), list[7].weight.value()));
  int visited = 0;
  for (const nn::Linear& layer : copy) visited += layer.weight.defined();
  EXPECT_EQ(visited, 21);
  EXPECT_TRUE(throws<IndexError>([&] { list[21]; }, "no module 21 among 21"));
  EXPECT_TRUE(nn::ModuleList<nn::Linear>().empty());
}

TEST(Residual, AddsItsBody) {
  Rng rng(1);
  const nn::Residual twice([](const Variable& x) { return x; });
  EXPECT_EQ(twice(Tensor::full({2}, 3)).value().to_vector<float>(), (std::vector<float>{6, 6}));
  EXPECT_TRUE(twice.parameters().empty());
  const nn::Residual block(nn::Sequential(nn::Linear(rng, 3, 5), relu, nn::Linear(rng, 5, 3)));
  EXPECT_EQ(names(block), (std::vector<std::string>{"body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"}));
  const Tensor x = rng.normal({4, 3});
  EXPECT_TRUE(same_bytes(block(x).value(), (Variable(x) + block.body(x)).value()));
  const nn::Residual narrow(nn::Linear(rng, 3, 1));  // [4, 1] would broadcast
  const nn::Sequential model{narrow};
  model.parameters();
  EXPECT_TRUE(throws<ShapeError>([&] { model(x); }, "[4, 3]", "[4, 1]", "in module 0"));
}

TEST(Flatten, LeavesTheBatch) {
  const Tensor x = Tensor::zeros({2, 3, 4, 5});
  EXPECT_EQ(nn::Flatten()(x).shape(), (Shape{2, 60}));
  EXPECT_EQ(nn::Flatten(0)(x).shape(), Shape{120});
  EXPECT_EQ(nn::Flatten(1, 2)(x).shape(), (Shape{2, 12, 5}));
  EXPECT_EQ(nn::Flatten()(Tensor::zeros({0, 3, 4})).shape(), (Shape{0, 12}));
  EXPECT_TRUE(throws<IndexError>([&] { nn::Flatten(4)(x); }));
  EXPECT_TRUE(nn::Identity()(x).value().shares_storage(x));
}

TEST(Freeze, AModuleInAModelTrainsNoMore) {
  Rng rng(1);
  nn::Sequential model(nn::Linear(rng, 3, 4), relu, nn::Linear(rng, 4, 1));
  model.get<nn::Linear>(0).freeze();
  const Tensor frozen = model.get<nn::Linear>(0).weight.value().clone();
  const Tensor trained = model.get<nn::Linear>(2).weight.value().clone();
  optim::Optimizer opt(model.parameters(), optim::adamw({.lr = 0.1, .weight_decay = 0.5}));
  const Tensor x = rng.normal({5, 3});
  auto step = [&] {
    Tape tape;
    const Variable loss = sum(square(model(x)));
    EXPECT_LE(tape.size(), 2u + 3u) << "two leaves; linear, square, sum: nothing of the frozen layer";
    tape.backward(loss);
    opt.step();
  };
  for (int i = 0; i < 3; ++i) step();
  EXPECT_TRUE(same_bytes(model.get<nn::Linear>(0).weight.value(), frozen)) << "no decay either";
  EXPECT_FALSE(same_bytes(model.get<nn::Linear>(2).weight.value(), trained));
  const nn::Sequential copy = model;
  EXPECT_TRUE(copy.parameters()[0].parameter->frozen());
  model.unfreeze();
  Tape tape;
  tape.backward(sum(square(model(x))));
  opt.step();
  EXPECT_FALSE(same_bytes(model.get<nn::Linear>(0).weight.value(), frozen));
}

TEST(Freeze, OneParameter) {
  Rng rng(1);
  nn::Linear layer(rng, 3, 2);
  layer.bias.freeze();
  Tape tape;
  tape.backward(sum(layer(rng.normal({5, 3}))));
  EXPECT_TRUE(layer.weight.grad().defined());
  EXPECT_FALSE(layer.bias.grad().defined());
}

TEST(To, ConvertsParametersAndFloatingBuffers) {
  Rng rng(1);
  Normed model(rng);
  Mask mask(4);
  mask.set(2, false);
  model.layer.weight.set_mask(mask, MaskMode::soft);
  const ParameterRef identity = model.layer.weight.ref();
  const Tensor before = model.layer.weight.value().clone(), dense = identity->dense().clone();
  identity->accumulate(Tensor::ones({2, 2}));
  model.to(DType::f64);
  EXPECT_EQ(model.layer.weight.ref(), identity);
  EXPECT_EQ(model.layer.weight.dtype(), DType::f64);
  EXPECT_EQ(model.mean.value().dtype(), DType::f64);
  EXPECT_EQ(model.count.value().dtype(), DType::i64);
  EXPECT_EQ(identity->dense().dtype(), DType::f64);
  EXPECT_FALSE(model.layer.weight.grad().defined());
  EXPECT_EQ(identity->mask_mode(), MaskMode::soft);
  EXPECT_EQ(model.layer.weight.value().at({1, 0}), 0);
  EXPECT_EQ(model(Tensor::ones({1, 2}, DType::f64)).dtype(), DType::f64);
  EXPECT_THROW(model(Tensor::ones({1, 2})), DTypeError);
  model.to(DType::f32);
  EXPECT_TRUE(same_bytes(model.layer.weight.value(), before));
  EXPECT_TRUE(same_bytes(identity->dense(), dense));
  EXPECT_TRUE(throws<DTypeError>([&] { model.to(DType::i64); }, "[to]", "i64"));
}

TEST(To, AnOptimizerMadeBeforeSaysSo) {
  Rng rng(1);
  nn::Linear layer(rng, 3, 2);
  optim::Optimizer opt(layer.parameters(), optim::adam());
  auto step = [&](DType type) {
    Tape tape;
    tape.backward(sum(layer(rng.normal({5, 3}, 0, 1, type))));
    opt.step();
  };
  step(DType::f32);
  layer.to(DType::f64);
  EXPECT_THROW(step(DType::f64), Error);
}

}  // namespace
}  // namespace espalier
