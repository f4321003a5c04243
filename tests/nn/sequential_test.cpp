#include "espalier/nn/sequential.h"

#include <gtest/gtest.h>
#include <math.h>  // NOLINT: puts ::tanh in sight

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/rng.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/summary.h"
#include "espalier/nn/transformer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

nn::Sequential make(Rng& rng) {
  return nn::Sequential(
      nn::Linear(rng, 2, 4), relu, [](const Variable& x) { return x * 2; }, nn::Linear(rng, 4, 1));
}

TEST(Sequential, RunsLayersFunctionsAndLambdasInOrder) {
  Rng rng(1);
  nn::Sequential net = make(rng);
  const Tensor x = rng.normal({3, 2});
  const Variable expected = net.get<nn::Linear>(3)(relu(net.get<nn::Linear>(0)(x)) * 2);
  EXPECT_TRUE(same_bytes(net(x).value(), expected.value()));
  EXPECT_EQ(net.size(), 4u);
  EXPECT_TRUE(same_bytes(nn::Sequential()(x).value(), x)) << "nothing is the identity";
}

TEST(Sequential, NamesStepsByPlace) {
  Rng rng(1);
  const nn::Sequential net = make(rng);
  const ParameterList list = net.parameters();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].name, "0.weight");
  EXPECT_EQ(list[1].name, "0.bias");
  EXPECT_EQ(list[2].name, "3.weight");
}

TEST(Sequential, AssignmentTakesOverWhatALambdaHasCaptured) {
  Rng rng(1);
  const auto times = [](double factor) { return [factor](const Variable& x) { return x * factor; }; };
  nn::Sequential net(nn::Linear(rng, 2, 2), times(2)), other(nn::Linear(rng, 2, 2), times(3));
  const ParameterRef identity = net.parameters()[0].parameter;
  net = other;
  const Tensor x = rng.normal({3, 2});
  EXPECT_TRUE(same_bytes(net(x).value(), other(x).value()));
  EXPECT_EQ(net.parameters()[0].parameter, identity);
}

TEST(Sequential, CopiesAreNewParametersAndAssignmentKeepsIdentity) {
  Rng rng(1);
  nn::Sequential net = make(rng);
  const Tensor x = rng.normal({3, 2});
  nn::Sequential copy = net;
  EXPECT_NE(copy.parameters()[0].parameter, net.parameters()[0].parameter);
  EXPECT_TRUE(same_bytes(copy(x).value(), net(x).value()));
  const ParameterRef identity = net.parameters()[0].parameter;
  copy.get<nn::Linear>(0).weight.set_value(Tensor::ones({4, 2}));
  net = copy;
  EXPECT_EQ(net.parameters()[0].parameter, identity);
  EXPECT_TRUE(same_bytes(copy(x).value(), net(x).value()));
  nn::Sequential other(nn::Linear(rng, 2, 3), tanh);
  net = other;  // other kinds of steps: like a fresh copy
  EXPECT_EQ(net.size(), 2u);
  EXPECT_FALSE(identity->owned());
  EXPECT_TRUE(same_bytes(net(x).value(), other(x).value()));
  const ParameterRef moved = other.parameters()[0].parameter;
  const nn::Sequential taken = std::move(other);
  EXPECT_EQ(taken.parameters()[0].parameter, moved);
}

TEST(Sequential, GrowsByPushBackWithoutCopyingParameters) {
  Rng rng(1);
  nn::Sequential net;
  std::vector<ParameterRef> refs;
  for (int i = 0; i < 20; ++i) {
    nn::Linear layer(rng, 2, 2);
    refs.push_back(layer.weight.ref());
    net.push_back(std::move(layer));
    net.push_back(nn::Tanh());
  }
  for (std::size_t i = 0; i < refs.size(); ++i) EXPECT_EQ(net.get<nn::Linear>(2 * i).weight.ref(), refs[i]);
}

TEST(Sequential, Nests) {
  Rng rng(1);
  nn::Sequential net(nn::Sequential(nn::Linear(rng, 2, 3), relu), nn::Sequential(nn::Linear(rng, 3, 1)), tanh);
  const ParameterList list = net.parameters();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].name, "0.0.weight");
  EXPECT_EQ(list[2].name, "1.0.weight");
  EXPECT_EQ(net(Tensor::ones({5, 2})).shape(), (Shape{5, 1}));
  nn::Sequential outer;
  outer.push_back(net);
  EXPECT_EQ(outer.parameters()[0].name, "0.0.0.weight");
  EXPECT_NE(outer.parameters()[0].parameter, list[0].parameter);
  EXPECT_EQ(outer.get<nn::Sequential>(0).get<nn::Sequential>(0).get<nn::Linear>(0).weight.shape(), (Shape{3, 2}));
}

TEST(Sequential, GetChecksPlaceAndType) {
  Rng rng(1);
  nn::Sequential net = make(rng);
  EXPECT_TRUE(throws<IndexError>([&] { net.get<nn::Linear>(4); }, "[sequential]", "no step 4"));
  EXPECT_TRUE(throws<ConfigError>([&] { net.get<nn::Linear>(1); }, "another type"));
}

TEST(Sequential, TrainAndEvalReachEveryStep) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 2, 2), nn::Sequential(nn::Linear(rng, 2, 2)));
  net.train();
  EXPECT_TRUE(net.get<nn::Linear>(0).training());
  EXPECT_TRUE(net.get<nn::Sequential>(1).get<nn::Linear>(0).training());
  net.follow_tape();
  EXPECT_FALSE(net.get<nn::Linear>(0).training());
}

TEST(Sequential, BeginsWithAnEmbedding) {
  Rng rng(1);
  const nn::Sequential net(nn::Embedding(rng, 10, 3), nn::Flatten(), nn::Linear(rng, 12, 2));
  const Tensor index = Tensor::from<Index>({1, 2, 3, 4, 9, 0, 9, 1}, {2, 4});
  EXPECT_EQ(net(index).shape(), (Shape{2, 2}));
  const nn::Summary summary = nn::summary(net, index);
  ASSERT_EQ(summary.layers.size(), 3u) << summary;
  EXPECT_EQ(summary.layers[0].type, "Embedding");
  EXPECT_EQ(summary.layers[0].output, (Shape{2, 4, 3}));
  EXPECT_EQ(summary.layers[2].macs, 2 * 12 * 2);
  EXPECT_EQ(summary.total.parameters, 30 + 26);
  EXPECT_TRUE(throws<DTypeError>([&] { net(Tensor::zeros({2, 4})); }, "i64"));
}

TEST(Sequential, Trains) {
  Rng rng(1);
  const nn::Sequential net = make(rng);
  const ParameterList list = net.parameters();
  Tape tape;
  tape.backward(mean(square(net(rng.normal({3, 2})))));
  for (const NamedParameter& p : list) EXPECT_TRUE(p.parameter->grad().defined()) << p.name;
}

TEST(Sequential, AnErrorInALambdaNamesTheSequential) {
  Rng rng(1);
  const nn::Sequential net(nn::Linear(rng, 2, 4),
                           nn::Sequential(tanh,
                                          [](const Variable& x) {
                                            return reshape(x, {7, 7});
                                          }),
                           relu);
  EXPECT_TRUE(throws<ShapeError>([&] { net(Tensor::ones({1, 2})); }, "(in module 1)"));
  net.parameters();
  EXPECT_TRUE(throws<ShapeError>([&] { net(Tensor::ones({1, 2})); }, "(in module 1)"));
}

TEST(Sequential, AssigningOtherKindsOfStepsLeavesTheModeAlone) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 2, 2)), other(relu);
  net.eval();
  net = other;
  EXPECT_EQ(net.size(), 1u);
  EXPECT_TRUE(net.parameters().empty());
  const Tape tape;
  EXPECT_FALSE(net.training());
}

}  // namespace
}  // namespace espalier

// --- names of functions, as they stand in a user's file --------------------------------------------------------------

namespace {

using namespace espalier;
using espalier::testing::same_bytes;

TEST(Sequential, TakesNamesOfFunctionsOutsideTheNamespaceToo) {
  Rng rng(1);
  const nn::Sequential net(nn::Linear(rng, 2, 3), gelu, relu, espalier::tanh);
  nn::Sequential pushed;
  pushed.push_back(net);
  pushed.push_back(tanh);
  const Tensor x = rng.normal({4, 2});
  EXPECT_TRUE(same_bytes(pushed(x).value(), tanh(net(x)).value()));
  EXPECT_TRUE(same_bytes(gelu(x).value(), nn::Gelu()(x).value()));
}

TEST(TransformerOptions, TakeAnyFunctionOfOneVariable) {
  const Tensor x = Tensor::from({-2.0f, -0.5f, 0.0f, 3.0f});
  auto gives = [&](const nn::TransformerOptions& options, const Variable& expected) {
    EXPECT_TRUE(same_bytes(options.activation(x).value(), expected.value()));
  };
  gives({}, relu(x));
  gives({.activation = relu}, relu(x));
  gives({.activation = gelu}, gelu(x));
  gives({.activation = tanh}, tanh(Variable(x)));
  gives({.activation = nn::LeakyRelu(0.2)}, leaky_relu(x, 0.2));
  gives({.activation = [](const Variable& v) { return gelu(v, GeluForm::tanh); }}, gelu(x, GeluForm::tanh));
  Rng rng(1);
  const nn::TransformerEncoderLayer layer(rng, 4, 2, {.feedforward = 8, .activation = gelu});
  EXPECT_EQ(layer(rng.normal({1, 3, 4})).shape(), (Shape{1, 3, 4}));
}

}  // namespace
