// The noise behind per-example clipping, and all that surrounds it: resuming, parts of a batch, masks, memory, checks.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"
#include "espalier/optim/per_example.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using testing::numbers;
using testing::values_of;
using Values = std::vector<double>;

Tensor data(const Shape& shape, unsigned seed, DType type = DType::f32) {
  return Tensor::from(numbers(static_cast<std::size_t>(count(shape)), seed), shape).to(type);
}

struct Model {
  Parameter w = Parameter(data({3, 4}, 1), "w"), b = Parameter(data({3}, 2), "b");
  ParameterList parameters() const { return list_of(w, b); }
  Variable losses(const Tensor& x) const { return sum(square(linear(x, w, b)), {1}); }
  void clear() const {
    for (const NamedParameter& named : parameters()) named.parameter->clear_grad();
  }
};

PerExampleReport run(const Model& model, PerExampleClip& clip, const Tensor& x) {
  model.clear();
  Tape tape;
  clip.watch(tape);
  return clip.backward(tape, model.losses(x));
}

// --- noise -----------------------------------------------------------------------------------------------------------

TEST(PerExampleNoise, IsDrawnFromTheGeneratorInTheOrderOfTheList) {
  const Model model;
  const Tensor x = data({5, 4}, 3);
  PerExampleClip quiet(model.parameters(), {.max_norm = 0.5, .expected_batch = 8});
  run(model, quiet, x);
  const Tensor w = model.w.grad().clone(), b = model.b.grad().clone();
  PerExampleClip loud(model.parameters(), {.max_norm = 0.5, .noise_multiplier = 1.5, .expected_batch = 8}, Rng(7));
  run(model, loud, x);
  Rng rng(7);
  for (const auto& [parameter, plain] : {std::pair{&model.w, &w}, {&model.b, &b}}) {
    const Values draw = values_of(rng.normal(parameter->shape(), 0, 0.75));
    const Values got = values_of(parameter->grad()), sum = values_of(*plain);
    for (std::size_t j = 0; j < got.size(); ++j) EXPECT_NEAR(got[j], sum[j] + draw[j] / 8, 1e-7);
  }
}

TEST(PerExampleNoise, HasTheDeviationItShouldHave) {
  // The second parameter is read by no example: its gradient is the noise alone.
  const Model model;
  const Parameter unread(Tensor::zeros({200, 200}, DType::f64), "unread");
  ParameterList all = model.parameters();
  all.push_back({"unread", unread.ref()});
  PerExampleClip clip(all, {.max_norm = 1.5, .noise_multiplier = 2, .expected_batch = 10}, Rng(11));
  run(model, clip, data({5, 4}, 3));
  double mean = 0, square = 0;
  for (const double v : values_of(unread.grad())) {
    mean += v / 40000;
    square += v * v / 40000;
  }
  EXPECT_NEAR(mean, 0, 4 * 0.3 / 200);  // four deviations of a mean of 40,000
  EXPECT_NEAR(std::sqrt(square), 0.3, 4 * 0.3 / std::sqrt(2 * 40000.0));
}

TEST(PerExampleNoise, ReachesABatchWithoutExamples) {
  const Model model;
  PerExampleClip clip(model.parameters(), {.max_norm = 1, .noise_multiplier = 1, .expected_batch = 4}, Rng(3));
  const PerExampleReport report = run(model, clip, Tensor::zeros({0, 4}));
  EXPECT_EQ(report.norms.shape(), Shape{0});
  EXPECT_EQ(report.median, 0);
  Rng rng(3);
  EXPECT_TRUE(allclose(model.w.grad(), rng.normal({3, 4}, 0, 0.25)));
  EXPECT_EQ(clip.steps(), 1);
  PerExampleClip quiet(model.parameters(), {.max_norm = 1, .expected_batch = 4});
  run(model, quiet, Tensor::zeros({0, 4}));
  EXPECT_FALSE(model.w.grad().defined()) << "nothing to say";
}

TEST(PerExampleNoise, StaysAwayFromPrunedAndFrozen) {
  Model model;
  Mask mask(12);
  for (Index j = 0; j < 12; j += 2) mask.set(j, false);
  model.w.set_mask(mask);
  model.b.freeze();
  PerExampleClip clip(model.parameters(), {.max_norm = 0.1, .noise_multiplier = 1}, Rng(3));
  run(model, clip, data({5, 4}, 3));
  const Values g = values_of(model.w.grad());
  for (std::size_t j = 0; j < g.size(); ++j) EXPECT_EQ(g[j] == 0, j % 2 == 0) << j;
  EXPECT_FALSE(model.b.grad().defined());
  model.w.set_mask(mask, MaskMode::soft);
  run(model, clip, data({5, 4}, 3));
  for (const double v : values_of(model.w.grad())) EXPECT_NE(v, 0);
}

TEST(PerExampleNoise, ResumesWithTheSameBytes) {
  const Model model;
  const Scalar sigma = [](std::int64_t step) { return 2.0 / (1.0 + static_cast<double>(step)); };
  const PerExampleOptions options{.max_norm = 1, .noise_multiplier = sigma, .expected_batch = 4};
  auto step = [&](PerExampleClip& clip, unsigned seed) {
    run(model, clip, data({5, 4}, seed));
    return model.w.grad().clone();
  };
  PerExampleClip whole(model.parameters(), options, Rng(9));
  step(whole, 1);
  const Tensor saved = whole.state();
  const Tensor second = step(whole, 2), third = step(whole, 3);
  PerExampleClip again(model.parameters(), options, Rng(1));
  again.load_state(saved);
  EXPECT_EQ(again.steps(), 1);
  EXPECT_TRUE(equal(step(again, 2), second));
  EXPECT_TRUE(equal(step(again, 3), third));
  EXPECT_TRUE(equal(again.state(), whole.state()));
}

// --- parts of a batch ------------------------------------------------------------------------------------------------

TEST(PerExampleClipParts, AddUpToTheWhole) {
  const Model model;
  const Tensor x = data({6, 4}, 4);
  const PerExampleOptions options{.max_norm = 0.5, .noise_multiplier = 1};
  PerExampleClip whole(model.parameters(), options, Rng(5));
  run(model, whole, x);
  const Values want = values_of(model.w.grad());
  model.clear();
  PerExampleClip parts(model.parameters(), options, Rng(5));
  for (const auto& [first, n] : {std::pair<Index, Index>{0, 2}, {2, 0}, {2, 4}}) {
    Tape tape;
    parts.watch(tape);
    EXPECT_EQ(parts.accumulate(tape, model.losses(x.narrow(0, first, n))).norms.size(), n);
  }
  EXPECT_EQ(parts.steps(), 0);
  parts.add_noise();
  const Values got = values_of(model.w.grad());
  for (std::size_t j = 0; j < want.size(); ++j) EXPECT_NEAR(got[j], want[j], 1e-6);
  // What was accumulated and then dropped does not count.
  PerExampleClip dropped(model.parameters(), options, Rng(5));
  model.clear();
  {
    Tape tape;
    dropped.watch(tape);
    dropped.accumulate(tape, model.losses(x));
  }
  run(model, dropped, x);
  EXPECT_EQ(values_of(model.w.grad()), want);
}

TEST(PerExampleClipParts, AnOptimizerStepsOnThem) {
  const Model model;
  const Tensor before = model.w.value().clone();
  Optimizer opt(model.parameters(), sgd({.lr = 0.1}));
  PerExampleClip clip(model.parameters(), {.max_norm = 1, .noise_multiplier = 0.5}, Rng(2));
  for (unsigned k = 0; k < 3; ++k) {
    Tape tape;
    clip.watch(tape);
    clip.backward(tape, model.losses(data({5, 4}, k)));
    opt.step();
  }
  EXPECT_FALSE(equal(before, model.w.value()));
}

// --- the report ------------------------------------------------------------------------------------------------------

TEST(PerExampleReport, EdgesOfTheRule) {
  // d loss / d w = x for one weight: the norms are |x|.
  const Parameter w(Tensor::ones({1, 1}, DType::f64), "w");
  auto run_on = [&](const Values& x, double bound) {
    w.ref()->clear_grad();
    PerExampleClip clip(list_of(w), {.max_norm = bound, .expected_batch = 1});
    Tape tape;
    clip.watch(tape);
    return clip.backward(tape, sum(linear(Tensor::from(x, {static_cast<Index>(x.size()), 1}), w), {1}));
  };
  PerExampleReport r = run_on({0, 2, -3, 4}, 2);
  EXPECT_EQ(values_of(r.norms), (Values{0, 2, 3, 4}));
  EXPECT_EQ(r.clipped, 2) << "a norm at the bound is left alone";
  EXPECT_EQ(r.median, 2);
  EXPECT_EQ(values_of(w.grad()), Values{0 + 2 - 2 + 2});
  r = run_on({0, 0, 0}, 1);
  EXPECT_EQ(r.clipped, 0);
  EXPECT_EQ(values_of(w.grad()), Values{0});
  r = run_on({1e200, -1e-200}, 1e-3);
  EXPECT_EQ(r.clipped, 1);
  EXPECT_NEAR(w.grad().item(), 1e-3, 1e-18);
  r = run_on({5}, std::numeric_limits<double>::infinity());
  EXPECT_EQ(w.grad().item(), 5);
}

TEST(PerExampleReport, SensitivityIsAtMostTheBound) {
  // The sum with and without one example differs by at most C, also where products of f32 nearly cancel.
  const Index length = 3, width = 64;
  Tensor x = data({4, length, width}, 8);
  float* p = x.write<float>("test");
  for (Index n = 0; n < 4; ++n)  // the second token takes back what the first one gives, but for 1 in 10,000
    for (Index j = 0; j < width; ++j)
      p[(n * length + 1) * width + j] = -p[n * length * width + j] * (1 + 1e-4f * static_cast<float>(n)) * 1000;
  const Parameter w(data({width, width}, 9), "w");
  PerExampleClip clip(list_of(w), {.max_norm = 1, .expected_batch = 1});
  for (Index n = 0; n < 4; ++n) {
    w.ref()->clear_grad();
    Tape tape;
    clip.watch(tape);
    clip.backward(tape,
                  sum(mul(linear(x.narrow(0, n, 1), w), Variable(Tensor::from({1000.f, 1.f, 0.f}, {3, 1}))), {1, 2}));
    EXPECT_LE(testing::norm({values_of(w.grad())}), 1.005) << n;  // sums of f32 up to 1,000 times as large
  }
}

// --- what must not pass unseen ---------------------------------------------------------------------------------------

TEST(PerExampleChecks, SeeWhereExamplesMix) {
  const Model model;
  const Tensor x = data({6, 4}, 4);
  auto mixing = [&] {
    const Variable h = linear(x, model.w, model.b);
    return sum(square(sub(h, mean(h, {0}, true))), {1});
  };
  for (const auto check : {PerExampleCheck::first, PerExampleCheck::always}) {
    PerExampleClip clip(model.parameters(), {.max_norm = 1, .check = check});
    Tape tape;
    clip.watch(tape);
    EXPECT_THROW(clip.backward(tape, mixing()), GradError);
    EXPECT_FALSE(model.w.grad().defined());
  }
  {
    PerExampleClip late(model.parameters(), {.max_norm = 1, .check = PerExampleCheck::always});
    run(model, late, x);
    model.clear();
    Tape tape;
    late.watch(tape);
    EXPECT_THROW(late.backward(tape, mixing()), GradError);
  }
  PerExampleClip blind(model.parameters(), {.max_norm = 1, .check = PerExampleCheck::never});
  Tape tape;
  blind.watch(tape);
  EXPECT_NO_THROW(blind.backward(tape, mixing()));
}

TEST(PerExampleChecks, SeeAHookThatIsNotLinear) {
  const Model model;
  PerExampleClip clip(model.parameters(), {.max_norm = 1});
  Tape tape;
  clip.watch(tape);
  const Variable h = linear(data({6, 4}, 4), model.w, model.b), y = tanh(h);
  tape.hook(y, [](const Variable& g) { return tanh(g); });
  EXPECT_THROW(clip.backward(tape, sum(square(y), {1})), GradError);
}

TEST(PerExampleChecks, LeaveNormsOfOneExampleAlone) {
  const Parameter w(data({3, 4}, 1), "w");
  PerExampleClip clip(list_of(w), {.max_norm = 1, .check = PerExampleCheck::always});
  Tape tape;
  clip.watch(tape);
  const Variable y = layer_norm(linear(data({6, 4}, 4), w), {3});
  EXPECT_NO_THROW(clip.backward(tape, sum(mul(y, y + 1.0), {1})));
}

// --- memory ----------------------------------------------------------------------------------------------------------

TEST(PerExampleMemory, NoGradientOfAllExamplesIsStored) {
  const ThreadLimit one(1);
  const Index n = 128, width = 256;
  const std::uint64_t weight_bytes = static_cast<std::uint64_t>(width * width) * 4;
  for (const bool masked : {false, true}) {
    Parameter w(data({width, width}, 1), "w");
    if (masked) w.set_mask(Mask(width * width));  // nothing is pruned, yet each gradient has to be made
    const Tensor x = data({n, width}, 2);
    PerExampleClip clip(list_of(w), {.max_norm = 1, .noise_multiplier = 1});
    release_cached_memory();
    {
      Tape tape;
      clip.watch(tape);
      clip.backward(tape, sum(square(linear(x, w)), {1}));
    }
    w.ref()->clear_grad();
    // All that was ever taken is cached by now: a few weights' worth, and outputs; not n weights' worth.
    EXPECT_LT(allocator_statistics().cached_bytes, 12 * weight_bytes) << masked;
    EXPECT_GT(allocator_statistics().cached_bytes, weight_bytes);
  }
}

}  // namespace
}  // namespace espalier::optim
