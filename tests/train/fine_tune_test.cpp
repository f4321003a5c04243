#include "espalier/train/fine_tune.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/activation.h"
#include "espalier/data/synthetic.h"
#include "espalier/nn/linear.h"
#include "espalier/prune/pruner.h"
#include "tests/support.h"

namespace espalier::train {
namespace {

using testing::same_bytes;

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng, Index hidden = 24) : in(rng, 2, hidden), out(rng, hidden, 2) {}
  Variable operator()(const Variable& x) const { return out(relu(in(x))); }
  void members(nn::Visitor& v) override { v("in", in)("out", out); }
  nn::Linear in, out;
};
const auto cross_entropy = [](const Mlp& m, const Tensor& x, const Tensor& y) { return nn::cross_entropy(m(x), y); };

/// The formula in double, one row at a time.
double by_hand(const std::vector<double>& z, const std::vector<double>& p, const std::vector<double>& t, Index rows,
               Index classes, double temperature, double alpha) {
  double total = 0;
  const auto softmax_of = [&](const std::vector<double>& v, Index row, double T) {
    std::vector<double> s;
    double sum = 0;
    for (Index c = 0; c < classes; ++c) {
      s.push_back(std::exp(v[static_cast<std::size_t>(row * classes + c)] / T));
      sum += s.back();
    }
    for (double& value : s) value /= sum;
    return s;
  };
  for (Index r = 0; r < rows; ++r) {
    const auto hard = softmax_of(z, r, 1), soft = softmax_of(z, r, temperature),
               teacher = softmax_of(t, r, temperature);
    for (Index c = 0; c < classes; ++c) {
      const auto k = static_cast<std::size_t>(c);
      total -= (1 - alpha) * p[static_cast<std::size_t>(r * classes + c)] * std::log(hard[k]);
      total += alpha * temperature * temperature * teacher[k] * std::log(teacher[k] / soft[k]);
    }
  }
  return total / static_cast<double>(rows);
}

TEST(Distillation, IsTheFormulaOfHinton) {
  Rng rng(1);
  const Tensor z = rng.normal({5, 4}, 0, 2, DType::f64), t = rng.normal({5, 4}, 0, 3, DType::f64);
  const Tensor labels = Tensor::from<std::int64_t>({0, 3, 1, 1, 2}, {5});
  std::vector<double> certain(20, 0.0);
  for (std::size_t r = 0; r < 5; ++r)
    certain[r * 4 + static_cast<std::size_t>(labels.to_vector<std::int64_t>()[r])] = 1;
  for (double temperature : {0.5, 1.0, 4.0})
    for (double alpha : {0.0, 0.3, 1.0}) {
      const double expected = by_hand(z.to_vector<double>(), certain, t.to_vector<double>(), 5, 4, temperature, alpha);
      const DistillOptions options{.temperature = temperature, .alpha = alpha};
      EXPECT_NEAR(distillation_loss(z, labels, t, options).item(), expected, 1e-12 * (1 + std::abs(expected)));
      const Tensor probabilities = Tensor::from(certain, {5, 4});
      EXPECT_NEAR(distillation_loss(z, probabilities, t, options).item(), expected, 1e-12 * (1 + std::abs(expected)));
    }
}

TEST(Distillation, StudentEqualToItsTeacherHasNoGradientFromIt) {
  Rng rng(1);
  const Parameter z(rng.normal({3, 4}, 0, 2, DType::f64), "z");
  Tape tape;
  tape.backward(distillation_loss(z, Tensor::from<std::int64_t>({0, 3, 1}, {3}), z.value().clone(),
                                  {.temperature = 3, .alpha = 1}));
  for (double g : z.grad().to_vector<double>()) EXPECT_NEAR(g, 0, 1e-15);
}

/// A teacher is asked on the same batches, without recording: its parameters get no gradient.
TEST(Distillation, TeacherIsACopyThatDoesNotLearn) {
  Rng rng(1);
  Mlp teacher(rng), student(rng);
  const auto loss = distill(teacher, {.alpha = 1});
  const data::Dataset moons = data::two_moons(rng, 64);
  const double before = loss(student, moons.x, moons.y).item();
  teacher.in.weight.set_value(Tensor::zeros({24, 2}));
  EXPECT_EQ(loss(student, moons.x, moons.y).item(), before);
  Tape tape;
  tape.backward(loss(student, moons.x, moons.y));
  EXPECT_TRUE(student.in.weight.ref()->has_grad());
  EXPECT_FALSE(teacher.in.weight.ref()->has_grad());
}

TEST(FineTune, PrunesBeforeEachStageAndTrainsBetween) {
  Rng rng(1);
  const Mlp net(rng);
  data::Loader loader(data::two_moons(rng, 200), 20, rng.split());
  prune::Pruner pruner(net.parameters());
  std::vector<Index> stages;
  Index steps = 0;
  const auto rows = fine_tune(net, loader, cross_entropy,
                              {.stages = 3,
                               .prune =
                                   [&](Index stage) {
                                     stages.push_back(stage);
                                     pruner.to_sparsity(std::array{0.25, 0.5, 0.75}[static_cast<std::size_t>(stage)]);
                                   },
                               .epochs = 4,
                               .lr = cosine_from(0.2),
                               .on_step = [&](const StepInfo&) { ++steps; }});
  EXPECT_EQ(stages, (std::vector<Index>{0, 1, 2}));
  EXPECT_EQ(steps, 3 * 4 * 10);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_DOUBLE_EQ(rows[0].sparsity, 0.25);
  EXPECT_DOUBLE_EQ(rows[2].sparsity, 0.75);
  EXPECT_LT(rows[0].last_loss, rows[0].first_loss);
  EXPECT_LT(rows[2].last_loss, rows[0].first_loss);
}

TEST(FineTune, SparseTrainingChangesSpeedOnly) {
  Rng rng(1);
  const Mlp dense(rng, 64);
  prune::Pruner(dense.parameters()).to_sparsity(0.9);
  const Mlp sparse = dense;
  const data::Dataset moons = data::two_moons(rng, 100);
  std::vector<double> losses;
  for (const Mlp* net : {&dense, &sparse}) {
    data::Loader loader(moons, 20, Rng(3));
    losses.push_back(
        fine_tune(*net, loader, cross_entropy, {.epochs = 3, .sparse_training = net == &sparse})[0].last_loss);
    EXPECT_NEAR(prune::sparsity(net->parameters()), 0.9, 0.01);
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-4);
}

TEST(FineTune, RatesAreWhatTheySay) {
  EXPECT_EQ(constant_at(0.01)(2, 100)(77), 0.01);
  const optim::Schedule cosine = cosine_from(0.5)(0, 100);
  EXPECT_EQ(cosine(0), 0.5);
  EXPECT_NEAR(cosine(50), 0.25, 1e-12);
  EXPECT_EQ(cosine(100), 0);
  EXPECT_EQ(cosine(1000), 0);
  const optim::Schedule step = optim::step_decay({.lr = 1, .step_size = 10, .gamma = 0.5});
  const optim::Schedule again = rewound(step, 15)(1, 100);
  for (std::int64_t t : {0, 4, 5, 30}) EXPECT_EQ(again(t), step(t + 15)) << t;
}

TEST(FineTune, AttachesToEveryStage) {
  Rng rng(1);
  const Mlp net(rng);
  data::Loader loader(data::two_moons(rng, 40), 20, rng.split());
  const prune::Pruner pruner(net.parameters(), {.schedule = prune::one_shot({.sparsity = 0.5, .at = 3})});
  const auto rows = fine_tune(net, loader, cross_entropy,
                              {.attach = [&](Index, optim::Optimizer& o) { o.attach(pruner); }, .epochs = 2});
  EXPECT_DOUBLE_EQ(rows[0].sparsity, 0.5);
}

}  // namespace
}  // namespace espalier::train
