// Programs a user would write, as a whole: losses, tapes and steps together.
#include <gtest/gtest.h>

#include <algorithm>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/tape.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

TEST(Programs, OneScalarWithItsGradientClamped) {
  Parameter theta(Tensor::scalar(0), "theta");
  auto opt = Optimizer(list_of(theta), chain(clip_by_value(0.5), sgd({.lr = 0.01})));
  Index clipped = 0;
  for (int step = 0; step < 1000; ++step) {
    Tape tape;
    const Variable loss = nn::mse_loss(2.0 * Variable(theta), Variable(Tensor::scalar(2)));
    tape.backward(loss);
    clipped += opt.step().clipped();
  }
  EXPECT_NEAR(theta.value().item(), 1, 1e-3);
  EXPECT_NEAR(static_cast<double>(clipped), 188, 2);  // from 0 to where 8 (1 - theta) = 0.5, in steps of 0.005
}

TEST(Programs, DenseLayersWithAGlobalNormClip) {
  Rng rng(1);
  nn::Sequential model(
      nn::Linear(rng, 10, 10), [](const Variable& x) { return relu(x); }, nn::Linear(rng, 10, 1));
  const Tensor x = randn(rng, {100, 10}), y = randn(rng, {100, 1});
  auto opt = Optimizer(model.parameters(), chain(clip_by_global_norm(0.5), sgd({.lr = 0.1})));
  double first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    Tape tape;
    const Variable loss = nn::mse_loss(model(x), Variable(y));
    tape.backward(loss);
    const StepReport report = opt.step();
    EXPECT_LE(report["clip_by_global_norm"].norm_after, 0.5 * (1 + 1e-6));
    if (step == 0) first = loss.item();
    last = loss.item();
  }
  EXPECT_LT(last, 0.8 * first);
}

TEST(Programs, LinearRegressionWithGradientsAndParametersClamped) {
  Rng rng(2);
  nn::Linear model(rng, 2, 1);
  auto opt =
      Optimizer(model.parameters(), chain(clip_by_global_norm(5.0), sgd({.lr = 0.05}), clamp_parameters(-4.5, 4.5)));
  const Tensor truth = Tensor::from<float>({4, 5}, {2, 1});
  for (int step = 0; step < 500; ++step) {
    Tape tape;
    const Tensor x = randn(rng, {10, 2});
    const Tensor noise = randn(rng, {10, 1});
    const Variable y = matmul(Variable(x), Variable(truth)) + 0.01 * Variable(noise);
    tape.backward(nn::mse_loss(model(x), y));
    opt.step();
  }
  const auto w = model.weight.value().to_vector<float>();
  EXPECT_NEAR(w[0], 4, 0.05);
  EXPECT_EQ(w[1], 4.5f);  // 5 is out of reach
}

TEST(Programs, SumOfSquaresWithClippedSteps) {
  Parameter theta(Tensor::linspace(-10, 10, 21), "theta");
  auto opt = Optimizer(list_of(theta), chain(clip_by_global_norm(1.0), sgd({.lr = 0.5})));
  for (int step = 0; step < 100; ++step) {
    Tape tape;
    const Variable t(theta);
    tape.backward(sum(t * t));
    opt.step();
  }
  // 27.7 from the minimum, 0.5 a step, until a step of 2 * 0.5 reaches it at once.
  EXPECT_LT(testing::norm({testing::values_of(theta)}), 1e-6);
}

TEST(Programs, TrainingACopyIsAnErrorThatSaysSo) {
  Rng rng(3);
  nn::Linear model(rng, 2, 1);
  auto opt = Optimizer(model.parameters(), sgd());
  nn::Linear copy = model;
  Tape tape;
  tape.backward(nn::mse_loss(copy(Tensor::ones({1, 2})), Variable(Tensor::ones({1, 1}))));
  try {
    opt.step();
    FAIL();
  } catch (const GradError& e) {
    EXPECT_NE(std::string(e.what()).find("copied"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace espalier::optim
