// Products of many matrices: their loops against a plain one.
#include "espalier/core/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;

/// By a plain loop over doubles; a [..., m, k] and b [..., k, n] are of one rank.
Tensor plain(const Tensor& a, const Tensor& b, const Shape& batch) {
  const Index m = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  Shape left = batch, right = batch, shape = batch;
  for (const Index d : {m, k}) left.push_back(d);
  for (const Index d : {k, n}) right.push_back(d);
  for (const Index d : {m, n}) shape.push_back(d);
  const std::vector<double> p = a.broadcast_to(left).to(DType::f64).to_vector<double>(),
                            q = b.broadcast_to(right).to(DType::f64).to_vector<double>();
  std::vector<double> y;
  for (Index matrix = 0; matrix < count(batch); ++matrix)
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) {
        double sum = 0;
        for (Index t = 0; t < k; ++t)
          sum += p[static_cast<std::size_t>((matrix * m + i) * k + t)] *
                 q[static_cast<std::size_t>((matrix * k + t) * n + j)];
        y.push_back(sum);
      }
  return Tensor::from(y, shape);
}

void expect_plain(const Tensor& a, const Tensor& b, const Shape& batch) {
  SCOPED_TRACE(::testing::Message() << join("a ", a.shape(), a.strides(), ", b ", b.shape(), b.strides()));
  const Tensor y = matmul(a, b), expected = plain(a, b, batch);
  EXPECT_EQ(y.shape(), expected.shape());
  const double error = y.dtype() == DType::f32 ? 1e-5 : 1e-13;
  EXPECT_TRUE(allclose(y.to(DType::f64), expected, error, error * std::sqrt(static_cast<double>(a.dim(-1))), true));
  const Threads use(3);
  EXPECT_TRUE(same_bytes(y, matmul(a, b)));
}

TEST(Matmul, BatchesOfEveryLayoutAgreeWithThePlainLoop) {
  struct Case {
    Index matrices, m, k, n;
  };
  for (const DType type : {DType::f32, DType::f64})
    for (const Case c : {Case{9, 1, 37, 1},
                         {3, 1, 5, 1},
                         {300, 1, 1000, 1},
                         {40, 1, 1, 1},
                         {8, 1, 0, 1},
                         {0, 1, 4, 1},
                         {70, 3, 64, 65},
                         {9, 1, 20, 3},
                         {9, 2, 20, 1}}) {
      Rng rng(1);
      Tensor a = randn(rng, {c.matrices, c.m, c.k}, DType::f64).to(type);
      const Tensor b = randn(rng, {c.matrices, c.k, c.n}, DType::f64).to(type);
      if (a.size() > 7) a.select(0, 1).fill(std::numeric_limits<double>::quiet_NaN());
      expect_plain(a, b, {c.matrices});
      // Strided vectors, padded rows, a batch of two axes of which one is transposed, and one matrix for all.
      const Tensor other = b.transpose(0, 1).contiguous().transpose(0, 1);
      expect_plain(a.transpose(0, 2).contiguous().transpose(0, 2), other, {c.matrices});
      const Tensor wide = randn(rng, {c.matrices, c.m, c.k + 3}, DType::f64).to(type);
      expect_plain(wide.slice(2, 1, c.k + 1), b, {c.matrices});
      expect_plain(randn(rng, {4, c.matrices, c.m, c.k}, DType::f64).to(type).transpose(0, 1), b.unsqueeze(1),
                   {c.matrices, 4});
      expect_plain(randn(rng, {1, c.m, c.k}, DType::f64).to(type), b, {c.matrices});
    }
}

}  // namespace
}  // namespace espalier
