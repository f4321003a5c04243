#include "espalier/core/kernels/random_normal.h"

#include <numbers>

#include "tests/core/kernels/kernel_test.h"
#include "tests/support/philox.h"

namespace espalier::kernels {
namespace {

constexpr RandomPlace place{0x0123456789abcdef, 0xfedcba9876543210, 0xfffffffffffffffa};  // its counter wraps around

/// Draw number k, by the definition in the header.
double reference(std::uint64_t k) {
  const std::uint64_t group = k / 64, pair = k % 32;
  const auto words = testing::philox(place.key, place.stream, place.counter + group * 16 + pair / 2);
  const double radius = std::sqrt(-2 * std::log((static_cast<double>(words[pair % 2]) + 0.5) * 0x1p-32));
  const double angle = 2 * std::numbers::pi * static_cast<double>(words[2 + pair % 2]) * 0x1p-32;
  return radius * (k % 64 < 32 ? std::cos(angle) : std::sin(angle));
}

template <class T>
void check_against_reference(double tolerance) {
  on_each_target([=] {
    std::vector<T> x(1000);
    random_normal<T>().fill(place, 0, x.data(), 1000);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(static_cast<double>(x[i]), reference(i), tolerance) << i;
  });
}
TEST(RandomNormal, IsPhiloxAndBoxMuller) {
  check_against_reference<float>(2e-6);  // a few ulp of radius and angle at up to 6.8, and the rounding of log near 1
  check_against_reference<double>(1e-14);
}

template <class T>
void check_stretches() {
  on_each_target([] {
    std::vector<T> all(400);
    random_normal<T>().fill(place, 0, all.data(), 400);
    for (std::uint64_t first : {0u, 1u, 31u, 63u, 64u, 100u, 190u})
      for (Index n : {0, 1, 2, 63, 64, 65, 129, 200}) {
        std::vector<T> part(static_cast<std::size_t>(n) + 1, T(-77));
        random_normal<T>().fill(place, first, part.data(), n);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
          ASSERT_EQ(part[i], all[static_cast<std::size_t>(first) + i]) << first << ' ' << i;
        ASSERT_EQ(part.back(), T(-77));
      }
  });
}
TEST(RandomNormal, DependsOnTheNumberAlone) {
  check_stretches<float>();
  check_stretches<double>();
}

TEST(RandomNormal, HasTheMomentsOfANormalDistribution) {
  constexpr Index n = 1 << 20;
  std::vector<float> x(n);
  random_normal<float>().fill({1, 2, 3}, 5, x.data(), n);
  double moments[5] = {};
  Index beyond_two = 0;
  for (const float v : x) {
    double power = 1;
    for (double& m : moments) m += power, power *= v;
    beyond_two += std::abs(v) > 2;
  }
  const double deviation = 1 / std::sqrt(static_cast<double>(n));
  EXPECT_NEAR(moments[1] / n, 0, 5 * deviation);
  EXPECT_NEAR(moments[2] / n, 1, 5 * std::sqrt(2.0) * deviation);
  EXPECT_NEAR(moments[3] / n, 0, 5 * std::sqrt(15.0) * deviation);
  EXPECT_NEAR(moments[4] / n, 3, 5 * std::sqrt(96.0) * deviation);
  EXPECT_NEAR(static_cast<double>(beyond_two) / n, 0.0455003, 5 * std::sqrt(0.0455) * deviation);
}

TEST(RandomNormal, OtherPlacesGiveOtherNumbers) {
  std::vector<double> x(64), y(64);
  random_normal<double>().fill({1, 2, 3}, 0, x.data(), 64);
  for (const RandomPlace& other : {RandomPlace{2, 2, 3}, RandomPlace{1, 3, 3}, RandomPlace{1, 2, 1000}}) {
    random_normal<double>().fill(other, 0, y.data(), 64);
    for (std::size_t i = 0; i < 64; ++i) EXPECT_NE(x[i], y[i]);
  }
}

}  // namespace
}  // namespace espalier::kernels
