#include "espalier/core/matmul.h"

#include <algorithm>
#include <optional>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/gemm.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/packed.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

/// How BLAS can read the matrix of the last two axes where it lies; nothing if it cannot.
template <class T>
std::optional<kernels::Operand<T>> as_operand(const Tensor& t) {
  const Index rows = t.shape()[-2], columns = t.shape()[-1], down = t.strides()[-2], across = t.strides()[-1];
  if ((columns == 1 || across == 1) && (rows == 1 || down >= columns))
    return kernels::Operand<T>{t.data<T>(), rows == 1 ? columns : down, false};
  if ((rows == 1 || down == 1) && (columns == 1 || across >= rows))
    return kernels::Operand<T>{t.data<T>(), columns == 1 ? rows : across, true};
  return std::nullopt;
}

/// `t` itself, or a copy that BLAS can read; empty matrices are never read.
template <class T>
Tensor readable(const Tensor& t) {
  return t.size() == 0 || as_operand<T>(t) ? t : t.clone();
}

void check_inner(const Tensor& a, const Tensor& b, Index a_inner, Index b_inner) {
  if (a_inner != b_inner) [[unlikely]]
    fail<ShapeError>("[matmul] inner dimensions differ: a ", a.shape(), " x b ", b.shape(), "; the last axis of a has ",
                     a_inner, " elements, the one of b it meets ", b_inner, ". Hint: transpose one of them");
}

/// Offsets of the matrices of a batch, for one operand.
Dims batch_strides(const Tensor& t, const Shape& batch) {
  Dims strides;
  const int own = t.rank() - 2;
  for (int axis = 0; axis < batch.rank(); ++axis) {
    const int at = axis - (batch.rank() - own);
    strides.push_back(at < 0 || t.shape()[at] == 1 ? 0 : t.strides()[at]);
  }
  return strides;
}

template <class T>
void multiply(const Tensor& a, const Tensor& b, Tensor& y) {
  const Index m = y.shape()[-2], n = y.shape()[-1], k = a.shape()[-1];
  T* out = y.write<T>("matmul");
  if (y.size() == 0) return;
  const Tensor left = readable<T>(a), right = readable<T>(b);
  // An empty inner axis has nothing to point at: its operands are described, not read.
  const kernels::Operand<T> none{out, std::max<Index>(1, k), false};
  const kernels::Operand<T> lhs = k == 0 ? none : *as_operand<T>(left);
  const kernels::Operand<T> rhs = k == 0 ? kernels::Operand<T>{out, n, false} : *as_operand<T>(right);
  const Shape batch(y.shape().span().first(static_cast<std::size_t>(y.rank() - 2)));
  const Index matrices = count(batch);
  if (matrices == 1) {
    kernels::gemm<T>(m, n, k, T(1), lhs, rhs, T(0), out, n);
    return;
  }
  const Dims a_strides = batch_strides(left, batch), b_strides = batch_strides(right, batch);
  const RowWalk<2> walk(batch, {&a_strides, &b_strides});
  const Index row = walk.row_length();
  // What gemm makes ready for one product is more than the work on one row times one column.
  const bool dots = m == 1 && n == 1 && !lhs.transposed && !rhs.transposed && rhs.stride == 1;
  // Matrices [begin, end) of the row of the batch that begins with number `first`.
  auto part = [&](const std::array<Index, 2>& at, Index first, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      kernels::Operand<T> x = lhs, w = rhs;
      x.data += at[0] + i * walk.inner_stride(0);
      w.data += at[1] + i * walk.inner_stride(1);
      T* const to = out + (first + i) * m * n;
      if (dots)
        *to = static_cast<T>(kernels::reduce<T>().dot(x.data, w.data, k));
      else
        kernels::gemm<T>(m, n, k, T(1), x, w, T(0), to, n);
    }
  };
  auto rows = [&](Index begin, Index end) {
    Index first = begin * row;
    walk.run(begin, end, [&](const std::array<Index, 2>& at) {
      part(at, first, 0, row);
      first += row;
    });
  };
  // Whole matrices to a thread while there are many; a few large ones are cut inside gemm instead.
  const Index grain = std::max<Index>(1, (Index{1} << (dots ? 16 : 20)) / std::max<Index>(1, m * n * k));
  if (k == 0)  // nothing to step through
    std::fill_n(out, y.size(), T(0));
  else if (matrices < 8)
    rows(0, walk.rows());
  else if (walk.rows() == 1)
    parallel_for(row, grain, [&](Index begin, Index end) { part({0, 0}, 0, begin, end); });
  else
    parallel_for(walk.rows(), std::max<Index>(1, grain / row), rows);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_same_dtype("matmul", a, b);
  if (a.rank() == 0 || b.rank() == 0)
    fail<ShapeError>("[matmul] a scalar is no matrix: a ", a.shape(), " x b ", b.shape(), ". Hint: a * b");
  if (a.packed() || b.packed()) return matmul(a.densify(), b.densify());
  const Tensor left = a.rank() == 1 ? a.unsqueeze(0) : a, right = b.rank() == 1 ? b.unsqueeze(1) : b;
  check_inner(a, b, left.shape()[-1], right.shape()[-2]);
  auto batch_of = [](const Tensor& t) { return Shape(t.shape().span().first(static_cast<std::size_t>(t.rank() - 2))); };
  Shape shape = broadcast_shapes("matmul", batch_of(left), batch_of(right));
  shape.push_back(left.shape()[-2]);
  shape.push_back(right.shape()[-1]);
  Tensor y = Tensor::empty(shape, a.dtype());
  dispatch_floating("matmul", a.dtype(), [&]<class T>() { multiply<T>(left, right, y); });
  if (a.rank() == 1) y = y.squeeze(-2);
  if (b.rank() == 1) y = y.squeeze(-1);
  return y;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor* bias, bool relu) {
  check_same_dtype("linear", x, weight);
  if (x.rank() == 0 || weight.rank() != 2 || x.shape()[-1] != weight.shape()[1]) [[unlikely]]
    fail<ShapeError>("[linear] the last axis of x ", x.shape(), " must be as long as the last of weight ",
                     weight.shape(), ", which is [out, in]");
  const Index in = weight.shape()[1], out = weight.shape()[0];
  if (bias) {
    check_same_dtype("linear", x, *bias);
    if (bias->rank() != 1 || bias->shape()[0] != out) [[unlikely]]
      fail<ShapeError>("[linear] bias ", bias->shape(), " for weight ", weight.shape(), "; it must be [", out, "]");
  }
  Shape shape = x.shape();
  shape[x.rank() - 1] = out;
  const Tensor plain_bias = bias ? bias->contiguous() : Tensor();
  Index batch = 1;
  for (int axis = 0; axis + 1 < x.rank(); ++axis) batch *= x.shape()[axis];
  const Tensor rows = x.rank() == 2 ? x : x.reshape({batch, in});
  if (const Packed* packed = weight.packed()) {
    Tensor y = packed->linear(rows, bias ? &plain_bias : nullptr);
    if (relu) y = map("relu", kernels::unary().relu, y);
    return x.rank() == 2 ? y : y.reshape(shape);
  }
  Tensor y = Tensor::empty(shape, x.dtype());
  dispatch_floating("linear", x.dtype(), [&]<class T>() {
    T* target = y.write<T>("linear");
    if (y.size() == 0) return;
    const kernels::Epilogue<T> epilogue{bias ? plain_bias.data<T>() : nullptr, relu};
    const Tensor from = readable<T>(rows), w = readable<T>(weight);
    const kernels::Operand<T> lhs = in == 0 ? kernels::Operand<T>{target, 1, false} : *as_operand<T>(from);
    kernels::Operand<T> rhs = in == 0 ? kernels::Operand<T>{target, 1, false} : *as_operand<T>(w);
    rhs.transposed = !rhs.transposed;
    kernels::gemm<T>(batch, out, in, T(1), lhs, rhs, T(0), target, out, epilogue);
  });
  return y;
}

}  // namespace espalier
