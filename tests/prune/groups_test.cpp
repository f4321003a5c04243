#include "espalier/prune/groups.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

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
#include "espalier/prune/pruner.h"
#include "espalier/prune/report.h"
#include "espalier/prune/shrink.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

std::vector<std::string> names(const std::vector<UnitGroup>& groups) {
  std::vector<std::string> all;
  for (const UnitGroup& g : groups) all.push_back(g.name + " " + std::to_string(g.size()));
  return all;
}

TEST(UnitGroups, OfAMixedNetwork) {
  Rng rng(1);
  nn::Sequential body(nn::Conv2d(rng, 6, 5, 3, {.padding = 1}), nn::BatchNorm2d(5), relu,
                      nn::Conv2d(rng, 5, 6, 3, {.padding = 1}));
  nn::Sequential net(
      nn::Conv2d(rng, 2, 6, 3), nn::Residual<nn::Sequential>(std::move(body)),
      [](const Variable& x) {
        return mean(x, {2, 3});
      },
      nn::Linear(rng, 6, 4), tanh, nn::Linear(rng, 4, 3));
  const std::vector<UnitGroup> groups = unit_groups(net, rng.normal({2, 2, 6, 6}));
  EXPECT_EQ(names(groups), (std::vector<std::string>{"0.weight 6", "1.body.0.weight 5", "3.weight 4"}));
  // The stream: rows of the stem and of the branch's end, their biases, columns of the branch's beginning and the head.
  EXPECT_EQ(groups[0].units[2].size(), 6u);
  EXPECT_EQ(groups[1].units[0].size(), 5u);  // row, bias, gain, shift, column
  for (const UnitPart& part : groups[1].units[3]) EXPECT_EQ(part.index, 3);
}

TEST(UnitGroups, OfRecurrentLayersAndHeads) {
  Rng rng(1);
  class Net final : public nn::Module {
   public:
    explicit Net(Rng& r) : lstm(r, 3, 8, {.batch_first = true}), attention(r, 8, 4), head(r, 8, 2) {}
    Variable operator()(const Variable& x) const { return head(attention(lstm(x).output)); }
    void members(nn::Visitor& v) override { v("lstm", lstm)("attention", attention)("head", head); }
    nn::Lstm lstm;
    nn::MultiheadAttention attention;
    nn::Linear head;
  } net(rng);
  const std::vector<UnitGroup> groups = unit_groups(net, rng.normal({2, 5, 3}));
  EXPECT_EQ(names(groups), (std::vector<std::string>{"lstm.weight_ih_l0 8", "attention.in_proj_weight 4",
                                                     "attention.out_proj.weight 8"}));
  EXPECT_EQ(groups[0].units[0].size(), 4u * 4 + 1 + 1);  // four gates of four parameters, its column, in_proj's
  EXPECT_EQ(groups[1].units[0].size(), 3u * 2 * 2 + 2);  // rows of q, k, v and their biases, columns of out_proj
}

TEST(UnitGroups, MaskedUnitsAreCut) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 5, 9), nn::BatchNorm1d(9), tanh, nn::Linear(rng, 9, 3));
  const Tensor x = rng.normal({4, 5});
  const UnitGroup group = unit_groups(net, x).at(0);
  const std::vector<double> scores = importance(group);
  const std::vector<Index> gone = mask_units(group, 4);
  ASSERT_EQ(gone.size(), 4u);
  const std::set<Index> masked(gone.begin(), gone.end());
  double largest_gone = 0, least_left = 1e9;
  for (Index u = 0; u < 9; ++u) {
    const double score = scores[static_cast<std::size_t>(u)];
    if (masked.contains(u))
      largest_gone = std::max(largest_gone, score);
    else
      least_left = std::min(least_left, score);
  }
  EXPECT_LE(largest_gone, least_left);
  EXPECT_EQ(net.get<nn::BatchNorm1d>(1).weight.mask().live(), 5);
  EXPECT_EQ(net.get<nn::Linear>(3).weight.mask().live(), 15);
  EXPECT_EQ(mask_units(group, 4), gone);  // those that are dead go first
  shrink(net, x);
  EXPECT_EQ(net.get<nn::Linear>(0).weight.shape(), (Shape{5, 5}));
  EXPECT_EQ(net.get<nn::BatchNorm1d>(1).running_var.value().shape(), (Shape{5}));
}

TEST(UnitGroups, WhatMayNotBeCutHasNone) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 5, 6), nn::LayerNorm(6), nn::Linear(rng, 6, 3));
  EXPECT_TRUE(unit_groups(net, rng.normal({4, 5})).empty());
}

nn::Residual<nn::Sequential> block(Rng& rng, double gain) {
  nn::Residual<nn::Sequential> made(
      nn::Sequential(nn::Linear(rng, 12, 20), nn::BatchNorm1d(20), nn::Relu(), nn::Linear(rng, 20, 12)));
  for (const NamedParameter& named : made.parameters()) {
    const Tensor scaled = named.parameter->value().to(DType::f64);
    named.parameter->set_value((Variable(scaled) * gain).value().to(DType::f32));
  }
  return made;
}

TEST(Branches, AreKeptOrPrunedWhole) {
  Rng rng(5);
  nn::Sequential net(nn::Linear(rng, 7, 12), block(rng, 2), block(rng, 0.1), block(rng, 1), nn::Linear(rng, 12, 3));
  const Tensor x = rng.normal({6, 7});
  const UnitGroup blocks = branches(net.parameters(), {"1.body.*", "2.body.*", "3.body.*"});
  EXPECT_EQ(blocks.size(), 3);
  EXPECT_EQ(blocks.name, "1.body.0.weight");
  EXPECT_EQ(blocks.units[1].size(), 20u + 20 + 20 + 20 + 12 + 12);
  Pruner pruner(net.parameters(), {.granularity = dependency_groups({blocks})});
  pruner.to_sparsity(1.0 / 3);
  for (const NamedParameter& named : net.parameters())
    EXPECT_EQ(live_weights(*named.parameter), named.name[0] == '2' ? 0 : named.parameter->value().size()) << named.name;

  net.eval();
  CompactReport report;
  const nn::Sequential small = compact(net, x, {.pack = false}, &report);
  EXPECT_LE(report.difference, 1e-5);
  for (const NamedParameter& named : small.parameters())
    EXPECT_EQ(named.parameter->value().size() == 0, named.name.starts_with("2.body.0") ||
                                                        named.name.starts_with("2.body.1") ||
                                                        named.name == "2.body.3.weight")
        << named.name << " " << named.parameter->value().shape();
}

TEST(Branches, RefuseWhatIsNoBranch) {
  Rng rng(6);
  const nn::Sequential net(nn::Linear(rng, 3, 3), nn::Linear(rng, 3, 3));
  const ParameterList list = net.parameters();
  EXPECT_TRUE(espalier::testing::throws<ConfigError>(
      [&] {
        branches(list, {"0.*", "2.*"});
      },
      "[branches] \"2.*\" matches none of 4 parameters"));
  EXPECT_TRUE(espalier::testing::throws<ConfigError>(
      [&] {
        branches(list, {"0.*", "*.bias"});
      },
      "[branches] '0.bias'", "\"0.*\" and to \"*.bias\""));
  EXPECT_TRUE(espalier::testing::throws<ConfigError>([&] { branches(list, {"*.bias"}); }, "no weight of rank 2"));
}

}  // namespace
}  // namespace espalier::prune
