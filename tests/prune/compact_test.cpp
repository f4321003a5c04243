#include "espalier/prune/compact.h"

#include <gtest/gtest.h>

#include <cstring>

#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/packed.h"
#include "espalier/core/parallel.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/pruner.h"
#include "tests/prune/compact_property.h"

namespace espalier::prune {
namespace {

constexpr CompactOptions fixed{.kernels = Kernels::fixed};

/// Masks whole rows (units) and columns (what reads a unit).
void mask_out(Parameter& weight, std::initializer_list<Index> rows, std::initializer_list<Index> columns = {}) {
  const Index n = weight.shape()[0], m = weight.shape()[1];
  Mask mask = weight.mask().defined() ? weight.mask() : Mask(n * m);
  for (Index r : rows)
    for (Index c = 0; c < m; ++c) mask.set(r * m + c, false);
  for (Index c : columns)
    for (Index r = 0; r < n; ++r) mask.set(r * m + c, false);
  weight.set_mask(mask);
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

template <class Model>
void expect_same_outputs(const Model& a, const Model& b, const Tensor& x, double tolerance = 1e-5) {
  EXPECT_TRUE(allclose(b(x).value(), a(x).value(), tolerance, tolerance));
}

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng, DType type = DType::f32, bool last_bias = true)
      : a(rng, 5, 6, {.dtype = type}),
        b(rng, 6, 4, {.dtype = type}),
        c(rng, 4, 3, {.bias = last_bias, .dtype = type}) {}
  Variable operator()(const Variable& x) const { return c(sigmoid(b(tanh(a(x))))); }
  void members(nn::Visitor& v) override { v("a", a)("b", b)("c", c); }
  nn::Linear a, b, c;
};

// The units of the second layer are constant once the first is gone, but only to within rounding; the one unit of the
// third is constant to the last bit only when they are folded.
TEST(Compact, CutsUntilNothingIsLeftToCut) {
  testing::NetSpec spec;
  spec.in = 9;
  spec.layers = {{4, true, 60, 100, 0, false, 2},
                 {25, true, 60, 0, 0, false, 2},
                 {1, true, 0, 30, 0, false, 0},
                 {4, true, 60, 30, 0, false, 0}};
  spec.single = false;
  spec.batch = 17;
  spec.seed = 337636;
  testing::compact_keeps_outputs(spec);
}

TEST(Compact, RandomNetworksKeepTheirOutputs) {
  EXPECT_TRUE(rc::check("compact keeps the outputs", [] { testing::compact_keeps_outputs(*testing::any_net()); }));
}

TEST(Compact, CutsConstantUnitsAndFoldsThem) {
  Rng rng(1);
  Mlp model(rng);
  mask_out(model.a.weight, {1, 4});
  const Tensor x = rng.normal({7, 5});
  CompactReport report;
  const Mlp small = compact(model, x, fixed, &report);
  EXPECT_EQ(small.a.weight.shape(), (Shape{4, 5}));
  EXPECT_EQ(small.a.bias.shape(), (Shape{4}));
  EXPECT_EQ(small.b.weight.shape(), (Shape{4, 4}));
  EXPECT_EQ(report.cut_constant, 2);
  EXPECT_EQ(report.cut_unread, 0);
  EXPECT_FALSE(equal(small.b.bias.value(), model.b.bias.value()));  // tanh(bias) is not 0
  expect_same_outputs(model, small, x);
  EXPECT_EQ(report.layers[0].before, (Shape{6, 5}));
  EXPECT_EQ(report.layers[0].after, (Shape{4, 5}));
  EXPECT_EQ(report.layers[0].name, "a.weight");
  EXPECT_LE(report.difference, 1e-5);
  EXPECT_NE(report.table().find("a.weight"), std::string::npos);
}

TEST(Compact, CutsUnitsNobodyReadsThroughSeveralLayers) {
  Rng rng(1);
  Mlp model(rng);
  mask_out(model.c.weight, {}, {0, 1, 2});  // b's units 0-2 die, and with them what only they read
  mask_out(model.b.weight, {}, {5});
  Mask only(24);
  for (Index u = 0; u < 6; ++u) only.set(3 * 6 + u, u == 2);  // unit 3 of b reads unit 2 of a alone
  for (Index i = 0; i < 24; ++i)
    if (!model.b.weight.mask()[i]) only.set(i, false);
  model.b.weight.set_mask(only);
  const Tensor x = rng.normal({7, 5});
  CompactReport report;
  const Mlp small = compact(model, x, fixed, &report);
  EXPECT_EQ(small.a.weight.shape(), (Shape{1, 5}));
  EXPECT_EQ(small.b.weight.shape(), (Shape{1, 1}));
  EXPECT_EQ(small.c.weight.shape(), (Shape{3, 1}));
  EXPECT_EQ(report.cut_unread, 8);
  expect_same_outputs(model, small, x);
}

TEST(Compact, AWholeDeadLayerRunsOnEmptyTensors) {
  for (DType type : {DType::f32, DType::f64}) {
    for (int layer : {0, 1}) {
      Rng rng(1);
      Mlp model(rng, type);
      Parameter& weight = layer == 0 ? model.a.weight : model.b.weight;
      weight.set_mask(Mask(Tensor::zeros(weight.shape(), DType::boolean)));
      const Tensor x = rng.normal({7, 5}, 0, 1, type);
      const Mlp small = compact(model, x, fixed);
      EXPECT_EQ(small.a.weight.shape(), (Shape{0, 5}));
      EXPECT_EQ(small.b.weight.shape(), (Shape{0, 0}));
      EXPECT_EQ(small.c.weight.shape(), (Shape{3, 0}));
      expect_same_outputs(model, small, x, type == DType::f32 ? 1e-6 : 1e-14);
      const Tensor one = rng.normal({1, 5}, 0, 1, type);
      expect_same_outputs(model, small, one, type == DType::f32 ? 1e-6 : 1e-14);
    }
  }
}

TEST(Compact, TheLastLayerWithoutWeightsGivesItsBias) {
  Rng rng(1);
  Mlp model(rng);
  model.c.weight.set_mask(Mask(Tensor::zeros(model.c.weight.shape(), DType::boolean)));
  const Mlp small = compact(model, rng.normal({2, 5}), fixed);
  EXPECT_EQ(small.c.weight.shape(), (Shape{3, 0}));  // outputs stay
  expect_same_outputs(model, small, rng.normal({9, 5}));
}

TEST(Compact, WithoutABiasAConstantUnitStaysUnlessItIsZero) {
  Rng rng(1);
  Mlp model(rng, DType::f32, false);
  mask_out(model.b.weight, {0, 2});  // sigmoid(bias) is never 0: c has no place for it
  const Tensor x = rng.normal({3, 5});
  const Mlp same = compact(model, x, fixed);
  EXPECT_EQ(same.c.weight.shape(), (Shape{3, 4}));
  expect_same_outputs(model, same, x);

  nn::Sequential net(nn::Linear(rng, 5, 4), relu, nn::Linear(rng, 4, 3, {.bias = false}));
  auto& first = net.get<nn::Linear>(0);
  mask_out(first.weight, {0, 2});
  first.bias.set_value(Tensor::from<float>({-1, 1, 1, 1}));  // relu(-1) = 0 needs no place, relu(1) does
  nn::Sequential small = compact(net, x, fixed);
  EXPECT_EQ(small.get<nn::Linear>(2).weight.shape(), (Shape{3, 3}));
  expect_same_outputs(net, small, x);
}

TEST(Compact, APrunedBiasThatGetsAConstantIsLiveAgain) {
  Rng rng(1);
  Mlp model(rng);
  mask_out(model.a.weight, {0});
  model.b.bias.set_mask(Mask(Tensor::zeros({4}, DType::boolean)));
  const Tensor x = rng.normal({3, 5});
  expect_same_outputs(model, compact(model, x, fixed), x);
}

TEST(Compact, LeavesTheModelAlone) {
  Rng rng(1);
  Mlp model(rng);
  mask_out(model.a.weight, {1, 4});
  std::vector<std::vector<float>> before;
  std::vector<std::uint32_t> versions;
  for (const NamedParameter& p : model.parameters()) {
    before.push_back(p.parameter->value().to_vector<float>());
    versions.push_back(p.parameter->value().version());
  }
  compact(model, rng.normal({3, 5}));
  std::size_t i = 0;
  for (const NamedParameter& p : model.parameters()) {
    EXPECT_EQ(p.parameter->value().to_vector<float>(), before[i]);
    EXPECT_EQ(p.parameter->value().version(), versions[i++]);
    EXPECT_FALSE(p.parameter->grad().defined());
  }
}

TEST(Compact, SoftMasksAreFrozenInTheCopyOnly) {
  Rng rng(1);
  Mlp model(rng);
  Pruner(model.parameters(), {.mode = MaskMode::soft}).to_sparsity(0.9);
  const Tensor x = rng.normal({3, 5});
  const Mlp small = compact(model, x, fixed);
  EXPECT_EQ(model.a.weight.ref()->mask_mode(), MaskMode::soft);
  EXPECT_EQ(small.a.weight.ref()->mask_mode(), MaskMode::hard);
  EXPECT_FALSE(small.a.weight.ref()->dense().defined());
  expect_same_outputs(model, small, x);
}

// --- what must not be cut -------------------------------------------------------------------------------------------

/// One linear layer whose units an op outside the chain reads, too.
template <class Reader>
class Watched final : public nn::Module {
 public:
  Watched(Rng& rng, Reader reader) : first(rng, 5, 4), second(rng, 4, 3), reader_(reader) {}
  Variable operator()(const Variable& x) const {
    const Variable h = relu(first(x));
    return add(second(h), reader_(h));
  }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;

 private:
  Reader reader_;
};

template <class Reader>
void expect_nothing_cut(Reader reader) {
  Rng rng(1);
  Watched<Reader> model(rng, reader);
  mask_out(model.first.weight, {1}, {});
  mask_out(model.second.weight, {}, {2});
  const Tensor x = rng.normal({3, 5});
  const auto small = compact(model, x, fixed);
  EXPECT_EQ(small.first.weight.shape(), (Shape{4, 5}));
  EXPECT_EQ(small.second.weight.shape(), (Shape{3, 4}));
  expect_same_outputs(model, small, x);
}

TEST(Compact, UnitsReadByAnythingElseStay) {
  expect_nothing_cut([](const Variable& h) { return sum(h, {1}, true); });
  const Parameter own(Tensor::ones({4, 1}), "own");
  expect_nothing_cut([&](const Variable& h) { return matmul(h.detach(), own); });
  expect_nothing_cut([](const Variable& h) { return sum(transpose(h, 0, 1), {0}, false).value().reshape({3, 1}); });
  expect_nothing_cut([](const Variable& h) {
    return sum(reshape(h, {3, 2, 2}), {1, 2}, false).value().reshape({3, 1});
  });
}

TEST(Compact, WhatIsHiddenFromTheTapeIsFoundByComparingOutputs) {
  Rng rng(1);
  auto hidden = [](const Variable& h) { return sum(h.detach(), {1}, true); };
  Watched<decltype(hidden)> model(rng, hidden);
  mask_out(model.second.weight, {}, {2});
  const Tensor x = rng.normal({3, 5});
  const std::string text = error_of([&] { compact(model, x, fixed); });
  EXPECT_NE(text.find("detach()"), std::string::npos) << text;
  expect_same_outputs(model, compact(model, x, {.kernels = Kernels::fixed, .cut = false}), x);
}

class TwoHeads final : public nn::Module {
 public:
  explicit TwoHeads(Rng& rng) : trunk(rng, 5, 6), left(rng, 6, 2), right(rng, 6, 3) {}
  std::pair<Variable, std::vector<Variable>> operator()(const Variable& x) const {
    const Variable h = trunk(x);
    return {left(tanh(h)), {right(sigmoid(h))}};
  }
  void members(nn::Visitor& v) override { v("trunk", trunk)("left", left)("right", right); }
  nn::Linear trunk, left, right;
};

TEST(Compact, UnitsMayBeReadByTwoLayersThroughDifferentFunctions) {
  Rng rng(1);
  TwoHeads model(rng);
  mask_out(model.trunk.weight, {0});  // constant: folded into both
  mask_out(model.left.weight, {}, {1, 2});
  mask_out(model.right.weight, {}, {2, 3});  // 2 is read by neither
  const Tensor x = rng.normal({3, 5});
  const TwoHeads small = compact(model, x, fixed);
  EXPECT_EQ(small.trunk.weight.shape(), (Shape{4, 5}));
  EXPECT_EQ(small.left.weight.shape(), (Shape{2, 4}));
  EXPECT_EQ(small.right.weight.shape(), (Shape{3, 4}));
  EXPECT_TRUE(allclose(small(x).first.value(), model(x).first.value(), 1e-5, 1e-6));
  EXPECT_TRUE(allclose(small(x).second[0].value(), model(x).second[0].value(), 1e-5, 1e-6));
}

class Tied final : public nn::Module {
 public:
  explicit Tied(Rng& rng) : in(rng, 5, 4), tied(rng, 4, 4), out(rng, 4, 3) {}
  Variable operator()(const Variable& x) const { return out(relu(tied(relu(tied(relu(in(x))))))); }
  void members(nn::Visitor& v) override { v("in", in)("tied", tied)("again", tied)("out", out); }
  nn::Linear in, tied, out;
};

TEST(Compact, TiedWeightsAreCutInAllTheirPlaces) {
  Rng rng(1);
  Tied model(rng);
  mask_out(model.in.weight, {0});  // constant, but unit 0 of the tied layer is not
  mask_out(model.tied.weight, {1}, {1});
  mask_out(model.out.weight, {}, {1, 2});  // 2 is read within
  const Tensor x = rng.normal({3, 5});
  const Tied small = compact(model, x, fixed);
  EXPECT_EQ(small.tied.weight.shape(), (Shape{3, 3}));
  EXPECT_EQ(small.in.weight.shape(), (Shape{3, 5}));
  EXPECT_EQ(small.out.weight.shape(), (Shape{3, 3}));
  expect_same_outputs(model, small, x);
}

// What would be folded once must not be folded twice.
TEST(Compact, ATiedBiasTakesUpNoConstants) {
  Rng rng(1);
  Tied model(rng);
  model.in.bias.set_value(Tensor::ones({4}));
  model.tied.bias.set_value(Tensor::ones({4}));
  mask_out(model.in.weight, {0, 1, 2, 3});
  mask_out(model.tied.weight, {0});
  const Tensor x = rng.normal({3, 5});
  expect_same_outputs(model, compact(model, x, fixed), x);
}

class ByMatmul final : public nn::Module {
 public:
  explicit ByMatmul(Rng& rng) : first(rng, 40, 40), second(rng, 40, 3) {}
  Variable operator()(const Variable& x) const { return second(relu(matmul(x, first.weight))); }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;
};

TEST(Compact, AWeightReadByMatmulIsCutAndStaysDense) {
  Rng rng(1);
  ByMatmul model(rng);
  Pruner(model.parameters(), {.scope = Scope::tensor}).to_sparsity(0.97);
  const Tensor x = rng.normal({3, 40});
  CompactReport report;
  const ByMatmul small = compact(model, x, fixed, &report);
  EXPECT_EQ(small.first.weight.shape()[0], 40);  // the input's
  EXPECT_EQ(small.first.weight.shape()[1], small.second.weight.shape()[1]);
  EXPECT_LT(small.first.weight.shape()[1], 10);
  EXPECT_EQ(small.first.weight.value().packed(), nullptr);
  EXPECT_EQ(report.layers[0].reason, "ops without a sparse kernel read it");
  expect_same_outputs(model, small, x);
}

class HardWired final : public nn::Module {
 public:
  explicit HardWired(Rng& rng) : first(rng, 5, 4), second(rng, 4, 3) {}
  Variable operator()(const Variable& x) const { return second(reshape(relu(first(x)), {x.dim(0), 4})); }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;
};

TEST(Compact, SizesWrittenIntoForwardCodeAreAnErrorWithAHint) {
  Rng rng(1);
  HardWired model(rng);
  const Tensor x = rng.normal({3, 5});
  expect_same_outputs(model, compact(model, x, fixed), x);  // nothing to cut: fine
  mask_out(model.first.weight, {1});
  const std::string text = error_of([&] { compact(model, x, fixed); });
  EXPECT_NE(text.find("-1 in a reshape"), std::string::npos) << text;
  const HardWired whole = compact(model, x, {.kernels = Kernels::fixed, .cut = false});
  EXPECT_EQ(whole.first.weight.shape(), (Shape{4, 5}));
  expect_same_outputs(model, whole, x);
}

class Sneaky final : public nn::Module {
 public:
  explicit Sneaky(Rng& rng) : first(rng, 5, 4), second(rng, 4, 3) {}
  Variable operator()(const Variable& x) const {
    const Variable h = relu(first(x));
    const NoTape hidden;
    const Tensor doubled = (h * 2.0).value();  // unseen by the tape
    return Tape::alive() ? second(h) : add(second(h), sum(doubled, {1}, true));
  }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;
};

TEST(Compact, AModelThatHidesFromTheTapeLosesNothing) {
  Rng rng(1);
  Sneaky model(rng);
  mask_out(model.first.weight, {1});
  const Tensor x = rng.normal({3, 5});
  const Sneaky small = compact(model, x, fixed);
  EXPECT_EQ(small.first.weight.shape(), (Shape{4, 5}));  // no layer was seen to read it
  expect_same_outputs(model, small, x);
}

/// Answers differently the second time it is traced with fewer units: stands for any layer that compact cannot
/// understand.
class Counting final : public nn::Module {
 public:
  explicit Counting(Rng& rng) : first(rng, 5, 4), second(rng, 4, 3) {}
  Variable operator()(const Variable& x) const {
    return second(affine(relu(first(x)), static_cast<double>(first.weight.shape()[0]), 0));
  }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;
};

TEST(Compact, OutputsThatDifferAreAnErrorThatNamesTheLayer) {
  Rng rng(1);
  Counting model(rng);
  mask_out(model.first.weight, {1});
  const std::string text = error_of([&] { compact(model, rng.normal({3, 5}), fixed); });
  EXPECT_NE(text.find("second.weight"), std::string::npos) << text;
  EXPECT_NE(text.find("[compact] cutting dead units"), std::string::npos) << text;
}

// --- models of every kind -------------------------------------------------------------------------------------------

TEST(Compact, SequentialVectorsOfLayersAndHigherRanks) {
  Rng rng(1);
  nn::Sequential net(
      nn::Linear(rng, 5, 8), tanh,
      [](const Variable& x) {
        return reshape(x, {-1, x.dim(-1)});
      },
      nn::Linear(rng, 8, 8), relu, nn::Linear(rng, 8, 2));
  mask_out(net.get<nn::Linear>(0).weight, {0, 7});
  mask_out(net.get<nn::Linear>(3).weight, {3}, {2});
  const Tensor x = rng.normal({3, 4, 5});
  nn::Sequential small = compact(net, x, fixed);
  EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{5, 5}));
  EXPECT_EQ(small.get<nn::Linear>(3).weight.shape(), (Shape{7, 5}));
  expect_same_outputs(net, small, x);
}

struct Plain {  // no nn::Module, only the shape of one
  Parameter w{Tensor::ones({3, 2}), "w"}, b{Tensor::zeros({3}), "b"}, v{Tensor::ones({2, 3}), "v"},
      c{Tensor::zeros({2}), "c"};
  ParameterList parameters() const { return list_of(w, b, v, c); }
  Variable operator()(const Variable& x) const { return linear(relu(linear(x, w, b)), v, c); }
};

TEST(Compact, AModelNeedNotBeAModule) {
  Plain model;
  mask_out(model.w, {1});
  const Plain small = compact(model, Tensor::ones({1, 2}), fixed);
  EXPECT_EQ(small.w.shape(), (Shape{2, 2}));
  EXPECT_EQ(small(Tensor::ones({1, 2})).value().at({0, 0}), 4);
}

TEST(Compact, BadArgumentsAreErrors) {
  Rng rng(1);
  Mlp model(rng);
  EXPECT_THROW(compact(model, Tensor()), ConfigError);
  EXPECT_THROW(compact(model, Tensor::zeros({0, 5})), ConfigError);
  EXPECT_THROW(compact(model, Tensor::zeros({1, 6})), ShapeError);
  EXPECT_THROW(compact(model, Tensor::zeros({1, 5}), {.tolerance = -1}), ConfigError);
}

TEST(Compact, EveryModelMayBeCompactedAgain) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 100, 80), relu, nn::Linear(rng, 80, 10));
  Pruner(net.parameters()).to_sparsity(0.95);
  const Tensor x = rng.normal({4, 100});
  nn::Sequential once = compact(net, x, fixed);
  EXPECT_NE(once.get<nn::Linear>(0).weight.value().packed(), nullptr);
  CompactReport report;
  nn::Sequential twice = compact(once, x, fixed, &report);
  EXPECT_EQ(report.cut_constant + report.cut_unread, 0);
  EXPECT_TRUE(equal(twice(x).value(), once(x).value()));
  EXPECT_EQ(live_weights(*once.get<nn::Linear>(0).weight.ref()), live_weights(*twice.get<nn::Linear>(0).weight.ref()));
}

// --- kernels --------------------------------------------------------------------------------------------------------

nn::Sequential pruned_net(std::uint64_t seed, double s) {
  Rng rng(seed);
  nn::Sequential net(nn::Linear(rng, 300, 200), relu, nn::Linear(rng, 200, 100), relu, nn::Linear(rng, 100, 10));
  Pruner(net.parameters()).to_sparsity(s);
  return net;
}

TEST(Compact, ReportsKernelsAndWhy) {
  const nn::Sequential net = pruned_net(3, 0.97);
  Rng rng(4);
  const Tensor x = rng.normal({64, 300});
  CompactReport measured, table;
  const nn::Sequential a = compact(net, x, {}, &measured), b = compact(net, x, fixed, &table);
  expect_same_outputs(net, a, x);
  expect_same_outputs(net, b, x);
  EXPECT_EQ(table.layers[0].kernel[2], "sparse");
  EXPECT_NE(measured.layers[0].reason.find("us"), std::string::npos) << measured.layers[0].reason;
  EXPECT_NE(table.layers[0].reason.find("table"), std::string::npos);
  EXPECT_LT(table.layers[0].bytes_after, table.layers[0].bytes_before / 4);
  EXPECT_LE(table.layers[0].live_after, table.layers[0].live_before);
}

TEST(Compact, ADenseModelStaysDense) {
  Rng rng(1);
  Mlp model(rng);
  CompactReport report;
  const Mlp same = compact(model, rng.normal({3, 5}), fixed, &report);
  for (const CompactLayer& l : report.layers) {
    EXPECT_EQ(l.before, l.after);
    EXPECT_EQ(l.reason, "no zeros");
    EXPECT_EQ(l.kernel[0], "dense");
  }
  EXPECT_EQ(report.difference, 0);
}

TEST(Compact, SameBytesAtAnyThreadCountWithTheFixedTable) {
  const nn::Sequential net = pruned_net(3, 0.9);
  Rng rng(4);
  const Tensor x = rng.normal({64, 300});
  const int before = threads();
  std::vector<Tensor> outputs;
  for (int t : {1, 2, 4}) {
    set_threads(t);
    outputs.push_back(compact(net, x, fixed)(x).value());
  }
  set_threads(before);
  EXPECT_TRUE(equal(outputs[0], outputs[1]));
  EXPECT_TRUE(equal(outputs[0], outputs[2]));
}

TEST(Repack, ChoosesAnewAndKeepsTheOutputs) {
  const nn::Sequential net = pruned_net(3, 0.95);
  Rng rng(4);
  const Tensor x = rng.normal({64, 300});
  nn::Sequential small = compact(net, x, fixed);
  const Tensor y = small(x).value();
  CompactReport report;
  repack(small, x, {.kernels = Kernels::measured}, &report);
  EXPECT_FALSE(report.layers.empty());
  EXPECT_TRUE(allclose(small(x).value(), y, 1e-5, 1e-6));
  repack(small, x, fixed);
  EXPECT_TRUE(equal(small(x).value(), y) || report.layers.size() < 3);
}

}  // namespace
}  // namespace espalier::prune
