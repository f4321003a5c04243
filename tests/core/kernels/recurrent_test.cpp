// The pointwise loops of recurrent cells against plain ones, and the prepacked product against three loops, with every
// SIMD target.
#include "espalier/core/kernels/recurrent.h"

#include <gtest/gtest.h>

#include "espalier/core/kernels/own_gemm.h"
#include "espalier/core/parallel.h"
#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Buffers of one row, named as in the arguments of the loops.
template <class T>
struct Row {
  std::vector<T> a, product, bias, h, c, gates, h_before, c_before, inner;
  Row(Index n, Index count)
      : a(uniform<T>(count * n, -4, 4, 1)),
        product(uniform<T>(count * n, -4, 4, 2)),
        bias(uniform<T>(n, -1, 1, 3)),
        h(uniform<T>(n, -1, 1, 4)),
        c(uniform<T>(n, -2, 2, 5)),
        gates(a.size()),
        h_before(h.size()),
        c_before(h.size()),
        inner(h.size()) {}
  CellForward<T> forward(Index n) {
    return {.hidden = n,
            .a = a.data(),
            .product = product.data(),
            .bias = bias.data(),
            .h = h.data(),
            .c = c.data(),
            .gates = gates.data(),
            .h_before = h_before.data(),
            .c_before = c_before.data(),
            .inner = inner.data()};
  }
};

template <class T>
void expect_near(const std::vector<T>& got, std::size_t j, double expected) {
  EXPECT_NEAR(static_cast<double>(got[j]), expected, 8 * static_cast<double>(std::numeric_limits<T>::epsilon())) << j;
}

template <class T>
void check_lstm(Index n) {
  const Row<T> in(n, 4);
  Row<T> row = in;
  cells().lstm.get<T>().forward(row.forward(n));
  const auto u = static_cast<std::size_t>(n);
  std::vector<T> dh = uniform<T>(n, -1, 1, 6), dc = uniform<T>(n, -1, 1, 7), dy = uniform<T>(n, -1, 1, 8), da(4 * u);
  const std::vector<T> dc_next = dc;
  cells().lstm.get<T>().backward({.hidden = n,
                                  .gates = row.gates.data(),
                                  .h_before = row.h_before.data(),
                                  .c_before = row.c_before.data(),
                                  .inner = row.inner.data(),
                                  .dy = dy.data(),
                                  .dh = dh.data(),
                                  .dc = dc.data(),
                                  .da = da.data(),
                                  .dproduct = nullptr});
  for (std::size_t j = 0; j < u; ++j) {
    const auto sum = [&](std::size_t k) { return double(in.a[k * u + j]) + double(in.product[k * u + j]); };
    const double i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = std::tanh(sum(2)), o = sigmoid(sum(3));
    const double before = double(in.c[j]), c = f * before + i * g, t = std::tanh(c);
    expect_near(row.c, j, c);
    expect_near(row.h, j, o * t);
    const double d = double(dh[j]) + double(dy[j]), total = double(dc_next[j]) + d * o * (1 - t * t);
    expect_near(da, j, total * g * i * (1 - i));
    expect_near(da, u + j, total * before * f * (1 - f));
    expect_near(da, 2 * u + j, total * i * (1 - g * g));
    expect_near(da, 3 * u + j, d * t * o * (1 - o));
    expect_near(dc, j, total * f);
    EXPECT_EQ(row.h_before[j], in.h[j]);
  }
}

template <class T>
void check_gru(Index n) {
  const Row<T> in(n, 3);
  Row<T> row = in;
  cells().gru.get<T>().forward(row.forward(n));
  const auto u = static_cast<std::size_t>(n);
  const std::vector<T> dh = uniform<T>(n, -1, 1, 6);
  std::vector<T> through = dh, da(3 * u), dproduct(3 * u);
  cells().gru.get<T>().backward({.hidden = n,
                                 .gates = row.gates.data(),
                                 .h_before = row.h_before.data(),
                                 .c_before = nullptr,
                                 .inner = row.inner.data(),
                                 .dy = nullptr,
                                 .dh = through.data(),
                                 .dc = nullptr,
                                 .da = da.data(),
                                 .dproduct = dproduct.data()});
  for (std::size_t j = 0; j < u; ++j) {
    const auto a = [&](std::size_t k) { return double(in.a[k * u + j]); };
    const auto p = [&](std::size_t k) { return double(in.product[k * u + j]); };
    const double inner = p(2) + double(in.bias[j]), r = sigmoid(a(0) + p(0)), z = sigmoid(a(1) + p(1));
    const double candidate = std::tanh(a(2) + r * inner), h = double(in.h[j]), d = double(dh[j]);
    expect_near(row.h, j, (1 - z) * candidate + z * h);
    const double dn = d * (1 - z) * (1 - candidate * candidate);
    // r (1 - r) and z (1 - z) are at most 1/4, so `inner` (up to 5) and the rest stay within the tolerance.
    expect_near(da, j, dn * inner * r * (1 - r));
    expect_near(da, u + j, d * (h - candidate) * z * (1 - z));
    expect_near(da, 2 * u + j, dn);
    expect_near(dproduct, u + j, d * (h - candidate) * z * (1 - z));
    expect_near(dproduct, 2 * u + j, dn * r);
    expect_near(through, j, d * z);
  }
}

TEST(RecurrentKernels, AreThePlainLoops) {
  on_each_target([] {
    for (const Index n : {0, 1, 3, 7, 8, 9, 16, 31, 70}) {
      check_lstm<float>(n);
      check_lstm<double>(n);
      check_gru<float>(n);
      check_gru<double>(n);
    }
  });
}

TEST(RecurrentKernels, KeepNaNAndTheSlopeOfReluAtZero) {
  on_each_target([] {
    std::vector<float> a{static_cast<float>(nan), -1, 0, 2}, product(4), h(4), gates(4);
    const auto step = [&](const CellKernel& cell) {
      h.assign(4, 0.5f);
      cell.get<float>().forward({.hidden = 4,
                                 .a = a.data(),
                                 .product = product.data(),
                                 .bias = nullptr,
                                 .h = h.data(),
                                 .c = nullptr,
                                 .gates = gates.data(),
                                 .h_before = nullptr,
                                 .c_before = nullptr,
                                 .inner = nullptr});
    };
    step(cells().rnn_relu);
    EXPECT_TRUE(std::isnan(h[0]));
    EXPECT_EQ(h[1], 0);
    EXPECT_EQ(h[3], 2);
    std::vector<float> dh(4, 1), da(4);
    cells().rnn_relu.get<float>().backward({.hidden = 4,
                                            .gates = gates.data(),
                                            .h_before = nullptr,
                                            .c_before = nullptr,
                                            .inner = nullptr,
                                            .dy = nullptr,
                                            .dh = dh.data(),
                                            .dc = nullptr,
                                            .da = da.data(),
                                            .dproduct = nullptr});
    EXPECT_EQ(da[1], 0);
    EXPECT_EQ(da[2], 0);
    EXPECT_EQ(da[3], 1);
    step(cells().rnn_tanh);
    EXPECT_TRUE(std::isnan(h[0]));
    EXPECT_NEAR(h[3], std::tanh(2.), 1e-6);
  });
}

template <class T>
void check_prepacked(Index m, Index n, Index k, bool transposed, bool accumulate) {
  const Index stride = k + 3, c_stride = n + 2, b_stride = (transposed ? k : n) + 1;
  const std::vector<T> a = uniform<T>(m * stride, -1, 1, 1), b = uniform<T>((transposed ? n : k) * b_stride, -1, 1, 2);
  std::vector<T> c = uniform<T>(m * c_stride, -1, 1, 3);
  const std::vector<T> before = c;
  const Prepacked<T> weight({b.data(), b_stride, transposed}, k, n);
  weight.multiply(m, a.data(), stride, c.data(), c_stride, accumulate);
  const double tolerance = static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(k + 2);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < c_stride; ++j) {
      const auto at = static_cast<std::size_t>(i * c_stride + j);
      if (j >= n) {
        EXPECT_EQ(c[at], before[at]) << "written behind the row";
        continue;
      }
      double sum = accumulate ? static_cast<double>(before[at]) : 0;
      for (Index p = 0; p < k; ++p)
        sum += static_cast<double>(a[static_cast<std::size_t>(i * stride + p)]) *
               static_cast<double>(b[static_cast<std::size_t>(transposed ? j * b_stride + p : p * b_stride + j)]);
      EXPECT_NEAR(static_cast<double>(c[at]), sum, tolerance) << m << ' ' << n << ' ' << k;
    }
}

TEST(Prepacked, IsTheProduct) {
  on_each_target([] {
    for (const Index m : {0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 25})
      for (const Index n : {0, 1, 16, 37, 70})
        for (const Index k : {0, 1, 9, 40})
          for (const bool transposed : {false, true}) {
            check_prepacked<float>(m, n, k, transposed, m % 2 == 0);
            check_prepacked<double>(m, n, k, transposed, m % 2 == 1);
          }
  });
}

TEST(Prepacked, GivesARowTheSameBitsInAnyCompany) {
  const Index n = 130, k = 77, most = 24;
  const std::vector<float> a = uniform<float>(most * k, -1, 1), b = uniform<float>(k * n, -1, 1, 2);
  const Prepacked<float> weight({b.data(), n, false}, k, n);
  std::vector<float> all(static_cast<std::size_t>(most * n)), one(static_cast<std::size_t>(n));
  weight.multiply(most, a.data(), k, all.data(), n, false);
  for (Index i = 0; i < most; ++i) {
    weight.multiply(1, a.data() + i * k, k, one.data(), n, false);
    for (Index j = 0; j < n; ++j)
      ASSERT_EQ(one[static_cast<std::size_t>(j)], all[static_cast<std::size_t>(i * n + j)]) << i << ' ' << j;
  }
}

}  // namespace
}  // namespace espalier::kernels
