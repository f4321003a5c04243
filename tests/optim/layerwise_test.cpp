// Optimizers that look at whole tensors: LARS, LAMB, Adafactor, Muon.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/adafactor.h"
#include "espalier/optim/lars.h"
#include "espalier/optim/muon.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using Values = std::vector<double>;

double root_sum(const Values& x) {
  double s = 0;
  for (double v : x) s += v * v;
  return std::sqrt(s);
}

/// w, g -> w, in double, with what it remembers of one parameter.
using Plain = std::function<void(Values& w, const Values& g, int t)>;

/// Steps over two parameters, one a matrix, and compares them with the plain rule.
void compare(const Chain& chain, const std::function<Plain(Index rows, Index columns)>& rule, Shape second = {7}) {
  for (DType type : {DType::f32, DType::f64}) {
    const std::vector<Shape> shapes = {{5, 12}, second};
    std::vector<Parameter> parameters;
    ParameterList list;
    std::vector<Plain> plain;
    std::vector<Values> w;
    for (std::size_t k = 0; k < shapes.size(); ++k) {
      const auto n = static_cast<std::size_t>(count(shapes[k]));
      parameters.push_back(
          parameter("p" + std::to_string(k), numbers(n, static_cast<unsigned>(k) + 1), type, shapes[k]));
      list.push_back({"p" + std::to_string(k), parameters[k].ref()});
      w.push_back(values_of(parameters[k]));
      const Index rows = shapes[k].rank() >= 2 ? shapes[k][0] : 1;
      plain.push_back(rule(rows, count(shapes[k]) / rows));
    }
    Optimizer opt(list, chain);
    for (int t = 1; t <= 6; ++t) {
      for (std::size_t k = 0; k < shapes.size(); ++k) {
        const Values g = values_of(tensor(
            numbers(w[k].size(), static_cast<unsigned>(100 * t) + static_cast<unsigned>(k), t == 3 ? 100 : 1), type));
        give_gradient(parameters[k], g);
        plain[k](w[k], g, t);
      }
      opt.step();
      for (std::size_t k = 0; k < shapes.size(); ++k)
        for (std::size_t i = 0; i < w[k].size(); ++i)
          ASSERT_NEAR(values_of(parameters[k])[i], w[k][i], (type == DType::f32 ? 1e-4 : 1e-11))
              << t << " " << k << " " << i;
    }
  }
}

TEST(Lars, FollowsThePaper) {
  const double lr = 0.5, mu = 0.9, wd = 0.01, trust = 0.02;
  compare(lars({.lr = lr, .momentum = mu, .weight_decay = wd, .trust = trust}), [=](Index, Index) -> Plain {
    return [=, v = Values()](Values& w, const Values& g, int) mutable {
      v.resize(w.size());
      const double rate = trust * root_sum(w) / (root_sum(g) + wd * root_sum(w));
      for (std::size_t i = 0; i < w.size(); ++i) {
        v[i] = mu * v[i] + rate * (g[i] + wd * w[i]);
        w[i] -= lr * v[i];
      }
    };
  });
}

TEST(Lamb, FollowsThePaper) {
  const double lr = 0.05, wd = 0.1, most = 1.5;
  compare(lamb({.lr = lr, .eps = 1e-3, .weight_decay = wd, .max_weight_norm = most}), [=](Index, Index) -> Plain {
    return [=, m = Values(), v = Values()](Values& w, const Values& g, int t) mutable {
      m.resize(w.size());
      v.resize(w.size());
      Values u(w.size());
      for (std::size_t i = 0; i < w.size(); ++i) {
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
        u[i] = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-3) + wd * w[i];
      }
      const double rate = lr * std::min(root_sum(w), most) / root_sum(u);
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * u[i];
    };
  });
}

TEST(Lars, ZeroNormsGiveFactorOne) {
  Parameter p = parameter("w", {0, 0}, DType::f64);
  Optimizer opt({{"w", p.ref()}}, lars({.lr = 1.0, .momentum = 0.0}));
  give_gradient(p, {3, 4});
  opt.step();
  EXPECT_EQ(values_of(p), (Values{-3, -4}));
  give_gradient(p, {0, 0});
  opt.step();
  EXPECT_EQ(values_of(p), (Values{-3, -4}));

  Parameter q = parameter("q", {0, 0}, DType::f64);
  Optimizer lamb_opt({{"q", q.ref()}}, lamb({.lr = 0.5, .eps = 0.0}));
  give_gradient(q, {3, -4});
  lamb_opt.step();  // Adam's first step is lr times the sign
  EXPECT_NEAR(values_of(q)[0], -0.5, 1e-12);
  EXPECT_NEAR(values_of(q)[1], 0.5, 1e-12);
}

Plain plain_adafactor(const AdafactorOptions& o, Index rows, Index columns) {
  return [=, r = Values(static_cast<std::size_t>(rows)), c = Values(static_cast<std::size_t>(columns)), m = Values()](
             Values& w, const Values& g, int t) mutable {
    m.resize(w.size());
    const double b2 = 1 - std::pow(t, -o.decay_exponent), lr = o.lr.value();
    const auto at = [=](std::size_t i, std::size_t j) { return i * static_cast<std::size_t>(columns) + j; };
    double mean_r = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      double s = 0;
      for (std::size_t j = 0; j < c.size(); ++j) s += g[at(i, j)] * g[at(i, j)];
      r[i] = b2 * r[i] + (1 - b2) * s / static_cast<double>(columns);
      mean_r += r[i] / static_cast<double>(rows);
    }
    for (std::size_t j = 0; j < c.size(); ++j) {
      double s = 0;
      for (std::size_t i = 0; i < r.size(); ++i) s += g[at(i, j)] * g[at(i, j)];
      c[j] = b2 * c[j] + (1 - b2) * s / static_cast<double>(rows);
    }
    Values u(w.size());
    for (std::size_t i = 0; i < r.size(); ++i)
      for (std::size_t j = 0; j < c.size(); ++j) u[at(i, j)] = g[at(i, j)] / std::sqrt(r[i] * c[j] / mean_r);
    const double n = std::sqrt(static_cast<double>(w.size())), rms = root_sum(u) / n;
    const double step = o.relative ? std::max(o.eps, root_sum(w) / n) * std::min(lr, 1 / std::sqrt(t)) : lr;
    for (std::size_t i = 0; i < w.size(); ++i) {
      u[i] /= std::max(1.0, rms / o.max_rms.value());
      u[i] = m[i] = o.momentum.value() * m[i] + (1 - o.momentum.value()) * u[i];
      w[i] = w[i] * (1 - lr * o.weight_decay.value()) - step * u[i];
    }
  };
}

TEST(Adafactor, FollowsThePaper) {
  for (const AdafactorOptions& o :
       {AdafactorOptions{}, AdafactorOptions{.lr = 0.3, .max_rms = 0.5, .momentum = 0.9, .weight_decay = 0.1},
        AdafactorOptions{.lr = 0.1, .decay_exponent = 0.5, .relative = false}})
    compare(adafactor(o), [&](Index rows, Index columns) { return plain_adafactor(o, rows, columns); });
}

TEST(Adafactor, KeepsRowsAndColumnsOnly) {
  Parameter w = parameter("w", numbers(24, 1), DType::f32, {4, 2, 3}), v = parameter("v", numbers(5, 1));
  Optimizer opt({{"w", w.ref()}, {"v", v.ref()}}, adafactor());
  const OptimizerState state = opt.state();
  EXPECT_EQ(state.at("adafactor/row/w").shape(), (Shape{4}));
  EXPECT_EQ(state.at("adafactor/column/w").shape(), (Shape{6}));
  EXPECT_EQ(state.at("adafactor/column/v").shape(), (Shape{5}));
  EXPECT_FALSE(state.contains("adafactor/m/w"));
}

TEST(Adafactor, OnAPrunedRowTakesTheMeansOfWhatIsLive) {
  // A matrix with a dead row and a dead column trains like the smaller matrix.
  for (bool later : {false, true}) {
    Parameter big = parameter("w", numbers(12, 3), DType::f64, {3, 4});
    const Values start = values_of(big);
    const auto inner = [](const Values& x) {  // rows 0, 2; columns 0, 1, 3
      return Values{x[0], x[1], x[3], x[8], x[9], x[11]};
    };
    Mask mask(12);
    for (Index i : {2, 4, 5, 6, 7, 10}) mask.set(i, false);
    Parameter small = parameter("w", inner(start), DType::f64, {2, 3});
    Optimizer of_big({{"w", big.ref()}}, adafactor()), of_small({{"w", small.ref()}}, adafactor());
    if (!later) big.set_mask(mask);
    for (int t = 0; t < 4; ++t) {
      Values g = numbers(12, static_cast<unsigned>(50 + t));
      if (later && t < 2)
        for (std::size_t i : {2u, 4u, 5u, 6u, 7u, 10u}) g[i] = 0;  // what it learns before it is pruned
      if (t == 2) big.set_mask(mask);
      give_gradient(big, g);
      give_gradient(small, inner(g));
      of_big.step();
      of_small.step();
      if (later) continue;  // the relative step sees the dead weights until they die
      for (std::size_t i = 0; i < 6; ++i) ASSERT_NEAR(inner(values_of(big))[i], values_of(small)[i], 1e-12);
    }
    const Values row = values_of(of_big.state("adafactor", "row", 0)),
                 column = values_of(of_big.state("adafactor", "column", 0));
    EXPECT_NEAR(row[1], 0, 1e-29);
    EXPECT_NEAR(column[2], 0, 1e-29);
    for (std::size_t i = 0; i < 12; ++i) EXPECT_TRUE(mask[static_cast<Index>(i)] || values_of(big)[i] == 0);
  }
}

TEST(Adafactor, SurvivesGradientsOfZeroAndHugeOnes) {
  Parameter p = parameter("w", numbers(6, 1), DType::f32, {2, 3});
  Optimizer opt({{"w", p.ref()}}, adafactor());
  for (double size : {0.0, 1e18, 0.0, 1e-18}) {
    give_gradient(p, Values(6, size));
    opt.step();
    for (double w : values_of(p)) ASSERT_TRUE(std::isfinite(w)) << size;
  }
}

/// Singular values of x, from the eigenvalues of its Gram matrix by Jacobi rotations.
Values singular_values(const Tensor& x) {
  const bool tall = x.shape()[0] > x.shape()[1];
  const Tensor a = tall ? matmul(x.transpose(0, 1), x) : matmul(x, x.transpose(0, 1));
  const auto n = static_cast<std::size_t>(a.shape()[0]);
  Values g = values_of(a.contiguous());
  for (int sweep = 0; sweep < 60; ++sweep)
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t q = p + 1; q < n; ++q) {
        if (std::abs(g[p * n + q]) < 1e-300) continue;
        const double theta = (g[q * n + q] - g[p * n + p]) / (2 * g[p * n + q]);
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (std::size_t k = 0; k < n; ++k) {
          const double x1 = g[k * n + p], x2 = g[k * n + q];
          g[k * n + p] = c * x1 - s * x2;
          g[k * n + q] = s * x1 + c * x2;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const double x1 = g[p * n + k], x2 = g[q * n + k];
          g[p * n + k] = c * x1 - s * x2;
          g[q * n + k] = s * x1 + c * x2;
        }
      }
  Values s(n);
  for (std::size_t k = 0; k < n; ++k) s[k] = std::sqrt(std::max(0.0, g[k * n + k]));
  return s;
}

TEST(Orthogonalize, MovesSingularValuesToOne) {
  Rng rng(1);
  for (DType type : {DType::f32, DType::f64})
    for (const Shape& shape : {Shape{12, 40}, Shape{40, 12}, Shape{1, 9}, Shape{9, 1}, Shape{1, 1}})
      for (double scale : {1e-25, 1.0, 1e25}) {
        const Tensor y = orthogonalize(rng.normal(shape, 0, scale, type));
        EXPECT_EQ(y.shape(), shape);
        for (double s : singular_values(y.to(DType::f64))) {
          EXPECT_GT(s, 0.6) << shape[0];
          EXPECT_LT(s, 1.3) << shape[0];
        }
      }
  EXPECT_EQ(values_of(orthogonalize(Tensor::zeros({3, 4}))), Values(12, 0));
  EXPECT_EQ(orthogonalize(Tensor::zeros({0, 4})).shape(), (Shape{0, 4}));
  EXPECT_THROW(orthogonalize(Tensor::zeros({4})), ShapeError);
}

TEST(Orthogonalize, KeepsSingularVectors) {
  // A diagonal matrix stays diagonal, and signs stay.
  Tensor x = Tensor::zeros({3, 5}, DType::f64);
  double* p = x.write<double>("test");
  p[0] = 3, p[6] = -0.5, p[12] = 1;
  const Values y = values_of(orthogonalize(x));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(i % 6 == 0 || y[i] == 0);
  EXPECT_NEAR(y[0], 1, 0.3);
  EXPECT_NEAR(y[6], -1, 0.3);
  EXPECT_NEAR(y[12], 1, 0.3);
}

TEST(Muon, FollowsItsEquations) {
  for (bool nesterov : {true, false})
    for (bool match : {true, false})
      compare(muon({.lr = 0.1, .momentum = 0.9, .nesterov = nesterov, .weight_decay = 0.2, .match_adam = match}),
              [=](Index rows, Index columns) -> Plain {
                return [=, m = Values()](Values& w, const Values& g, int) mutable {
                  m.resize(w.size());
                  Values x(w.size());
                  for (std::size_t i = 0; i < w.size(); ++i) {
                    m[i] = 0.9 * m[i] + g[i];
                    x[i] = nesterov ? g[i] + 0.9 * m[i] : m[i];
                  }
                  const Values u = values_of(orthogonalize(Tensor::from(x, {rows, columns})).contiguous());
                  const auto r = static_cast<double>(rows), c = static_cast<double>(columns);
                  const double s = match ? 0.2 * std::sqrt(std::max(r, c)) : std::sqrt(std::max(1.0, r / c));
                  for (std::size_t i = 0; i < w.size(); ++i) w[i] = (1 - 0.1 * 0.2) * w[i] - 0.1 * s * u[i];
                };
              },
              {9, 2, 3});
}

TEST(Muon, RefusesVectors) {
  Parameter w = parameter("w", numbers(6, 1), DType::f32, {2, 3}), b = parameter("b", numbers(2, 1));
  EXPECT_THROW(Optimizer({{"w", w.ref()}, {"b", b.ref()}}, muon()), ConfigError);
  Optimizer opt({{"w", w.ref()}, {"b", b.ref()}}, chain(on(select_rank(2), muon()), on(select_rank(0, 1), adamw())));
  EXPECT_NE(opt.describe().find("muon(lr 0.02, momentum 0.95) on 1 of 2 parameters (whole tensors)"), std::string::npos)
      << opt.describe();
}

TEST(WholeTensors, ResumeAndThreadsGiveTheSameBytesAndMasksHold) {
  const auto make = [](const ParameterList& list) {
    return Optimizer(list, chain(clip_by_global_norm(1.0), on("a", lamb()), on("b", adafactor({.momentum = 0.9})),
                                 on("c", muon()), on("d", lars())));
  };
  std::vector<Values> results;
  for (int threads : {1, 2, 4, 1}) {
    const bool resume = results.size() == 3;
    const ThreadLimit limit(threads);
    std::vector<Parameter> parameters;
    ParameterList list;
    for (const char* name : {"a", "b", "c", "d"}) {
      parameters.push_back(parameter(name, numbers(120 * 500, 7), DType::f32, {120, 500}));
      list.push_back({name, parameters.back().ref()});
    }
    Optimizer opt = make(list);
    for (unsigned t = 0; t < 4; ++t) {
      if (t == 2)
        for (const Parameter& p : parameters) {
          Mask mask(p.size());
          for (Index i = 0; i < p.size(); i += 7) mask.set(i, false);
          p.ref()->set_mask(mask);
        }
      for (const Parameter& p : parameters) give_gradient(p, numbers(120 * 500, 20 + t));
      if (resume && t == 3) {
        const OptimizerState state = opt.state();
        opt = make(list);
        opt.load_state(state);
      }
      opt.step();
    }
    results.emplace_back();
    for (const Parameter& p : parameters)
      for (double x : values_of(p)) results.back().push_back(x);
    for (std::size_t i = 0; i < results.back().size(); ++i)
      ASSERT_TRUE(i % 60000 % 7 != 0 || (results.back()[i] == 0 && !std::signbit(results.back()[i])));
    for (const auto& [key, state] : opt.state())
      if (key.ends_with("/m/a") || key.ends_with("/m/b") || key.ends_with("/momentum/c")) {
        const Values s = values_of(state);
        for (std::size_t i = 0; i < s.size(); i += 7) ASSERT_EQ(s[i], 0) << key;
      }
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  EXPECT_EQ(results[0], results[3]);
}

}  // namespace
}  // namespace espalier::optim
