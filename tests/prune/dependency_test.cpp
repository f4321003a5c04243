// Units of a network as pieces of a Pruner.
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/adam.h"
#include "espalier/prune/groups.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "espalier/prune/shrink.h"
#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::pruned_in;
using testing::values_of;

nn::Sequential mlp(Rng& rng) {
  return nn::Sequential(nn::Linear(rng, 5, 9), nn::BatchNorm1d(9), tanh, nn::Linear(rng, 9, 6), relu,
                        nn::Linear(rng, 6, 3));
}

/// Units of a group that are masked in all their parts; the others must be live in all.
Index dead_units(const UnitGroup& group) {
  Index dead = 0;
  for (const std::vector<UnitPart>& unit : group.units) {
    Index parts = 0;
    for (const UnitPart& part : unit) {
      const ParameterState& p = *part.parameter;
      if (!p.mask().defined()) continue;
      const std::vector<double> left =
          values_of(p.mask().to_tensor(p.value().shape()).select(part.axis, part.index).contiguous());
      parts += std::count(left.begin(), left.end(), 0) == std::ssize(left);
    }
    EXPECT_TRUE(parts == 0 || parts == std::ssize(unit)) << group.name;
    dead += parts > 0;
  }
  return dead;
}

TEST(DependencyGroups, AllPartsOfAUnitGoTogetherBiasesAndGainsToo) {
  Rng rng(1);
  nn::Sequential net = mlp(rng);
  const Tensor x = rng.normal({4, 5});
  const std::vector<UnitGroup> groups = unit_groups(net, x);
  Pruner pruner(net.parameters(), {.granularity = dependency_groups(net, x), .scope = Scope::tensor});
  EXPECT_EQ(pruner.pieces().all, 15);
  pruner.to_sparsity(1.0 / 3);
  EXPECT_EQ(pruner.pieces().live, 10);
  EXPECT_EQ(dead_units(groups[0]), 3);
  EXPECT_EQ(dead_units(groups[1]), 2);
  EXPECT_EQ(net.get<nn::BatchNorm1d>(1).weight.mask().live(), 6);
  EXPECT_EQ(net.get<nn::Linear>(0).bias.mask().live(), 6);
  EXPECT_FALSE(net.get<nn::Linear>(5).bias.mask().defined());
  EXPECT_EQ(pruner.parameters().size(), 7u);  // all but the last bias
  EXPECT_NE(pruner.describe().find("5 of 15 pieces"), std::string::npos) << pruner.describe();
}

TEST(DependencyGroups, ScoresAreMeansOverMembers) {
  Rng rng(2);
  nn::Sequential net = mlp(rng);
  const Tensor x = rng.normal({4, 5});
  const UnitGroup group = unit_groups(net, x).at(0);
  // With all parameters scored this is importance(): rows, biases, gains, shifts, columns.
  const std::vector<double> scores = importance(group);
  Pruner pruner(net.parameters(), {.granularity = dependency_groups({group}), .select = optim::Select()});
  pruner.prune_count(4);
  double most_gone = 0, least_left = 1e9;
  for (std::size_t u = 0; u < 9; ++u) {
    const bool live = net.get<nn::BatchNorm1d>(1).weight.mask()[static_cast<Index>(u)];
    (live ? least_left : most_gone) = live ? std::min(least_left, scores[u]) : std::max(most_gone, scores[u]);
  }
  EXPECT_LT(most_gone, least_left);
}

TEST(DependencyGroups, GroupsCompeteByWhatIsUsualInEach) {
  Rng rng(3);
  nn::Sequential net = mlp(rng);
  Parameter& small = net.get<nn::Linear>(3).weight;
  small.set_value(mul(small.value(), Tensor::full(small.shape(), 1e-3)).value());
  Parameter& out = net.get<nn::Linear>(5).weight;
  out.set_value(mul(out.value(), Tensor::full(out.shape(), 1e-3)).value());
  const Tensor x = rng.normal({4, 5});
  const std::vector<UnitGroup> groups = unit_groups(net, x);
  Pruner(net.parameters(), {.granularity = dependency_groups(net, x)}).to_sparsity(0.5);
  EXPECT_GT(dead_units(groups[0]), 0);  // raw scores would have taken the second group whole
  EXPECT_GT(dead_units(groups[1]), 0);
  EXPECT_EQ(dead_units(groups[0]) + dead_units(groups[1]), 8);
}

TEST(DependencyGroups, OfRecurrentUnitsHeadsAndTheResidualStream) {
  Rng rng(4);
  class Net final : public nn::Module {
   public:
    explicit Net(Rng& r) : lstm(r, 3, 8, {.batch_first = true}), attention(r, 8, 4), head(r, 8, 2) {}
    Variable operator()(const Variable& x) const { return head(attention(lstm(x).output)); }
    void members(nn::Visitor& v) override { v("lstm", lstm)("attention", attention)("head", head); }
    nn::Lstm lstm;
    nn::MultiheadAttention attention;
    nn::Linear head;
  } net(rng);
  const Tensor x = rng.normal({2, 5, 3});
  const std::vector<UnitGroup> groups = unit_groups(net, x);
  Pruner pruner(net.parameters(), {.granularity = dependency_groups(net, x), .scope = Scope::tensor});
  pruner.to_sparsity(0.5);
  EXPECT_EQ(dead_units(groups[0]), 4);  // hidden units, in four gates
  EXPECT_EQ(dead_units(groups[1]), 2);  // heads
  EXPECT_EQ(dead_units(groups[2]), 4);
  shrink(net, x, pruner);
  EXPECT_EQ(net.head.weight.shape(), (Shape{2, 4}));
  EXPECT_EQ(pruner.pieces().all, 4 + 2 + 4);
  EXPECT_EQ(pruner.pieces().live, 4 + 2 + 4);
  pruner.to_sparsity(0.5);  // of what is left
  EXPECT_EQ(pruner.pieces().live, 2 + 1 + 2);
  shrink(net, x, pruner);
  EXPECT_EQ(net.head.weight.shape(), (Shape{2, 2}));
}

TEST(DependencyGroups, ScoresOfUnitsAndOfGradients) {
  Rng rng(5);
  const Tensor x = rng.normal({8, 5});
  for (const Score& score : {fpgm(), ln_structured(), norm_scale(), taylor(), taylor_units()}) {
    nn::Sequential net = mlp(rng);
    Pruner pruner(net.parameters(),
                  {.score = score,
                   .granularity = dependency_groups(net, x),
                   .scope = Scope::tensor,
                   .select = score.name() == "norm_scale" ? optim::Select("0.weight") : optim::select_rank(2),
                   .loss = [&](Index) { return mean(square(net(x))); }});
    pruner.to_sparsity(1.0 / 3);
    EXPECT_EQ(dead_units(unit_groups(net, x).at(0)), 3) << score.name();
  }
  nn::Sequential net = mlp(rng);  // only rows of the first weight have this score
  std::vector<double> norms = values_of(ln_structured()({"w", net.get<nn::Linear>(0).weight.ref()}, {}));
  Pruner(net.parameters(), {.score = ln_structured(), .granularity = dependency_groups(net, x), .select = "0.weight"})
      .prune_count(1);
  const auto lowest = std::min_element(norms.begin(), norms.end()) - norms.begin();
  EXPECT_FALSE(net.get<nn::Linear>(0).bias.mask()[lowest]);
}

TEST(DependencyGroups, OnlyThoseOfSelectedWeights) {
  Rng rng(6);
  nn::Sequential net = mlp(rng);
  const Tensor x = rng.normal({4, 5});
  Pruner pruner(net.parameters(),
                {.granularity = dependency_groups(net, x), .select = optim::all_but_first(net.parameters())});
  pruner.to_sparsity(1);
  EXPECT_EQ(pruner.pieces().all, 6);
  EXPECT_EQ(pruner.pieces().live, 1);
  EXPECT_FALSE(net.get<nn::Linear>(0).weight.mask().defined());
  EXPECT_EQ(net.get<nn::Linear>(5).weight.mask().live(), 3);
}

TEST(DependencyGroups, OfACopyOrACutModelAreErrors) {
  Rng rng(7);
  nn::Sequential net = mlp(rng);
  const nn::Sequential copy = net;
  const Tensor x = rng.normal({4, 5});
  EXPECT_THROW(Pruner(copy.parameters(), {.granularity = dependency_groups(net, x)}), ConfigError);
  Pruner pruner(net.parameters(), {.granularity = dependency_groups(net, x)});
  pruner.to_sparsity(0.5);
  shrink(net, x);  // the pruner was not told
  EXPECT_THROW(pruner.to_sparsity(0.6), ConfigError);
}

TEST(DependencyGroups, TrainsOnAScheduleAndResumesToTheSameBytes) {
  auto run = [](bool resume) {
    Rng rng(8);
    nn::Sequential net = mlp(rng);
    const Tensor sample = rng.normal({4, 5});
    const PrunerOptions options{.granularity = dependency_groups(net, sample),
                                .schedule = cubic({.final_sparsity = 0.6, .begin = 2, .end = 20, .every = 3})};
    auto optimizer = std::make_unique<optim::Optimizer>(net.parameters(), optim::adam({.lr = 0.01}));
    auto pruner = std::make_unique<Pruner>(net.parameters(), options);
    optimizer->attach(*pruner);
    pruner->snapshot();
    for (int step = 0; step < 25; ++step) {
      if (resume && step == 11) {
        const auto saved = optimizer->state();
        const auto own = pruner->state();
        optimizer = std::make_unique<optim::Optimizer>(net.parameters(), optim::adam({.lr = 0.01}));
        pruner = std::make_unique<Pruner>(net.parameters(), options);
        optimizer->load_state(saved);
        pruner->load_state(own);
        optimizer->attach(*pruner);
      }
      const Tensor x = rng.normal({16, 5});
      Tape tape;
      tape.backward(mean(square(net(x) - 1.0)));
      optimizer->step();
      for (const NamedParameter& p : net.parameters()) {
        const Mask& mask = p.parameter->mask();
        const std::vector<double> w = values_of(p.parameter->value());
        for (Index i = 0; mask.defined() && i < mask.size(); ++i)
          EXPECT_TRUE(mask[i] || w[static_cast<std::size_t>(i)] == 0) << p.name << " " << i;
      }
    }
    EXPECT_EQ(pruner->pieces().live, 6);  // of 15
    std::vector<std::vector<double>> all;
    for (const NamedParameter& p : net.parameters()) all.push_back(values_of(p.parameter->value()));
    pruner->undo();
    for (const NamedParameter& p : net.parameters()) EXPECT_FALSE(p.parameter->mask().defined());
    return all;
  };
  EXPECT_EQ(run(false), run(true));
}

TEST(DependencyGroups, SoftUnitsComeBackWhole) {
  Rng rng(10);
  nn::Sequential net = mlp(rng);
  const Tensor x = rng.normal({4, 5});
  const std::vector<UnitGroup> groups = unit_groups(net, x);
  Pruner pruner(net.parameters(),
                {.granularity = dependency_groups(net, x), .scope = Scope::tensor, .mode = MaskMode::soft});
  pruner.to_sparsity(2.0 / 3);
  EXPECT_EQ(dead_units(groups[0]), 6);
  const Mask before = net.get<nn::Linear>(0).bias.mask();
  for (const NamedParameter& p : net.parameters())  // other weights, other units
    if (p.parameter->dense().defined())
      p.parameter->mutable_dense().copy_from(rng.normal(p.parameter->value().shape()), "test");
  pruner.to_sparsity(1.0 / 3);
  EXPECT_EQ(dead_units(groups[0]), 3);
  EXPECT_EQ(dead_units(groups[1]), 2);
  pruner.undo();
  EXPECT_EQ(pruner.pieces().live, 15);
  EXPECT_EQ(before.live(), 3);
}

TEST(DependencyGroups, NanIsNamedByUnitAndGroup) {
  Rng rng(9);
  nn::Sequential net = mlp(rng);
  const Tensor x = rng.normal({4, 5});
  const Granularity groups = dependency_groups(net, x);
  Parameter& w = net.get<nn::Linear>(0).weight;
  w.ref()->mutable_value().write<float>("test")[5 * 2 + 1] = std::nanf("");
  try {
    Pruner(net.parameters(), {.granularity = groups}).to_sparsity(0.5);
    FAIL();
  } catch (const NonFiniteError& e) {
    EXPECT_NE(std::string(e.what()).find("the score of '0.weight' is NaN at unit "), std::string::npos) << e.what();
  }
  for (const NamedParameter& p : net.parameters()) EXPECT_FALSE(p.parameter->mask().defined());
}

}  // namespace
}  // namespace espalier::prune
