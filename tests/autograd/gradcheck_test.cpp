#include "espalier/autograd/gradcheck.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;
using In = std::span<const Variable>;

Tensor draw(const Shape& shape, unsigned seed = 1) {
  Rng rng(seed);
  return rng.uniform(shape, 0.5, 2, DType::f64);
}

/// x^2 with a rule that is wrong by `factor` at every element, or only at element `only`.
Variable wrong_square(const Variable& x, double factor, Index only = -1) {
  Tensor y = map_with("wrong_square", x.value(), [](auto v) { return v * v; });
  if (!recording(x)) return y;
  return record("wrong_square", std::move(y), {&x}, [x = Saved(x), factor, only](const Variable& g, Wants) {
    Tensor slope = (x.get().detach() * 2).value().clone();
    for (Index i = 0; i < slope.size(); ++i)
      if (only < 0 || i == only) slope.write<double>("test")[i] *= factor;
    return g * slope;
  });
}

TEST(Gradcheck, PassesWhatIsRight) {
  const GradcheckResult result = gradcheck([](In v) { return v[0] * exp(v[1]) / v[2]; },
                                           {draw({3, 4}), draw({4}), draw({3, 1})}, {.atol = 1e-8, .rtol = 1e-7});
  EXPECT_TRUE(result) << result.message;
  EXPECT_EQ(result.compared, 12 + 4 + 3);
  EXPECT_LE(result.error, 1);
  require(result);
}

TEST(Gradcheck, FindsAWrongFactorAndSaysWhere) {
  const GradcheckResult result =
      gradcheck([](In v) { return sum(v[0]) + sum(wrong_square(v[1], 1.01, 4)); }, {draw({2}), draw({2, 3})});
  EXPECT_FALSE(result);
  EXPECT_EQ(result.input, 1u);
  EXPECT_EQ(result.element, 4);
  EXPECT_NEAR(result.analytic, 1.01 * result.numeric, 1e-7);
  EXPECT_NE(result.message.find("input 1 of shape [2, 3] at [1, 1]"), std::string::npos) << result.message;
  EXPECT_NE(result.message.find("1 of 8 elements differ"), std::string::npos) << result.message;
  EXPECT_TRUE(throws<GradError>([&] { require(result); }, "gradcheck", "[1, 1]"));
}

TEST(Gradcheck, TheTolerancesDecide) {
  const DifferentiableFunction f = [](In v) { return wrong_square(v[0], 1 + 1e-4); };
  EXPECT_TRUE(gradcheck(f, {draw({3})}));
  EXPECT_FALSE(gradcheck(f, {draw({3})}, {.rtol = 1e-6}));
}

TEST(Gradcheck, FindsAGradientThatDoesNotComeAtAll) {
  const GradcheckResult detached = gradcheck([](In v) { return square(v[0].detach()); }, {draw({2})});
  EXPECT_FALSE(detached);
  EXPECT_NE(detached.message.find("no gradient came"), std::string::npos) << detached.message;
  const GradcheckResult partly = gradcheck([](In v) { return v[1] * v[0].detach(); }, {draw({2}), draw({2})});
  EXPECT_FALSE(partly);
  EXPECT_EQ(partly.input, 0u);
}

TEST(Gradcheck, AnUnusedInputNeedsNoGradient) {
  EXPECT_TRUE(gradcheck([](In v) { return square(v[0]); }, {draw({2}), draw({3})}));
  EXPECT_TRUE(gradcheck([](In) { return Variable(Tensor::ones({2}, DType::f64)); }, {draw({2})}));
  const GradcheckResult nothing = gradcheck([](In v) { return square(v[0]); }, {Tensor::ones({0}, DType::f64)});
  EXPECT_TRUE(nothing);
  EXPECT_EQ(nothing.compared, 0);
}

TEST(Gradcheck, FindsAGradientOfTheWrongShape) {
  const GradcheckResult result = gradcheck(
      [](In v) {
        Tensor y = v[0].value().clone();
        if (!recording(v[0])) return Variable(y);
        return record("shapeless", y, {&v[0]}, [](const Variable& g, Wants) { return sum(g); });
      },
      {draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("[shapeless] its rule returned a gradient of shape []"), std::string::npos)
      << result.message;
}

// --- what differences alone do not show ------------------------------------------------------------------------------

/// y = (sum x, sum x^2), with what `rule` makes of the two gradients.
template <class Rule>
DifferentiableFunctions two_sums(Rule rule) {
  return [rule](In v) {
    std::vector<Tensor> y = {sum(v[0]).value(), sum(square(v[0])).value()};
    if (!recording(v[0])) return std::vector<Variable>(y.begin(), y.end());
    return record("two_sums", std::move(y), {&v[0]}, [rule, x = Saved(v[0])](std::span<const Variable> g, Wants) {
      return std::vector<Variable>{rule(g, x.get())};
    });
  };
}
Variable or_zero(const Variable& g) { return g.defined() ? g : Variable(Tensor::zeros({}, DType::f64)); }

TEST(Gradcheck, TellsOutputsApart) {
  const auto right =
      two_sums([](std::span<const Variable> g, const Variable& x) { return or_zero(g[0]) + or_zero(g[1]) * 2 * x; });
  EXPECT_TRUE(gradcheck(right, {draw({3})}));
  const auto exchanged =
      two_sums([](std::span<const Variable> g, const Variable& x) { return or_zero(g[1]) + or_zero(g[0]) * 2 * x; });
  EXPECT_FALSE(gradcheck(exchanged, {draw({3})}));
}

TEST(Gradcheck, FindsARuleThatTakesAnOutputThatNobodyUsesForUsed) {
  const auto wrong = two_sums([](std::span<const Variable> g, const Variable& x) {
    const Variable second = g[1].defined() ? g[1] : Variable(Tensor::ones({}, DType::f64));
    return or_zero(g[0]) + second * 2 * x;
  });
  const GradcheckResult result = gradcheck(wrong, {draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("do not add up"), std::string::npos) << result.message;
}

TEST(Gradcheck, FindsARuleThatIsWrongForOneInputAlone) {
  const GradcheckResult result = gradcheck(
      [](In v) {
        Tensor y = (v[0] * v[1]).value();
        if (!recording(v[0], v[1])) return Variable(y);
        return record("product", y, {&v[0], &v[1]}, [a = Saved(v[0]), b = Saved(v[1])](const Variable& g, Wants wants) {
          return gradients(wants[1] ? g * b.get() : g, wants[1] ? g * a.get() : no_gradient());
        });
      },
      {draw({3}), draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("where it alone wants one"), std::string::npos) << result.message;
}

TEST(Gradcheck, FindsABackwardThatDiffersFromCallToCall) {
  auto calls = std::make_shared<int>(0);
  const GradcheckResult result = gradcheck(
      [calls](In v) {
        Tensor y = v[0].value().clone();
        if (!recording(v[0])) return Variable(y);
        return record("moody", y, {&v[0]}, [calls](const Variable& g, Wants) { return ++*calls == 1 ? g : g * 2; });
      },
      {draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("when backward ran again"), std::string::npos) << result.message;
}

TEST(Gradcheck, FindsARuleThatReadsMemoryAsIfItWereContiguous) {
  const GradcheckResult result = gradcheck(
      [](In v) {
        Tensor y = v[0].value().clone();
        if (!recording(v[0])) return Variable(y);
        return record("raw", y, {&v[0]}, [](const Variable& g, Wants) {
          Tensor dx = Tensor::empty(g.shape(), DType::f64);
          // Within bounds whatever the strides, and wrong unless they are 1.
          double* to = dx.write<double>("raw");
          for (Index i = 0; i < dx.size(); ++i)
            to[i] = g.value().is_contiguous() ? g.value().data<double>()[i] : g.value().data<double>()[0] * 2;
          return Variable(dx);
        });
      },
      {draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("not contiguous"), std::string::npos) << result.message;
}

TEST(Gradcheck, WithoutAnythingToCompareIsAnError) {
  EXPECT_TRUE(testing::throws<ConfigError>(
      [] { gradcheck([](In v) { return v[0]; }, {Tensor::from({std::int64_t{1}})}); }, "none of 1 inputs is f64"));
}

TEST(Gradcheck, FindsNaN) {
  // sqrt at 0: infinity analytically, NaN by differences.
  EXPECT_FALSE(gradcheck([](In v) { return sqrt(v[0]); }, {Tensor::zeros({1}, DType::f64)}));
}

TEST(Gradcheck, NeedsAFunctionThatRepeatsItself) {
  Rng rng(1);
  const GradcheckResult result =
      gradcheck([&](In v) { return v[0] * rng.uniform(v[0].shape(), 0, 1, DType::f64); }, {draw({3})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("differs from call to call"), std::string::npos) << result.message;
}

TEST(Gradcheck, RefusesF32AndHandsOthersOn) {
  EXPECT_TRUE(throws<DTypeError>(
      [] {
        gradcheck([](In v) { return v[0]; }, {draw({2}), Tensor::ones({2})});
      },
      "input 1", "f32", "DType::f64"));
  EXPECT_TRUE(gradcheck(
      [](In v) {
        EXPECT_EQ(v[1].dtype(), DType::boolean);
        return v[0] * v[1].value().to(DType::f64);
      },
      {draw({3}), Tensor::from({true, false, true})}));
}

TEST(Gradcheck, LeavesTheInputsAlone) {
  const Tensor x = draw({3}), before = x.clone();
  EXPECT_TRUE(gradcheck([](In v) { return square(v[0]); }, {x}));
  EXPECT_TRUE(testing::same_bytes(x, before));
  EXPECT_EQ(x.version(), before.version());
}

TEST(Gradcheck, ViewsKeepTheirStrides) {
  const Tensor wide = draw({4, 6});
  const Tensor column = wide.slice(1, 1, 6, 2), turned = wide.t();
  EXPECT_TRUE(gradcheck(
      [&](In v) {
        EXPECT_EQ(v[0].value().strides(), column.strides());
        EXPECT_EQ(v[1].value().strides(), turned.strides());
        return matmul(v[1], v[0]);
      },
      {column, turned}));
  // Overlapping elements cannot be moved one by one: such an input is checked as a dense one.
  EXPECT_TRUE(gradcheck([](In v) { return square(v[0]); }, {draw({3, 1}).broadcast_to({3, 4})}));
  // Reading behind the strides of a view shows.
  const GradcheckResult raw = gradcheck(
      [](In v) {
        Tensor y = Tensor::empty(v[0].shape(), DType::f64);
        std::copy_n(v[0].value().data<double>(), y.size(), y.write<double>("raw"));
        if (!recording(v[0])) return Variable(y);
        return record("raw", y, {&v[0]}, [](const Variable& g, Wants) { return g; });
      },
      {column});
  EXPECT_FALSE(raw);
}

TEST(Gradcheck, EmptyScalarAndViewOutputs) {
  EXPECT_TRUE(gradcheck([](In v) { return square(v[0]); }, {Tensor::zeros({0, 3}, DType::f64)}));
  EXPECT_TRUE(gradcheck([](In v) { return sum(v[0]); }, {Tensor::zeros({2, 0}, DType::f64)}));
  EXPECT_TRUE(gradcheck([](In v) { return square(v[0]); }, {Tensor::scalar(3, DType::f64)}));
  EXPECT_TRUE(gradcheck([](In v) { return v[0]; }, {draw({3})})) << "the input itself";
  EXPECT_TRUE(gradcheck([](In v) { return transpose(v[0], 0, 1); }, {draw({3, 2})})) << "a view of it";
}

TEST(Gradcheck, SeveralOutputsOfWhichSomeAreConstant) {
  const DifferentiableFunctions f = [](In v) {
    return std::vector<Variable>{square(v[0]), Tensor::ones({2}, DType::f64), Tensor::ones({2}, DType::i64), Variable(),
                                 sum(v[0] * v[1])};
  };
  EXPECT_TRUE(gradcheck(f, {draw({3}), draw({3})}));
  EXPECT_TRUE(gradgradcheck(f, {draw({3}), draw({3})}));
}

TEST(Gradcheck, RunsWithATapeAliveSoThatModulesTrain) {
  bool always = true;
  EXPECT_TRUE(gradcheck([&](In v) { return always = always && Tape::alive(), square(v[0]); }, {draw({2})}));
  EXPECT_TRUE(always);
  EXPECT_FALSE(Tape::alive());
  Tape outer;  // and within a user's tape it records nothing there
  EXPECT_TRUE(gradcheck([&](In v) { return square(v[0]); }, {draw({2})}));
  EXPECT_TRUE(gradgradcheck([&](In v) { return square(v[0]); }, {draw({2})}));
  EXPECT_EQ(outer.size(), 0u);
}

TEST(Gradgradcheck, PassesWhatIsRightAndFindsWhatIsNot) {
  const GradcheckResult right =
      gradgradcheck([](In v) { return exp(v[0]) * v[1]; }, {draw({2, 3}), draw({3})}, {.atol = 1e-7, .rtol = 1e-6});
  EXPECT_TRUE(right) << right.message;
  // The first gradient is right, its own gradient is lost: the rule computes with plain tensors.
  const DifferentiableFunction lossy = [](In v) {
    Tensor y = map_with("lossy", v[0].value(), [](auto x) { return x * x * x; });
    if (!recording(v[0])) return Variable(y);
    return record("lossy", y, {&v[0]}, [x = Saved(v[0])](const Variable& g, Wants) {
      return g * map_with("lossy", x.value(), [](auto e) { return 3 * e * e; });
    });
  };
  EXPECT_TRUE(gradcheck(lossy, {draw({3})}));
  const GradcheckResult lost = gradgradcheck(lossy, {draw({3})});
  EXPECT_FALSE(lost);
  EXPECT_NE(lost.message.find("second order"), std::string::npos) << lost.message;
}

TEST(Gradgradcheck, AnOnceDifferentiableRuleSaysSo) {
  const DifferentiableFunction once = [](In v) {
    Tensor y = map_with("cube", v[0].value(), [](auto x) { return x * x * x; });
    if (!recording(v[0])) return Variable(y);
    return record("cube", y, {&v[0]}, [x = Saved(v[0])](const Variable& g, Wants) {
      Tensor dx = zip_with("cube", g.value(), x.value(), [](auto a, auto b) { return a * 3 * b * b; });
      return once_differentiable("cube", std::move(dx), g, x.get());
    });
  };
  EXPECT_TRUE(gradcheck(once, {draw({3})}));
  EXPECT_TRUE(throws<GradError>([&] { gradgradcheck(once, {draw({3})}); }, "[cube]", "only once"));
  // A first gradient with create_graph is fine as long as nobody goes through it.
  Tape tape;
  const Variable x = tape.watch(draw({1}));
  const auto g = tape.gradient(once({&x, 1}), {x}, {.create_graph = true});
  EXPECT_TRUE(g[0].recorded());
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(g[0], {x}); }, "[cube]"));
}

}  // namespace
}  // namespace espalier
