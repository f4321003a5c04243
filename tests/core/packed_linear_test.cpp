#include "espalier/core/packed_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "tests/support/kernel_times.h"

namespace espalier {
namespace {

constexpr KernelChoices all_sparse{};
constexpr KernelChoices all_dense{KernelChoice::dense, KernelChoice::dense, KernelChoice::dense};

template <class T>
Tensor random_tensor(const Shape& shape, unsigned seed, double zeros = 0) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<T> uniform(-1, 1);
  std::bernoulli_distribution drop(zeros);
  std::vector<T> values(static_cast<std::size_t>(count(shape)));
  for (T& v : values) v = drop(random) ? T(0) : uniform(random);
  return Tensor::from(values, shape);
}

/// The plain loop in double, with the error bound of a sum in T.
template <class T>
void expect_linear(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor* bias) {
  const Index batch = x.dim(0), in = x.dim(1), out = w.dim(0);
  ASSERT_EQ(y.shape(), (Shape{batch, out}));
  ASSERT_EQ(y.dtype(), x.dtype());
  const auto xs = x.to_vector<T>(), ws = w.to_vector<T>(), ys = y.to_vector<T>();
  const auto bs = bias ? bias->to_vector<T>() : std::vector<T>(static_cast<std::size_t>(out));
  for (Index n = 0; n < batch; ++n) {
    for (Index o = 0; o < out; ++o) {
      double sum = bs[static_cast<std::size_t>(o)], size = std::abs(sum);
      for (Index i = 0; i < in; ++i) {
        const double term = static_cast<double>(xs[static_cast<std::size_t>(n * in + i)]) *
                            static_cast<double>(ws[static_cast<std::size_t>(o * in + i)]);
        sum += term;
        size += std::abs(term);
      }
      ASSERT_NEAR(static_cast<double>(ys[static_cast<std::size_t>(n * out + o)]), sum,
                  static_cast<double>(in + 2) * static_cast<double>(std::numeric_limits<T>::epsilon()) * size)
          << "sample " << n << " of " << batch << ", output " << o;
    }
  }
}

template <class T>
class PackedLinearOf : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PackedLinearOf, Types);

TYPED_TEST(PackedLinearOf, MatchesThePlainLoopAtAllBatches) {
  using T = TypeParam;
  unsigned seed = 0;
  for (const auto& [out, in] : std::vector<std::pair<Index, Index>>{
           {1, 1}, {1, 300}, {7, 5}, {10, 100}, {33, 257}, {65, 700}, {300, 784}, {3, 70000}}) {
    for (const double zeros : {0.0, 0.5, 0.9, 0.99}) {
      if (out * in > 20000 && zeros < 0.9) continue;
      const Tensor w = random_tensor<T>({out, in}, ++seed, zeros);
      const Tensor bias = random_tensor<T>({out}, ++seed);
      const PackedLinear packed(w, all_sparse);
      for (const Index batch : {0, 1, 2, 7, 8, 16, 17, 64, 100}) {
        if (in > 10000 && batch > 17) continue;
        const Tensor x = random_tensor<T>({batch, in}, ++seed);
        const Tensor* shift = batch % 2 == 0 ? &bias : nullptr;
        expect_linear<T>(packed.linear(x, shift), x, w, shift);
        if (this->HasFatalFailure()) return;
      }
    }
  }
}

TYPED_TEST(PackedLinearOf, SameBytesAtAnyThreadCount) {
  using T = TypeParam;
  const int before = threads();
  const Tensor w = random_tensor<T>({700, 900}, 1, 0.8), bias = random_tensor<T>({700}, 2);
  for (const KernelChoices& choices : {all_sparse, all_dense}) {
    const PackedLinear packed(w, choices);
    for (const Index batch : {1, 2, 16, 17, 64, 100, 300}) {
      const Tensor x = random_tensor<T>({batch, 900}, 3);
      set_threads(1);
      const Tensor reference = packed.linear(x, &bias);
      for (const int n : {2, 4}) {
        set_threads(n);
        for (int round = 0; round < 5; ++round) {
          const Tensor y = packed.linear(x, &bias);
          EXPECT_EQ(0, std::memcmp(y.bytes(), reference.bytes(), static_cast<std::size_t>(y.size()) * sizeof(T)))
              << "batch " << batch << " at " << n << " threads";
        }
      }
    }
  }
  set_threads(before);
}

TYPED_TEST(PackedLinearOf, ASampleHasTheSameBytesInAnyBatchOfTwoOrMore) {
  using T = TypeParam;
  const Tensor w = random_tensor<T>({50, 600}, 1, 0.9);
  const PackedLinear packed(w, all_sparse);
  const Tensor x = random_tensor<T>({130, 600}, 2);
  const Tensor all = packed.linear(x, nullptr);
  for (const Index batch : {2, 3, 9, 16, 17, 63, 65}) {
    const Tensor y = packed.linear(x.narrow(0, 0, batch), nullptr);
    EXPECT_TRUE(equal(y, all.narrow(0, 0, batch))) << batch;
  }
}

TYPED_TEST(PackedLinearOf, EmptyRowsColumnsAndWeights) {
  using T = TypeParam;
  const Tensor bias = random_tensor<T>({20}, 1);
  Tensor w = Tensor::zeros({20, 300}, dtype_of<T>);
  const PackedLinear none(w, all_sparse);
  EXPECT_EQ(none.live(), 0);
  w.write<T>("test")[7 * 300 + 299] = T(2);
  const PackedLinear one(w, all_sparse);
  EXPECT_EQ(one.live(), 1);
  for (const Index batch : {1, 2, 17, 64}) {
    const Tensor x = random_tensor<T>({batch, 300}, 2);
    expect_linear<T>(none.linear(x, &bias), x, Tensor::zeros({20, 300}, dtype_of<T>), &bias);
    expect_linear<T>(one.linear(x, &bias), x, w, &bias);
  }
  for (const auto& [out, in] : std::vector<std::pair<Index, Index>>{{0, 5}, {5, 0}, {0, 0}}) {
    for (const KernelChoices& choices : {all_sparse, all_dense}) {
      const Tensor empty = Tensor::zeros({out, in}, dtype_of<T>);
      const PackedLinear packed(empty, choices);
      EXPECT_EQ(packed.live(), 0);
      EXPECT_EQ(packed.densify().shape(), empty.shape());
      for (const Index batch : {0, 1, 3, 20}) {
        const Tensor shift = random_tensor<T>({out}, 4);
        const Tensor x = random_tensor<T>({batch, in}, 5);
        expect_linear<T>(packed.linear(x, &shift), x, empty, &shift);
      }
    }
  }
}

TYPED_TEST(PackedLinearOf, DensifyGivesTheWeightBack) {
  using T = TypeParam;
  const Tensor w = random_tensor<T>({33, 777}, 1, 0.7);
  for (const KernelChoices& choices : {all_sparse, all_dense, KernelChoices{.few = KernelChoice::dense}}) {
    const PackedLinear packed(w, choices);
    EXPECT_TRUE(equal(packed.densify(), w));
    EXPECT_GT(packed.live(), 0);
    EXPECT_EQ(packed.shape(), w.shape());
    EXPECT_EQ(packed.choices(), choices);
  }
}

TYPED_TEST(PackedLinearOf, NanInTheWeightIsLiveAndNanInTheInputPassesThrough) {
  using T = TypeParam;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Tensor w = Tensor::zeros({3, 4}, dtype_of<T>);
  w.write<T>("test")[5] = nan;
  w.write<T>("test")[11] = T(1);
  const PackedLinear packed(w, all_sparse);
  EXPECT_EQ(packed.live(), 2);
  Tensor x = Tensor::ones({2, 4}, dtype_of<T>);
  x.write<T>("test")[3] = nan;
  const Tensor y = packed.linear(x, nullptr);
  EXPECT_EQ(y.at({0, 0}), 0.0) << "a pruned entry is no product at all";
  EXPECT_TRUE(std::isnan(y.at({0, 1})));
  EXPECT_TRUE(std::isnan(y.at({0, 2})));
  EXPECT_EQ(y.at({1, 2}), 1.0);
}

TEST(PackedLinear, ClassesRunTheKernelTheyChose) {
  const Tensor w = random_tensor<float>({40, 50}, 1, 0.9);
  const PackedLinear packed(w, {.one = KernelChoice::dense, .few = KernelChoice::sparse, .many = KernelChoice::dense});
  EXPECT_EQ(packed.kernel(1), "dense");
  EXPECT_EQ(packed.kernel(2), "sparse");
  EXPECT_EQ(packed.kernel(16), "sparse");
  EXPECT_EQ(packed.kernel(17), "dense");
  for (const Index batch : {1, 5, 40}) {
    const Tensor x = random_tensor<float>({batch, 50}, 2);
    expect_linear<float>(packed.linear(x, nullptr), x, w, nullptr);
  }
  const PackedLinear sparse(w, all_sparse), dense(w, all_dense);
  EXPECT_EQ(dense.bytes(), 40 * 50 * 4);
  EXPECT_LT(sparse.bytes(), dense.bytes());
  EXPECT_EQ(packed.bytes(), sparse.bytes() + dense.bytes());
}

TEST(PackedLinear, DoesNotChangeWhenTheWeightDoes) {
  Tensor w = random_tensor<float>({4, 5}, 1);
  const Tensor before = w.clone();
  const PackedLinear packed(w, all_dense);
  w.fill(0);
  EXPECT_TRUE(equal(packed.densify(), before));
  packed.densify().fill(0);
  EXPECT_TRUE(equal(packed.densify(), before));
}

TEST(PackedLinear, TakesViewsAndPackedWeights) {
  const Tensor w = random_tensor<float>({50, 40}, 1, 0.9);
  const PackedLinear packed(w.t(), all_sparse);
  EXPECT_TRUE(equal(packed.densify(), w.t().contiguous()));
  const Tensor x = random_tensor<float>({50, 9}, 2);
  expect_linear<float>(packed.linear(x.t(), nullptr), x.t().contiguous(), w.t().contiguous(), nullptr);

  const Tensor held = Tensor::packed({40, 50}, DType::f32, std::make_unique<PackedLinear>(w.t(), all_sparse));
  EXPECT_TRUE(equal(held.densify(), w.t().contiguous()));
  EXPECT_TRUE(equal(PackedLinear(held, all_dense).densify(), w.t().contiguous()));
  expect_linear<float>(linear(x.t(), held, nullptr), x.t().contiguous(), w.t().contiguous(), nullptr);
}

TEST(PackedLinear, RefusesWhatDoesNotFit) {
  EXPECT_THROW(PackedLinear(Tensor::zeros({3})), ShapeError);
  EXPECT_THROW(PackedLinear(Tensor::ones({3, 4}), {.one = KernelChoice::blocked}), ConfigError);
  EXPECT_THROW(PackedLinear(Tensor::ones({3, 4}), {.few = KernelChoice::grouped}), ConfigError);
  EXPECT_THROW(PackedLinear(Tensor::zeros({3, 4}, DType::i32)), DTypeError);
  const PackedLinear packed(Tensor::ones({3, 4}));
  const Tensor short_bias = Tensor::zeros({2}), wide_bias = Tensor::zeros({3}, DType::f64);
  EXPECT_THROW(packed.linear(Tensor::zeros({2, 5}), nullptr), ShapeError);
  EXPECT_THROW(packed.linear(Tensor::zeros({4}), nullptr), ShapeError);
  EXPECT_THROW(packed.linear(Tensor::zeros({2, 4}, DType::f64), nullptr), DTypeError);
  EXPECT_THROW(packed.linear(Tensor::zeros({2, 4}), &short_bias), ShapeError);
  EXPECT_THROW(packed.linear(Tensor::zeros({2, 4}), &wide_bias), DTypeError);
  EXPECT_THROW(fixed_kernels({3}, 1, DType::f32), ShapeError);
}

TEST(PackedLinear, ChoicesFollowTheDensity) {
  EXPECT_EQ(fixed_kernels({1024, 1024}, 1024 * 1024, DType::f32), all_dense);
  EXPECT_EQ(fixed_kernels({1024, 1024}, 1024 * 20, DType::f32), all_sparse);
  EXPECT_EQ(fixed_kernels({0, 10}, 0, DType::f64), all_sparse);
  for (const double zeros : {0.0, 0.995}) {
    KernelTimes times;
    const Tensor weight = random_tensor<float>({400, 800}, 1, zeros);
    testing::expect_choices_follow(times, measure_kernels(weight, &times));
  }
  EXPECT_NO_THROW(measure_kernels(Tensor::zeros({0, 5})));
}

}  // namespace
}  // namespace espalier
