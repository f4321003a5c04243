// Layers of activations: each is its function, with PyTorch's defaults and parameter names.
#include "espalier/nn/activation.h"

#include <gtest/gtest.h>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/rng.h"
#include "espalier/nn/sequential.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

Variable inputs() {
  Rng rng(3);
  return rng.uniform({3, 4, 2}, -8, 8, DType::f64);
}

template <class Layer, class F>
void expect_is(const Layer& layer, F function) {
  const Variable x = inputs();
  EXPECT_TRUE(testing::same_bytes(layer(x).value(), function(x).value()));
  Layer copy = layer;
  EXPECT_TRUE(testing::same_bytes(copy(x).value(), layer(x).value()));
  EXPECT_EQ(copy(Tensor::zeros({0, 4}, DType::f64)).dim(0), 0);
}

TEST(Activations, AreTheirFunctions) {
  using V = const Variable&;
  expect_is(Relu(), relu);
  expect_is(Relu6(), relu6);
  expect_is(Selu(), selu);
  expect_is(Silu(), silu);
  expect_is(Mish(), mish);
  expect_is(Tanh(), tanh);
  expect_is(Tanhshrink(), tanhshrink);
  expect_is(Sigmoid(), sigmoid);
  expect_is(LogSigmoid(), logsigmoid);
  expect_is(Softsign(), softsign);
  expect_is(Hardsigmoid(), hardsigmoid);
  expect_is(Hardswish(), hardswish);
  expect_is(LeakyRelu(), [](V x) { return leaky_relu(x, 0.01); });
  expect_is(LeakyRelu(0.2), [](V x) { return leaky_relu(x, 0.2); });
  expect_is(Elu(), [](V x) { return elu(x, 1); });
  expect_is(Elu(0.5), [](V x) { return elu(x, 0.5); });
  expect_is(Celu(2), [](V x) { return celu(x, 2); });
  expect_is(Gelu(), [](V x) { return gelu(x); });
  expect_is(Gelu(GeluForm::tanh), [](V x) { return gelu(x, GeluForm::tanh); });
  expect_is(Softplus(), [](V x) { return softplus(x, 1, 20); });
  expect_is(Softplus(2, 3), [](V x) { return softplus(x, 2, 3); });
  expect_is(Hardtanh(), [](V x) { return clamp(x, -1, 1); });
  expect_is(Hardtanh(-2, 3), [](V x) { return clamp(x, -2, 3); });
  expect_is(Hardshrink(1), [](V x) { return hardshrink(x, 1); });
  expect_is(Softshrink(1), [](V x) { return softshrink(x, 1); });
  expect_is(Threshold(1, -9), [](V x) { return threshold(x, 1, -9); });
  expect_is(Softmax(1), [](V x) { return softmax(x, 1); });
  expect_is(LogSoftmax(), [](V x) { return log_softmax(x, -1); });
  expect_is(Glu(1), [](V x) { return glu(x, 1); });
}

TEST(PRelu, LearnsItsSlopesFromAQuarter) {
  PRelu layer(4, {.dtype = DType::f64});
  ASSERT_EQ(layer.parameters().size(), 1u);
  EXPECT_EQ(layer.parameters()[0].name, "weight");
  EXPECT_EQ(layer.weight.value().to_vector<double>(), (std::vector<double>(4, 0.25)));
  EXPECT_EQ(PRelu().weight.shape(), (Shape{1}));
  const Tensor x = Tensor::full({3, 4, 2}, -2, DType::f64);
  Tape tape;
  const Variable y = layer(x);
  EXPECT_EQ(y.value().at({0, 0, 0}), -0.5);
  tape.backward(sum(y));
  EXPECT_EQ(layer.weight.grad().to_vector<double>(), (std::vector<double>(4, -12))) << "six elements a channel";
}

TEST(PRelu, StandsInAModelUnderItsName) {
  Sequential net(Relu(), PRelu(3), Gelu());
  ASSERT_EQ(net.parameters().size(), 1u);
  EXPECT_EQ(net.parameters()[0].name, "1.weight");
  EXPECT_TRUE(testing::throws<ShapeError>([&] { net(Variable(Tensor::zeros({2, 5}))); }, "[prelu]", "[3]", "[2, 5]"));
}

}  // namespace
}  // namespace espalier::nn
