// What the tests of every folder use.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

#include "espalier/core/parallel.h"
#include "espalier/core/tensor.h"

namespace espalier::testing {

/// Passes if f throws exactly an E whose text contains every part: EXPECT_TRUE(throws<ShapeError>([&] { ... },
/// "[view]")).
template <class E, class F, class... Parts>
::testing::AssertionResult throws(F&& f, const Parts&... parts) {
  try {
    f();
  } catch (const E& error) {
    const std::string text = error.what();
    std::string absent;
    ((text.find(std::string_view(parts)) == text.npos ? absent.append(" '").append(parts).append("'") : absent), ...);
    if (absent.empty()) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "the text lacks" << absent << ": " << text;
  } catch (const std::exception& error) {
    return ::testing::AssertionFailure() << "another error: " << error.what();
  }
  return ::testing::AssertionFailure() << "no error";
}

/// Same shape, type and bits; tells NaN from NaN and 0 from -0.
inline ::testing::AssertionResult same_bytes(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined())
    return a.defined() == b.defined() ? ::testing::AssertionSuccess()
                                      : ::testing::AssertionFailure() << "only one of the two is defined";
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype())
    return ::testing::AssertionFailure() << a.shape() << ' ' << name_of(a.dtype()) << " against " << b.shape() << ' '
                                         << name_of(b.dtype());
  const Tensor x = a.contiguous(), y = b.contiguous();
  const auto width = static_cast<std::size_t>(size_of(a.dtype()));
  for (Index i = 0; i < x.size(); ++i) {
    const auto at = static_cast<std::size_t>(i) * width;
    if (std::memcmp(x.bytes() + at, y.bytes() + at, width) != 0)
      return ::testing::AssertionFailure() << "element " << i << " of " << a.shape() << " differs: " << a << '\n' << b;
  }
  return ::testing::AssertionSuccess();
}

/// Sets the process-wide number of threads while it lives.
class Threads {
 public:
  explicit Threads(int n) : before_(threads()) { set_threads(n); }
  ~Threads() { set_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace espalier::testing
