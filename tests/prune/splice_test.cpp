#include "espalier/prune/splice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/report.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes, espalier::testing::Threads;

const optim::Select all;

/// One step on sum (w - target)^2 / 2.
void step(optim::Optimizer& opt, const Parameter& w, const Tensor& target) {
  Tape tape;
  tape.backward(sum(square(w - target)) * 0.5);
  opt.step();
}

std::vector<bool> bits(const Parameter& p) {
  std::vector<bool> live(static_cast<std::size_t>(p.size()), true);
  for (Index i = 0; p.mask().defined() && i < p.size(); ++i) live[static_cast<std::size_t>(i)] = p.mask()[i];
  return live;
}

TEST(Splice, HysteresisByHand) {
  // |w| of 1 to 10; the quantile of 0.5 is 6, so a = 5.4 and b = 6.6.
  const Parameter w(Tensor::from<double>({1, -2, 3, -4, 5, -6, 7, -8, 9, -10}), "w");
  Splice splice = prune::splice(list_of(w), {.sparsity = 0.5, .end = 10, .select = all});
  splice.update(0);
  EXPECT_EQ(bits(w), (std::vector<bool>{0, 0, 0, 0, 0, 1, 1, 1, 1, 1}));  // 6 lies in the band, and was live
  EXPECT_EQ(w.ref()->mask_mode(), MaskMode::soft);
  EXPECT_EQ(w.value().at({0}), 0);
  EXPECT_EQ(w.ref()->dense().at({0}), 1);

  // Dense weights move: 5 grows into the band and stays pruned, 6 shrinks below a, 4 grows above b and comes back.
  w.ref()->set_value(Tensor::from<double>({1, -2, 3, -7.9, 6.5, -5, 7, -8, 9, -10}));
  splice.update(1);
  EXPECT_EQ(bits(w), (std::vector<bool>{0, 0, 0, 1, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(w.value().at({3}), -7.9);
  splice.freeze();
  EXPECT_EQ(w.ref()->mask_mode(), MaskMode::hard);
  EXPECT_FALSE(w.ref()->dense().defined());
  EXPECT_DOUBLE_EQ(splice.sparsity(), 0.5);
}

TEST(Splice, ThresholdOfMeanAndDeviationIsFoundOnce) {
  Rng rng(3);
  const Parameter w(rng.normal({37, 5}, 0, 1, DType::f64), "w");
  const std::vector<double> v = w.value().to_vector<double>();
  double mean = 0, square = 0;
  for (double x : v) mean += std::abs(x);
  mean /= 185;
  for (double x : v) square += (std::abs(x) - mean) * (std::abs(x) - mean);
  const double t = mean + 0.5 * std::sqrt(square / 185);
  Splice splice = prune::splice(list_of(w), {.c = 0.5, .end = 10});
  EXPECT_TRUE(std::isnan(splice.state().at("threshold/w").item()));
  splice.update(0);
  EXPECT_NEAR(splice.state().at("threshold/w").item(), t, 1e-13);
  for (std::size_t i = 0; i < v.size(); ++i) EXPECT_EQ(bits(w)[i], std::abs(v[i]) >= 0.9 * t) << i;
  w.ref()->set_value(Tensor::full({37, 5}, 0.001, DType::f64));  // all far below; the threshold stays
  splice.update(1);
  EXPECT_NEAR(splice.state().at("threshold/w").item(), t, 1e-13);
  EXPECT_EQ(live_weights(*w.ref()), 1);  // min_keep
}

TEST(Splice, DenseValuesOfPrunedWeightsMoveAndComeBack) {
  const Parameter w(Tensor::from<double>({0.1, 2, -0.1, 3}), "w");
  const Tensor target = Tensor::from<double>({4, 0, 0, 3});  // the first is to grow, the second to vanish
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.1}));
  opt.attach(prune::splice(list_of(w), {.sparsity = 0.5, .end = 30, .gamma = 0, .select = all}));
  step(opt, w, target);
  EXPECT_EQ(bits(w), (std::vector<bool>{0, 1, 0, 1}));
  const double before = w.ref()->dense().at({0});
  EXPECT_GT(before, 0.1);  // it moves though it is pruned: the gradient at value 0 is 0 - 4
  EXPECT_EQ(w.value().at({0}), 0);
  for (int k = 0; k < 30; ++k) step(opt, w, target);
  EXPECT_EQ(bits(w), (std::vector<bool>{1, 0, 0, 1}));
  EXPECT_EQ(w.value().at({0}), w.ref()->dense().at({0}));
  EXPECT_GT(w.value().at({0}), 1);
}

TEST(Splice, FiresAtBeginAndEndAndLessAndLessBetween) {
  const Parameter w(Tensor::ones({4, 4}), "w");
  const Splice splice =
      prune::splice(list_of(w), {.sparsity = 0.5, .begin = 10, .end = 20000, .gamma = 1e-3, .power = 1, .seed = 7});
  EXPECT_FALSE(splice.due(9));
  EXPECT_TRUE(splice.due(10));
  EXPECT_TRUE(splice.due(20000));
  EXPECT_FALSE(splice.due(20001));
  double expected = 0, fired = 0, early = 0, late = 0;
  for (std::int64_t t = 11; t < 20000; ++t) {
    expected += 1 / (1 + 1e-3 * static_cast<double>(t - 10));
    fired += splice.due(t);
    early += t < 1000 && splice.due(t);
    late += t >= 19000 && splice.due(t);
  }
  EXPECT_NEAR(fired, expected, 5 * std::sqrt(expected));  // five standard deviations of a sum of coins, or more
  EXPECT_GT(early, 5 * late);
  const Splice same =
      prune::splice(list_of(w), {.sparsity = 0.5, .begin = 10, .end = 20000, .gamma = 1e-3, .power = 1, .seed = 7});
  for (std::int64_t t = 0; t < 2000; ++t) EXPECT_EQ(splice.due(t), same.due(t));
}

TEST(Splice, MasksStandStillBehindTheEnd) {
  Rng rng(1);
  const Parameter w(rng.normal({20, 11}), "w");
  const Tensor target = rng.normal({20, 11});
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.1}));
  const Splice splice = prune::splice(list_of(w), {.sparsity = 0.8, .end = 5, .gamma = 0});
  opt.attach(splice);
  for (int k = 0; k < 6; ++k) step(opt, w, target);
  const Mask mask = w.mask();
  EXPECT_NEAR(splice.sparsity(), 0.8, 0.1);
  for (int k = 0; k < 20; ++k) step(opt, w, target);
  EXPECT_EQ(w.mask(), mask);
}

TEST(Splice, SparsityRises) {
  Rng rng(1);
  const Parameter w(rng.normal({100, 10}), "w");
  Splice splice = prune::splice(list_of(w), {.sparsity = 0.9, .lower = 1, .upper = 1, .end = 100, .rise = 50});
  splice.update(0);
  EXPECT_EQ(splice.sparsity(), 0);
  splice.update(25);
  EXPECT_NEAR(splice.sparsity(), 0.9 * (1 - 0.125), 0.001);
  splice.update(50);
  EXPECT_NEAR(splice.sparsity(), 0.9, 1e-12);
  splice.update(80);
  EXPECT_NEAR(splice.sparsity(), 0.9, 1e-12);
}

/// Two parameters of unlike size and type, one of odd size, under Adam.
struct Training {
  explicit Training(SpliceOptions options)
      : a(Rng(1).normal({33, 129}), "a"),
        b(Rng(2).normal({7, 3}, 0, 1, DType::f64), "b"),
        opt(list_of(a, b), optim::adam({.lr = 0.05})),
        splice(prune::splice(list_of(a, b), options)) {
    opt.attach(splice);
  }
  void steps(int n, Rng& data) {
    for (int k = 0; k < n; ++k) {
      const Tensor x = data.normal({33, 129}), y = data.normal({7, 3}, 0, 1, DType::f64);
      Tape tape;
      tape.backward(sum(square(a - x)));
      Tape other;
      other.backward(sum(square(b - y)));
      opt.step();
    }
  }
  Parameter a, b;
  optim::Optimizer opt;
  Splice splice;
};

TEST(Splice, ResumesInTheMiddleWithTheSameBytes) {
  for (const SpliceOptions& options :
       {SpliceOptions{.sparsity = 0.7, .end = 25, .gamma = 0.2}, SpliceOptions{.c = 0.3, .end = 25, .gamma = 0.2}}) {
    Training run(options);
    Rng data(5);
    run.steps(9, data);
    Training again(options);
    again.a = run.a;
    again.b = run.b;
    again.opt.load_state(run.opt.state());
    again.splice.load_state(run.splice.state());
    Rng same = data;
    run.steps(20, data);
    again.steps(20, same);
    EXPECT_TRUE(same_bytes(run.a.value(), again.a.value()));
    EXPECT_TRUE(same_bytes(run.b.ref()->dense(), again.b.ref()->dense()));
    EXPECT_EQ(run.a.mask(), again.a.mask());
    EXPECT_GT(run.splice.sparsity(), 0.3);
  }
}

TEST(Splice, SameBytesAtAnyNumberOfThreads) {
  std::vector<Tensor> values;
  std::vector<Mask> masks;
  for (int n : {1, 2, 4}) {
    const Threads threads(n);
    Parameter w(Rng(1).normal({301, 257}), "w");
    Splice splice = prune::splice(list_of(w), {.c = 0.2, .end = 9});
    splice.update(0);
    values.push_back(w.value());
    masks.push_back(w.mask());
  }
  for (std::size_t i = 1; i < 3; ++i) {
    EXPECT_TRUE(same_bytes(values[0], values[i]));
    EXPECT_EQ(masks[0], masks[i]);
  }
}

TEST(Splice, OddSizesZerosAndNothing) {
  const Parameter empty(Tensor::zeros({0, 4}), "empty"), one(Tensor::ones({1, 1}), "one"),
      zeros(Tensor::zeros({5, 13}), "zeros"), scalar(Tensor::scalar(2), "scalar");
  for (double s : {0.0, 0.5, 1.0}) {
    Splice splice = prune::splice(list_of(empty, one, zeros, scalar), {.sparsity = s, .end = 3, .select = all});
    splice.update(0);
    EXPECT_EQ(live_weights(*one.ref()), 1);
    EXPECT_EQ(live_weights(*scalar.ref()), 1);
    EXPECT_GE(live_weights(*zeros.ref()), 1);
    EXPECT_EQ(one.value().item(), 1);
  }
}

TEST(Splice, NanIsNamedAndNothingIsPruned) {
  const Parameter a(Rng(1).normal({5, 5}), "a");
  Parameter b(Tensor::ones({3, 3}), "b");
  Tensor w = b.value().clone();
  w.write<float>("test")[4] = std::numeric_limits<float>::quiet_NaN();
  b.set_value(w);
  Splice splice = prune::splice(list_of(a, b), {.sparsity = 0.5, .end = 3});
  EXPECT_TRUE(espalier::testing::throws<NonFiniteError>([&] { splice.update(0); }, "'b' is NaN at flat index 4"));
  EXPECT_FALSE(a.mask().defined());
  EXPECT_EQ(splice.state().at("step").item(), -1);
}

TEST(Splice, ATiedParameterIsOneAndAStrangerIsAnError) {
  Parameter w(Rng(1).normal({4, 4}), "w");
  ParameterList twice = list_of(w);
  twice.push_back({"decoder", w.ref()});
  EXPECT_EQ(prune::splice(twice, {.sparsity = 0.5, .end = 3}).parameters().size(), 1u);

  const Parameter copy = w;
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.1}));
  opt.attach(prune::splice(list_of(copy), {.sparsity = 0.5, .end = 3}));
  EXPECT_THROW(step(opt, w, Tensor::zeros({4, 4})), ConfigError);
}

}  // namespace
}  // namespace espalier::prune
