#include "espalier/core/kernels/transforms.h"

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

bool live(const std::vector<std::uint64_t>& mask, Index i) {
  return mask.empty() || (mask[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1) != 0;
}
std::vector<std::uint64_t> words(Index n, bool masked) {
  return masked ? std::vector<std::uint64_t>(static_cast<std::size_t>(n / 64 + 1), 0xb6db6db6db6db6d5u)
                : std::vector<std::uint64_t>();
}

template <class T>
void check_softened() {
  for (Index n : awkward_sizes())
    for (const bool masked : {false, true})
      for (const bool in_place : {false, true}) {
        const auto mask = words(n, masked);
        std::vector<T> x = uniform<T>(n, -2, 2, 7), y(x.size(), T(5));
        if (n > 40) {
          x[3] = static_cast<T>(nan), x[4] = static_cast<T>(-infinity), x[5] = T(-0.0), x[6] = T(-0.5);
        }
        const std::vector<T> before = x;
        T* out = in_place ? x.data() : y.data();
        transforms<T>().load_softened(out, x.data(), T(2), T(1), masked ? mask.data() : nullptr, n);
        for (Index i = 0; i < n; ++i) {
          const T from = 2 * before[static_cast<std::size_t>(i)];
          const T size = std::abs(from) <= 1 ? T(0) : std::abs(from) - 1;
          const T expected = !live(mask, i) || size == 0 ? T(0) : std::copysign(size, from);
          if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(out[i]));
          } else {
            ASSERT_EQ(out[i], expected) << i;
            ASSERT_TRUE(expected != 0 || !std::signbit(out[i])) << i;
          }
        }
      }
}
TEST(TransformKernels, SoftThresholdMakesExactZeros) {
  on_each_target([] {
    check_softened<float>();
    check_softened<double>();
  });
}

template <class T>
void check_centered() {
  for (const Index unit : {1, 2, 5, 7, 8, 27, 64, 100, 1000})
    for (const Index units : {1, 3, 4})
      for (const bool masked : {false, true})
        for (const bool in_place : {false, true}) {
          const Index n = unit * units;
          auto mask = words(n, masked);
          mask.resize(static_cast<std::size_t>((n + 63) / 64));  // nothing behind them may be read
          std::vector<T> x = uniform<T>(n, 1, 3, 7), y(x.size() + 1, T(-77));
          const std::vector<T> before = x;
          T* out = in_place ? x.data() : y.data();
          transforms<T>().load_centered(out, x.data(), T(-2), unit, masked ? mask.data() : nullptr, n);
          for (Index u = 0; u < n; u += unit) {
            double sum = 0, count = 0;
            for (Index i = u; i < u + unit; ++i)
              if (!masked || live(mask, i)) sum += before[static_cast<std::size_t>(i)], ++count;
            for (Index i = u; i < u + unit; ++i) {
              const bool alive = !masked || live(mask, i);
              const double expected = alive ? -2 * (before[static_cast<std::size_t>(i)] - sum / count) : 0;
              ASSERT_NEAR(static_cast<double>(out[i]), expected, 30 * std::numeric_limits<T>::epsilon());
              ASSERT_TRUE(alive || !std::signbit(out[i]));
            }
          }
          ASSERT_EQ(y.back(), T(-77));
        }
}
TEST(TransformKernels, CenterEachUnit) {
  on_each_target([] {
    check_centered<float>();
    check_centered<double>();
  });
}

template <class T>
void check_approach() {
  for (Index n : awkward_sizes())
    for (const bool masked : {false, true}) {
      const auto mask = words(n, masked);
      const std::vector<T> x = uniform<T>(n, -2, 2, 7), before = uniform<T>(n, -2, 2, 8);
      std::vector<T> y = before;
      transforms<T>().approach(y.data(), T(0.25), x.data(), masked ? mask.data() : nullptr, n);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool alive = live(mask, static_cast<Index>(i));
        const auto expected = static_cast<double>(before[i]) + 0.25 * (static_cast<double>(x[i]) - before[i]);
        ASSERT_NEAR(static_cast<double>(y[i]), alive ? expected : 0, 4 * std::numeric_limits<T>::epsilon());
      }
      y = x;
      transforms<T>().approach(y.data(), T(0.3), x.data(), nullptr, n);
      ASSERT_EQ(y, x);
    }
}
TEST(TransformKernels, ApproachMovesAShareOfTheWay) {
  on_each_target([] {
    check_approach<float>();
    check_approach<double>();
  });
}

}  // namespace
}  // namespace espalier::kernels
