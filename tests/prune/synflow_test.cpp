#include "espalier/prune/synflow.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/parallel.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

std::vector<double> vec(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }
double total(const Tensor& t) {
  double sum = 0;
  for (double v : vec(t)) sum += v;
  return sum;
}

/// A chain of linear layers without biases; written without a Module.
struct Chain {
  std::vector<Parameter> weights;
  Chain(Rng& rng, const std::vector<Index>& widths, DType type = DType::f32) {
    for (std::size_t i = 0; i + 1 < widths.size(); ++i)
      weights.emplace_back(rng.normal({widths[i + 1], widths[i]}, 0, 0.5, type), "w" + std::to_string(i));
  }
  ParameterList parameters() const {
    ParameterList list;
    for (const Parameter& w : weights) list.push_back({w.ref()->name(), w.ref()});
    return list;
  }
  Variable operator()(const Variable& x) const {
    Variable h = x;
    for (const Parameter& w : weights) h = linear(h, w);
    return h;
  }
};

Tensor score_of(const Gathered& g, const Parameter& p) { return synflow()({p.ref()->name(), p.ref()}, g.of(*p.ref())); }

TEST(Synflow, EveryLayerOfALinearNetworkAddsUpToTheSameFlow) {
  Rng rng(1);
  for (const DType type : {DType::f32, DType::f64}) {
    const Chain model(rng, {6, 9, 5, 8, 3}, type);
    const Gathered g = gather_flow(model, {1, 6});
    const double flow = total(score_of(g, model.weights[0]));
    EXPECT_GT(flow, 0);
    for (const Parameter& w : model.weights) EXPECT_NEAR(total(score_of(g, w)), flow, 1e-12 * flow);
    // And so do the weights into and out of each hidden unit.
    const Tensor in = sum_units(score_of(g, model.weights[1])), out = sum_units(score_of(g, model.weights[2]), 1);
    for (Index u = 0; u < 5; ++u) EXPECT_NEAR(in.at({u}), out.at({u}), 1e-12 * flow);
  }
}

TEST(Synflow, ScoresAreSumsOfPaths) {
  Rng rng(2);
  const Chain model(rng, {2, 3, 2});
  const Gathered g = gather_flow(model, {1, 2});
  const auto a = vec(model.weights[0].value()), b = vec(model.weights[1].value());
  const auto s = vec(score_of(g, model.weights[0]));
  for (std::size_t u = 0; u < 3; ++u)
    for (std::size_t i = 0; i < 2; ++i) {
      double paths = 0;
      for (std::size_t o = 0; o < 2; ++o) paths += std::abs(b[o * 3 + u]) * std::abs(a[u * 2 + i]);
      EXPECT_NEAR(s[u * 2 + i], paths, 1e-14);
    }
}

TEST(Synflow, TheModelIsLeftAlone) {
  Rng rng(3);
  nn::Sequential model(nn::Linear(rng, 6, 5), nn::BatchNorm1d(5), nn::Relu(), nn::Linear(rng, 5, 2));
  std::vector<Tensor> before;
  for (const auto& named : model.parameters()) before.push_back(named.parameter->value().clone());
  const Gathered g = gather_flow(model, {4, 6});
  std::size_t i = 0;
  for (const auto& named : model.parameters()) {
    EXPECT_TRUE(equal(named.parameter->value(), before[i++])) << named.name;
    EXPECT_FALSE(named.parameter->has_grad());
    EXPECT_TRUE(g.of(*named.parameter).flow.defined()) << named.name;
  }
}

TEST(Synflow, PruningLeavesLiveWeightsBitForBitAndNoLayerStarves) {
  Rng rng(4);
  // A narrow layer behind wide ones: by one-shot magnitude over all layers it would lose what the others do.
  Chain model(rng, {40, 60, 4, 60, 10});
  const Chain before = model;
  prune_by_synflow(model, {1, 40}, {.sparsity = 0.98, .min_keep = 0});
  Index live = 0, all = 0;
  for (std::size_t l = 0; l < model.weights.size(); ++l) {
    const Parameter& w = model.weights[l];
    const auto was = before.weights[l].value().to_vector<float>(), now = w.value().to_vector<float>();
    Index own = 0;
    for (std::size_t k = 0; k < was.size(); ++k) {
      EXPECT_EQ(now[k], w.mask()[static_cast<Index>(k)] ? was[k] : 0.0f);
      own += w.mask()[static_cast<Index>(k)];
    }
    EXPECT_GT(own, 0) << l;
    live += own;
    all += w.size();
  }
  EXPECT_EQ(live, all - count_of("test", 0.98, all));
}

TEST(Synflow, WhereMagnitudesCollapseALayerItDoesNot) {
  // One layer has far smaller weights: magnitude over all layers removes it first, the flow goes through it all the same.
  Rng rng(5);
  Chain model(rng, {20, 30, 30, 10});
  model.weights[1].set_value((Variable(model.weights[1].value()) * 0.01).value());
  Chain by_magnitude = model;
  Pruner(by_magnitude.parameters(), {.min_keep = 0}).to_sparsity(0.9);
  EXPECT_EQ(by_magnitude.weights[1].mask().live(), 0);
  prune_by_synflow(model, {1, 20}, {.sparsity = 0.9, .rounds = 20, .min_keep = 0});
  EXPECT_GT(model.weights[1].mask().live(), 0);
  EXPECT_GT(total(score_of(gather_flow(model, {1, 20}), model.weights[0])), 0);
}

TEST(Synflow, PrunedWeightsCarryNoFlow) {
  Rng rng(6);
  Chain model(rng, {3, 4, 2});
  Mask mask(12);
  for (Index i = 3; i < 6; ++i) mask.set(i, false);  // unit 1 reads nothing
  model.weights[0].set_mask(mask);
  const Gathered g = gather_flow(model, {1, 3});
  for (Index o = 0; o < 2; ++o) EXPECT_EQ(score_of(g, model.weights[1]).at({o, 1}), 0);
  for (Index i = 0; i < 3; ++i) EXPECT_EQ(score_of(g, model.weights[0]).at({1, i}), 0);
}

TEST(Synflow, DensityFallsByTheSameFactorEachRound) {
  Rng rng(7);
  const Parameter w(rng.normal({1000}), "w");
  Pruner pruner(list_of(w), {.select = optim::Select()});
  std::vector<Index> live;
  prune_in_rounds(pruner, 0.99, 4, [&](Index round) {
    EXPECT_EQ(round, static_cast<Index>(live.size()));
    live.push_back(w.mask().defined() ? w.mask().live() : w.size());
    return Gathered();
  });
  EXPECT_EQ(live, (std::vector<Index>{1000, 316, 100, 32}));
  EXPECT_EQ(w.mask().live(), 10);
}

TEST(Synflow, WhatIsNotFiniteIsAnError) {
  Rng rng(8);
  Chain model(rng, {3, 2});
  Tensor w = Tensor::ones({2, 3});
  w.write<float>("test")[1] = std::numeric_limits<float>::quiet_NaN();
  model.weights[0].set_value(w);
  EXPECT_THROW(gather_flow(model, {1, 3}), NonFiniteError);
  EXPECT_THROW(prune_by_synflow(Chain(rng, {3, 2}), {1, 3}, {}), ConfigError);  // no sparsity
  EXPECT_THROW(prune_by_synflow(Chain(rng, {3, 2}), {1, 3}, {.sparsity = 0.5, .rounds = 0}), ConfigError);
}

TEST(Synflow, TheSameBytesAtAnyThreadCount) {
  Rng rng(9);
  const Chain model(rng, {130, 200, 70});
  auto run = [&](int threads) {
    ThreadLimit limit(threads);
    return score_of(gather_flow(model, {1, 130}), model.weights[0]);
  };
  const Tensor one = run(1);
  EXPECT_TRUE(equal(one, run(2)));
  EXPECT_TRUE(equal(one, run(4)));
}

}  // namespace
}  // namespace espalier::prune
