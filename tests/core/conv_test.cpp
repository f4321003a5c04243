// Convolution and its two gradients against plain loops in double, on every SIMD target and in shapes of every kind.
#include "espalier/core/conv.h"

#include <gtest/gtest.h>

#include "espalier/core/rng.h"
#include "tests/core/kernels/kernel_test.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using Pair = ConvGeometry::Pair;

ConvGeometry geometry(Index batch, Index groups, Index in, Index out, Pair size, Pair kernel, Pair stride = {1, 1},
                      Pair padding = {0, 0}, Pair dilation = {1, 1}) {
  ConvGeometry g{batch, groups, in, out, size, kernel, {}, stride, dilation, padding};
  for (std::size_t a = 0; a < 2; ++a)
    g.result[a] = (size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a] + 1;
  return g;
}

/// Calls f(position in x, in the weight, in y) for every product of the convolution.
template <class F>
void each_product(const ConvGeometry& g, F&& f) {
  const Index in = g.in / g.groups, out = g.out / g.groups;
  for (Index n = 0; n < g.batch; ++n)
    for (Index o = 0; o < g.out; ++o)
      for (Index i = 0; i < g.result[0]; ++i)
        for (Index j = 0; j < g.result[1]; ++j)
          for (Index c = 0; c < in; ++c)
            for (Index a = 0; a < g.kernel[0]; ++a)
              for (Index b = 0; b < g.kernel[1]; ++b) {
                const Index u = i * g.stride[0] + a * g.dilation[0] - g.before[0];
                const Index v = j * g.stride[1] + b * g.dilation[1] - g.before[1];
                if (u < 0 || v < 0 || u >= g.size[0] || v >= g.size[1]) continue;
                f(((n * g.in + o / out * in + c) * g.size[0] + u) * g.size[1] + v,
                  ((o * in + c) * g.kernel[0] + a) * g.kernel[1] + b,
                  ((n * g.out + o) * g.result[0] + i) * g.result[1] + j);
              }
}

struct Case {
  explicit Case(const ConvGeometry& geometry_, unsigned seed = 3) : g(geometry_) {
    Rng rng(seed);
    x = rng.uniform(g.x_shape(), -1, 1, DType::f64);
    w = rng.uniform(g.weight_shape(), -1, 1, DType::f64);
    y = rng.uniform(g.y_shape(), -1, 1, DType::f64);
    b = rng.uniform({g.out}, -1, 1, DType::f64);
    expected_y = Tensor::zeros(g.y_shape(), DType::f64);
    expected_x = Tensor::zeros(g.x_shape(), DType::f64);
    expected_w = Tensor::zeros(g.weight_shape(), DType::f64);
    auto* to_y = expected_y.write<double>("test");
    auto* to_x = expected_x.write<double>("test");
    auto* to_w = expected_w.write<double>("test");
    const double *at_x = x.data<double>(), *at_w = w.data<double>(), *at_y = y.data<double>();
    const Index plane = g.result[0] * g.result[1];
    for (Index i = 0; i < y.size(); ++i) to_y[i] = b.data<double>()[i / plane % g.out];
    each_product(g, [&](Index i, Index k, Index o) {
      to_y[o] += at_x[i] * at_w[k];
      to_x[i] += at_y[o] * at_w[k];
      to_w[k] += at_x[i] * at_y[o];
    });
  }

  /// The error allowed: a sum of n products of size 1/3 wanders to sqrt(n) / 3, each step rounds once, and the roundings
  /// add up as a random walk: about n / 15 units, 5 times as much at the worst of thousands.
  void check(DType type) const {
    const double unit = type == DType::f32 ? 1.2e-7 : 2.3e-16;
    auto near = [&](const Tensor& a, const Tensor& exact, Index terms) {
      return allclose(a.to(DType::f64), exact, 0, unit * (8 + static_cast<double>(terms) / 2));
    };
    const Tensor tx = x.to(type), tw = w.to(type), ty = y.to(type), tb = b.to(type);
    const Index taps = g.kernel[0] * g.kernel[1];
    EXPECT_TRUE(near(conv2d(tx, tw, &tb, g), expected_y, g.in / g.groups * taps));
    EXPECT_TRUE(near(conv2d_data(ty, tw, nullptr, g), expected_x, g.out / g.groups * taps));
    EXPECT_TRUE(near(conv2d_weight(tx, ty, g), expected_w, g.batch * g.result[0] * g.result[1]));
    const std::vector<double> plain = conv2d(tx, tw, &tb, g).to(DType::f64).to_vector<double>();
    const std::vector<double> relu = conv2d(tx, tw, &tb, g, true).to(DType::f64).to_vector<double>();
    for (std::size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(relu[i], std::max(0.0, plain[i]));
  }

  ConvGeometry g;
  Tensor x, w, y, b, expected_x, expected_w, expected_y;
};

TEST(Conv, RandomShapesAgreeWithPlainLoopsOnEveryTarget) {
  std::mt19937 random(1);
  auto below = [&](Index n) { return static_cast<Index>(random() % static_cast<std::uint32_t>(n)); };
  for (int k = 0; k < 90; ++k) {
    const bool many = k >= 60;  // groups, of which each is laid out alone
    const Index groups = many ? 8 + below(6) : below(3) == 0 ? 1 + below(4) : 1;
    const Index wide = many ? 1 + below(2) : 30, deep = many ? 1 + below(2) : 4;
    Pair kernel, stride, padding, dilation, size;
    for (std::size_t a = 0; a < 2; ++a) {
      kernel[a] = 1 + below(5);
      stride[a] = 1 + (below(2) == 0 ? below(4) : 0);
      dilation[a] = 1 + (below(3) == 0 ? below(3) : 0);
      padding[a] = below(4);
      size[a] = std::max<Index>(1, dilation[a] * (kernel[a] - 1) + 1 - 2 * padding[a]) + below(27);
    }
    const Case c(geometry(1 + below(many ? 12 : 5), groups, groups * (1 + below(deep)), groups * (1 + below(wide)),
                          size, kernel, stride, padding, dilation),
                 static_cast<unsigned>(k));
    SCOPED_TRACE(join("x ", c.g.x_shape(), " weight ", c.g.weight_shape(), " y ", c.g.y_shape(), " case ", Index{k}));
    kernels::on_each_target([&] {
      c.check(DType::f32);
      c.check(DType::f64);
    });
  }
}

TEST(Conv, ShapesOfEveryKindAgreeWithPlainLoops) {
  for (const ConvGeometry& g : {
           geometry(9, 1, 1, 20, {28, 28}, {5, 5}),                         // direct, a single channel
           geometry(9, 1, 20, 50, {12, 12}, {5, 5}),                        // direct; its gradient by pixels
           geometry(2, 1, 16, 32, {16, 16}, {3, 3}, {2, 2}, {1, 1}),        // phases
           geometry(1, 1, 160, 24, {4, 4}, {3, 3}, {1, 1}, {1, 1}),         // more than one part of a sum, by pixels
           geometry(1, 1, 160, 24, {8, 16}, {3, 3}, {1, 1}, {1, 1}),        // the same by strips
           geometry(70, 1, 5, 33, {2, 2}, {2, 2}),                          // images of a single pixel
           geometry(3, 1, 12, 9, {7, 7}, {1, 1}),                           // one tap: rows run on
           geometry(2, 6, 6, 6, {17, 19}, {3, 3}, {1, 1}, {1, 1}),          // depthwise
           geometry(9, 4, 4, 8, {9, 33}, {3, 5}, {2, 2}, {1, 2}),           // depthwise, strided, multiplied
           geometry(3, 9, 9, 9, {7, 7}, {3, 3}, {1, 1}, {1, 1}),            // rows shorter than a vector
           geometry(9, 16, 16, 16, {6, 28}, {5, 5}, {1, 1}, {2, 2}),        // rows of three vectors and a half
           geometry(2, 8, 8, 16, {13, 9}, {1, 1}),                          // one tap for each channel
           geometry(2, 1, 200, 1, {9, 13}, {3, 3}, {1, 1}, {1, 1}),         // a single channel, of a long sum
           geometry(2, 1, 1500, 3, {3, 7}, {1, 1}),                         // a long sum whose rows run on
           geometry(1, 1, 3, 4, {1, 100}, {1, 7}, {1, 3}, {0, 3}, {1, 2}),  // a sequence
           geometry(2, 1, 2, 3, {3, 3}, {1, 1}, {5, 5}),                    // a stride beyond the image
           geometry(2, 1, 2, 3, {3, 3}, {2, 2}, {4, 4}, {3, 3}),            // windows of padding alone
       }) {
    SCOPED_TRACE(join("x ", g.x_shape(), " weight ", g.weight_shape()));
    const Case c(g);
    kernels::on_each_target([&] {
      c.check(DType::f32);
      c.check(DType::f64);
    });
  }
}

TEST(Conv, ThreadsDoNotChangeABit) {
  for (const ConvGeometry& g : {geometry(20, 1, 16, 24, {20, 20}, {3, 3}, {1, 1}, {1, 1}),
                                geometry(3, 1, 32, 48, {24, 24}, {3, 3}, {2, 2}, {1, 1}),
                                geometry(1, 1, 64, 96, {7, 7}, {3, 3}, {1, 1}, {1, 1}),
                                geometry(2, 32, 32, 32, {40, 40}, {3, 3}, {1, 1}, {1, 1})}) {
    Rng rng(5);
    const Tensor x = randn(rng, g.x_shape()), w = randn(rng, g.weight_shape()), y = randn(rng, g.y_shape());
    std::vector<Tensor> one;
    for (int n : {1, 2, 3, 4}) {
      const testing::Threads use(n);
      const std::vector<Tensor> now = {conv2d(x, w, nullptr, g), conv2d_data(y, w, nullptr, g), conv2d_weight(x, y, g)};
      if (one.empty()) one = now;
      for (std::size_t k = 0; k < now.size(); ++k) EXPECT_TRUE(same_bytes(one[k], now[k])) << n << " threads, " << k;
    }
  }
}

TEST(Conv, NanAndInfinityStayInTheirWindows) {
  // Rows that end within a vector read further than they should: what lies there must not leak.
  for (const auto& [width, groups] :
       {std::pair<Index, Index>{5, 1}, {8, 1}, {11, 1}, {19, 1}, {5, 8}, {11, 8}, {28, 8}}) {
    const ConvGeometry g = groups == 1 ? geometry(1, 1, 2, 5, {6, width}, {3, 3}, {1, 1}, {1, 1})
                                       : geometry(1, groups, groups, groups, {6, width}, {3, 3}, {1, 1}, {1, 1});
    Rng rng(2);
    Tensor x = randn(rng, g.x_shape());
    const Tensor w = randn(rng, g.weight_shape());
    const Tensor before = conv2d(x, w, nullptr, g);
    x.write<float>("test")[2 * width] = std::numeric_limits<float>::quiet_NaN();  // channel 0, row 2, column 0
    const Tensor after = conv2d(x, w, nullptr, g);
    for (Index o = 0; o < g.out; ++o)
      for (Index i = 0; i < 6; ++i)
        for (Index j = 0; j < width; ++j) {
          const Index at = (o * 6 + i) * width + j;
          const bool hit = i >= 1 && i <= 3 && j <= 1 && (groups == 1 || o == 0);
          EXPECT_EQ(std::isnan(after.data<float>()[at]), hit) << i << ' ' << j;
          if (hit) continue;
          EXPECT_EQ(after.data<float>()[at], before.data<float>()[at]);
        }
  }
}

TEST(Conv, ReluKeepsNan) {
  const ConvGeometry g = geometry(1, 1, 1, 1, {1, 3}, {1, 1});
  const Tensor x = Tensor::from({-1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f}, g.x_shape());
  const std::vector<float> y = conv2d(x, Tensor::ones({1, 1, 1, 1}), nullptr, g, true).to_vector<float>();
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(y[2], 2);
}

TEST(Conv, ViewsAndEmptyTensorsWork) {
  const ConvGeometry g = geometry(2, 1, 3, 4, {6, 7}, {3, 3});
  Rng rng(2);
  const Tensor x = randn(rng, {2, 6, 7, 3}).permute({0, 3, 1, 2}), w = randn(rng, {3, 3, 3, 4}).permute({3, 2, 0, 1});
  EXPECT_TRUE(same_bytes(conv2d(x, w, nullptr, g), conv2d(x.clone(), w.clone(), nullptr, g)));
  const ConvGeometry none = geometry(0, 1, 3, 4, {6, 7}, {3, 3});
  EXPECT_EQ(conv2d(Tensor::zeros(none.x_shape()), w, nullptr, none).shape(), (Shape{0, 4, 4, 5}));
  const Tensor dw = conv2d_weight(Tensor::zeros(none.x_shape()), Tensor::zeros(none.y_shape()), none);
  EXPECT_EQ(dw.to_vector<float>(), std::vector<float>(4 * 3 * 9, 0.0f));
  // Without input channels there is nothing to sum: the bias is left.
  const ConvGeometry bare = geometry(1, 1, 0, 2, {3, 3}, {2, 2});
  const Tensor bias = Tensor::from({1.0f, 2.0f});
  EXPECT_EQ(conv2d(Tensor::zeros(bare.x_shape()), Tensor::zeros(bare.weight_shape()), &bias, bare).to_vector<float>(),
            (std::vector<float>{1, 1, 1, 1, 2, 2, 2, 2}));
}

TEST(Conv, TensorsThatDoNotFitTheGeometryAreErrors) {
  const ConvGeometry g = geometry(1, 1, 2, 3, {5, 5}, {3, 3});
  const Tensor x = Tensor::zeros(g.x_shape()), w = Tensor::zeros(g.weight_shape()), y = Tensor::zeros(g.y_shape());
  const Tensor bias = Tensor::zeros({2});
  EXPECT_TRUE(testing::throws<ShapeError>([&] { conv2d(y, w, nullptr, g); },
                                          "x [1, 3, 3, 3] does not fit the geometry, which wants [1, 2, 5, 5]"));
  EXPECT_TRUE(testing::throws<ShapeError>([&] { conv2d(x, w, &bias, g); }, "bias [2]", "[3]"));
  EXPECT_TRUE(testing::throws<ShapeError>([&] { conv2d_data(x, w, nullptr, g); }, "g [1, 2, 5, 5]"));
  EXPECT_TRUE(testing::throws<ShapeError>([&] { conv2d_weight(x, x, g); }, "g [1, 2, 5, 5]"));
  EXPECT_TRUE(testing::throws<DTypeError>([&] { conv2d(x, w.to(DType::f64), nullptr, g); }));
}

TEST(Conv, WarmCallsTakeNothingFromTheSystem) {
  const ConvGeometry g = geometry(4, 1, 8, 16, {13, 13}, {3, 3}, {2, 2}, {1, 1});
  Rng rng(2);
  const Tensor x = randn(rng, g.x_shape()), w = randn(rng, g.weight_shape()), y = randn(rng, g.y_shape());
  const testing::Threads use(1);
  auto all = [&] {
    conv2d(x, w, nullptr, g);
    conv2d_data(y, w, nullptr, g);
    conv2d_weight(x, y, g);
  };
  for (int k = 0; k < 3; ++k) all();
  const auto before = allocator_statistics().system_allocations;
  for (int k = 0; k < 10; ++k) all();
  EXPECT_EQ(allocator_statistics().system_allocations, before);
}

}  // namespace
}  // namespace espalier
