#include "espalier/autograd/tape.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;
using Values = std::vector<double>;

Parameter parameter(std::initializer_list<double> values, std::string name = "w") {
  return Parameter(Tensor::from(values), std::move(name));
}
Values grad_of(const Parameter& p) { return p.grad().to_vector<double>(); }

// --- recording -------------------------------------------------------------------------------------------------------

TEST(Tape, RecordsOnlyWhileOneIsAlive) {
  const Parameter w = parameter({1, 2});
  EXPECT_EQ(Tape::recording(), nullptr);
  EXPECT_FALSE(Tape::alive());
  EXPECT_FALSE(Variable(w).recorded());
  EXPECT_FALSE((Variable(w) * 2).recorded());
  {
    Tape tape;
    EXPECT_EQ(Tape::recording(), &tape);
    EXPECT_TRUE(Tape::alive());
    EXPECT_TRUE((Variable(w) * 2).recorded());
    EXPECT_EQ(tape.size(), 2u) << "one leaf, one op";
    EXPECT_FALSE((Variable(Tensor::from({1., 2.})) * 2).recorded());
    EXPECT_EQ(tape.size(), 2u);
  }
  EXPECT_EQ(Tape::recording(), nullptr);
  EXPECT_FALSE(Tape::alive());
}

TEST(Tape, AParameterHasOneLeafHoweverOftenItIsUsed) {
  std::vector<Parameter> many;
  for (int i = 0; i < 300; ++i) many.push_back(parameter({static_cast<double>(i)}));
  Tape tape;
  for (int round = 0; round < 3; ++round)
    for (const Parameter& p : many) EXPECT_EQ(tape.parameter_of(tape.slot_of(p)), p.ref());
  EXPECT_EQ(tape.size(), 300u);
  EXPECT_EQ(tape.parameter_of(12345), nullptr);
  EXPECT_EQ(tape.slot_of(Tensor::ones({1})), Tape::constant);
}

TEST(Tape, BackwardFillsGradientsAndTwoBackwardsAddUp) {
  const Parameter w = parameter({1, -2});
  for (int pass = 1; pass <= 2; ++pass) {
    Tape tape;
    tape.backward(sum(square(w)));
    EXPECT_EQ(grad_of(w), (Values{2. * pass, -4. * pass}));
  }
}

TEST(Tape, AVariableUsedManyTimesCollectsEveryGradient) {
  const Parameter w = parameter({3});
  Tape tape;
  Variable x = w, y = x;
  for (int i = 0; i < 5; ++i) y = y + x * y;  // y = x (1 + x)^5
  tape.backward(y);
  EXPECT_DOUBLE_EQ(w.grad().item(), std::pow(4., 5) + 15 * std::pow(4., 4));
}

TEST(Tape, TheLossMayBeALeaf) {
  const Parameter w = parameter({3});
  Tape tape;
  tape.backward(w);
  EXPECT_EQ(grad_of(w), Values{1});
}

TEST(Tape, ParametersTheLossDoesNotReachGetNoGradient) {
  const Parameter a = parameter({1}), b = parameter({2}), c = parameter({3});
  Tape tape;
  const Variable unused = Variable(b) * c;
  tape.backward(Variable(a) * 2);
  EXPECT_TRUE(a.grad().defined());
  EXPECT_FALSE(b.grad().defined());
  EXPECT_FALSE(c.grad().defined());
  EXPECT_TRUE(unused.defined());
}

TEST(Tape, GradientsStopAtDetach) {
  const Parameter w = parameter({3});
  Tape tape;
  const Variable x = w;
  tape.backward(x * x.detach());
  EXPECT_EQ(grad_of(w), Values{3});
}

TEST(Tape, ChainsAsLongAsMemoryAllowsNeedNoStack) {
  for (int n : {100000, 1000000}) {
    const Parameter w = parameter({1, 1, 1, 1});
    Tape tape;
    Variable x = w;
    for (int i = 0; i < n; ++i) x = affine(x, 1, 0.5);
    tape.backward(sum(x));
    EXPECT_EQ(grad_of(w), (Values{1, 1, 1, 1}));
  }
  {
    const Parameter w = parameter({0.5});
    Tape tape;
    Variable x = w;
    for (int i = 0; i < 100000; ++i) x = tanh(x);
    // Never walked back: destroyed as it is.
  }
}

TEST(Tape, AWideSumOfManyTermsNeedsNoStackEither) {
  const Parameter w = parameter({2});
  Tape tape;
  const Variable x = w;
  Variable total = Tensor::from({0.});
  for (int i = 0; i < 50000; ++i) total = total + x * x;
  tape.backward(total);
  EXPECT_EQ(grad_of(w), Values{4. * 50000});
}

// --- errors ----------------------------------------------------------------------------------------------------------

TEST(TapeErrors, WhatWasNotRecordedHasNoGradient) {
  const Parameter w = parameter({1, 2});
  const Variable before = sum(w);
  Tape tape;
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(before); }, "[backward]", "no Tape was alive"));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(Tensor::from({1.})); }, "[backward]"));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(Variable()); }, "[backward]"));
  EXPECT_TRUE(throws<ShapeError>([&] { tape.backward(Variable(w) * 2); }, "one element", "[2]", "Hint: sum()"));
  EXPECT_TRUE(throws<ShapeError>([&] { tape.backward(reshape(Variable(w), {2, 1})); }, "[2, 1]"));
  tape.backward(sum(w));  // none of these errors spent the tape
  EXPECT_EQ(grad_of(w), (Values{1, 1}));
}

TEST(TapeErrors, BackwardRunsOnce) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  const Variable loss = sum(square(w));
  tape.backward(loss);
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "backward ran on this tape already", ".retain"));
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(loss, {Variable(w)}); }));
  EXPECT_TRUE(throws<GradError>([&] { tape.watch(Tensor::ones({1})); }, "[watch]"));
  EXPECT_EQ(grad_of(w), (Values{2, 4})) << "the refused pass added nothing";
}

TEST(TapeErrors, ValuesOfATapeThatIsGone) {
  const Parameter w = parameter({1, 2});
  Variable hidden, loss;
  {
    Tape tape;
    hidden = Variable(w) * 2;
    loss = sum(hidden);
  }
  EXPECT_EQ((hidden * w).value().to_vector<double>(), (Values{2, 8})) << "without a tape it is a plain value";
  Tape tape;
  EXPECT_TRUE(throws<GradError>([&] { sum(hidden * w); }, "[mul]", "[2]", "tape that is gone", ".detach()"));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[backward]", "gone"));
  tape.backward(sum(hidden.detach() * w));
  EXPECT_EQ(grad_of(w), (Values{2, 4}));
}

TEST(TapeErrors, ValuesOfAnOuterTapeAndOfAnotherThread) {
  const Parameter w = parameter({1, 2});
  Tape outer;
  const Variable y = Variable(w) * 2;
  {
    Tape inner;
    EXPECT_TRUE(throws<GradError>([&] { y + w; }, "[add]", "outer tape", ".detach()"));
  }
  std::thread([&] {
    EXPECT_EQ((y * 2).value().to_vector<double>(), (Values{4, 8})) << "a plain value where no tape is alive";
    Tape other;
    EXPECT_TRUE(throws<GradError>([&] { y* w; }, "[mul]", "another thread"));
  }).join();
  outer.backward(sum(y));
  EXPECT_EQ(grad_of(w), (Values{2, 2}));
}

TEST(TapeErrors, ASavedTensorChangedInPlaceNamesBothOps) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  const Variable loss = sum(Variable(w) * w);
  Tensor value = w.value();
  value.write<double>("the test")[0] = 5;
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[mul]", "shape [2]", "changed in place by [the test]"));
  EXPECT_FALSE(w.grad().defined());
  // The walk had begun, so the tape is spent; trying again is an error, not a crash.
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "already"));
  EXPECT_EQ(Tape::recording(), nullptr);
}

TEST(TapeErrors, AChangeThatNobodySavedIsNoError) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  const Variable loss = sum(Variable(w) + w);
  Tensor value = w.value();
  value.fill(7);
  tape.backward(loss);
  EXPECT_EQ(grad_of(w), (Values{2, 2}));
}

TEST(TapeErrors, AParameterThatNobodyListsBesideOneThatIsListed) {
  const Parameter listed = parameter({1, 2}, "listed"), forgotten = parameter({3, 4}, "");
  {
    Tape tape;
    const Variable loss = sum(Variable(listed) * forgotten);
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "shape [2]", "no module lists it", "members()"));
    EXPECT_FALSE(listed.grad().defined()) << "all or nothing";
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "already"));
  }
  Tape tape;  // alone it may stand
  tape.backward(sum(square(forgotten)));
  EXPECT_EQ(grad_of(forgotten), (Values{6, 8}));
}

TEST(TapeErrors, AnErrorWithinARuleSpendsTheTape) {
  const Parameter w = parameter({1});
  Tape tape;
  const Variable x = w;
  const Variable y = record("thrower", x.value().clone(), {&x},
                            [](const Variable&, Wants) -> Variable { fail<ConfigError>("[thrower] as asked"); });
  const Variable loss = y * 2;
  EXPECT_TRUE(throws<ConfigError>([&] { tape.backward(loss); }, "[thrower]"));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "already"));
  EXPECT_FALSE(Tape::alive());
}

TEST(TapeErrors, ARuleThatReturnsMoreGradientsThanItHasInputs) {
  const Parameter w = parameter({1});
  Tape tape;
  const Variable x = w;
  const Variable y = record("generous", x.value().clone(), {&x},
                            [](const Variable& g, Wants) { return std::vector<Variable>(100, g); });
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "more gradients"));
}

TEST(TapeErrors, ARuleThatCapturesTooMuch) {
  const Parameter w = parameter({1});
  Tape tape;
  const Variable x = w;
  struct Large {
    std::array<char, 100000> bytes{};
  };
  EXPECT_TRUE(throws<GradError>(
      [&] {
        record("large", x.value().clone(), {&x}, [l = Large()](const Variable& g, Wants) { return g + l.bytes[0]; });
      },
      "captures", "bytes"));
}

// --- spent, nested, suspended ----------------------------------------------------------------------------------------

TEST(Tape, ASpentTapeRecordsNothingMoreAndIsNotAlive) {
  const Parameter w = parameter({1});
  Tape tape;
  tape.backward(Variable(w) * 3);
  EXPECT_FALSE(Tape::alive());
  EXPECT_EQ(Tape::recording(), nullptr);
  const std::size_t nodes = tape.size();
  EXPECT_FALSE((Variable(w) * 2).recorded());
  EXPECT_EQ(tape.size(), nodes);
}

TEST(Tape, ASpentTapeHandsOverToTheOuterOne) {
  const Parameter w = parameter({2});
  Tape outer;
  const Variable y = square(w);
  {
    Tape inner;
    EXPECT_EQ(Tape::recording(), &inner);
    inner.backward(Variable(w) * 3);
    EXPECT_EQ(Tape::recording(), &outer);
    EXPECT_TRUE(Tape::alive());
    outer.backward(y);
  }
  EXPECT_FALSE(Tape::alive());
  EXPECT_EQ(grad_of(w), Values{7});
}

TEST(Tape, ATapeMadeUnderNoTapeRecordsAndHandsBackToNone) {
  const Parameter w = parameter({2});
  Tape outer;
  {
    const NoTape quiet;
    {
      Tape inner;
      inner.backward(square(w));
      EXPECT_EQ(Tape::recording(), nullptr);
    }
    EXPECT_EQ(Tape::recording(), nullptr);
    EXPECT_TRUE(Tape::alive());
  }
  EXPECT_EQ(Tape::recording(), &outer);
  EXPECT_EQ(grad_of(w), Values{4});
}

TEST(Tape, NoTapeSuspendsRecordingButNotTraining) {
  const Parameter w = parameter({2});
  Tape tape;
  {
    const NoTape quiet;
    EXPECT_TRUE(Tape::alive());
    EXPECT_FALSE(Variable(w).recorded());
    const NoTape twice;
    EXPECT_EQ(Tape::recording(), nullptr);
  }
  EXPECT_EQ(Tape::recording(), &tape);
}

TEST(Tape, BackwardUnderNoTapeLeavesNoSpentTapeRecording) {
  const Parameter w = parameter({2});
  {
    Tape tape;
    const Variable loss = square(w);
    {
      const NoTape quiet;
      tape.backward(loss);
    }
    EXPECT_EQ(Tape::recording(), nullptr);
    EXPECT_FALSE((Variable(w) * 2).recorded());
  }
  EXPECT_EQ(Tape::recording(), nullptr);
  EXPECT_FALSE((Variable(w) * 2).recorded());
}

TEST(Tape, TapesMayEndInAnyOrder) {
  const Parameter w = parameter({2});
  std::optional<Tape> a(std::in_place), b(std::in_place), c(std::in_place);
  a.reset();
  EXPECT_EQ(Tape::recording(), &*c);
  b.reset();
  EXPECT_EQ(Tape::recording(), &*c);
  c->backward(square(w));
  EXPECT_FALSE(Tape::alive());
  c.reset();
  EXPECT_EQ(Tape::recording(), nullptr);
  {
    std::optional<Tape> tape(std::in_place);
    const NoTape quiet;
    tape.reset();
  }
  EXPECT_EQ(Tape::recording(), nullptr);
  EXPECT_FALSE((Variable(w) * 2).recorded());
}

TEST(Tape, RetainKeepsTheTapeRecording) {
  const Parameter w = parameter({3});
  Tape tape;
  const Variable y = square(w);
  tape.backward(y, {.retain = true});
  tape.backward(y, {.retain = true});
  EXPECT_EQ(grad_of(w), Values{12});
  const Variable z = y * w;  // goes on from what was there
  tape.backward(z);
  EXPECT_EQ(grad_of(w), Values{12 + 27});
  EXPECT_THROW(tape.backward(z), GradError);
}

// --- gradient(), second order ----------------------------------------------------------------------------------------

TEST(TapeGradient, LeavesParametersAlone) {
  const Parameter w = parameter({3});
  Tape tape;
  const Variable x = w;
  const auto g = tape.gradient(x * x, {x});
  EXPECT_EQ(g[0].item(), 6);
  EXPECT_FALSE(g[0].recorded());
  EXPECT_FALSE(w.grad().defined());
}

TEST(TapeGradient, IsUndefinedWhereNothingDepends) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2.})), y = tape.watch(Tensor::from({5.})), late_of = x * 3;
  const Variable late = tape.watch(Tensor::from({1.}));
  const auto g = tape.gradient(late_of, {x, y, late});
  EXPECT_EQ(g[0].item(), 3);
  EXPECT_FALSE(g[1].defined());
  EXPECT_FALSE(g[2].defined());
}

TEST(TapeGradient, RunsOnlyTheRulesThatLeadToTheTargets) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2.})), y = tape.watch(Tensor::from({5.}));
  std::vector<std::string> ran;
  auto spy = [&](const char* name, const Variable& v) {
    return record(name, v.value().clone(), {&v},
                  [&ran, name](const Variable& g, Wants) { return ran.push_back(name), g; });
  };
  const Variable of_x = spy("of x", x), of_y = spy("of y", y), both = of_x * of_y, above = spy("above", both);
  std::vector<bool> wanted;
  const Variable watched = record("watched", both.value().clone(), {&both, &y}, [&](const Variable& g, Wants wants) {
    wanted = {wants[0], wants[1]};
    return gradients(g, no_gradient());
  });
  EXPECT_EQ(tape.gradient(watched, {x}, {.retain = true})[0].item(), 5);
  EXPECT_EQ(ran, std::vector<std::string>{"of x"});
  EXPECT_EQ(wanted, (std::vector<bool>{true, false}));
  ran.clear();
  // An intermediate value as the target: nothing below it runs.
  EXPECT_EQ(tape.gradient(above, {both}, {.retain = true})[0].item(), 1);
  EXPECT_EQ(ran, std::vector<std::string>{"above"});
  // A target above another: both, each with its whole gradient.
  const auto g = tape.gradient(above, {both, x, of_x});
  EXPECT_EQ(g[0].item(), 1);
  EXPECT_EQ(g[1].item(), 5);
  EXPECT_EQ(g[2].item(), 5);
}

TEST(TapeGradient, OfSeveralOutputsWithWeights) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1., 2.}));
  const std::vector<Variable> outputs = {square(x), sum(x)};
  const std::vector<Variable> weights = {Tensor::from({10., 100.}), Tensor::scalar(3, DType::f64)};
  const std::vector<Variable> inputs = {x};
  const auto g = tape.gradient(outputs, weights, inputs, {.retain = true});
  EXPECT_EQ(g[0].value().to_vector<double>(), (Values{10 * 2 + 3, 100 * 4 + 3}));
  EXPECT_TRUE(throws<ShapeError>([&] { tape.gradient(outputs, {&weights[0], 1}, inputs); }, "2 outputs but 1 weights"));
  const std::vector<Variable> wrong = {Tensor::from({1.}), weights[1]};
  EXPECT_TRUE(throws<ShapeError>([&] { tape.gradient(outputs, wrong, inputs); }, "weight of output 0", "[1]", "[2]"));
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(outputs[1], {Variable(Tensor::ones({1}))}); }, "not on the tape"));
  EXPECT_TRUE(throws<ShapeError>([&] { tape.gradient(outputs[0], {x}); }, "one element"));
  EXPECT_EQ(weights[0].value().to_vector<double>(), (Values{10, 100})) << "the caller's weights are not summed into";
}

TEST(TapeGradient, HigherDerivativesOfAPolynomial) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2.}));
  Variable y = pow(x, 5);
  const double expected[] = {80, 160, 240, 240, 120};
  for (double e : expected) {
    y = tape.gradient(y, {x}, {.create_graph = true})[0];
    EXPECT_DOUBLE_EQ(y.item(), e);
  }
}

/// tanh MLP 4-5-3 with cross-entropy: parameters, loss.
struct SmallNet {
  explicit SmallNet(Rng& rng)
      : w1(rng.normal({5, 4}, 0, 0.5, DType::f64), "w1"),
        b1(rng.normal({5}, 0, 0.5, DType::f64), "b1"),
        w2(rng.normal({3, 5}, 0, 0.5, DType::f64), "w2"),
        b2(rng.normal({3}, 0, 0.5, DType::f64), "b2"),
        x(rng.normal({6, 4}, 0, 1, DType::f64)),
        labels(Tensor::from({Index{0}, Index{2}, Index{1}, Index{1}, Index{0}, Index{2}})) {}
  Variable loss() const { return mean(softmax_cross_entropy(linear(tanh(linear(x, w1, b1)), w2, b2), labels)); }
  ParameterList list() const { return list_of(w1, b1, w2, b2); }
  Parameter w1, b1, w2, b2;
  Tensor x, labels;
};

TEST(TapeGradient, HessianVectorProductOfAnMlp) {
  Rng rng(7);
  const SmallNet net(rng);
  const ParameterList list = net.list();
  std::vector<Tensor> v;
  for (const NamedParameter& p : list) v.push_back(rng.normal(p.parameter->value().shape(), 0, 1, DType::f64));

  std::vector<Variable> product;
  {
    Tape tape;
    const auto g = tape.gradient(net.loss(), list, {.create_graph = true});
    Variable gv = sum(g[0] * v[0]);
    for (std::size_t i = 1; i < g.size(); ++i) gv = gv + sum(g[i] * v[i]);
    product = tape.gradient(gv, list);
  }
  auto gradient_at = [&](double h) {
    std::vector<Tensor> before;
    for (std::size_t i = 0; i < list.size(); ++i) {
      before.push_back(list[i].parameter->value().clone());
      list[i].parameter->set_value((Variable(before[i]) + Variable(v[i]) * h).value());
    }
    Tape tape;
    const auto g = tape.gradient(net.loss(), list);
    for (std::size_t i = 0; i < list.size(); ++i) list[i].parameter->set_value(before[i]);
    return g;
  };
  const double h = 1e-6;
  const auto up = gradient_at(h), down = gradient_at(-h);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Tensor difference = ((up[i] - down[i]) / (2 * h)).value();
    // Central differences: h^2 from the third derivative, 1e-16 / h from rounding.
    EXPECT_TRUE(allclose(product[i].value(), difference, 0, 2e-9)) << list[i].name;
  }
}

TEST(TapeGradient, BackwardThroughAGradientTrainsOnItsNorm) {
  Rng rng(3);
  const SmallNet net(rng);
  Tape tape;
  const auto g = tape.gradient(net.loss(), net.list(), {.create_graph = true});
  Variable penalty = sum(square(g[0]));
  for (std::size_t i = 1; i < g.size(); ++i) penalty = penalty + sum(square(g[i]));
  tape.backward(penalty);
  EXPECT_TRUE(net.w1.grad().defined() && net.b1.grad().defined() && net.w2.grad().defined());
  // grad of |g|^2 is 2 H g; its projection on g is the change of |g|^2 along g.
  const double h = 1e-6;
  double slope = 0;
  std::vector<Tensor> direction;
  for (const Variable& v : g) direction.push_back(v.value().clone());
  const ParameterList list = net.list();
  for (std::size_t i = 0; i < list.size(); ++i)
    if (list[i].parameter->grad().defined())
      slope += sum(Variable(list[i].parameter->grad()) * Variable(direction[i])).item();
  auto norm_at = [&](double step) {
    std::vector<Tensor> before;
    for (std::size_t i = 0; i < list.size(); ++i) {
      before.push_back(list[i].parameter->value().clone());
      list[i].parameter->set_value((Variable(before[i]) + Variable(direction[i]) * step).value());
    }
    double total = 0;
    {
      Tape own;
      for (const Variable& v : own.gradient(net.loss(), list)) total += sum(square(v.detach())).item();
    }
    for (std::size_t i = 0; i < list.size(); ++i) list[i].parameter->set_value(before[i]);
    return total;
  };
  EXPECT_NEAR(slope, (norm_at(h) - norm_at(-h)) / (2 * h), 1e-8);
}

// --- ops with several outputs, many inputs ---------------------------------------------------------------------------

/// (sin x, cos x) in one node: a user's op with two outputs.
std::vector<Variable> sin_cos(const Variable& x) {
  std::vector<Tensor> ys = {map_with("sin_cos", x.value(), [](auto v) { return std::sin(v); }),
                            map_with("sin_cos", x.value(), [](auto v) { return std::cos(v); })};
  if (!recording(x)) return {ys[0], ys[1]};
  const Saved s = Saved::output(ys[0], 0), c = Saved::output(ys[1], 1);
  return record("sin_cos", std::move(ys), {&x}, [s, c](std::span<const Variable> g, Wants) {
    Variable dx = no_gradient();
    if (g[0].defined()) dx = g[0] * c.get();
    if (g[1].defined()) dx = dx.defined() ? dx - g[1] * s.get() : neg(g[1] * s.get());
    return std::vector<Variable>{dx};
  });
}

TEST(TapeOps, SeveralOutputsGetTheirGradientsApart) {
  const Parameter w = parameter({0.5});
  {
    Tape tape;
    tape.backward(sin_cos(w)[0]);
    EXPECT_DOUBLE_EQ(w.grad().item(), std::cos(0.5));
  }
  w.ref()->clear_grad();
  {
    Tape tape;
    tape.backward(sin_cos(w)[1] * 2);
    EXPECT_DOUBLE_EQ(w.grad().item(), -2 * std::sin(0.5));
  }
  Rng rng(1);
  const Tensor x = rng.normal({3, 2}, 0, 1, DType::f64);
  const DifferentiableFunctions both = [](std::span<const Variable> v) { return sin_cos(v[0]); };
  GradcheckResult result = gradcheck(both, {x}, {.atol = 1e-8, .rtol = 1e-7});
  EXPECT_TRUE(result) << result.message;
  result = gradgradcheck(both, {x}, {.atol = 1e-8, .rtol = 1e-7});
  EXPECT_TRUE(result) << result.message;
}

TEST(TapeOps, OneOutputMayFeedTheGradientOfAnother) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({0.3}));
  const auto y = sin_cos(x);
  const auto z = sin_cos(y[0] * y[1]);
  const double s = std::sin(0.3), c = std::cos(0.3);
  EXPECT_NEAR(tape.gradient(z[0], {x})[0].item(), std::cos(s * c) * (c * c - s * s), 1e-15);
}

/// The sum of any number of tensors in one node.
Variable add_all(std::span<const Variable> inputs) {
  Tensor y = inputs[0].value().clone();
  for (const Variable& v : inputs.subspan(1)) add_in_place(y, v.value());
  if (!recording(inputs)) return y;
  return record("add_all", std::move(y), inputs,
                [n = inputs.size()](const Variable& g, Wants) { return std::vector<Variable>(n, g); });
}

TEST(TapeOps, FortyInputs) {
  std::vector<Parameter> many;
  for (int i = 0; i < 40; ++i) many.push_back(parameter({static_cast<double>(i), 1}));
  Tape tape;
  std::vector<Variable> inputs;
  for (const Parameter& p : many) inputs.push_back(Variable(p) * 3);
  inputs.push_back(inputs[0]);               // one twice
  inputs.push_back(Tensor::from({1., 1.}));  // and a constant
  const Variable y = add_all(inputs);
  EXPECT_EQ(y.value().to_vector<double>(), (Values{3 * 780 + 0 + 1, 3 * 40 + 3 + 1}));
  tape.backward(sum(y));
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(grad_of(many[i]), Values(2, i == 0 ? 6 : 3)) << i;
  for (std::size_t i = 1; i < 40; ++i) EXPECT_FALSE(many[i].grad().shares_storage(many[i - 1].grad()));
}

// --- observers -------------------------------------------------------------------------------------------------------

class Listener final : public TapeObserver {
 public:
  explicit Listener(const Tape& tape) : tape_(tape) {}
  void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    ops.emplace_back(node.op);
    EXPECT_EQ(node.inputs.size(), inputs.size());
    EXPECT_EQ(node.outputs, outputs.size());
    for (std::size_t k = 0; k < inputs.size(); ++k) EXPECT_EQ(tape_.slot_of(*inputs[k]), node.inputs[k]);
    for (std::uint32_t k = 0; k < node.outputs; ++k) EXPECT_EQ(tape_.slot_of(outputs[k]), node.first_output + k);
    if (ops.back() == "parameter") leaves.push_back(tape_.parameter_of(node.first_output));
    sizes.push_back(outputs[0].size());
  }
  std::vector<std::string> ops;
  std::vector<ParameterRef> leaves;
  std::vector<Index> sizes;

 private:
  const Tape& tape_;
};

TEST(TapeObservers, SeeEveryNodeAndItsParameters) {
  const Parameter w = parameter({1, 2}), b = parameter({3, 4});
  Tape tape;
  Listener listener(tape);
  const Variable early = square(w);
  tape.observe(listener);
  const Variable y = sum(early * b + w);
  EXPECT_EQ(listener.ops, (std::vector<std::string>{"parameter", "mul", "add", "sum"}));
  EXPECT_EQ(listener.leaves, std::vector<ParameterRef>{b.ref()});
  EXPECT_EQ(listener.sizes, (std::vector<Index>{2, 2, 2, 1}));
  tape.backward(y);
  EXPECT_EQ(listener.ops.size(), 4u) << "a backward that is not recorded is not seen";
  Tape next;
  EXPECT_TRUE(square(w).recorded());
  EXPECT_EQ(listener.ops.size(), 4u) << "an observer belongs to its tape";
}

TEST(TapeObservers, MayRecordThemselves) {
  std::vector<Parameter> others;
  for (int i = 0; i < 200; ++i) others.push_back(parameter({1.}));
  class Meddler final : public TapeObserver {
   public:
    explicit Meddler(std::vector<Parameter>& others) : others_(others) {}
    void recorded(const RecordedOp&, std::span<const Variable* const>, std::span<const Variable>) override {
      if (std::exchange(busy_, true)) return;
      for (const Parameter& p : others_) total = total.defined() ? total + p : Variable(p);
    }
    Variable total;

   private:
    std::vector<Parameter>& others_;
    bool busy_ = false;
  } meddler(others);
  const Parameter w = parameter({2});
  Tape tape;
  tape.observe(meddler);
  const Variable y = Variable(w) * w;
  tape.backward(y + meddler.total);
  EXPECT_EQ(grad_of(w), Values{4});
  for (const Parameter& p : others) EXPECT_EQ(grad_of(p), Values{1});
}

// --- gradients and memory -------------------------------------------------------------------------------------------

TEST(TapeMemory, RepeatedAndSharedGradientsDoNotAliasParameters) {
  const Parameter a = parameter({1, 2}), b = parameter({3, 4});
  {
    Tape tape;
    tape.backward(sum(Variable(a) + b));  // one stride-0 gradient for both
  }
  EXPECT_FALSE(a.grad().shares_storage(b.grad()));
  EXPECT_TRUE(a.grad().is_contiguous());
  EXPECT_EQ(a.grad().strides(), Dims{1});
  {
    Tape tape;
    tape.backward(sum(Variable(a) * 10));
  }
  EXPECT_EQ(grad_of(a), (Values{11, 11}));
  EXPECT_EQ(grad_of(b), (Values{1, 1}));
  const Parameter m(Tensor::arange(0, 6, 1, DType::f64).reshape({2, 3}), "m");
  Tape tape;
  tape.backward(sum(transpose(Variable(m), 0, 1) * Tensor::arange(0, 6, 1, DType::f64).reshape({3, 2})));
  EXPECT_TRUE(m.grad().is_contiguous());
  EXPECT_EQ(grad_of(m), (Values{0, 2, 4, 1, 3, 5}));
}

TEST(TapeMemory, AGradientThatAUserHoldsIsNotSummedInto) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1., 2.}));
  Variable held;
  const Variable y =
      record("hold", x.value().clone(), {&x}, [&](const Variable& g, Wants) { return held = g.detach(), g; });
  tape.gradient(sum(y * 2 + x * 5), {x});
  EXPECT_EQ(held.value().to_vector<double>(), (Values{2, 2}));
}

TEST(TapeMemory, ClosuresAreFreedOnceBySpendingOrByTheEnd) {
  auto count = std::make_shared<int>(0);
  const Parameter w = parameter({1});
  auto op = [&](const Variable& x) {
    return record("counted", x.value().clone(), {&x}, [count](const Variable& g, Wants) { return g; });
  };
  {
    Tape tape;
    const Variable y = op(op(w)), unused = op(w);
    EXPECT_EQ(count.use_count(), 4);
    tape.backward(y);
    EXPECT_EQ(count.use_count(), 1) << "saved tensors are freed with the walk";
  }
  {
    Tape tape;
    op(op(w));
    EXPECT_EQ(count.use_count(), 3);
  }
  EXPECT_EQ(count.use_count(), 1);
  {
    Tape tape;
    const Variable y = op(w);
    tape.backward(y, {.retain = true});
    EXPECT_EQ(count.use_count(), 2);
  }
  EXPECT_EQ(count.use_count(), 1);
}

TEST(TapeMemory, TwoThreadsRecordAtOnce) {
  const Parameter shared = parameter({2, 3});
  std::vector<Values> results(2);
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < 2; ++k)
    threads.emplace_back([&, k] {
      for (int i = 0; i < 500; ++i) {
        Tape tape;
        const Variable w = shared;
        const auto g = tape.gradient(sum(tanh(w * static_cast<double>(k + 1)) * w), {w});
        results[k] = g[0].value().to_vector<double>();
      }
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t k = 0; k < 2; ++k)
    for (std::size_t i = 0; i < 2; ++i) {
      const double x = i == 0 ? 2 : 3, c = static_cast<double>(k + 1), t = std::tanh(c * x);
      EXPECT_NEAR(results[k][i], t + c * x * (1 - t * t), 1e-14);
    }
}

}  // namespace
}  // namespace espalier
