// Tapes are per thread: models trained side by side, and one model shared by many who only read it.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/rng.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;

/// With running statistics, which eval mode leaves alone.
class Counted final : public nn::Module {
 public:
  explicit Counted(Rng& rng) : layer(rng, 16, 16), runs(Tensor::zeros({1})) {}
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (training()) runs.set((Variable(runs.value()) + 1.0).value());
      return tanh(layer(x));
    });
  }
  void members(nn::Visitor& v) override { v("layer", layer)("runs", runs); }
  nn::Linear layer;
  Buffer runs;
};

nn::Sequential make_model(std::uint64_t seed) {
  Rng rng(seed);
  return nn::Sequential(nn::Linear(rng, 8, 16), relu, Counted(rng), nn::Linear(rng, 16, 3));
}

/// All parameters after some steps.
std::vector<Tensor> train(std::uint64_t seed) {
  const nn::Sequential model = make_model(seed);
  optim::Optimizer opt(model.parameters(), optim::chain(optim::clip_by_global_norm(1.0), optim::adam({.lr = 1e-2})));
  Rng rng(seed + 1);
  for (int i = 0; i < 30; ++i) {
    const Tensor x = rng.normal({32, 8}), labels = rng.uniform({32}, 0, 3).to(DType::i64);
    Tape tape;
    tape.backward(nn::cross_entropy(model(x), labels));
    opt.step();
  }
  std::vector<Tensor> values;
  for (const NamedParameter& p : model.parameters()) values.push_back(p.parameter->value());
  return values;
}

TEST(Threads, TwoModelsTrainAtOnceAsEachDoesAlone) {
  const std::vector<Tensor> first = train(1), second = train(2);
  std::vector<std::vector<Tensor>> together(2);
  {
    std::vector<std::jthread> threads;
    for (std::size_t k = 0; k < 2; ++k) threads.emplace_back([&, k] { together[k] = train(k + 1); });
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(same_bytes(together[0][i], first[i])) << i;
    EXPECT_TRUE(same_bytes(together[1][i], second[i])) << i;
  }
}

TEST(Threads, SixteenReadOneModel) {
  nn::Sequential model = make_model(3);
  model.eval();
  Rng rng(4);
  const Tensor x = rng.normal({20, 8}), expected = model(x).value();
  std::vector<int> right(16, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t k = 0; k < 16; ++k)
      threads.emplace_back([&, k] {
        for (int i = 0; i < 50; ++i) right[k] += static_cast<bool>(same_bytes(model(x).value(), expected));
      });
  }
  EXPECT_EQ(right, std::vector<int>(16, 50));
}

TEST(Threads, OthersListTheModelMeanwhile) {
  nn::Sequential model = make_model(5);
  model.eval();
  const Tensor x = Tensor::ones({4, 8}), expected = model(x).value();
  std::vector<Index> counts(8, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t k = 0; k < 8; ++k)
      threads.emplace_back([&, k] {
        for (int i = 0; i < 20; ++i) counts[k] += model.parameter_count() + model(x).size();
      });
  }
  EXPECT_EQ(counts, std::vector<Index>(8, 20 * (model.parameter_count() + expected.size())));
}

}  // namespace
}  // namespace espalier
