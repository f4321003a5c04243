// Schedules against loops that keep a rate from step to step, and against their formulas at single steps.
#include "espalier/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <thread>

#include "tests/optim/support.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::same_bytes;
using espalier::testing::throws;

constexpr double pi = std::numbers::pi;
constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// `next(t, rate)` for t = 1, 2, ... from the first rate, as a scheduler that is stepped does it.
template <class F>
void expect_stepped(const Schedule& schedule, double first, std::int64_t steps, F next) {
  double rate = first;
  for (std::int64_t t = 0; t < steps; ++t) {
    if (t > 0) rate = next(t, rate);
    EXPECT_NEAR(schedule(t), rate, 1e-12 * std::abs(first)) << schedule.name() << " at step " << t;
  }
}

template <class F>
void expect_formula(const Schedule& schedule, std::int64_t steps, F formula) {
  for (std::int64_t t = 0; t < steps; ++t)
    EXPECT_NEAR(schedule(t), formula(static_cast<double>(t)), 1e-14) << schedule.name() << " at step " << t;
}

/// One of each kind, all within [0, 1] for good.
std::vector<Schedule> one_of_each() {
  const Schedule wave = cosine({.lr = 0.5, .T_max = 13, .eta_min = 0.1});
  return {0.25,
          [](std::int64_t t) { return 1 / (1 + static_cast<double>(t)); },
          constant({.lr = 0.3, .factor = 0.5, .total_iters = 4}),
          linear({.lr = 1, .start_factor = 0.1, .end_factor = 0.7, .total_iters = 20}),
          step_decay({.lr = 0.9, .step_size = 7}),
          multi_step({.lr = 0.9, .milestones = {5, 5, 30}, .gamma = 0.3}),
          exponential({.lr = 1, .gamma = 0.97}),
          polynomial({.lr = 1, .total_iters = 25, .power = 2.5, .eta_min = 0.01}),
          wave,
          cosine({.lr = 0.5, .T_max = 13, .eta_min = 0.1, .hold = true}),
          warm_restarts({.lr = 0.5, .T_0 = 3, .T_mult = 2}),
          warm_restarts({.lr = 0.5, .T_0 = 3, .eta_min = 0.1}),
          one_cycle({.max_lr = 1, .total_steps = 40}),
          one_cycle_momentum({.total_steps = 40, .anneal_strategy = Anneal::linear, .three_phase = true}),
          cyclic({.base_lr = 0.1, .max_lr = 1, .step_size_up = 4, .step_size_down = 9}),
          cyclic({.base_lr = 0.1, .max_lr = 1, .step_size_up = 4, .mode = CyclicMode::triangular2}),
          cyclic_momentum({.step_size_up = 5, .mode = CyclicMode::exp_range, .gamma = 0.99}),
          warmup(wave, {.steps = 6}),
          trapezoid({.lr = 1, .warmup = 5, .stable = 9, .decay = 10}),
          inverse_sqrt({.lr = 1, .warmup = 10}),
          joined({0.5, wave, 0.1}, {4, 22}),
          chained({wave, step_decay({.lr = 1, .step_size = 9, .gamma = 0.5})}),
          scaled(wave, 0.5),
          rewind(wave, {.at = 20, .to = 5, .times = 3})};
}

TEST(Schedule, IsPureInAnyOrderAndOnAnyThread) {
  for (const Schedule& s : one_of_each()) {
    std::vector<double> forward(60);
    for (std::size_t t = 0; t < forward.size(); ++t) forward[t] = s(static_cast<std::int64_t>(t));
    const Schedule copy = s;
    for (std::size_t i = 0; i < forward.size(); ++i) {
      const std::size_t t = (i * 37 + 11) % forward.size();
      EXPECT_EQ(copy(static_cast<std::int64_t>(t)), forward[t]) << s.name();
    }
    std::vector<std::vector<double>> seen(4, std::vector<double>(forward.size()));
    std::vector<std::thread> threads;
    for (auto& mine : seen)
      threads.emplace_back([&s, &mine] {
        for (std::size_t t = mine.size(); t-- > 0;) mine[t] = s(static_cast<std::int64_t>(t));
      });
    for (std::thread& thread : threads) thread.join();
    for (const auto& mine : seen) EXPECT_EQ(mine, forward) << s.name();
  }
}

TEST(Schedule, HugeStepsNeitherOverflowNorLeaveTheRange) {
  for (const Schedule& s : one_of_each()) {
    for (const std::int64_t t : {std::int64_t{1} << 31, std::int64_t{1} << 53, (std::int64_t{1} << 62) - 1,
                                 std::int64_t{1} << 62, largest - 1, largest}) {
      EXPECT_GE(s(t), 0) << s.name() << " at step " << t;
      EXPECT_LE(s(t), 1) << s.name() << " at step " << t;
    }
  }
  const std::int64_t half = std::int64_t{1} << 62;
  EXPECT_DOUBLE_EQ(linear({.lr = 1, .start_factor = 0, .total_iters = largest})(half), 0.5);
  EXPECT_DOUBLE_EQ(cosine({.lr = 1, .T_max = largest})(half), 0.5);
  EXPECT_EQ(warm_restarts({.lr = 1, .T_0 = 3, .T_mult = largest})(largest), 0.5 * (1 + std::cos(pi)));
  EXPECT_DOUBLE_EQ(cyclic({.base_lr = 0, .max_lr = 1, .step_size_up = largest})(largest), 1);
  EXPECT_DOUBLE_EQ(cyclic({.base_lr = 0, .max_lr = 1, .step_size_up = half, .step_size_down = largest})(half), 1);
  EXPECT_EQ(trapezoid({.lr = 1, .warmup = largest, .stable = largest, .decay = largest})(largest), 1);
  EXPECT_EQ(inverse_sqrt({.lr = 1, .warmup = largest})(largest), 1);
  EXPECT_DOUBLE_EQ(one_cycle({.max_lr = 1, .total_steps = largest, .pct_start = 0.5})(half - 1), 1);
  EXPECT_EQ(rewind([](std::int64_t t) { return t == largest - 5 ? 1.0 : 0.0; }, {.at = 10, .to = 5})(largest), 1);
  EXPECT_EQ(warmup(0.5, {.steps = largest})(largest), 0.5);
}

TEST(Schedule, NegativeStepsAreRefused) {
  for (const Schedule& s : one_of_each())
    EXPECT_TRUE(throws<ConfigError>([&] { (void)s(-1); }, "[" + s.name() + "] the step must not be negative, got -1"));
}

TEST(Schedule, AgreesWithSchedulersThatAreStepped) {
  expect_stepped(constant({.lr = 0.3, .factor = 0.25, .total_iters = 8}), 0.3 * 0.25, 20,
                 [](std::int64_t t, double rate) { return t == 8 ? rate / 0.25 : rate; });
  expect_stepped(step_decay({.lr = 0.1, .step_size = 7, .gamma = 0.5}), 0.1, 60,
                 [](std::int64_t t, double rate) { return t % 7 == 0 ? rate * 0.5 : rate; });
  expect_stepped(multi_step({.lr = 0.1, .milestones = {5, 12, 12, 30}}), 0.1, 60, [](std::int64_t t, double rate) {
    return t == 5 || t == 30 ? rate * 0.1 : t == 12 ? rate * 0.1 * 0.1 : rate;
  });
  expect_stepped(exponential({.lr = 0.1, .gamma = 0.93}), 0.1, 60,
                 [](std::int64_t, double rate) { return rate * 0.93; });
  expect_stepped(linear({.lr = 0.1, .start_factor = 0.2, .end_factor = 0.9, .total_iters = 11}), 0.02, 30,
                 [](std::int64_t t, double rate) {
                   const double slope = 0.9 - 0.2;
                   return t > 11 ? rate : rate * (1 + slope / (11 * 0.2 + static_cast<double>(t - 1) * slope));
                 });
  expect_stepped(polynomial({.lr = 0.1, .total_iters = 20, .power = 2}), 0.1, 40, [](std::int64_t t, double rate) {
    const double now = 1 - static_cast<double>(t) / 20, before = 1 - static_cast<double>(t - 1) / 20;
    return t > 20 ? rate : rate * std::pow(now / before, 2);
  });
  expect_stepped(cosine({.lr = 0.1, .T_max = 15, .eta_min = 0.01}), 0.1, 70, [](std::int64_t t, double rate) {
    if ((t - 1 - 15) % 30 == 0) return rate + (0.1 - 0.01) * (1 - std::cos(pi / 15)) / 2;
    const double now = static_cast<double>(t), before = static_cast<double>(t - 1);
    return (1 + std::cos(pi * now / 15)) / (1 + std::cos(pi * before / 15)) * (rate - 0.01) + 0.01;
  });
  std::int64_t in_cycle = 0, cycle = 5;
  expect_stepped(warm_restarts({.lr = 0.1, .T_0 = 5, .T_mult = 3, .eta_min = 0.001}), 0.1, 200,
                 [&](std::int64_t, double) {
                   if (++in_cycle >= cycle) in_cycle -= std::exchange(cycle, cycle * 3);
                   const double x = static_cast<double>(in_cycle) / static_cast<double>(cycle);
                   return 0.001 + (0.1 - 0.001) * (1 + std::cos(pi * x)) / 2;
                 });
}

TEST(Schedule, CyclicIsATriangleWave) {
  // Smith 2017, listing 1, for halves of one length.
  const auto listing = [](double t, double height) {
    const double cycle = std::floor(1 + t / 12), x = std::abs(t / 6 - 2 * cycle + 1);
    return std::max(0.0, 1 - x) * height;
  };
  expect_formula(cyclic({.base_lr = 0.1, .max_lr = 0.7, .step_size_up = 6}), 80,
                 [&](double t) { return 0.1 + 0.6 * listing(t, 1); });
  expect_formula(cyclic({.base_lr = 0.1, .max_lr = 0.7, .step_size_up = 6, .mode = CyclicMode::triangular2}), 80,
                 [&](double t) { return 0.1 + 0.6 * listing(t, std::pow(0.5, std::floor(t / 12))); });
  expect_formula(
      cyclic({.base_lr = 0.1, .max_lr = 0.7, .step_size_up = 6, .mode = CyclicMode::exp_range, .gamma = 0.9}), 80,
      [&](double t) { return 0.1 + 0.6 * listing(t, std::pow(0.9, t)); });
  expect_formula(cyclic_momentum({.step_size_up = 6, .mode = CyclicMode::triangular2}), 80,
                 [&](double t) { return 0.9 - 0.1 * listing(t, std::pow(0.5, std::floor(t / 12))); });
  const Schedule uneven = cyclic({.base_lr = 0.1, .max_lr = 0.7, .step_size_up = 1, .step_size_down = 3});
  for (const std::int64_t foot : {0, 4, 8}) {
    EXPECT_EQ(uneven(foot), 0.1);
    EXPECT_EQ(uneven(foot + 1), 0.7);
    EXPECT_DOUBLE_EQ(uneven(foot + 2), 0.5);
    EXPECT_DOUBLE_EQ(uneven(foot + 3), 0.3);
  }
}

TEST(Schedule, OneCycleHasItsPeakAndItsEnds) {
  const Schedule rate = one_cycle({.max_lr = 0.5, .total_steps = 41, .pct_start = 0.25, .final_div_factor = 100});
  const double top = 0.25 * 41 - 1;  // between two steps
  expect_formula(rate, 41, [&](double t) {
    const double s = t <= top ? t / top : (t - top) / (40 - top);
    const double from = t <= top ? 0.02 : 0.5, to = t <= top ? 0.5 : 0.0002;
    return to + (from - to) / 2 * (1 + std::cos(pi * s));
  });
  EXPECT_EQ(rate(0), 0.5 / 25);
  EXPECT_EQ(rate(40), 0.5 / 25 / 100);
  EXPECT_EQ(rate(41), rate(40));
  EXPECT_EQ(rate(largest), rate(40));

  const Schedule three = one_cycle({.max_lr = 1,
                                    .total_steps = 40,
                                    .pct_start = 0.25,
                                    .anneal_strategy = Anneal::linear,
                                    .div_factor = 10,
                                    .final_div_factor = 100,
                                    .three_phase = true});
  EXPECT_EQ(three(0), 0.1);
  EXPECT_EQ(three(9), 1);
  EXPECT_DOUBLE_EQ(three(3), 0.1 + 0.9 / 3);
  EXPECT_EQ(three(18), 0.1);
  EXPECT_DOUBLE_EQ(three(12), 1 - 0.9 / 3);
  EXPECT_EQ(three(39), 0.001);
  EXPECT_DOUBLE_EQ(three(25), 0.1 - 0.099 / 3);

  const Schedule momentum = one_cycle_momentum({.total_steps = 40, .pct_start = 0.25});
  EXPECT_EQ(momentum(0), 0.95);
  EXPECT_EQ(momentum(9), 0.85);
  EXPECT_EQ(momentum(39), 0.95);
  const Schedule flat_end = one_cycle_momentum({.total_steps = 40, .pct_start = 0.25, .three_phase = true});
  EXPECT_EQ(flat_end(9), 0.85);
  for (std::int64_t t = 18; t < 45; ++t) EXPECT_EQ(flat_end(t), 0.95);
}

TEST(Schedule, WarmupEndsAtTheWholeRateAndThenTheOtherBegins) {
  const Schedule s = warmup(step_decay({.lr = 0.8, .step_size = 3, .gamma = 0.5}), {.steps = 4});
  const std::vector<double> expected = {0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2};
  for (std::size_t t = 0; t < expected.size(); ++t) EXPECT_DOUBLE_EQ(s(static_cast<std::int64_t>(t)), expected[t]) << t;
  const Schedule from_half = warmup(2.0, {.steps = 4, .start_factor = 0.5});
  EXPECT_DOUBLE_EQ(from_half(0), 2 * (0.5 + 0.5 / 4));
  EXPECT_EQ(from_half(3), 2);
}

TEST(Schedule, TrapezoidRisesStaysAndFalls) {
  const Schedule s = trapezoid({.lr = 0.8, .warmup = 4, .stable = 3, .decay = 5, .eta_min = 0.1});
  const std::vector<double> expected = {0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.66, 0.52, 0.38, 0.24, 0.1, 0.1};
  for (std::size_t t = 0; t < expected.size(); ++t) EXPECT_DOUBLE_EQ(s(static_cast<std::int64_t>(t)), expected[t]) << t;
  const Schedule root = trapezoid({.lr = 1, .stable = 2, .decay = 16, .shape = DecayShape::one_minus_sqrt});
  EXPECT_EQ(root(2), 1);
  EXPECT_DOUBLE_EQ(root(6), 0.5);
  EXPECT_DOUBLE_EQ(root(11), 0.25);
  EXPECT_EQ(root(18), 0);
}

TEST(Schedule, InverseSquareRootIsTheTransformers) {
  const double d_model = 512, warm = 40;
  expect_formula(inverse_sqrt({.lr = 1 / std::sqrt(d_model * warm), .warmup = 40}), 200, [&](double t) {
    return std::pow(d_model, -0.5) * std::min(std::pow(t + 1, -0.5), (t + 1) * std::pow(warm, -1.5));
  });
  expect_formula(inverse_sqrt({.lr = 0.5, .warmup = 0}), 20, [](double t) { return 0.5 / std::sqrt(t + 1); });
}

TEST(Schedule, JoinedPartsCountFromTheirOwnBeginning) {
  const Schedule count = [](std::int64_t t) { return static_cast<double>(t); };
  const Schedule s = joined({count, scaled(count, 10), -1.0, scaled(count, 100)}, {3, 5, 5});
  const std::vector<double> expected = {0, 1, 2, 0, 10, 0, 100, 200};
  for (std::size_t t = 0; t < expected.size(); ++t) EXPECT_EQ(s(static_cast<std::int64_t>(t)), expected[t]) << t;
  EXPECT_EQ(joined({count}, {})(7), 7);
  EXPECT_EQ(joined({-1.0, count}, {0})(7), 7);
}

TEST(Schedule, ChainedMultipliesAndScaledScales) {
  const Schedule s =
      chained({exponential({.lr = 0.1, .gamma = 0.95}), step_decay({.lr = 1, .step_size = 9, .gamma = 0.5}), 3.0});
  expect_formula(s, 50, [](double t) { return 0.3 * std::pow(0.95, t) * std::pow(0.5, std::floor(t / 9)); });
  EXPECT_EQ(scaled(s, -2)(12), -2 * s(12));
}

TEST(Schedule, RewindPlaysAgain) {
  const Schedule count = [](std::int64_t t) { return static_cast<double>(t); };
  const auto played = [](const Schedule& s, std::size_t n) {
    std::vector<double> values(n);
    for (std::size_t t = 0; t < n; ++t) values[t] = s(static_cast<std::int64_t>(t));
    return values;
  };
  EXPECT_EQ(played(rewind(count, {.at = 4, .to = 1}), 9), (std::vector<double>{0, 1, 2, 3, 1, 2, 3, 4, 5}));
  EXPECT_EQ(played(rewind(count, {.at = 4, .to = 1, .times = 2}), 12),
            (std::vector<double>{0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5}));
  EXPECT_EQ(played(rewind(count, {.at = 4, .to = 4, .times = 9}), 7), played(count, 7));
  EXPECT_EQ(played(rewind(count, {.at = 0}), 7), played(count, 7));
  EXPECT_EQ(played(rewind(count, {.at = 1, .to = 0, .times = largest}), 5), (std::vector<double>(5, 0)));
}

TEST(Schedule, PhasesOfNoLengthAreAtTheirEnd) {
  EXPECT_EQ(constant({.lr = 2, .factor = 9})(0), 2);
  EXPECT_EQ(linear({.lr = 2, .end_factor = 0.5, .total_iters = 0})(0), 1);
  EXPECT_EQ(polynomial({.lr = 2, .total_iters = 0, .eta_min = 0.5})(0), 0.5);
  EXPECT_EQ(cosine({.lr = 2, .T_max = 0, .eta_min = 0.5})(0), 0.5);
  EXPECT_EQ(multi_step({.lr = 2, .milestones = {0}})(0), 0.2);
  EXPECT_EQ(multi_step({.lr = 2})(100), 2);
  EXPECT_EQ(warmup(2.0, {.steps = 0})(0), 2);
  EXPECT_EQ(trapezoid({.lr = 2, .stable = 0, .decay = 0, .eta_min = 0.5})(0), 0.5);
  EXPECT_EQ(one_cycle({.max_lr = 2, .total_steps = 1})(0), 2.0 / 25 / 1e4);
  EXPECT_EQ(one_cycle({.max_lr = 2, .total_steps = 1, .pct_start = 1})(0), 2);
}

TEST(Schedule, PhasesOfOneStepAreAtTheirBeginning) {
  EXPECT_EQ(linear({.lr = 2, .start_factor = 0.25, .total_iters = 1})(0), 0.5);
  EXPECT_EQ(linear({.lr = 2, .start_factor = 0.25, .total_iters = 1})(1), 2);
  EXPECT_EQ(cosine({.lr = 2, .T_max = 1})(0), 2);
  EXPECT_EQ(cosine({.lr = 2, .T_max = 1})(1), 0);
  EXPECT_EQ(cosine({.lr = 2, .T_max = 1})(2), 2);
  EXPECT_EQ(cosine({.lr = 2, .T_max = 1, .hold = true})(2), 0);
  EXPECT_EQ(polynomial({.lr = 2, .total_iters = 1, .power = 3})(0), 2);
  EXPECT_EQ(polynomial({.lr = 2, .total_iters = 1, .power = 3})(1), 0);
  EXPECT_EQ(warm_restarts({.lr = 2, .T_0 = 1})(17), 2);
  EXPECT_EQ(one_cycle({.max_lr = 2, .total_steps = 4, .pct_start = 0.25})(0), 2) << "the rise has no length";
}

TEST(Schedule, GrowthWithoutBoundIsInfiniteButNothingStaysNothing) {
  EXPECT_EQ(exponential({.lr = 1e-5, .gamma = 1.1})(largest), infinity);
  EXPECT_EQ(exponential({.lr = 0, .gamma = 1.1})(largest), 0);
  EXPECT_EQ(step_decay({.lr = 0, .step_size = 1, .gamma = 2})(largest), 0);
  EXPECT_EQ(exponential({.lr = 0.5, .gamma = 0})(0), 0.5);
  EXPECT_EQ(exponential({.lr = 0.5, .gamma = 0})(1), 0);
}

/// A rate, a momentum and the bound of a clip follow schedules; stopped and resumed in the middle of all of them.
TEST(Schedule, DrivesAnySettingAndSurvivesAResume) {
  const auto make = [](const Parameter& p) {
    const Schedule bound = linear({.lr = 1, .start_factor = 2, .end_factor = 0.5, .total_iters = 12});
    return Optimizer(list_of(p),
                     chain(clip_by_global_norm(bound), sgd({.lr = one_cycle({.max_lr = 0.2, .total_steps = 20}),
                                                            .momentum = one_cycle_momentum({.total_steps = 20})})));
  };
  const Parameter whole = parameter("w", numbers(37, 1)), halves = parameter("w", numbers(37, 1));
  auto first = make(whole);
  for (unsigned t = 0; t < 20; ++t) {
    give_gradient(whole, numbers(37, 5 + t, 3));
    const StepReport report = first.step();
    const double bound = 2 - 1.5 * std::min(t / 12.0, 1.0);
    EXPECT_NEAR(report["clip_by_global_norm"].norm_after, bound, 1e-12);
  }
  OptimizerState saved;
  for (unsigned begin : {0u, 9u}) {
    auto part = make(halves);
    if (begin > 0) part.load_state(saved);
    for (unsigned t = begin; t < (begin == 0 ? 9 : 20); ++t) {
      give_gradient(halves, numbers(37, 5 + t, 3));
      part.step();
    }
    saved = part.state();
  }
  EXPECT_TRUE(same_bytes(whole.value(), halves.value()));
}

TEST(Schedule, ThatGivesNaNStopsTheStepBeforeAnyWrite) {
  const Parameter p = parameter("w", {1, 2});
  auto opt = Optimizer(list_of(p), sgd({.lr = joined({0.1, [](std::int64_t) { return std::nan(""); }}, {1})}));
  give_gradient(p, {1, 1});
  opt.step();
  const std::vector<double> before = values_of(p);
  give_gradient(p, {1, 1});
  EXPECT_TRUE(throws<ConfigError>([&] { opt.step(); }, "[sgd] lr"));
  EXPECT_EQ(values_of(p), before);
}

}  // namespace
}  // namespace espalier::optim
