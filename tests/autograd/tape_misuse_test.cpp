// What goes wrong in rules, hooks and threads is an error that says so, and leaves everything usable.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/ops/sort.h"
#include "espalier/autograd/tape.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;
using Values = std::vector<double>;

Parameter parameter(std::initializer_list<double> values) { return Parameter(Tensor::from(values), "w"); }

/// A copy of x whose rule returns `gradient(g)`.
template <class F>
Variable with_rule(const Variable& x, F gradient) {
  return record("odd", x.value().clone(), {&x}, [gradient](const Variable& g, Wants) { return gradient(g); });
}

TEST(TapeMisuse, AHookMayEndAnotherTape) {
  const Parameter w = parameter({1, 2});
  Tape outer;
  const Variable y = Variable(w) * 3, loss = sum(y);
  auto other = std::make_unique<Tape>();
  const Variable of_other = sum(square(Variable(w)));
  const Hook hook = outer.hook(y, [&](const Variable&) {
    other->backward(of_other);
    other.reset();
  });
  outer.backward(loss);
  EXPECT_EQ(Tape::recording(), nullptr) << "both are spent";
  EXPECT_FALSE((Variable(w) * 2).recorded());
  EXPECT_EQ(w.grad().to_vector<double>(), (Values{5, 7}));
}

TEST(TapeMisuse, ATapeOfAnotherThreadIsRefused) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  const Variable loss = sum(square(Variable(w)));
  std::thread([&] {
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[backward]", "belongs to another thread"));
    EXPECT_TRUE(throws<GradError>([&] { tape.watch(Tensor::zeros({2})); }, "[watch]", "belongs to another thread"));
  }).join();
  tape.backward(loss);
  EXPECT_EQ(w.grad().to_vector<double>(), (Values{2, 4}));
}

TEST(TapeMisuse, RecordWithoutATapeGivesAPlainValue) {
  const Variable x(Tensor::from({1., 2.}));
  const Variable y = record("odd", x.value().clone(), {&x},
                            [kept = Saved::output(x.value())](const Variable& g, Wants) { return g * kept.get(); });
  EXPECT_FALSE(y.recorded());
  EXPECT_EQ(y.value().to_vector<double>(), (Values{1, 2}));
}

TEST(TapeMisuse, AGradientOfAnotherShapeOrTypeNamesTheOp) {
  const Parameter w = parameter({1, 2, 3});
  const auto wrong = [](const Variable& g) { return sum(g); };
  const auto large = [](const Variable& g) { return broadcast_to(g, {4, 3}); };
  const auto single = [](const Variable& g) { return Variable(g.value().to(DType::f32)); };
  const std::string expected = "[odd] its rule returned a gradient of shape ";
  {
    Tape tape;  // behind an op whose own rule would hide it
    const Variable loss = sum(with_rule(Variable(w) * 2, wrong));
    EXPECT_TRUE(throws<ShapeError>([&] { tape.backward(loss); }, expected + "[]", "sum_to(g, x.shape())"));
  }
  {
    Tape tape;
    const Variable loss = sum(with_rule(Variable(w) * 2, large));
    EXPECT_TRUE(throws<ShapeError>([&] { tape.backward(loss); }, expected + "[4, 3]"));
  }
  {
    Tape tape;
    const Variable x = w, loss = sum(with_rule(x, single));
    EXPECT_TRUE(throws<ShapeError>([&] { tape.gradient(loss, {x}); }, expected + "[3] and type f32"));
  }
  EXPECT_FALSE(w.ref()->has_grad()) << "nothing was added";
}

TEST(TapeMisuse, TooFewGradientsAreRefusedUnlessTheRestIsNotWanted) {
  const Parameter a = parameter({1, 2}), b = parameter({3, 4});
  const auto product = [](const Variable& x, const Variable& y) {
    return record("odd", (x * y).value(), {&x, &y},
                  [y = Saved(y)](const Variable& g, Wants) { return std::vector<Variable>{g * y.get()}; });
  };
  {
    Tape tape;
    const Variable loss = sum(product(a, b));
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "a rule returned 1 gradients, fewer", "no_gradient()"));
  }
  Tape tape;
  tape.backward(sum(product(a, Variable(b.value()))));
  EXPECT_EQ(a.grad().to_vector<double>(), (Values{3, 4}));
}

TEST(TapeMisuse, ARuleMayReturnATensor) {
  const Parameter w = parameter({1, 2});
  Tape tape;
  tape.backward(sum(with_rule(w, [](const Variable& g) { return g.value().clone(); })));
  EXPECT_EQ(w.grad().to_vector<double>(), (Values{1, 1}));
}

TEST(TapeMisuse, ClassWeightsChangedBeforeBackwardAreAnError) {
  const Parameter w(Tensor::zeros({2, 3}), "w");
  ClassOptions options;
  options.weight = Tensor::ones({3});
  Tape tape;
  const Variable loss = sum(softmax_cross_entropy(w, Tensor::from({std::int64_t{0}, std::int64_t{2}}), options));
  options.weight.write<float>("test")[1] = 5;
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[softmax_cross_entropy]", "changed in place by [test]"));
}

TEST(TapeMisuse, PlacesChangedBeforeBackwardAreAnError) {
  const Parameter w = parameter({3, 1, 2});
  Tape tape;
  IndexedResult best = topk(w, 2);
  best.indices.fill(0, "test");
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(sum(best.values)); }, "[topk]", "changed in place by [test]"));
}

TEST(TapeMisuse, WhatASecondDerivativeReadsMustNotChangeEither) {
  for (const auto& op : {+[](const Variable& v) { return leaky_relu(v, 0.5); },
                         +[](const Variable& v) {
                           return maximum(v, Tensor::from({0., 0.}));
                         }}) {
    Tensor values = Tensor::from({1., -1.});
    Tape tape;
    const Variable x = tape.watch(values), g = tape.watch(Tensor::from({1., 1.}));
    const Variable dx = tape.gradient(sum(mul(op(x), g)), {x}, {.create_graph = true})[0];
    values.fill(-1, "test");
    EXPECT_TRUE(throws<GradError>([&] { tape.gradient(sum(dx), {g}); }, "changed in place by [test]"));
  }
}

TEST(TapeMisuse, GradientsOfAnEarlyValueLeaveTheLaterOnesAlone) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1., 2.}));
  const Variable early = sum(square(x)), z = tape.watch(Tensor::from({3.})), late = early * z;
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_EQ(tape.gradient(early, {x}, {.retain = true})[0].value().to_vector<double>(), (Values{2, 4}));
    const auto g = tape.gradient(late, {x, z, early}, {.retain = true});
    EXPECT_EQ(g[0].value().to_vector<double>(), (Values{6, 12}));
    EXPECT_EQ(g[1].value().to_vector<double>(), (Values{5}));
    EXPECT_EQ(g[2].item(), 3);
    EXPECT_FALSE(tape.gradient(early, {z}, {.retain = true})[0].defined()) << "it is younger";
  }
  tape.backward(late);
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(early, {x}); }, "backward ran on this tape already"));
}

TEST(TapeMisuse, AnInputOfAnInnerTapeIsSaidToBe) {
  Tape outer;
  const Variable x = outer.watch(Tensor::from({1.}));
  Tape inner;
  const Variable y = inner.watch(Tensor::from({1.}));
  EXPECT_TRUE(throws<GradError>([&] { outer.gradient(x, {y}); }, "recorded on an inner tape, which is still alive"));
}

}  // namespace
}  // namespace espalier
