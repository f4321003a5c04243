#include "espalier/prune/movement.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/threshold.h"

namespace espalier::prune {
namespace {

std::vector<double> vec(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }
std::vector<double> scores(const Movement& m, const Parameter& p) { return vec(m.score()({"w", p.ref()}, {})); }

/// One step of gradient descent on sum (w - target)^2 / 2.
void step(optim::Optimizer& opt, const Parameter& w, const Tensor& target) {
  Tape tape;
  tape.backward(sum(square(w - target)) * 0.5);
  opt.step();
}
const optim::Select all;

TEST(Movement, ScoresAddUpMinusWeightTimesGradient) {
  for (const DType type : {DType::f32, DType::f64}) {
    const Parameter w(Tensor::from<double>({2, -2, 0.5, 1}).to(type), "w");
    const Tensor target = Tensor::from<double>({3, 0, 0.5, -4}).to(type);
    const Movement movement(list_of(w), {.lr = 0.5, .select = all});
    optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.125}));
    opt.attach(movement);
    std::vector<double> expected(4), v = vec(w.value());
    for (int k = 0; k < 5; ++k) {
      for (std::size_t i = 0; i < 4; ++i) {
        const double g = v[i] - vec(target)[i];
        expected[i] -= 0.5 * v[i] * g;
        v[i] -= 0.125 * g;
      }
      step(opt, w, target);
    }
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_NEAR(scores(movement, w)[i], expected[i], type == DType::f64 ? 1e-14 : 1e-5);
    EXPECT_GT(scores(movement, w)[0], 0);  // moves away from 0
    EXPECT_LT(scores(movement, w)[1], 0);  // towards 0
    EXPECT_EQ(scores(movement, w)[2], 0);  // stays
  }
}

TEST(Movement, InSoftModePrunedWeightsGoOnScoringAndMayComeBack) {
  const Parameter w(Tensor::from<double>({1, 2, -1, 3}), "w");
  const Tensor target = Tensor::from<double>({0, 4, -6, 0});
  const Movement movement(list_of(w), {.select = all});
  Pruner pruner(list_of(w), {.score = movement.score(),
                             .schedule = constant({.sparsity = 0.5, .begin = 1, .every = 1}),
                             .select = all,
                             .mode = MaskMode::soft});
  Mask wrong(4);
  wrong.set(1, false);
  wrong.set(2, false);
  ParameterRef ref = w.ref();
  ref->set_mask(wrong, MaskMode::soft);
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.01}));
  opt.attach(movement);
  opt.attach(pruner);
  for (int k = 0; k < 3; ++k) step(opt, w, target);
  EXPECT_EQ(w.mask().words()[0], 0b0110u);  // what grows is live again, with its dense value
  EXPECT_NE(w.value().at({1}), 0);
}

TEST(Movement, InHardModeScoresOfPrunedWeightsStandStill) {
  const Parameter w(Tensor::from<double>({1, 2}), "w");
  Mask mask(2);
  mask.set(0, false);
  w.ref()->set_mask(mask);
  const Movement movement(list_of(w), {.lambda = 1, .select = all});
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.01}));
  opt.attach(movement);
  step(opt, w, Tensor::from<double>({5, 5}));
  EXPECT_EQ(scores(movement, w)[0], 0);
  EXPECT_NE(scores(movement, w)[1], 0);
}

TEST(Movement, SoftMovementKeepsWhatIsAboveAThreshold) {
  const Parameter w(Tensor::from<double>({2, -2, 0.5, 1}), "w");
  const Tensor target = Tensor::from<double>({3, 0, 0.5, -4});
  const Movement movement(list_of(w), {.lr = 1, .lambda = 0.4, .select = all});
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.125}));
  opt.attach(movement);
  step(opt, w, target);
  // S = -(w g + 0.4 / 4), w g = -2 4 0 5
  const std::vector<double> expected = {1.9, -4.1, -0.1, -5.1};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(scores(movement, w)[i], expected[i], 1e-15);
  const SelectionOptions options{.select = all, .mode = MaskMode::soft};
  prune_below(list_of(w), movement.score(), -0.5, {}, options);
  EXPECT_EQ(w.mask().words()[0], 0b0101u);
  prune_below(list_of(w), movement.score(), -10, {}, options);
  EXPECT_FALSE(w.mask().defined());  // chosen anew: all are above
}

TEST(Movement, ResumesInTheMiddleWithTheSameBytes) {
  auto run = [](int stop, const std::map<std::string, Tensor>* saved, const Tensor* value) {
    const Parameter w(value ? value->clone() : Tensor::from<float>({2, -2, 0.5f, 1}), "w");
    Movement movement(list_of(w), {.lambda = 0.1, .select = all});
    if (saved) movement.load_state(*saved);
    optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.125}));
    opt.attach(movement);
    for (int k = 0; k < stop; ++k) step(opt, w, Tensor::from<float>({3, 0, 0.5f, -4}));
    return std::pair(movement.state(), w.value().clone());
  };
  const auto whole = run(6, nullptr, nullptr), half = run(2, nullptr, nullptr),
             rest = run(4, &half.first, &half.second);
  EXPECT_TRUE(equal(whole.first.at("w"), rest.first.at("w")));
}

TEST(Movement, ABadStateChangesNothing) {
  const Parameter w(Tensor::from<double>({1, 2}), "w");
  Movement movement(list_of(w), {.select = all});
  std::map<std::string, Tensor> state = movement.state();
  state["x"] = Tensor::zeros({2}, DType::f64);
  EXPECT_THROW(movement.load_state(state), ConfigError);
  EXPECT_THROW(movement.load_state({}), ConfigError);
  EXPECT_THROW(movement.load_state({{"w", Tensor::zeros({3}, DType::f64)}}), ConfigError);
  EXPECT_EQ(scores(movement, w), std::vector<double>(2, 0));
}

TEST(Movement, OfAParameterItDoesNotFollowIsAnError) {
  const Parameter w(Tensor::ones({2, 2}), "w"), other(Tensor::ones({2, 2}), "other");
  const Movement movement(list_of(w));
  EXPECT_THROW(movement.score()({"other", other.ref()}, {}), ConfigError);
  EXPECT_THROW(Movement(list_of(w), {.lr = 0}), ConfigError);
  EXPECT_THROW(Movement(list_of(w), {.select = "none"}), ConfigError);
}

}  // namespace
}  // namespace espalier::prune
