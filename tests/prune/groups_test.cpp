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
#include "espalier/prune/shrink.h"

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

}  // namespace
}  // namespace espalier::prune
