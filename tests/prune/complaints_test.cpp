// What users of other pruners complain about most: size, speed, names, revived weights. One test each.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/io/model_file.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/state_dict.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/average.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/granularity.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/scores_curvature.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "tests/prune/compact_helpers.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using testing::compacted, testing::fixed, testing::mask_out, testing::same_bytes;

nn::Sequential network(std::uint64_t seed) {
  Rng rng(seed);
  return nn::Sequential(nn::Linear(rng, 60, 200), nn::Relu(), nn::Linear(rng, 200, 10));
}
Variable loss_of(const nn::Sequential& net, std::uint64_t batch) {
  return mean(square(net(Rng(batch).normal({16, 60})) - 1.0));
}
void train(const nn::Sequential& net, optim::Optimizer& optimizer, int steps) {
  for (int k = 0; k < steps; ++k) {
    Tape tape;
    tape.backward(loss_of(net, static_cast<std::uint64_t>(k)));
    optimizer.step();
  }
}
Index bytes_of_file(const nn::Sequential& net) {
  const std::string test =
      ::testing::UnitTest::GetInstance()->current_test_info()->name();  // others run at the same time
  const auto path = std::filesystem::temp_directory_path() / ("espalier_" + test + ".safetensors");
  io::save(path.string(), net);
  const auto bytes = static_cast<Index>(std::filesystem::file_size(path));
  std::filesystem::remove(path);
  return bytes;
}

// What is asserted is what makes it fast: the kernel, and how much it computes. Times are in the report.
TEST(Complaints, PrunedModelIsNoFasterAndNoSmaller) {
  const nn::Sequential net = network(1);
  const Index dense_bytes = bytes_of_file(net);
  Pruner(net.parameters()).to_sparsity(0.95);
  CompactReport report;
  const nn::Sequential small = compacted(net, Rng(2).normal({4, 60}), Rng(3).normal({9, 60}), &report);
  const CompactLayer& wide = report.layers[0];
  EXPECT_NE(wide.kernel[2], "dense");
  EXPECT_LT(wide.flops_after, 0.1 * wide.flops_before);
  EXPECT_LT(wide.bytes_after, wide.bytes_before / 4);
  EXPECT_LT(bytes_of_file(small), dense_bytes / 5);
}

TEST(Complaints, StructuredPruningMadeItSlower) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 16, 40), nn::Relu(), nn::Linear(rng, 40, 4));
  auto& first = net.get<nn::Linear>(0);
  Mask mask(first.weight.size());
  for (Index i = 0; i < mask.size(); ++i) mask.set(i, i / 16 < 19);  // 19 units: no kernel likes that
  first.weight.set_mask(mask);
  const Tensor x = rng.normal({8, 16}), other = rng.normal({3, 16});
  const auto units = [&](CompactOptions options) {
    return compacted(net, x, other, nullptr, options).get<nn::Linear>(0).weight.shape()[0];
  };
  EXPECT_EQ(units({.kernels = Kernels::fixed}), 19);
  EXPECT_EQ(units({.kernels = Kernels::fixed, .round_to = 8}), 24);
  EXPECT_EQ(units({.kernels = Kernels::fixed, .round_to = 16}), 32);
  const Index measured = units({.round_to = round_measured});  // never fewer than live, and only where it is faster
  EXPECT_TRUE(measured == 19 || measured == 24 || measured == 32) << measured;
}

TEST(Complaints, FileOnlyShrinksWhenItIsCompressed) {
  Rng rng(1);
  const nn::Sequential dense(nn::Linear(rng, 300, 400), nn::Relu(), nn::Linear(rng, 400, 300));
  const auto whole = static_cast<double>(bytes_of_file(dense));
  for (const auto& [sparsity, most] : {std::pair{0.90, 0.16}, std::pair{0.95, 0.09}}) {
    Pruner(dense.parameters()).to_sparsity(sparsity);
    EXPECT_LE(static_cast<double>(bytes_of_file(dense)), most * whole) << sparsity;
  }
}

TEST(Complaints, MomentumAndDecayRevivePrunedWeights) {
  const nn::Sequential net = network(1);
  optim::Optimizer optimizer(net.parameters(),
                             chain(optim::adam({.lr = 0.01, .weight_decay = 0.1}), optim::ema({.decay = 0.9})));
  train(net, optimizer, 5);
  Pruner(net.parameters()).to_sparsity(0.7);
  train(net, optimizer, 20);
  const ParameterState& w = *net.parameters()[0].parameter;
  const Tensor kept[] = {w.value(), optimizer.state("adam", "m", 0), optimizer.state("adam", "v", 0),
                         optimizer.state("ema", "average", 0)};
  for (const Tensor& t : kept) {
    Index live = 0;
    for (Index i = 0; i < w.mask().size(); ++i) {
      const float value = t.data<float>()[i];
      ASSERT_TRUE(w.mask()[i] || (value == 0 && !std::signbit(value))) << i << ": " << value;
      live += value != 0;
    }
    EXPECT_GT(live, 0);
  }
}

TEST(Complaints, RenamedParametersBreakLoading) {
  nn::Sequential pruned = network(1), fresh = network(2);
  const auto names = [](const nn::Sequential& net) {
    std::vector<std::string> all;
    for (const NamedParameter& p : net.parameters()) all.push_back(p.name);
    return all;
  };
  const std::vector<std::string> before = names(pruned);
  const ParameterState* const identity = pruned.parameters()[0].parameter.get();
  Pruner pruner(pruned.parameters());
  pruner.to_sparsity(0.5);
  EXPECT_EQ(names(pruned), before);
  EXPECT_EQ(pruned.parameters()[0].parameter.get(), identity);
  nn::load_state_dict(fresh, nn::state_dict(pruned));
  const Tensor x = Rng(3).normal({2, 60});
  EXPECT_TRUE(same_bytes(fresh(x).value(), pruned(x).value()));
  nn::load_state_dict(pruned, nn::state_dict(network(4)));  // and back, into masked weights
  EXPECT_NEAR(pruner.sparsity(), 0.5, 1e-3);
}

TEST(Complaints, RemovingMasksBreaksRecurrentLayers) {
  Rng rng(1);
  nn::Lstm lstm(rng, 4, 6);
  Pruner pruner(lstm.parameters());
  pruner.to_sparsity(0.5);
  const Tensor x = rng.normal({5, 2, 4});
  const Tensor before = lstm(x).output.value();
  const ParameterState* const identity = lstm.parameters()[0].parameter.get();
  pruner.strip();
  EXPECT_TRUE(same_bytes(lstm(x).output.value(), before));
  EXPECT_EQ(lstm.parameters()[0].parameter.get(), identity);
  optim::Optimizer optimizer(lstm.parameters(), chain(optim::sgd({.lr = 0.1})));
  Tape tape;
  tape.backward(mean(square(lstm(x).output)));
  EXPECT_EQ(optimizer.step().without_gradient, 0);
  EXPECT_FALSE(same_bytes(lstm(x).output.value(), before));
}

TEST(Complaints, OnlyMagnitudeCriteriaInTheBox) {
  Rng seed(5);
  const Score scores[] = {magnitude(), lamp(),  random(seed),         taylor(), snip(), fisher(), obd(), obs(),
                          grasp(),     wanda(), activation_weighted()};
  for (const Score& score : scores) {
    SCOPED_TRACE(score.name());
    Rng rng(1);
    const nn::Sequential net(nn::Linear(rng, 5, 9), nn::Tanh(), nn::Linear(rng, 9, 3));
    const Tensor x = rng.normal({12, 5});
    Pruner(net.parameters(), {.score = score, .loss = [&](Index) { return mean(square(net(x) - 1.0)); }})
        .to_sparsity(0.5);
    Index live = 0;
    for (const SparsityRow& row : sparsity_rows(net.parameters())) live += row.shape.rank() >= 2 ? row.live : 0;
    EXPECT_EQ(live, 36);
  }
}

TEST(Complaints, ChannelPruningIsMissing) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 3, 8, 3), nn::Relu(), nn::Conv2d(rng, 8, 6, 3));
  Pruner(net.parameters(), {.granularity = channels(), .scope = Scope::tensor, .select = optim::named("2.weight")})
      .to_sparsity(0.5);
  nn::Sequential small = compacted(net, rng.normal({2, 3, 9, 9}), rng.normal({1, 3, 8, 7}));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{4, 3, 3, 3}));  // nobody reads the others
  EXPECT_EQ(small.get<nn::Conv2d>(2).weight.shape(), (Shape{6, 4, 3, 3}));
}

/// No module of the library: a value that lists its parameters.
struct HandMade {
  Parameter w, u;
  explicit HandMade(Rng& rng) : w(rng.normal({8, 5}), "w"), u(rng.normal({3, 8}), "u") {}
  ParameterList parameters() const { return {{"w", w.ref()}, {"u", u.ref()}}; }
  Variable operator()(const Variable& x) const { return linear(relu(linear(x, w)), u); }
};
TEST(Complaints, ModelsOfOnesOwnAreRejected) {
  Rng rng(1);
  const HandMade model(rng);
  const Tensor x = rng.normal({4, 5});
  Pruner(model.parameters(), {.granularity = rows(), .scope = Scope::tensor, .select = optim::named("w")})
      .to_sparsity(0.5);
  const HandMade small = compacted(model, x, rng.normal({2, 5}));
  EXPECT_EQ(small.w.shape(), (Shape{4, 5}));
  EXPECT_EQ(small.u.shape(), (Shape{3, 4}));
}

TEST(Complaints, SparseLayersHaveNoGradient) {
  const nn::Sequential net = network(1);
  Pruner(net.parameters()).to_sparsity(0.9);
  const ParameterState& w = *net.parameters()[0].parameter;
  const auto gradient = [&] {
    for (const NamedParameter& p : net.parameters()) p.parameter->clear_grad();
    Tape tape;
    tape.backward(loss_of(net, 7));
    return w.grad().clone();
  };
  const Tensor dense = gradient();
  const SparseTraining sparse(net.parameters(), {.measure = false});
  ASSERT_FALSE(sparse.chosen().empty());
  const Tensor live = gradient();
  double largest = 0;
  for (const float g : dense.to_vector<float>()) largest = std::max<double>(largest, std::abs(g));
  for (Index i = 0; i < w.mask().size(); ++i) {
    const float expected = w.mask()[i] ? dense.data<float>()[i] : 0;
    ASSERT_NEAR(live.data<float>()[i], expected, 16 * 1.2e-7 * largest) << i;  // sums over 16 samples
  }
}

TEST(Complaints, TiedWeightsArePrunedTwiceOrHalf) {
  Rng rng(1);
  const nn::Embedding table(rng, 7, 4);
  const auto model = [&](const Tensor& tokens) { return linear(table(tokens), table.weight); };
  const ParameterList twice = {{"embedding", table.weight.ref()}, {"decoder", table.weight.ref()}};
  Pruner pruner(twice);
  EXPECT_EQ(pruner.parameters().size(), 1u);
  pruner.to_sparsity(0.5);
  EXPECT_EQ(live_weights(*table.weight.ref()), 14);  // one mask, which both uses see
  const Tensor tokens = Tensor::from<std::int64_t>({0, 3, 6});
  optim::Optimizer optimizer(twice, chain(optim::clip_by_global_norm(1e9), optim::sgd({.lr = 0.1})));
  Tape tape;
  tape.backward(sum(square(model(tokens))));
  double squares = 0;
  const std::vector<float> g = table.weight.grad().to_vector<float>();
  for (Index i = 0; i < 28; ++i)
    if (table.weight.mask()[i]) squares += std::pow(g[static_cast<std::size_t>(i)], 2);
  const optim::StepReport report = optimizer.step();
  EXPECT_NEAR(report.clips()[0].norm_before, std::sqrt(squares), 1e-5 * std::sqrt(squares));  // counted once
  EXPECT_EQ(live_weights(*table.weight.ref()), 14);
}

}  // namespace
}  // namespace espalier::prune
