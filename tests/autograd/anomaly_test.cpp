#include "espalier/autograd/anomaly.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "tests/support.h"

namespace espalier {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
const double nan = std::nan("");

/// The whole text of the NonFiniteError that f throws.
template <class F>
std::string text_of(F f) {
  try {
    f();
  } catch (const NonFiniteError& error) {
    return error.what();
  }
  return "no error";
}

Parameter parameter(std::initializer_list<double> values, std::string name) {
  return Parameter(Tensor::from(values), std::move(name));
}

TEST(Anomaly, NamesTheFirstOutputThatIsNotFinite) {
  const Parameter w = parameter({1, -2, 3}, "w");
  Tape tape;
  const Anomaly anomaly(tape);
  const Variable x = Variable(w) * 2;
  const Label label("encoder.2");
  EXPECT_EQ(
      text_of([&] { log(x); }),
      "[log] output 0 [3] of node 2 is nan at element 1; it read input 0 [3], finite; nearest parameters upstream: "
      "'w' (in encoder.2)");
}

TEST(Anomaly, SaysWhichInputWasBadAlready) {
  const Parameter w = parameter({1, 2}, "w");
  Tape tape;
  const Anomaly anomaly(tape);
  const Variable x = w;
  EXPECT_EQ(text_of([&] {
              x + Tensor::from({0.0, -inf});
            }),
            "[add] output 0 [2] of node 1 is -inf at element 1; it read input 0 [2], finite, input 1 [2], is -inf at "
            "element 1; nearest parameters upstream: 'w'");
}

TEST(Anomaly, LeavesThatEnterTheTape) {
  const Parameter w = parameter({1, nan}, "encoder.weight");
  Tape tape;
  const Anomaly anomaly(tape);
  EXPECT_EQ(text_of([&] { square(w); }),
            "[parameter] output 0 [2] of node 0 is nan at element 1; nearest parameters upstream: 'encoder.weight'");
  EXPECT_EQ(text_of([&] { tape.watch(Tensor::from({inf})); }),
            "[watch] output 0 [1] of node 1 is inf at element 0; no parameter lies upstream");
}

TEST(Anomaly, NamesTheRuleThatMadeABadGradientAndTheLabelOfItsForward) {
  const Parameter w = parameter({4, 0}, "w");
  Tape tape;
  const Anomaly anomaly(tape);
  Variable y;
  {
    const Label label("head");
    y = sqrt(Variable(w));
  }
  const Variable loss = sum(y);
  const Label elsewhere("elsewhere");
  EXPECT_EQ(
      text_of([&] { tape.backward(loss); }),
      "[sqrt] the gradient for input 0 [2] of node 1 is inf at element 1; it came finite for output 0 [2]; nearest "
      "parameters upstream: 'w' (in head)");
  EXPECT_FALSE(w.grad().defined());
  EXPECT_FALSE(Tape::alive());
}

TEST(Anomaly, AGradientThatAHookSpoiled) {
  const Parameter w = parameter({4, 1}, "w");
  Tape tape;
  const Anomaly anomaly(tape);
  const Variable y = sqrt(Variable(w));
  tape.hook(y, [](const Variable& g) { return g * Tensor::from({1.0, inf}); });
  EXPECT_EQ(
      text_of([&] { tape.backward(sum(y)); }),
      "[sqrt] the gradient that came for output 0 [2] of node 1 is inf at element 1; nearest parameters upstream: "
      "'w'");
}

TEST(Anomaly, TheNearestParametersAreNamed) {
  const Parameter far = parameter({1, 2}, "far"), a = parameter({1, 2}, "a"), b = parameter({1, 2}, "b"),
                  c = parameter({1, 2}, "c"), d = parameter({1, 2}, ""), e = parameter({-1, 2}, "e");
  {
    Tape tape;
    const Anomaly anomaly(tape);
    const Variable h = square(square(square(far)));
    const std::string text = text_of([&] { log(h * 0.0 + e); });
    EXPECT_NE(text.find("upstream: 'e'"), text.npos) << text;
    EXPECT_EQ(text.find("'far'"), text.npos) << text;
  }
  Tape tape;
  const Anomaly anomaly(tape);
  auto all = [](std::initializer_list<Variable> in) {
    std::vector<Variable> inputs(in);
    return record("five", Tensor::from({inf}), inputs, [](const Variable&, Wants) { return std::vector<Variable>(5); });
  };
  const std::string text = text_of([&] { all({a, b, d, c, e}); });
  EXPECT_NE(text.find("upstream: 'a', 'b', one without a name and 2 more"), text.npos) << text;
}

TEST(Anomaly, SeesOnlyItsScopeAndWhatItIsAskedFor) {
  const Parameter w = parameter({0}, "w");
  Tape tape;
  {
    const Anomaly anomaly(tape, {.infinities = false});
    EXPECT_EQ(log(w).item(), -inf) << "as attention masks are";
    EXPECT_NE(text_of([&] { log(w) * 0.0; }), "no error");
    const NoTape quiet;
    EXPECT_TRUE(std::isnan((log(w) * 0.0).item()));
  }
  EXPECT_TRUE(std::isnan((log(w) * 0.0).item()));
}

TEST(Anomaly, FiniteStepsPassUnchanged) {
  const Parameter w = parameter({1, 2, 3}, "w");
  Tensor plain;
  for (const bool watched : {false, true}) {
    w.ref()->clear_grad();
    Tape tape;
    std::optional<Anomaly> anomaly;
    if (watched) anomaly.emplace(tape);
    const Variable y = exp(tanh(w)) * w;
    tape.backward(sum(checkpoint([](const Variable& v) { return square(v); }, y)));
    if (!watched) plain = w.grad().clone();
  }
  EXPECT_TRUE(testing::same_bytes(w.grad(), plain));
}

TEST(Anomaly, LooksIntoCheckpointedSegments) {
  const Parameter w = parameter({0, 1}, "w");
  const auto segment = [&](const Variable& x) {
    const Label outer("segment");
    const Variable kept = x * 2;
    const Label inner("segment.log");
    return log(kept);
  };
  Tape tape;
  const Anomaly anomaly(tape);
  const std::string text = text_of([&] { checkpoint(segment, w); });
  EXPECT_EQ(text.rfind("[log] output 0 [2] of node 2 is -inf at element 0", 0), 0u) << text;
  EXPECT_NE(text.find("(in segment.log)"), std::string::npos) << text;
}

TEST(Anomaly, LooksIntoTheBackwardOfCheckpointedSegments) {
  const Parameter w = parameter({0, 1}, "w");
  const auto segment = [&](const Variable& x) {
    const Label label("segment.sqrt");
    return sqrt(x * w);  // slope 1 / 0
  };
  Tape tape;
  const Anomaly anomaly(tape);
  const Variable loss = sum(checkpoint(segment, Variable(w) + 1));
  const std::string text = text_of([&] { tape.backward(loss); });
  EXPECT_EQ(text.rfind("[sqrt] the gradient for input 0", 0), 0u) << text;
  EXPECT_NE(text.find("'w'"), std::string::npos) << text;
  EXPECT_NE(text.find("(in segment.sqrt)"), std::string::npos) << text;
  EXPECT_EQ(Anomaly::current(), &anomaly);
}

TEST(Anomaly, ABadInputOfACheckpointIsNotItsDoing) {
  const Parameter w = parameter({0, 1}, "w");
  const Variable bad(Tensor::from({std::numeric_limits<double>::quiet_NaN(), 1.}));
  Tape tape;
  const Anomaly anomaly(tape);
  const std::string text = text_of([&] { checkpoint([&](const Variable& x) { return x * w; }, bad); });
  EXPECT_EQ(text.rfind("[checkpoint] output 0 [2]", 0), 0u) << text;
}

}  // namespace
}  // namespace espalier
