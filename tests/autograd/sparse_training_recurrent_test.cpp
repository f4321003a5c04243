// Sequences with sparse products against the dense ones.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "espalier/nn/recurrent.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "tests/support.h"

namespace espalier {
namespace {

const SparseTrainingOptions all{.measure = false};

/// x, h, c, weight_ih, weight_hh, bias_ih, bias_hh.
using Inputs = std::array<Variable, 7>;
constexpr std::size_t at_ih = 3, at_hh = 4;

struct Kind {
  const char* name;
  Index gates;
  std::vector<Variable> (*run)(const Inputs& v, const SequenceOptions& options);
};
std::vector<Variable> listed(RnnResult y) { return {y.output, y.h}; }
const Kind kinds[] = {
    {"tanh", 1,
     [](const Inputs& v, const SequenceOptions& o) { return listed(rnn(v[0], v[1], v[3], v[4], v[5], v[6], o)); }},
    {"relu", 1,
     [](const Inputs& v, const SequenceOptions& o) {
       return listed(rnn(v[0], v[1], v[3], v[4], v[5], v[6], o, Nonlinearity::relu));
     }},
    {"lstm", 4,
     [](const Inputs& v, const SequenceOptions& o) -> std::vector<Variable> {
       const LstmResult y = lstm(v[0], v[1], v[2], v[3], v[4], v[5], v[6], o);
       return {y.output, y.h, y.c};
     }},
    {"gru", 3,
     [](const Inputs& v, const SequenceOptions& o) { return listed(gru(v[0], v[1], v[3], v[4], v[5], v[6], o)); }},
};

struct Sizes {
  Index in = 13, hidden = 19, batch = 18, steps = 5;
};
struct Setting {
  bool reverse = false, batch_first = false, ragged = false, bias = true, states = false;
};

/// A layer of random weights, and a batch for it.
struct Layer {
  Layer(const Kind& of, const Sizes& n, const Setting& s, DType type = DType::f64)
      : kind(of), sizes(n), setting(s), options{.batch_first = s.batch_first, .reverse = s.reverse, .lengths = {}} {
    Rng rng(3);
    const double k = 1 / std::sqrt(static_cast<double>(n.hidden));
    const auto weight = [&](const Shape& shape) { return Parameter(rng.uniform(shape, -k, k, type)); };
    ih = weight({of.gates * n.hidden, n.in});
    hh = weight({of.gates * n.hidden, n.hidden});
    if (s.bias) bias_ih = weight({of.gates * n.hidden}), bias_hh = weight({of.gates * n.hidden});
    const auto sequence = [&](Index width) {
      return rng.normal(s.batch_first ? Shape{n.batch, n.steps, width} : Shape{n.steps, n.batch, width}, 0, 1, type);
    };
    x = sequence(n.in);
    g = sequence(n.hidden);
    h = rng.normal({n.batch, n.hidden}, 0, 1, type);
    c = rng.normal({n.batch, n.hidden}, 0, 1, type);
    if (!s.ragged) return;
    options.lengths = Tensor::zeros({n.batch}, DType::i64);
    for (Index i = 0; i < n.batch; ++i) options.lengths.write<std::int64_t>("test")[i] = i * 3 % (n.steps + 1);
  }
  ParameterList parameters() const { return {{"ih", ih.ref()}, {"hh", hh.ref()}}; }
  Kind kind;
  Sizes sizes;
  Setting setting;
  SequenceOptions options;
  Parameter ih, hh, bias_ih, bias_hh;
  Tensor x, g, h, c;
};

void set_mask(Parameter& w, double live, std::uint64_t seed) {
  w.set_mask(Mask(Rng(seed).bernoulli({w.value().size()}, live)));
}

/// Outputs, and the gradients of all inputs; `between` runs before backward.
struct Step {
  std::vector<Tensor> outputs, gradients;
};
Step step(
    const Layer& layer, const std::function<void()>& between = [] {}) {
  Tape tape;
  const auto leaf = [](const Parameter& p) { return p.defined() ? Variable(p) : Variable(); };
  Inputs in{tape.watch(layer.x), {}, {}, layer.ih, layer.hh, leaf(layer.bias_ih), leaf(layer.bias_hh)};
  if (layer.setting.states) in[1] = tape.watch(layer.h), in[2] = tape.watch(layer.c);
  const std::vector<Variable> y = layer.kind.run(in, layer.options);
  const std::vector<Variable> seeds{layer.g, layer.h, layer.c};
  std::vector<Variable> wanted;
  for (std::size_t k = 0; k < in.size(); ++k)
    if (in[k].defined() && (k != 2 || y.size() == 3)) wanted.push_back(in[k]);
  between();
  Step result;
  for (const Variable& v : y) result.outputs.push_back(v.value());
  std::size_t next = 0;
  const std::vector<Variable> d = tape.gradient(y, std::span(seeds).first(y.size()), wanted);
  for (std::size_t k = 0; k < in.size(); ++k)
    result.gradients.push_back(in[k].defined() && (k != 2 || y.size() == 3) ? d[next++].value() : Tensor());
  return result;
}

Tensor live_part(const Tensor& gradient, const Parameter& w) {
  Tensor result = gradient.clone();
  if (w.mask().defined()) zero_pruned(result, w.mask(), "test");
  return result;
}

/// Values are some units at most, a sum has up to in + hidden terms, or one for each row; errors are handed on from step
/// to step and, at these weights, not enlarged.
void expect_near(const Layer& layer, const Tensor& a, const Tensor& b) {
  const double epsilon = a.dtype() == DType::f32 ? 1.2e-7 : 2.3e-16;
  const Sizes& n = layer.sizes;
  const double terms = static_cast<double>(n.in + n.hidden + n.batch * n.steps);
  const double tolerance = epsilon * terms * static_cast<double>(n.steps + 1) * 4;
  EXPECT_TRUE(allclose(a, b, tolerance, tolerance)) << layer.kind.name;
}

/// That a step has the results of `dense`, and exact zeros where weights are pruned unless `everywhere`.
void expect_same(const Layer& layer, const Step& have, const Step& dense, bool everywhere = false) {
  for (std::size_t k = 0; k < dense.outputs.size(); ++k) expect_near(layer, have.outputs[k], dense.outputs[k]);
  for (std::size_t k = 0; k < dense.gradients.size(); ++k) {
    const Tensor &a = have.gradients[k], &b = dense.gradients[k];
    ASSERT_EQ(a.defined(), b.defined());
    if (!a.defined()) continue;
    if (everywhere || (k != at_ih && k != at_hh)) {
      expect_near(layer, a, b);
      continue;
    }
    const Parameter& w = k == at_ih ? layer.ih : layer.hh;
    EXPECT_TRUE(equal(a, live_part(a, w)));
    expect_near(layer, a, live_part(b, w));
  }
}

void check(const Kind& kind, const Sizes& sizes, const Setting& setting, DType type, double ih, double hh) {
  Layer layer(kind, sizes, setting, type);
  if (ih >= 0) set_mask(layer.ih, ih, 5);
  if (hh >= 0) set_mask(layer.hh, hh, 6);
  const Step dense = step(layer);
  const SparseTraining sparse(layer.parameters(), all);
  ASSERT_EQ(sparse.chosen().size(), static_cast<std::size_t>((ih >= 0 && sizes.in > 0) + (hh >= 0)));
  expect_same(layer, step(layer), dense);
}

TEST(SparseTrainingRecurrent, GivesTheDenseResults) {
  for (const Kind& kind : kinds)
    for (const Setting& setting : {Setting{}, Setting{.reverse = true, .states = true},
                                   Setting{.batch_first = true, .ragged = true, .states = true},
                                   Setting{.reverse = true, .ragged = true, .bias = false},
                                   Setting{.reverse = true, .batch_first = true, .bias = false}})
      for (const DType type : {DType::f32, DType::f64})
        for (const double live : {0.0, 0.2, 1.0}) {
          check(kind, {}, setting, type, live, live);
          check(kind, {}, setting, type, live, -1);
          check(kind, {}, setting, type, -1, live);
        }
}

TEST(SparseTrainingRecurrent, TakesOddSizesAndNothing) {
  for (const Kind& kind : kinds)
    for (const Sizes& sizes : {Sizes{1, 1, 1, 1}, Sizes{40, 3, 33, 2}, Sizes{5, 70, 1, 4}, Sizes{4, 6, 3, 0},
                               Sizes{4, 6, 0, 3}, Sizes{0, 6, 3, 3}, Sizes{300, 260, 17, 2}})
      for (const bool ragged : {false, true}) check(kind, sizes, {.ragged = ragged}, DType::f64, 0.3, 0.15);
}

TEST(SparseTrainingRecurrent, FollowsMasksAndValues) {
  for (const Kind& kind : kinds) {
    Layer layer(kind, {}, {.ragged = true});
    set_mask(layer.ih, 0.2, 1);
    set_mask(layer.hh, 0.2, 2);
    const SparseTraining sparse(layer.parameters(), all);
    const auto same_as_dense = [&](bool everywhere = false) {
      const Step have = step(layer);
      const SparseTraining none(ParameterList{}, all);
      expect_same(layer, have, step(layer), everywhere);
    };
    same_as_dense();
    layer.hh.set_value(Rng(7).uniform(layer.hh.shape(), -0.2, 0.2, DType::f64));
    same_as_dense();
    layer.ih.ref()->mutable_value().write<double>("test")[1] = layer.ih.mask()[1] ? 0.5 : 0.;
    same_as_dense();
    set_mask(layer.hh, 0.5, 8);
    layer.hh.set_value(Rng(9).uniform(layer.hh.shape(), -0.2, 0.2, DType::f64));
    same_as_dense();
    layer.ih.ref()->replace(Rng(10).uniform(layer.ih.shape(), -0.2, 0.2, DType::f64), Mask());
    same_as_dense();  // no mask any more: dense
    layer.hh.ref()->replace(layer.hh.value().clone(), Mask());
    same_as_dense(true);
  }
}

TEST(SparseTrainingRecurrent, GivesDenseGradientsOnDemandAndOutsideOfTheScope) {
  for (const Kind& kind : kinds) {
    Layer layer(kind, {}, {.states = true});
    set_mask(layer.ih, 0.2, 1);
    set_mask(layer.hh, 0.2, 2);
    const Step dense = step(layer);
    const Tensor& pruned = dense.gradients[at_hh];
    ASSERT_FALSE(equal(pruned, live_part(pruned, layer.hh)));
    int asked = 0;
    bool wanted = true;
    std::optional<SparseTraining> sparse;
    const auto answer = [&] { return ++asked, wanted; };
    const auto begin = [&] {
      sparse.emplace(layer.parameters(), SparseTrainingOptions{.measure = false, .dense_gradient = answer});
    };
    begin();
    expect_same(layer, step(layer), dense, true);
    EXPECT_EQ(asked, 1);
    wanted = false;
    expect_same(layer, step(layer), dense);
    expect_same(layer, step(layer, [&] { sparse.reset(); }), dense, true);  // it ends between forward and backward
    expect_same(layer, step(layer, begin), dense);                          // and begins there
    // Another scope between them: what forward used is gone, and made anew.
    expect_same(layer,
                step(layer,
                     [&] {
                       sparse.reset();
                       begin();
                     }),
                dense);
  }
}

TEST(SparseTrainingRecurrent, GivesTheSameBytesAtAnyThreadCount) {
  const int before = threads();
  for (const Kind& kind : kinds)
    for (const bool ragged : {false, true}) {
      Layer layer(kind, {130, 150, 40, 6}, {.ragged = ragged, .states = true}, DType::f32);
      set_mask(layer.ih, 0.1, 1);
      set_mask(layer.hh, 0.1, 2);
      const SparseTraining sparse(layer.parameters(), all);
      set_threads(1);
      const Step one = step(layer);
      for (const int n : {2, 4}) {
        set_threads(n);
        const Step have = step(layer);
        for (std::size_t k = 0; k < one.outputs.size(); ++k) EXPECT_TRUE(equal(have.outputs[k], one.outputs[k]));
        for (std::size_t k = 0; k < one.gradients.size(); ++k) {
          if (one.gradients[k].defined()) {
            EXPECT_TRUE(equal(have.gradients[k], one.gradients[k])) << k;
          }
        }
      }
    }
  set_threads(before);
}

/// The weights of a layer after some steps towards random outputs.
std::vector<Tensor> trained(bool sparsely) {
  Rng rng(1);
  nn::Lstm lstm(rng, 11, 24, {.num_layers = 2, .bidirectional = true, .dtype = DType::f64});
  const ParameterList parameters = lstm.parameters();
  std::uint64_t seed = 20;
  for (const NamedParameter& named : parameters)
    if (named.parameter->value().rank() == 2)
      named.parameter->set_mask(Mask(Rng(++seed).bernoulli({named.parameter->value().size()}, 0.1)));
  std::optional<SparseTraining> sparse;
  if (sparsely) sparse.emplace(parameters, all);
  auto opt = optim::Optimizer(parameters, optim::sgd({.lr = 0.2, .momentum = 0.9}));
  const Tensor x = rng.normal({7, 20, 11}, 0, 1, DType::f64), goal = rng.uniform({7, 20, 48}, 0, 1, DType::f64);
  Tensor lengths = Tensor::full({20}, 7, DType::i64);
  lengths.write<std::int64_t>("test")[4] = 3;
  std::vector<Tensor> result;
  for (int i = 0; i < 20; ++i) {
    Tape tape;
    const Variable loss = affine(mean(square(sub(lstm(x, {}, lengths).output, goal))), 10, 0);
    tape.backward(loss);
    opt.step();
    if (i == 0 || i == 19) result.push_back(loss.value());
  }
  for (const NamedParameter& named : parameters) result.push_back(named.parameter->value().clone());
  return result;
}

TEST(SparseTrainingRecurrent, TrainsALayerAsDenseProductsDo) {
  const std::vector<Tensor> dense = trained(false), sparse = trained(true);
  EXPECT_LT(dense[1].item(), 0.8 * dense[0].item());
  // 20 steps, each an error of some hundred roundings of numbers about 1; they may grow from step to step a little.
  for (std::size_t k = 0; k < dense.size(); ++k) EXPECT_TRUE(allclose(sparse[k], dense[k], 1e-11, 1e-11)) << k;
}

}  // namespace
}  // namespace espalier
