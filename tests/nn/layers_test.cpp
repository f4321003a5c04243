// Linear, activations, losses and initialisers against the formulas in their headers.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/init.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"

namespace espalier::nn {
namespace {

Tensor doubles(std::initializer_list<double> values, const Shape& shape) { return Tensor::from(values, shape); }

// --- Linear ------------------------------------------------------------------------------------------------------------

TEST(Linear, MultipliesByTheTransposedWeightAndAddsTheBias) {
  Rng rng(1);
  Linear layer(rng, 2, 3, {.dtype = DType::f64});
  layer.weight.set_value(doubles({1, 2, 3, 4, 5, 6}, {3, 2}));
  layer.bias.set_value(doubles({10, 20, 30}, {3}));
  const Tensor y = layer(doubles({1, 1, 2, 0}, {2, 2})).value();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{13, 27, 41, 12, 26, 40}));
  EXPECT_EQ(layer(Tensor::zeros({4, 5, 2}, DType::f64)).shape(), (Shape{4, 5, 3}));
  EXPECT_EQ(layer(Tensor::zeros({0, 2}, DType::f64)).shape(), (Shape{0, 3}));
  EXPECT_EQ(layer(Tensor::zeros({2}, DType::f64)).shape(), (Shape{3}));
}

TEST(Linear, WithoutBiasListsOnlyItsWeight) {
  Rng rng(1);
  Linear layer(rng, 2, 3, {.bias = false});
  ASSERT_EQ(layer.parameters().size(), 1u);
  EXPECT_EQ(layer.parameters()[0].name, "weight");
  EXPECT_EQ(layer(Tensor::zeros({1, 2})).value().to_vector<float>(), (std::vector<float>{0, 0, 0}));
}

TEST(Linear, DrawsItsParametersWithinOneOverRootFanIn) {
  Rng rng(5);
  Linear layer(rng, 100, 400);
  double largest = 0;
  for (float w : layer.weight.value().to_vector<float>()) largest = std::max(largest, std::abs(static_cast<double>(w)));
  EXPECT_LE(largest, 0.1);
  EXPECT_GT(largest, 0.0999);  // of 40,000 uniform draws, all below 99.9 % of the bound: chance e^-40
}

TEST(Linear, NamesBothShapesWhenTheyDoNotFit) {
  Rng rng(1);
  Linear layer(rng, 4, 3);
  try {
    layer(Tensor::zeros({2, 5}));
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_NE(std::string(error.what()).find("[2, 5]"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("[3, 4]"), std::string::npos);
  }
  EXPECT_THROW(layer(Tensor::zeros({2, 4}, DType::f64)), DTypeError);
}

TEST(Linear, OfNoInputsGivesItsBias) {
  Rng rng(1);
  Linear layer(rng, 0, 2);
  const Tensor y = layer(Tensor::zeros({3, 0})).value();
  EXPECT_EQ(y.shape(), (Shape{3, 2}));
  EXPECT_EQ(y.at({2, 1}), layer.bias.value().at({1}));
}

// Values, and gradients of everything, are those of a layer behind it; a copy keeps its activation, names do not change.
TEST(Linear, WithAnActivationIsTheTwoLayersInOne) {
  struct {
    Activation fused;
    Variable (*behind)(const Variable&);
  } const pairs[] = {{Activation::none, [](const Variable& x) { return x; }},
                     {Activation::relu, [](const Variable& x) { return relu(x); }},
                     {Activation::tanh, [](const Variable& x) { return tanh(x); }},
                     {Activation::sigmoid, [](const Variable& x) { return sigmoid(x); }},
                     {Activation::gelu, [](const Variable& x) { return gelu(x); }},
                     {Activation::silu, [](const Variable& x) { return silu(x); }}};
  for (bool bias : {true, false})
    for (const auto& [fused, behind] : pairs) {
      Rng rng(2), same(2);
      const Linear drawn(rng, 5, 7, {.bias = bias, .activation = fused, .dtype = DType::f64});
      const Linear plain(same, 5, 7, {.bias = bias, .dtype = DType::f64});
      const Linear layer = drawn;
      ASSERT_EQ(layer.parameters().size(), plain.parameters().size());
      const Tensor x = rng.normal({4, 5}, 0, 2, DType::f64), weights = rng.normal({4, 7}, 0, 1, DType::f64);
      EXPECT_TRUE(allclose(layer(x).value(), behind(plain(x)).value(), 1e-14, 1e-14));
      const auto gradients = [&](auto&& model, const Linear& of) {
        Tape tape;
        const Variable input = tape.watch(x);
        const std::vector<Variable> outputs{model(input)};
        std::vector<Variable> leaves{input, of.weight};
        if (bias) leaves.push_back(of.bias);
        return tape.gradient(outputs, std::vector<Variable>{weights}, leaves);
      };
      const std::vector<Variable> a = gradients(layer, layer);
      const std::vector<Variable> b = gradients([&](const Variable& v) { return behind(plain(v)); }, plain);
      ASSERT_EQ(a.size(), bias ? 3u : 2u);
      for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(allclose(a[i].value(), b[i].value(), 1e-13, 1e-13)) << i;
    }
}

// --- activations ---------------------------------------------------------------------------------------------------------

TEST(Activations, AsLayersAreTheFunctions) {
  const Tensor x = doubles({-2, -0.5, 0, 3}, {4});
  EXPECT_TRUE(equal(Relu()(x).value(), relu(x).value()));
  EXPECT_TRUE(equal(LeakyRelu(0.2)(x).value(), leaky_relu(x, 0.2).value()));
  EXPECT_TRUE(equal(Tanh()(x).value(), tanh(Variable(x)).value()));
  EXPECT_TRUE(equal(Sigmoid()(x).value(), sigmoid(x).value()));
  EXPECT_TRUE(equal(Softplus(2)(x).value(), softplus(x, 2).value()));
  const Sequential all{Sequential(Relu(), LeakyRelu(), Tanh(), Sigmoid(), Softplus())};
  EXPECT_TRUE(all.parameters().empty());
}

// --- losses --------------------------------------------------------------------------------------------------------------

TEST(CrossEntropy, IsTheNegativeLogarithmOfTheLabelsShare) {
  const Tensor logits = doubles({std::log(1.0), std::log(3.0), std::log(6.0), std::log(2.0)}, {2, 2});
  const Tensor labels = Tensor::from({Index{1}, Index{0}});
  const double a = -std::log(3.0 / 4), b = -std::log(6.0 / 8);
  EXPECT_NEAR(cross_entropy(logits, labels).item(), (a + b) / 2, 1e-15);
  EXPECT_NEAR(cross_entropy(logits, labels, {.reduction = Reduction::sum}).item(), a + b, 1e-15);
  const Tensor each = cross_entropy(logits, labels, {.reduction = Reduction::none}).value();
  EXPECT_NEAR(each.at({0}), a, 1e-15);
  EXPECT_NEAR(each.at({1}), b, 1e-15);
}

TEST(CrossEntropy, NamesTheRowOfALabelThatDoesNotExist) {
  for (Index label : {Index{3}, Index{-1}}) {
    try {
      cross_entropy(Tensor::zeros({2, 3}), Tensor::from({Index{0}, label}));
      FAIL();
    } catch (const IndexError& error) {
      EXPECT_NE(std::string(error.what()).find("row 1"), std::string::npos);
    }
  }
  EXPECT_THROW(cross_entropy(Tensor::zeros({2, 3}), Tensor::zeros({3}, DType::i64)), ShapeError);
  EXPECT_THROW(cross_entropy(Tensor::zeros({2, 3}), Tensor::zeros({2})), DTypeError);
}

TEST(MeanSquaredError, RefusesToBroadcast) {
  EXPECT_NEAR(mse_loss(doubles({1, 2}, {2}), doubles({0, 4}, {2})).item(), 2.5, 0);
  EXPECT_THROW(mse_loss(Tensor::zeros({3}), Tensor::zeros({3, 1})), ShapeError);
}

TEST(BinaryCrossEntropy, OfLogitsIsTheOneOfTheirSigmoidAndStaysFinite) {
  const Tensor x = doubles({-3, 0, 2, 800, -800}, {5}), t = doubles({0, 1, 0.25, 1, 0}, {5});
  const Tensor p = sigmoid(x).value();
  const Tensor fused = binary_cross_entropy_with_logits(x, t, {.reduction = Reduction::none}).value();
  const Tensor plain = binary_cross_entropy(p, t, {.reduction = Reduction::none}).value();
  EXPECT_TRUE(allclose(fused, plain, 1e-12, 1e-12)) << fused << plain;
  EXPECT_NEAR(fused.at({1}), std::log(2.0), 1e-15);
  const double wrong = binary_cross_entropy_with_logits(doubles({800}, {1}), doubles({0}, {1})).item();
  EXPECT_EQ(wrong, 800);
  EXPECT_EQ(binary_cross_entropy(doubles({1}, {1}), doubles({0}, {1})).item(), 100);  // the logarithm is held
}

// --- initialisers ----------------------------------------------------------------------------------------------------------

double variance(const Tensor& t) {
  double sum = 0, squares = 0;
  const std::vector<float> values = t.to_vector<float>();
  for (float v : values) {
    sum += static_cast<double>(v);
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  const double n = static_cast<double>(values.size());
  return squares / n - sum / n * (sum / n);
}

TEST(Init, VariancesAreThoseOfThePapers) {
  Rng rng(11);
  const Shape shape{200, 50, 3, 3};  // fan_in 450, fan_out 1800; 90,000 draws: a variance is right to about 2 %
  const init::Fans f = init::fans(shape);
  EXPECT_EQ(f.in, 450);
  EXPECT_EQ(f.out, 1800);
  EXPECT_NEAR(variance(init::xavier_uniform(rng, shape)) * (f.in + f.out) / 2, 1, 0.04);
  EXPECT_NEAR(variance(init::xavier_normal(rng, shape)) * (f.in + f.out) / 2, 1, 0.04);
  EXPECT_NEAR(variance(init::kaiming_uniform(rng, shape)) * f.in / 2, 1, 0.04);
  EXPECT_NEAR(variance(init::kaiming_normal(rng, shape)) * f.in / 2, 1, 0.04);
  EXPECT_NEAR(variance(init::kaiming_normal(rng, shape, init::gain::leaky_relu(1))) * f.in, 1, 0.04);
  EXPECT_THROW(init::fans({3}), ShapeError);
}

}  // namespace
}  // namespace espalier::nn
