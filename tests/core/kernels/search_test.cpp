#include "espalier/core/kernels/search.h"

#include <limits>

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

template <class T>
void expect_found() {
  constexpr T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  for (const Index n : awkward_sizes()) {
    std::vector<T> x(static_cast<std::size_t>(n) + 1, T(2));  // one more that is not looked at
    x.back() = nan;
    EXPECT_EQ(first_not_below(x.data(), n, T(2)), n) << "equal is not above";
    EXPECT_EQ(first_not_above(x.data(), n, T(2)), n);
    for (const Index at : {Index{0}, n / 2, n - 1}) {
      if (at < 0 || at >= n) continue;
      auto& value = x[static_cast<std::size_t>(at)];
      for (const T v : {T(3), infinity, nan}) {
        value = v;
        EXPECT_EQ(first_not_below(x.data(), n, T(2)), at) << v << " among " << n;
      }
      for (const T v : {T(1), -infinity, nan}) {
        value = v;
        EXPECT_EQ(first_not_above(x.data(), n, T(2)), at) << v << " among " << n;
      }
      EXPECT_EQ(first_not_below(x.data() + at, n - at, infinity), 0) << "NaN stands above all";
      value = T(2);
    }
  }
}

TEST(Search, FindsTheFirstOnEveryTarget) {
  on_each_target([] {
    expect_found<float>();
    expect_found<double>();
  });
}

}  // namespace
}  // namespace espalier::kernels
