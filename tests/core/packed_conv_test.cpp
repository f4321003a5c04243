// Convolutions with a packed weight against those with the dense one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "espalier/core/conv.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/parallel.h"
#include "tests/support/kernel_times.h"

namespace espalier {
namespace {

constexpr KernelChoices all_sparse{};

Tensor random_tensor(const Shape& shape, DType type, unsigned seed, double live = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::bernoulli_distribution keep(live);
  std::vector<double> values(static_cast<std::size_t>(count(shape)));
  for (double& v : values) v = keep(random) ? uniform(random) : 0;
  return Tensor::from(values, shape).to(type);
}

ConvGeometry geometry(Index batch, Index in, Index out, ConvGeometry::Pair size, ConvGeometry::Pair kernel,
                      ConvGeometry::Pair stride, ConvGeometry::Pair dilation, ConvGeometry::Pair before) {
  ConvGeometry g{batch, 1, in, out, size, kernel, {}, stride, dilation, before};
  for (std::size_t a = 0; a < 2; ++a)
    g.result[a] = (size[a] + 2 * before[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a] + 1;
  return g;
}

const std::vector<ConvGeometry>& geometries() {
  static const std::vector<ConvGeometry> all = {geometry(2, 5, 7, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}),
                                                geometry(3, 6, 4, {8, 8}, {1, 1}, {1, 1}, {1, 1}, {0, 0}),
                                                geometry(1, 3, 20, {28, 28}, {5, 5}, {1, 1}, {1, 1}, {0, 0}),
                                                geometry(2, 4, 9, {12, 7}, {3, 2}, {2, 3}, {1, 1}, {1, 0}),
                                                geometry(2, 4, 9, {12, 13}, {3, 3}, {1, 2}, {2, 2}, {2, 2}),
                                                geometry(1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}),
                                                geometry(40, 8, 300, {2, 2}, {2, 2}, {1, 1}, {1, 1}, {1, 1}),
                                                geometry(1, 30, 3, {1, 100}, {1, 7}, {1, 1}, {1, 1}, {0, 3}),
                                                geometry(0, 2, 3, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {0, 0}),
                                                geometry(2, 300, 3, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {2, 2})};
  return all;
}

TEST(PackedConv, MatchesTheDenseConvolution) {
  unsigned seed = 0;
  for (const DType type : {DType::f32, DType::f64})
    for (const ConvGeometry& g : geometries())
      for (const double live : {0.0, 0.1, 0.6, 1.0}) {
        const Tensor w = random_tensor(g.weight_shape(), type, ++seed, live),
                     x = random_tensor(g.x_shape(), type, ++seed);
        const Tensor bias = random_tensor({g.out}, type, ++seed);
        const Tensor packed = Tensor::packed(w.shape(), type, std::make_unique<PackedLinear>(w, all_sparse));
        for (const bool relu : {false, true}) {
          const Tensor* shift = relu ? &bias : nullptr;
          const Tensor want = conv2d(x, w, shift, g, relu), have = conv2d(x, packed, shift, g, relu);
          const double terms = static_cast<double>(g.in * g.kernel[0] * g.kernel[1] + 2);
          const double bound = terms * terms * (type == DType::f32 ? 1.2e-7 : 2.3e-16);
          EXPECT_TRUE(allclose(have, want, 0, bound)) << g.x_shape() << " * " << g.weight_shape();
        }
        EXPECT_TRUE(equal(packed.densify(), w));
      }
}

TEST(PackedConv, SameBytesAtAnyThreadCount) {
  const int before = threads();
  const ConvGeometry g = geometry(3, 16, 70, {20, 21}, {3, 3}, {1, 1}, {1, 1}, {1, 1});
  const Tensor w = random_tensor(g.weight_shape(), DType::f32, 1, 0.2), x = random_tensor(g.x_shape(), DType::f32, 2);
  const PackedLinear packed(w, all_sparse);
  set_threads(1);
  const Tensor reference = packed.conv2d(x, nullptr, g, false);
  for (const int n : {2, 4}) {
    set_threads(n);
    const Tensor y = packed.conv2d(x, nullptr, g, false);
    EXPECT_EQ(0, std::memcmp(y.bytes(), reference.bytes(), static_cast<std::size_t>(y.size()) * 4));
  }
  set_threads(before);
}

TEST(PackedConv, TakesViewsAndRefusesWhatDoesNotFit) {
  const ConvGeometry g = geometry(2, 3, 4, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1});
  const Tensor w = random_tensor(g.weight_shape(), DType::f32, 1, 0.4);
  const Tensor x = random_tensor({2, 3, 5, 6}, DType::f32, 2).transpose(2, 3);
  const PackedLinear packed(w, all_sparse), dense(w, {KernelChoice::dense, KernelChoice::dense, KernelChoice::dense});
  EXPECT_TRUE(allclose(packed.conv2d(x, nullptr, g, false), dense.conv2d(x, nullptr, g, false), 1e-5, 1e-6));
  EXPECT_EQ(packed.shape(), w.shape());
  const Tensor bias = Tensor::zeros({5});
  EXPECT_THROW(packed.conv2d(x.transpose(2, 3), nullptr, g, false), ShapeError);
  EXPECT_THROW(packed.conv2d(x.to(DType::f64), nullptr, g, false), DTypeError);
  EXPECT_THROW(packed.conv2d(x, &bias, g, false), ShapeError);
  ConvGeometry other = g;
  other.in = 2;
  EXPECT_THROW(packed.conv2d(x.narrow(1, 0, 2), nullptr, other, false), ShapeError);
}

TEST(PackedConv, NanReachesTheRowsThatReadIt) {
  const ConvGeometry g = geometry(1, 2, 2, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {0, 0});
  Tensor w = Tensor::zeros({2, 2, 1, 1}), x = Tensor::ones({1, 2, 3, 3});
  w.write<float>("test")[3] = 1;  // only the second output reads the second channel
  x.write<float>("test")[9 + 4] = std::numeric_limits<float>::quiet_NaN();
  const Tensor y = PackedLinear(w).conv2d(x, nullptr, g, false);
  EXPECT_EQ(y.at({0, 0, 1, 1}), 0);
  EXPECT_TRUE(std::isnan(y.at({0, 1, 1, 1})));
  EXPECT_EQ(y.at({0, 1, 0, 0}), 1);
}

TEST(PackedConv, MeasuresItsKernels) {
  const ConvGeometry g = geometry(1, 16, 16, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1});
  for (const double live : {1.0, 0.02}) {
    KernelTimes times;
    const Tensor weight = random_tensor(g.weight_shape(), DType::f32, 1, live);
    testing::expect_choices_follow(times, measure_kernels(weight, g, &times));
  }
  EXPECT_THROW(measure_kernels(Tensor::zeros({4, 4, 3, 3})), ShapeError);
}

}  // namespace
}  // namespace espalier
