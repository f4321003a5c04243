#include "espalier/core/kernels/transpose.h"

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

template <class T>
void expect_transposed(Index rows, Index cols, Index x_pad, Index y_pad) {
  const Index x_stride = cols + x_pad, y_stride = rows + y_pad;
  const auto x = uniform<T>(rows * x_stride + 1, -1, 1);
  std::vector<T> y(static_cast<std::size_t>(cols * y_stride + 1), T(-77));
  transpose(x.data() + 1, rows, cols, x_stride, y.data(), y_stride);  // from an unaligned pointer
  for (Index c = 0; c < cols; ++c)
    for (Index r = 0; r < y_stride; ++r) {
      const T expected = r < rows ? x[static_cast<std::size_t>(r * x_stride + c + 1)] : T(-77);
      ASSERT_EQ(y[static_cast<std::size_t>(c * y_stride + r)], expected)
          << rows << " x " << cols << " at " << r << ", " << c;
    }
  ASSERT_EQ(y.back(), T(-77));
}

TEST(Transpose, AgreesWithThePlainLoop) {
  on_each_target([] {
    for (const Index rows : {0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 100, 130})
      for (const Index cols : {0, 1, 2, 3, 4, 5, 8, 11, 64, 67, 129})
        for (const Index pad : {0, 3}) {
          expect_transposed<float>(rows, cols, pad, pad + 1);
          expect_transposed<double>(rows, cols, pad + 1, pad);
        }
  });
}

}  // namespace
}  // namespace espalier::kernels
