// Projections that sort: against plain references, and by what makes a point the nearest one.
#include "espalier/optim/projection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/optim/values.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::same_bytes;
using espalier::testing::Threads;

double sum_abs(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0, [](double s, double v) { return s + std::abs(v); });
}
Index nonzeros(const std::vector<double>& x) {
  return std::count_if(x.begin(), x.end(), [](double v) { return v != 0; });
}

/// theta of Duchi et al. 2008, figure 1: all sorted.
double threshold(std::vector<double> x, double total) {
  std::sort(x.begin(), x.end(), std::greater<>());
  long double sum = 0, theta = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    sum += x[j];
    const long double next = (sum - total) / static_cast<long double>(j + 1);
    if (x[j] - next > 0) theta = next;
  }
  return static_cast<double>(theta);
}
std::vector<double> plain_simplex(std::vector<double> x, double total) {
  const double theta = threshold(x, total);
  for (double& v : x) v = std::max(v - theta, 0.0);
  return x;
}
std::vector<double> plain_l1(std::vector<double> x, double radius) {
  if (sum_abs(x) <= radius) return x;
  std::vector<double> sizes = x;
  for (double& v : sizes) v = std::abs(v);
  const double theta = threshold(sizes, radius);
  for (double& v : x) v = std::copysign(std::max(std::abs(v) - theta, 0.0), v);
  return x;
}
std::vector<double> plain_top_k(std::vector<double> x, std::size_t k) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return std::abs(x[a]) > std::abs(x[b]); });
  for (std::size_t j = k; j < x.size(); ++j) x[order[j]] = 0;
  return x;
}

struct Rule {
  const char* name;
  Chain (*chain)(double amount, Over over);
  std::vector<double> (*plain)(std::vector<double>, double amount);
  double amount;
};
const Rule rules[] = {
    {"l1", [](double a, Over o) { return l1_ball({.radius = a, .over = o}); }, plain_l1, 1.75},
    {"l1, outside only just", [](double a, Over o) { return l1_ball({.radius = a, .over = o}); }, plain_l1, 2.4},
    {"simplex", [](double a, Over o) { return simplex({.total = a, .over = o}); }, plain_simplex, 1.0},
    {"simplex, large", [](double a, Over o) { return simplex({.total = a, .over = o}); }, plain_simplex, 300.0},
    {"simplex, tiny", [](double a, Over o) { return simplex({.total = a, .over = o}); }, plain_simplex, 1e-9},
    {"top 2", [](double a, Over o) { return top_k({.count = a, .over = o}); },
     [](std::vector<double> x, double a) { return plain_top_k(std::move(x), static_cast<std::size_t>(a)); }, 2},
};

/// Each unit by itself, live weights only.
std::vector<double> reference(const Rule& rule, std::vector<double> x, std::size_t unit, const Mask& mask) {
  for (std::size_t begin = 0; begin < x.size(); begin += unit) {
    std::vector<double> live;
    std::vector<std::size_t> places;
    for (std::size_t i = begin; i < begin + unit; ++i) {
      if (mask.defined() && !mask[static_cast<Index>(i)])
        x[i] = 0;
      else
        live.push_back(x[i]), places.push_back(i);
    }
    if (live.empty()) continue;
    live = rule.plain(live, rule.amount);
    for (std::size_t k = 0; k < live.size(); ++k) x[places[k]] = live[k];
  }
  return x;
}

TEST(Projections, AreThoseOfThePlainLoops) {
  for (const Rule& rule : rules)
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{5, 4}, Shape{1000, 3}, Shape{3, 1000}, Shape{70000}})
      for (const Over over : {Over::tensor, Over::unit})
        for (const DType type : {DType::f64, DType::f32})
          for (const bool masked : {false, true}) {
            SCOPED_TRACE(rule.name);
            const Index n = count(shape), unit = over == Over::unit && shape.rank() > 1 ? n / shape[0] : n;
            const auto x = numbers(static_cast<std::size_t>(n), 3);
            const Parameter p = parameter("p", x, type, shape);
            if (masked) p.ref()->set_mask(every_dead(n, 3, 1));
            const auto expected = reference(rule, values_of(p), static_cast<std::size_t>(unit), p.mask());
            constrain(p, rule.chain(rule.amount, over));
            const auto got = values_of(p);
            const double tolerance = type == DType::f32 ? 1e-7 * std::max(1.0, rule.amount) : 1e-12;
            for (std::size_t i = 0; i < got.size(); ++i) {
              ASSERT_NEAR(got[i], expected[i], tolerance) << shape << ' ' << i;
              const bool live = !masked || p.mask()[static_cast<Index>(i)];
              ASSERT_TRUE(live || (got[i] == 0 && !std::signbit(got[i])));
            }
          }
}

TEST(Projections, OfLongTensorsWithTiesAndTails) {
  constexpr std::size_t n = 20000;
  std::vector<std::vector<double>> all(6, numbers(n, 9));
  for (double& x : all[0]) x = std::pow(x, 31);                        // nearly all in the first part
  for (double& x : all[1]) x = x < 0 ? -0.5 : 0.5;                     // two values, one size
  for (std::size_t i = 0; i < n; ++i) all[2][i] = i == 777 ? 1e6 : 0;  // one weight
  for (double& x : all[3]) x *= 1e-310;
  for (double& x : all[4]) x = std::copysign(1 + std::round(9 * std::abs(x)), x);
  for (std::size_t i = 0; i < n; ++i) all[5][i] *= i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : 1e-5;  // as after a projection
  for (const auto& x : all)
    for (const double share : {1e-6, 0.01, 0.5, 0.999}) {
      const double total = share * sum_abs(x),
                   tolerance = 1e-14 * std::abs(*std::ranges::max_element(x)) + 1e-12 * sum_abs(x) / n;
      const auto l1 = constrained(x, l1_ball({.radius = total})), plain = plain_l1(x, total);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(l1[i], plain[i], tolerance) << share << ' ' << i;
      const auto positive = constrained(x, simplex({.total = total})), plain_positive = plain_simplex(x, total);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(positive[i], plain_positive[i], tolerance) << share << ' ' << i;
      const double k = std::nearbyint(share * n);
      ASSERT_EQ(constrained(x, top_k(k)), plain_top_k(x, static_cast<std::size_t>(k))) << share;
    }
}

TEST(Projections, AreFeasibleIdempotentAndNearest) {
  constexpr std::size_t n = 40;
  const auto x = numbers(n, 11, 2);
  struct Case {
    Chain chain;
    std::function<std::vector<double>(std::vector<double>)> into;  // any point of the set, from any numbers
    std::function<bool(const std::vector<double>&)> holds;
  };
  const auto scaled = [](std::vector<double> v, double factor) {
    for (double& y : v) y *= factor;
    return v;
  };
  const Case cases[] = {
      {l1_ball({.radius = 3}), [=](auto v) { return scaled(v, 3 / sum_abs(v)); },
       [](const auto& v) { return sum_abs(v) <= 3 + 1e-12; }},
      {simplex({.total = 3}),
       [=](auto v) {
         for (double& y : v) y = std::abs(y);
         return scaled(v, 3 / sum_abs(v));
       },
       [](const auto& v) { return std::abs(sum_abs(v) - 3) < 1e-12 && *std::min_element(v.begin(), v.end()) >= 0; }},
      {top_k(7), [](auto v) { return plain_top_k(v, 7); }, [](const auto& v) { return nonzeros(v) <= 7; }},
      {l2_ball({.radius = 3}), [=](auto v) { return scaled(v, 3 / norm({v})); },
       [](const auto& v) { return norm({v}) <= 3 + 1e-12; }},
  };
  for (const Case& c : cases) {
    const auto projected = constrained(x, c.chain);
    EXPECT_TRUE(c.holds(projected));
    const auto again = constrained(projected, c.chain);
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(again[i], projected[i], 1e-14);
    for (unsigned seed = 0; seed < 300; ++seed) {
      auto other = c.into(numbers(n, 100 + seed));
      const double t = static_cast<double>(seed % 10) / 10;  // of them, some close by
      for (std::size_t i = 0; i < n; ++i) other[i] = t * projected[i] + (1 - t) * other[i];
      EXPECT_TRUE(!c.holds(other) || distance(x, other) >= distance(x, projected) - 1e-12);
    }
  }
}

TEST(L1Ball, LeavesWhatIsWithinItsBitsAndThrowsEverythingOutAtRadiusZero) {
  const auto x = numbers(100, 5);
  EXPECT_EQ(constrained(x, l1_ball({.radius = sum_abs(x) * (1 + 1e-12)})), x);
  for (const DType type : {DType::f32, DType::f64}) {
    const auto once = constrained(numbers(10001, 6), l1_ball({.radius = 70}), {10001}, type);
    EXPECT_EQ(constrained(once, l1_ball({.radius = 70}), {10001}, type), once);
  }
  for (double v : constrained(x, l1_ball({.radius = 0}))) EXPECT_TRUE(v == 0 && !std::signbit(v));
}

TEST(L1Ball, StaysExactWhereTheRadiusIsTinyBesideTheWeights) {
  const auto y = constrained({1e8, -1e8, 1e8, 3.0}, l1_ball({.radius = 3e-9}));
  EXPECT_NEAR(y[0], 1e-9, 1e-23);
  EXPECT_NEAR(y[1], -1e-9, 1e-23);
  EXPECT_EQ(y[3], 0);
}

TEST(TopK, KeepsExactlySoManyTheFirstAmongEquals) {
  EXPECT_EQ(constrained({1, -1, 1, -1, 1}, top_k(2)), (std::vector<double>{1, -1, 0, 0, 0}));
  EXPECT_EQ(constrained({1, 2, -2, 2, 1, 3}, top_k(3)), (std::vector<double>{0, 2, -2, 0, 0, 3}));
  EXPECT_EQ(constrained({0, 0, 5, 0}, top_k(3)), (std::vector<double>{0, 0, 5, 0}));
  EXPECT_EQ(constrained({1, 2}, top_k(0)), (std::vector<double>{0, 0}));
  EXPECT_EQ(constrained({1, 2}, top_k(9)), (std::vector<double>{1, 2}));
}

TEST(TopK, RoundsFractionsOfTheLiveWeightsHalfToEven) {
  const auto kept = [](Index n, double fraction) {
    return nonzeros(constrained(numbers(static_cast<std::size_t>(n), 1), top_k({.fraction = fraction})));
  };
  EXPECT_EQ(kept(10, 0.25), 2);
  EXPECT_EQ(kept(10, 0.35), 4);
  EXPECT_EQ(kept(10, 0), 0);
  EXPECT_EQ(kept(10, 1), 10);
  const Parameter p = parameter("p", numbers(20, 1), DType::f64);
  p.ref()->set_mask(every_dead(20, 2));
  constrain(p, top_k({.fraction = 0.5}));
  EXPECT_EQ(nonzeros(values_of(p)), 5);
}

TEST(TopK, LetsWeightsComeBackAndFollowsASchedule) {
  const Parameter p = parameter("p", {1, 0.9}, DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 1.0}), top_k([](std::int64_t step) { return step < 2 ? 1 : 2; })));
  const auto step = [&](std::vector<double> g) {
    give_gradient(p, g);
    opt.step();
    return values_of(p);
  };
  EXPECT_EQ(step({0, 0}), (std::vector<double>{1, 0}));
  EXPECT_EQ(step({0, -2}), (std::vector<double>{0, 2}));
  EXPECT_EQ(step({-1, 0}), (std::vector<double>{1, 2}));
}

TEST(Projections, LeaveWhatIsNotFiniteAsItIs) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const Chain& c : {l1_ball({.radius = 0.1, .over = Over::unit}), simplex({.over = Over::unit}),
                         top_k({.count = 1, .over = Over::unit})})
    for (const double bad : {nan, infinity, -infinity}) {
      const Parameter p = parameter("p", {1, bad, -2, 3, 4, -5}, DType::f32, {2, 3});
      constrain(p, c);
      const auto w = values_of(p);
      EXPECT_EQ(w[0], 1);
      EXPECT_TRUE(std::isnan(bad) ? std::isnan(w[1]) : w[1] == bad);
      EXPECT_EQ(w[2], -2);
      EXPECT_EQ(nonzeros({w[3], w[4], w[5]}), 1);  // the other unit is projected
    }
}

TEST(Projections, PassByWhatHoldsNothing) {
  Parameter empty = parameter("e", {}, DType::f32, {0, 3}), dead = parameter("d", {1, 2, 3}, DType::f32);
  Mask mask(3);
  for (Index i = 0; i < 3; ++i) mask.set(i, false);
  dead.set_mask(mask);
  for (const Over over : {Over::tensor, Over::unit})
    for (const Chain& c : {l1_ball({.over = over}), simplex({.over = over}), top_k({.count = 1, .over = over})}) {
      constrain(dead, c);
      EXPECT_EQ(values_of(dead), (std::vector<double>{0, 0, 0}));
      constrain(empty, c);
    }
}

TEST(Projections, WorkOnTheDenseValuesOfSoftMasks) {
  const Parameter p = parameter("p", {4, 3, 2, 1}, DType::f64);
  p.ref()->set_mask(every_dead(4, 2), MaskMode::soft);
  constrain(p, top_k(3));
  EXPECT_EQ(values_of(p.ref()->dense()), (std::vector<double>{4, 3, 2, 0}));
  EXPECT_EQ(values_of(p), (std::vector<double>{0, 3, 0, 0}));
}

TEST(Projections, AreTheSameBytesAtAnyThreadCount) {
  for (const Rule& rule : rules)
    for (const Over over : {Over::tensor, Over::unit}) {
      const auto run = [&](int n) {
        const Threads threads(n);
        const Parameter p = parameter("p", numbers(300000, 4), DType::f32, {500, 600});
        p.ref()->set_mask(every_dead(300000, 7));
        constrain(p, rule.chain(rule.amount, over));
        return p.value();
      };
      const Tensor one = run(1);
      EXPECT_TRUE(same_bytes(run(2), one));
      EXPECT_TRUE(same_bytes(run(4), one));
    }
}

TEST(Projections, HaveSweepsOfTheirOwn) {
  const Parameter p = parameter("p", {1, 2}, DType::f64);
  EXPECT_EQ(Optimizer({{"p", p.ref()}}, chain(sgd({.lr = 1.0}), top_k({.fraction = 0.5}), non_negative())).describe(),
            "sweep 1: finite check\nsweep 2: mask > sgd > apply > mask\n"
            "sweep 3: top_k(fraction 0.5, over tensors) (whole tensors) > mask\nsweep 4: non_negative > mask\n");
}

}  // namespace
}  // namespace espalier::optim
