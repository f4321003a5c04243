// Layer-wise reconstruction, against dense solves written out here.
#include "espalier/prune/reconstruct.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "espalier/prune/detail/cholesky.h"

namespace espalier::prune {
namespace {

using Matrix = std::vector<std::vector<double>>;

/// Gauss and Jordan with pivoting.
Matrix inverse_of(Matrix a) {
  const std::size_t n = a.size();
  Matrix b(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) b[i][i] = 1;
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t p = c;
    for (std::size_t r = c; r < n; ++r) p = std::abs(a[r][c]) > std::abs(a[p][c]) ? r : p;
    std::swap(a[c], a[p]), std::swap(b[c], b[p]);
    const double d = a[c][c];
    for (std::size_t k = 0; k < n; ++k) a[c][k] /= d, b[c][k] /= d;
    for (std::size_t r = 0; r < n; ++r)
      if (const double f = a[r][c]; r != c)
        for (std::size_t k = 0; k < n; ++k) a[r][k] -= f * a[c][k], b[r][k] -= f * b[c][k];
  }
  return b;
}
Matrix part(const Matrix& h, const std::vector<std::size_t>& rows, const std::vector<std::size_t>& columns) {
  Matrix m;
  for (std::size_t r : rows) {
    m.emplace_back();
    for (std::size_t c : columns) m.back().push_back(h[r][c]);
  }
  return m;
}
Matrix matrix(const Tensor& t) {
  Matrix m(static_cast<std::size_t>(t.dim(0)));
  for (Index r = 0; r < t.dim(0); ++r)
    for (Index c = 0; c < t.dim(1); ++c) m[static_cast<std::size_t>(r)].push_back(t.at({r, c}));
  return m;
}
Matrix hessian(const Tensor& gram, double damping) {
  Matrix h = matrix(gram.select(0, 0));
  double trace = 0;
  for (std::size_t i = 0; i < h.size(); ++i) trace += h[i][i];
  for (std::size_t i = 0; i < h.size(); ++i) h[i][i] += damping * trace / static_cast<double>(h.size());
  return h;
}

struct Problem {
  explicit Problem(Index out, Index in, Index samples, DType type = DType::f64) {
    Rng rng(17);
    // Correlated columns, so that there is something to make up with.
    const Tensor x = matmul(rng.normal({samples, in}, 0, 1, DType::f64), rng.normal({in, in}, 0.3, 1, DType::f64));
    gram = matmul(x.t(), x).unsqueeze(0);
    weight = rng.normal({out, in}, 0, 1, type);
  }
  Tensor gram, weight;
};

TEST(Reconstruct, FactorsAndInverses) {
  Rng rng(1);
  for (const Index n : {1, 2, 7, 64, 65, 130, 200}) {
    const Tensor x = rng.normal({n + 20, n}, 0, 1, DType::f64), gram = matmul(x.t(), x);
    const detail::LayerHessian h("test", "w", gram, 0.01);
    const Tensor product = matmul(h.matrix(), h.inverse());
    EXPECT_TRUE(allclose(product, Tensor::eye(n, DType::f64), 0, 1e-9)) << n;
    const Tensor u = h.inverse_factor();
    EXPECT_TRUE(allclose(matmul(u.t(), u), h.inverse(), 1e-8, 1e-10)) << n;
    for (Index i = 1; i < n; ++i) EXPECT_EQ(u.at({i, i - 1}), 0);
  }
  Tensor bad = Tensor::from<double>({1, 2, 2, 1}, {2, 2});
  EXPECT_EQ(detail::cholesky(bad), 1);
}

TEST(Reconstruct, CompensateIsTheLeastSquaresAnswer) {
  const Problem p(3, 8, 30);
  Rng rng(2);
  Mask mask(24);
  for (Index i = 0; i < 24; ++i) mask.set(i, rng.uniform() > 0.5);
  const Reconstruction r = compensate("w", p.weight, p.gram, mask, 0);
  const Matrix h = hessian(p.gram, 0), w = matrix(p.weight), got = matrix(r.weight);
  for (std::size_t row = 0; row < 3; ++row) {
    std::vector<std::size_t> live, gone;
    for (std::size_t j = 0; j < 8; ++j) (mask[static_cast<Index>(row * 8 + j)] ? live : gone).push_back(j);
    const Matrix inverse = inverse_of(part(h, live, live)), cross = part(h, live, gone);
    for (std::size_t i = 0; i < live.size(); ++i) {
      double expected = w[row][live[i]];
      for (std::size_t k = 0; k < live.size(); ++k)
        for (std::size_t j = 0; j < gone.size(); ++j) expected += inverse[i][k] * cross[k][j] * w[row][gone[j]];
      EXPECT_NEAR(got[row][live[i]], expected, 1e-8 * (1 + std::abs(expected)));
    }
    for (std::size_t j : gone) EXPECT_EQ(got[row][j], 0);
  }
  EXPECT_EQ(r.mask, mask);
}

TEST(Reconstruct, ObsTakesTheCheapestWeightOfAllRowsEachTime) {
  const Problem p(3, 6, 40);
  const Matrix h = hessian(p.gram, 0.01);
  Matrix w = matrix(p.weight);
  std::vector<std::vector<std::size_t>> live(3, {0, 1, 2, 3, 4, 5});
  for (int taken = 0; taken < 9; ++taken) {  // the surgeon as it is written in the paper, by dense inverses
    double best = std::numeric_limits<double>::infinity();
    std::size_t row = 0, place = 0;
    for (std::size_t r = 0; r < 3; ++r) {
      const Matrix inverse = inverse_of(part(h, live[r], live[r]));
      for (std::size_t k = 0; k < live[r].size(); ++k)
        if (const double cost = std::pow(w[r][live[r][k]], 2) / (2 * inverse[k][k]); cost < best)
          best = cost, row = r, place = k;
    }
    const Matrix inverse = inverse_of(part(h, live[row], live[row]));
    const double factor = w[row][live[row][place]] / inverse[place][place];
    for (std::size_t k = 0; k < live[row].size(); ++k) w[row][live[row][k]] -= factor * inverse[k][place];
    w[row][live[row][place]] = 0;
    live[row].erase(live[row].begin() + static_cast<std::ptrdiff_t>(place));
  }
  const Reconstruction r = obs_prune("w", p.weight, p.gram, Mask(), {.sparsity = 0.5});
  const Matrix got = matrix(r.weight);
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t j = 0; j < 6; ++j) {
      const bool kept = std::find(live[row].begin(), live[row].end(), j) != live[row].end();
      EXPECT_EQ(r.mask[static_cast<Index>(row * 6 + j)], kept) << row << ' ' << j;
      EXPECT_NEAR(got[row][j], kept ? w[row][j] : 0, 1e-9);
    }
}

/// The sweep with a dense inverse for each column: what is behind makes up for it, what is before is settled.
Matrix sweep(const Matrix& h, Matrix w, const Mask& mask) {
  const std::size_t n = h.size();
  for (std::size_t r = 0; r < w.size(); ++r)
    for (std::size_t j = 0; j < n; ++j) {
      if (mask[static_cast<Index>(r * n + j)]) continue;
      std::vector<std::size_t> rest;
      for (std::size_t k = j; k < n; ++k) rest.push_back(k);
      const Matrix inverse = inverse_of(part(h, rest, rest));
      const double factor = w[r][j] / inverse[0][0];
      for (std::size_t k = 0; k < rest.size(); ++k) w[r][rest[k]] -= factor * inverse[k][0];
      w[r][j] = 0;
    }
  return w;
}

TEST(Reconstruct, SparseGptIsTheSweepOfDenseSolves) {
  const Problem p(5, 12, 40);
  for (const Index block : {1, 4, 5, 128}) {
    const Reconstruction r = sparsegpt("w", p.weight, p.gram, Mask(), {.sparsity = 0.5, .block = block});
    const Matrix expected = sweep(hessian(p.gram, 0.01), matrix(p.weight), r.mask), got = matrix(r.weight);
    for (std::size_t i = 0; i < 5; ++i)
      for (std::size_t j = 0; j < 12; ++j) EXPECT_NEAR(got[i][j], expected[i][j], 1e-9) << block;
  }
}

TEST(Reconstruct, SparseGptChoosesByWeightAndPivotInOneBlock) {
  const Problem p(4, 6, 30);
  const Reconstruction r = sparsegpt("w", p.weight, p.gram, Mask(), {.sparsity = 0.25});
  const Matrix h = hessian(p.gram, 0.01), w = matrix(p.weight);
  std::vector<std::pair<double, Index>> scores;
  for (std::size_t j = 0; j < 6; ++j) {
    std::vector<std::size_t> rest;
    for (std::size_t k = j; k < 6; ++k) rest.push_back(k);
    const double pivot = inverse_of(part(h, rest, rest))[0][0];
    for (std::size_t i = 0; i < 4; ++i) scores.emplace_back(w[i][j] * w[i][j] / pivot, static_cast<Index>(i * 6 + j));
  }
  std::sort(scores.begin(), scores.end());
  for (std::size_t k = 0; k < scores.size(); ++k) EXPECT_EQ(r.mask[scores[k].second], k >= 6) << k;
}

TEST(Reconstruct, SparseGptKeepsTwoOfFour) {
  const Problem p(6, 11, 50);
  const Reconstruction r = sparsegpt("w", p.weight, p.gram, Mask(), {.keep = 2, .of = 4, .block = 6});
  for (Index i = 0; i < 6; ++i)
    for (Index first : {0, 4, 8}) {
      Index live = 0;
      for (Index j = first; j < std::min<Index>(11, first + 4); ++j) live += r.mask[i * 11 + j];
      EXPECT_EQ(live, 2);  // of the last three one goes: floor(3 / 2)
    }
  const Matrix expected = sweep(hessian(p.gram, 0.01), matrix(p.weight), r.mask), got = matrix(r.weight);
  for (std::size_t i = 0; i < 6; ++i)
    for (std::size_t j = 0; j < 11; ++j) EXPECT_NEAR(got[i][j], expected[i][j], 1e-9);
}

TEST(Reconstruct, EachWayIsBetterThanTheOneBefore) {
  const Problem p(20, 40, 200, DType::f32);
  const Reconstruction sweep_error = sparsegpt("w", p.weight, p.gram, Mask(), {.sparsity = 0.5});
  const Reconstruction surgeon = obs_prune("w", p.weight, p.gram, Mask(), {.sparsity = 0.5});
  const Reconstruction same_mask = compensate("w", p.weight, p.gram, sweep_error.mask);
  EXPECT_EQ(sweep_error.weight.dtype(), DType::f32);
  EXPECT_EQ(sweep_error.mask.live(), 400);
  EXPECT_EQ(surgeon.mask.live(), 400);
  EXPECT_LT(same_mask.error, sweep_error.error);
  EXPECT_LT(surgeon.error, sweep_error.error);
  EXPECT_GT(surgeon.error, 0);
}

TEST(Reconstruct, WhatIsPrunedAlreadyStaysAndCounts) {
  const Problem p(4, 8, 40);
  Mask mask(32);
  for (Index i : {0, 9, 17, 30, 31}) mask.set(i, false);
  for (const Reconstruction& r : {sparsegpt("w", p.weight, p.gram, mask, {.sparsity = 0.5}),
                                  obs_prune("w", p.weight, p.gram, mask, {.sparsity = 0.5}),
                                  sparsegpt("w", p.weight, p.gram, mask, {.keep = 1, .of = 2})}) {
    EXPECT_EQ(r.mask.live(), 16 - (r.mask.live() < 16));  // 30 and 31 are one run of two: one more than asked for
    for (Index i : {0, 9, 17, 30, 31}) {
      EXPECT_FALSE(r.mask[i]);
      EXPECT_EQ(r.weight.at({i / 8, i % 8}), 0);
    }
  }
  const Reconstruction none = obs_prune("w", p.weight, p.gram, Mask(), {.sparsity = 0});
  EXPECT_FALSE(none.mask.defined());
  EXPECT_TRUE(equal(none.weight, p.weight));
  EXPECT_EQ(none.error, 0);
}

TEST(Reconstruct, EverythingMayGoAndNothingMayBeThere) {
  const Problem p(2, 4, 10);
  EXPECT_EQ(sparsegpt("w", p.weight, p.gram, Mask(), {.sparsity = 1}).mask.live(), 0);
  EXPECT_NEAR(obs_prune("w", p.weight, p.gram, Mask(), {.sparsity = 1}).error, 1, 1e-12);
  const Tensor empty = Tensor::zeros({0, 4}, DType::f64);
  EXPECT_EQ(sparsegpt("w", empty, p.gram, Mask(), {.sparsity = 0.5}).weight.shape(), (Shape{0, 4}));
  EXPECT_EQ(obs_prune("w", empty, p.gram, Mask(), {.sparsity = 0.5}).weight.shape(), (Shape{0, 4}));
}

TEST(Reconstruct, WeightsThatReadAConstantZeroGoFirst) {
  Rng rng(4);
  Tensor x = rng.normal({30, 6}, 0, 1, DType::f64);
  x.narrow(1, 2, 1).fill(0);
  x.narrow(1, 5, 1).fill(0);
  const Tensor gram = matmul(x.t(), x).unsqueeze(0);
  Tensor w = rng.normal({4, 6}, 0, 1, DType::f64);
  w.narrow(1, 2, 1).fill(100);
  for (const Reconstruction& r : {sparsegpt("w", w, gram, Mask(), {.sparsity = 1.0 / 3}),
                                  obs_prune("w", w, gram, Mask(), {.sparsity = 1.0 / 3})}) {
    for (Index i = 0; i < 24; ++i) EXPECT_EQ(r.mask[i], i % 6 != 2 && i % 6 != 5) << i;
    EXPECT_LT(r.error, 1e-25);
    EXPECT_TRUE(allclose(r.weight.narrow(1, 0, 2).contiguous(), w.narrow(1, 0, 2).contiguous(), 1e-12, 0));
  }
  const Tensor nothing = Tensor::zeros({1, 6, 6}, DType::f64);
  EXPECT_EQ(sparsegpt("w", w, nothing, Mask(), {.sparsity = 0.5}).mask.live(), 12);
}

TEST(Reconstruct, GroupsOfAConvolutionAreLayersOfTheirOwn) {
  Rng rng(3);
  const Tensor x = rng.normal({4, 4, 6, 6}, 0, 1, DType::f64);
  const Parameter w(rng.normal({6, 2, 3, 3}, 0, 1, DType::f64), "w");
  const Gathered g = gather(list_of(w), [&](Index) { return conv2d(x, w, {}, {.groups = 2}); }, 1, {.gram = true});
  const Tensor& gram = g.of(*w.ref()).gram;
  const Reconstruction both = sparsegpt("w", w.value(), gram, Mask(), {.sparsity = 0.5});
  for (Index k : {0, 1}) {
    const Reconstruction one =
        sparsegpt("w", w.value().narrow(0, 3 * k, 3), gram.narrow(0, k, 1), Mask(), {.sparsity = 0.5});
    EXPECT_TRUE(allclose(both.weight.narrow(0, 3 * k, 3).contiguous(), one.weight, 1e-12, 1e-12));
  }
}

TEST(Reconstruct, AModelLayerByLayer) {
  Rng rng(5);
  const Parameter a(rng.normal({16, 10}), "a"), b(rng.normal({4, 16}), "b"), bias(rng.normal({4}), "bias");
  const Tensor x = rng.normal({64, 10});
  auto run = [&](Index) { return linear(linear(x, a, {}, Activation::relu), b, bias); };
  const Tensor before = run(0).value();
  const double worst = reconstruct(list_of(a, b, bias), run, 1, {.keep = 2, .of = 4});
  EXPECT_EQ(a.mask().live(), 16 * 5);  // of ten columns two runs of four lose two, the last two columns one
  EXPECT_EQ(b.mask().live(), 32);
  EXPECT_FALSE(bias.mask().defined());
  EXPECT_GT(worst, 0);
  EXPECT_LT(worst, 1);
  for (Index i = 0; i < a.size(); ++i) EXPECT_EQ(a.value().at({i / 10, i % 10}) != 0, a.mask()[i]);
}

TEST(Reconstruct, TheSameBytesAtAnyThreadCount) {
  const Problem p(70, 150, 300, DType::f32);
  auto run = [&](int threads) {
    ThreadLimit limit(threads);
    return std::vector<Tensor>{sparsegpt("w", p.weight, p.gram, Mask(), {.sparsity = 0.5, .block = 32}).weight,
                               obs_prune("w", p.weight, p.gram, Mask(), {.sparsity = 0.2}).weight,
                               compensate("w", p.weight, p.gram, Mask()).weight};
  };
  const auto one = run(1), two = run(2), four = run(4);
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(equal(one[i], two[i])) << i;
    EXPECT_TRUE(equal(one[i], four[i])) << i;
  }
}

}  // namespace
}  // namespace espalier::prune
