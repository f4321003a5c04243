// Every score on one convolutional network under cross-entropy, as a user would ask for it.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/scores_curvature.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "espalier/prune/synflow.h"

namespace espalier::prune {
namespace {

struct SmallNet {
  SmallNet() {
    model.to(DType::f64);
    for (Index i = 0; i < 6; ++i) labels.narrow(0, i, 1).fill(static_cast<double>(i % 3));
  }
  Loss loss() {
    return [this](Index b) { return nn::cross_entropy(model(b == 0 ? x : more), labels); };
  }
  Rng rng{3};
  nn::Sequential model{nn::Conv2d(rng, 1, 4, 3, {.padding = 1}),
                       nn::BatchNorm2d(4),
                       nn::Relu(),
                       nn::MaxPool2d(2),
                       nn::Conv2d(rng, 4, 6, 3),
                       nn::Relu(),
                       nn::Flatten(),
                       nn::Linear(rng, 6 * 4, 3)};
  Tensor x = rng.normal({6, 1, 8, 8}, 0, 1, DType::f64), more = rng.normal({6, 1, 8, 8}, 0, 1, DType::f64);
  Tensor labels = Tensor::zeros({6}, DType::i64);
};

ParameterList weights(const ParameterList& all) {
  ParameterList list;
  for (const NamedParameter& named : all)
    if (named.parameter->value().rank() >= 2) list.push_back(named);
  return list;
}

TEST(ScoresOfANetwork, AllHaveTheRightShapeAndAreFinite) {
  SmallNet s;
  const ParameterList list = weights(s.model.parameters());
  for (const Score& score :
       {magnitude(), deviations(), lamp(), ln_structured(), ln_structured({.axis = 1}), fpgm(), taylor(),
        taylor_units(), taylor_activation(), fisher(), snip(), grasp(), obd(), obs(), wanda(), activation_weighted(),
        activation_weighted({.units = true}), apoz(), mean_activation()}) {
    const Gathered g = gather(list, s.loss(), 2, score.needs(), {.probes = 2});
    for (const NamedParameter& named : list) {
      const Tensor scores = score(named, g.of(*named.parameter));
      const Shape& shape = named.parameter->value().shape();
      EXPECT_TRUE(scores.shape() == shape || scores.shape() == Shape{shape[score.axis()]}) << score.name();
      for (double v : scores.to(DType::f64).to_vector<double>()) EXPECT_TRUE(std::isfinite(v)) << score.name();
    }
  }
  const Gathered flow = gather_flow(s.model, {1, 1, 8, 8});
  for (const NamedParameter& named : list)
    EXPECT_EQ(synflow()(named, flow.of(*named.parameter)).shape(), named.parameter->value().shape());
}

TEST(ScoresOfANetwork, OnlyTheFirstConvolutionHasANormBehindIt) {
  SmallNet s;
  const ParameterList all = s.model.parameters(), list = weights(all);
  const Gathered g = gather(list, s.loss(), 1, norm_scale().needs());
  EXPECT_EQ(g.of(*list[0].parameter).norm, all[2].parameter);
  EXPECT_EQ(g.of(*list[1].parameter).norm, nullptr);
}

TEST(ScoresOfANetwork, HessianTimesGradientAgreesWithDifferences) {
  SmallNet s;
  s.model.eval();
  const ParameterList list = weights(s.model.parameters());
  const Gathered g = gather(list, s.loss(), 1, {.gradient = true, .hessian_gradient = true});
  std::vector<Tensor> old;
  for (const NamedParameter& named : list) old.push_back(named.parameter->value().clone());
  auto gradient_at = [&](double t) {
    for (std::size_t i = 0; i < list.size(); ++i)
      list[i].parameter->set_value((Variable(old[i]) + Variable(g.of(*list[i].parameter).gradient) * t).value());
    return gather(list, s.loss(), 1, {.gradient = true});
  };
  const double h = 1e-6;
  const Gathered up = gradient_at(h), down = gradient_at(-h);
  for (const NamedParameter& named : list) {
    const auto a = up.of(*named.parameter).gradient.to_vector<double>(),
               b = down.of(*named.parameter).gradient.to_vector<double>(),
               hg = g.of(*named.parameter).hessian_gradient.to_vector<double>();
    double largest = 0;
    for (double v : hg) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < hg.size(); ++i)
      EXPECT_NEAR(hg[i], (a[i] - b[i]) / (2 * h), 1e-6 * largest) << named.name;
  }
}

}  // namespace
}  // namespace espalier::prune
