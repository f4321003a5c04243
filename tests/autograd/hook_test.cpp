#include "espalier/autograd/hook.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/tape.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;
using Values = std::vector<double>;

Values values(const Tensor& t) { return t.to_vector<double>(); }
Parameter parameter(std::initializer_list<double> v, std::string name = "w") {
  return Parameter(Tensor::from(v), std::move(name));
}

TEST(TapeHooks, ChangeTheGradientBeforeItFlowsOn) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  const Variable h = Variable(w) * 3;
  Values seen;
  tape.hook(h, [&](const Variable& g) {
    seen = values(g.value());
    return clamp(g, -1, 1);
  });
  tape.backward(sum(h * Tensor::from({10., -0.5})));
  EXPECT_EQ(seen, (Values{10, -0.5}));
  EXPECT_EQ(values(w.grad()), (Values{3, -1.5}));
}

TEST(TapeHooks, SeeTheWholeGradientOnceHoweverManyReadTheValue) {
  const Parameter w = parameter({2});
  Tape tape;
  const Variable h = square(w);
  int calls = 0;
  tape.hook(h, [&](const Variable& g) {
    ++calls;
    EXPECT_EQ(g.item(), 1 + 5 + 4);
    return g * 10;
  });
  tape.backward(h + h * 5 + h * h * 0.5);  // h = 4
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(w.grad().item(), 100 * 4);
}

TEST(TapeHooks, RunInTheOrderTheyWereAddedAndCanBeRemoved) {
  const Parameter w = parameter({1});
  Tape tape;
  const Variable h = Variable(w) * 1;
  tape.hook(h, [](const Variable& g) { return g + 1; });
  Hook doubled = tape.hook(h, [](const Variable& g) { return g * 2; });
  tape.hook(h, [](const Variable& g) { return g + 10; });
  EXPECT_TRUE(doubled.attached());
  EXPECT_EQ(tape.gradient(h, {Variable(w)}, {.retain = true})[0].item(), (1 + 1) * 2 + 10);
  doubled.remove();
  doubled.remove();
  EXPECT_FALSE(doubled.attached());
  EXPECT_EQ(tape.gradient(h, {Variable(w)}, {.retain = true})[0].item(), 1 + 1 + 10);
  Hook none;
  none.remove();
  EXPECT_FALSE(none.attached());
}

TEST(TapeHooks, MayRemoveThemselvesAndAddOthersForTheNextPass) {
  const Parameter w = parameter({1});
  Tape tape;
  const Variable h = Variable(w) * 1;
  Hook once;
  std::vector<int> ran;
  once = tape.hook(h, [&](const Variable& g) {
    ran.push_back(1);
    once.remove();
    for (int k = 0; k < 100; ++k) tape.hook(h, [&](const Variable&) { ran.push_back(2); });
    return g * 7;
  });
  EXPECT_EQ(tape.gradient(h, {Variable(w)}, {.retain = true})[0].item(), 7);
  EXPECT_EQ(ran, std::vector<int>{1});
  EXPECT_EQ(tape.gradient(h, {Variable(w)}, {.retain = true})[0].item(), 1);
  EXPECT_EQ(ran.size(), 101u);
}

TEST(TapeHooks, OnParametersWatchedTensorsAndTheLossItself) {
  const Parameter w = parameter({3});
  Tape tape;
  const Variable x = tape.watch(Tensor::from({5.})), loss = Variable(w) * x;
  tape.hook(w, [](const Variable& g) { return g * 2; });
  tape.hook(x, [](const Variable& g) { return g * 3; });
  tape.hook(loss, [](const Variable& g) { return g * 100; });
  const auto g = tape.gradient(loss, {x, Variable(w), loss}, {.retain = true});
  EXPECT_EQ(g[0].item(), 3 * 100 * 3) << "a target's own hook has run";
  EXPECT_EQ(g[1].item(), 5 * 100 * 2);
  EXPECT_EQ(g[2].item(), 100);
  tape.backward(loss);
  EXPECT_EQ(w.grad().item(), 5 * 100 * 2);
}

TEST(TapeHooks, OneThatReturnsNothingOnlyLooks) {
  const Parameter w = parameter({3});
  Tape tape;
  double norm = 0;
  const Variable h = square(w);
  tape.hook(h, [&](const Variable& g) { norm = g.item(); });
  tape.backward(h * 4);
  EXPECT_EQ(norm, 4);
  EXPECT_EQ(w.grad().item(), 24);
}

TEST(TapeHooks, AreRecordedUnderCreateGraph) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2.}));
  const Variable h = square(x);
  tape.hook(h, [](const Variable& g) { return g * g; });
  const Variable slope = tape.gradient(h * x, {x}, {.create_graph = true})[0];  // dL/dh = x, so x^2 2x + h = 2x^3 + x^2
  EXPECT_EQ(slope.item(), 20);
  EXPECT_TRUE(slope.recorded());
  // d (2 x^3 + x^2) = 6 x^2 + 2 x, and the hook on h runs in this pass, too: what comes to h there is 1, and 1^2 = 1.
  EXPECT_EQ(tape.gradient(slope, {x})[0].item(), 28);
}

TEST(TapeHooks, AreSkippedWhereNoGradientComes) {
  const Parameter w = parameter({3});
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1.})), unused = square(w), loss = x * w, late = square(x);
  int calls = 0;
  for (const Variable& v : {unused, late, Variable(w)}) tape.hook(v, [&](const Variable&) { ++calls; });
  tape.gradient(loss, {x});
  EXPECT_EQ(calls, 0) << "w is no target, the others do not lead to the loss";
}

TEST(TapeHooks, EndWithTheLastBackward) {
  const auto alive = std::make_shared<int>(0);
  const Parameter w = parameter({3});
  Hook hook;
  Tape tape;
  const Variable loss = square(w);
  hook = tape.hook(loss, [alive](const Variable& g) { return g; });
  tape.backward(loss, {.retain = true});
  EXPECT_TRUE(hook.attached());
  tape.backward(loss);
  EXPECT_FALSE(hook.attached());
  EXPECT_EQ(alive.use_count(), 1);
  {
    Tape next;
    hook = next.hook(square(w), [alive](const Variable& g) { return g; });
  }
  EXPECT_FALSE(hook.attached());
  EXPECT_EQ(alive.use_count(), 1);
  hook.remove();
}

TEST(TapeHooks, ClipTheGradientOfEachStepOfARecurrence) {
  const Parameter w = parameter({2}), start = parameter({1}, "start");
  for (const bool clipped : {false, true}) {
    w.ref()->clear_grad();
    start.ref()->clear_grad();
    Tape tape;
    Variable h = start;
    for (int t = 0; t < 50; ++t) {
      h = h * w;
      if (clipped) on_gradient(h, [](const Variable& g) { return clamp(g, -1, 1); });
    }
    tape.backward(h);
    EXPECT_EQ(start.grad().item(), clipped ? 2 : std::pow(2., 50));
  }
  EXPECT_FALSE(on_gradient(square(w), [](const Variable& g) { return g; }).attached()) << "no tape";
}

TEST(TapeHooks, ThousandsOnOneTape) {
  const Parameter w = parameter({1});
  Tape tape;
  Variable h = w;
  int calls = 0;
  for (int t = 0; t < 20000; ++t) {
    h = h + 1.0;
    tape.hook(h, [&](const Variable&) { ++calls; });
  }
  tape.backward(h);
  EXPECT_EQ(calls, 20000);
}

TEST(TapeHooks, Errors) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  EXPECT_TRUE(
      throws<GradError>([&] { tape.hook(Tensor::ones({2}), [](const Variable& g) { return g; }); }, "constant"));
  const Variable h = Variable(w) * 2, loss = sum(h);
  Hook hook = tape.hook(h, [](const Variable&) { return Variable(); });
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(loss, {Variable(w)}, {.retain = true}); }, "[affine]", "no gradient"));
  hook.remove();
  hook = tape.hook(h, [](const Variable& g) { return sum(g); });
  EXPECT_TRUE(throws<ShapeError>([&] { tape.gradient(loss, {Variable(w)}, {.retain = true}); }, "[2]", "[]"));
  hook.remove();
  hook = tape.hook(h, [](const Variable& g) -> Variable { return g.value().to(DType::f32); });
  EXPECT_TRUE(throws<DTypeError>([&] { tape.gradient(loss, {Variable(w)}, {.retain = true}); }, "f64", "f32"));
  hook.remove();
  hook = tape.hook(h, [&](const Variable&) { tape.backward(loss); });
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(loss, {Variable(w)}, {.retain = true}); }, "called by a hook"));
  hook.remove();
  {
    Tape inner;
    EXPECT_TRUE(throws<GradError>([&] { inner.hook(h, [](const Variable& g) { return g; }); }, "another tape"));
  }
  tape.backward(loss);
  EXPECT_EQ(values(w.grad()), (Values{2, 2})) << "errors with .retain leave the tape usable";
  EXPECT_TRUE(throws<GradError>([&] { tape.hook(h, [](const Variable& g) { return g; }); }, "[hook]", "already"));
}

TEST(ParameterHooks, RunOnceABackwardWhenAllGradientsWereAdded) {
  const Parameter a = parameter({1}, "a"), b = parameter({2}, "b"), unused = parameter({3}, "c");
  std::vector<std::string> ran;
  a.after_accumulate([&](ParameterState& p) {
    ran.push_back("a1");
    EXPECT_EQ(p.grad().item(), 4);
    EXPECT_TRUE(b.grad().defined());
    EXPECT_EQ(Tape::recording(), nullptr);
    p.mutable_grad() = Tensor::from({-1.});
  });
  a.after_accumulate([&](ParameterState& p) { ran.push_back("a2 " + std::to_string(p.grad().item())); });
  unused.after_accumulate([&](ParameterState&) { ran.push_back("c"); });
  Tape tape;
  const Variable x = a;
  tape.backward(x * b + x * b, {.retain = true});
  EXPECT_EQ(ran, (std::vector<std::string>{"a1", "a2 -1.000000"}));
  EXPECT_EQ(a.grad().item(), -1);
  EXPECT_EQ(tape.gradient(x * b, {x})[0].item(), 2);
  EXPECT_EQ(ran.size(), 2u) << "gradient() leaves parameters and their hooks alone";
}

TEST(ParameterHooks, AreRemovedAndBelongToOneParameterAlone) {
  const Parameter w = parameter({1});
  int calls = 0;
  Hook first, second;
  first = w.after_accumulate([&](ParameterState&) {
    ++calls;
    first.remove();
  });
  second = w.after_accumulate([&](ParameterState&) { calls += 10; });
  const Parameter copy = w;
  auto pass = [](const Parameter& p) {
    Tape tape;
    tape.backward(square(p));
  };
  pass(copy);
  EXPECT_EQ(calls, 0);
  pass(w);
  EXPECT_EQ(calls, 11);
  EXPECT_FALSE(first.attached());
  pass(w);
  EXPECT_EQ(calls, 21);
  second.remove();
  pass(w);
  EXPECT_EQ(calls, 21);
  {
    Parameter gone = parameter({1});
    second = gone.after_accumulate([](ParameterState&) {});
    EXPECT_TRUE(second.attached());
  }
  EXPECT_FALSE(second.attached());
}

TEST(ParameterHooks, AStepWithinTheBackward) {
  const Parameter w = parameter({4});
  const Hook hook = w.after_accumulate([](ParameterState& p) {
    p.set_value((Variable(p.value()) - 0.25 * Variable(p.grad())).value());
    p.clear_grad();
  });
  for (int i = 0; i < 3; ++i) {
    Tape tape;
    tape.backward(square(w));
  }
  EXPECT_EQ(w.value().item(), 0.5);
  EXPECT_FALSE(w.grad().defined());
}

TEST(ParameterHooks, AnErrorComesOutOfBackward) {
  const Parameter w = parameter({4});
  w.after_accumulate([](ParameterState&) { fail<ConfigError>("[mine] as asked"); });
  Tape tape;
  const Variable loss = square(w);
  EXPECT_TRUE(throws<ConfigError>([&] { tape.backward(loss); }, "[mine]"));
  EXPECT_EQ(w.grad().item(), 8);
  EXPECT_EQ(Tape::recording(), nullptr);
}

TEST(FrozenParameters, AreConstantsOnEveryTape) {
  Parameter w = parameter({2}), v = parameter({3}, "v");
  w.ref()->accumulate(Tensor::from({1.}));
  w.freeze();
  EXPECT_TRUE(w.frozen());
  EXPECT_FALSE(w.grad().defined()) << "what it had is dropped";
  {
    Tape tape;
    EXPECT_FALSE(Variable(w).recorded());
    EXPECT_FALSE(square(w).recorded());
    tape.backward(Variable(w) * v);
  }
  EXPECT_FALSE(w.grad().defined());
  EXPECT_EQ(v.grad().item(), 2);
  const Parameter copy = w;
  EXPECT_TRUE(copy.frozen());
  w.unfreeze();
  EXPECT_TRUE(copy.frozen());
  {
    Tape tape;
    tape.backward(square(w));
  }
  EXPECT_EQ(w.grad().item(), 4);
  w.freeze();
  Tape tape;
  tape.record_frozen();
  EXPECT_TRUE(Variable(w).recorded());
}

}  // namespace
}  // namespace espalier
