#include "espalier/core/elementwise.h"

#include <algorithm>

#include "espalier/core/detail/copy.h"
#include "espalier/core/kernels/elementwise.h"

namespace espalier {
namespace {

/// Elements a thread takes at a time: enough work to be worth handing over.
Index grain_of(Index cost) { return std::max<Index>(1024, (Index{1} << 15) / cost / 64 * 64); }

/// Contiguous, so that rows of any broadcast have stride 1 or 0; strided inputs with such rows pass as they are.
Tensor with_plain_rows(const Tensor& x) { return x.rank() == 0 || x.strides()[-1] <= 1 ? x : x.contiguous(); }

/// Calls kernel on the rows of a and b broadcast into y, which is strided too.
template <class T>
void zip_rows(const kernels::BinaryVariants<T>& kernel, Index grain, const T* a, const Dims& a_strides, const T* b,
              const Dims& b_strides, T* y, const Dims& y_strides, const Shape& shape, T p, T q) {
  const RowWalk<3> walk(shape, {&a_strides, &b_strides, &y_strides});
  const Index n = walk.row_length(), sa = walk.inner_stride(0), sb = walk.inner_stride(1), sy = walk.inner_stride(2);
  const bool plain = sa <= 1 && sb <= 1 && sy == 1;
  if (walk.rows() == 1 && plain) {  // one long row: cut it
    parallel_for(n, grain, [&](Index begin, Index end) {
      if (sa == 1 && sb == 1)
        kernel.vv(a + begin, b + begin, y + begin, end - begin, p, q);
      else if (sa == 1)
        kernel.vs(a + begin, b, y + begin, end - begin, p, q);
      else if (sb == 1)
        kernel.sv(a, b + begin, y + begin, end - begin, p, q);
      else {
        kernel.vv(a, b, y + begin, 1, p, q);
        std::fill(y + begin + 1, y + end, y[begin]);
      }
    });
    return;
  }
  parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
    walk.run(begin, end, [&](const std::array<Index, 3>& at) {
      const T *left = a + at[0], *right = b + at[1];
      T* out = y + at[2];
      if (!plain) {
        for (Index i = 0; i < n; ++i) kernel.vv(left + i * sa, right + i * sb, out + i * sy, 1, p, q);
      } else if (sa == 1 && sb == 1) {
        kernel.vv(left, right, out, n, p, q);
      } else if (sa == 1) {
        kernel.vs(left, right, out, n, p, q);
      } else if (sb == 1) {
        kernel.sv(left, right, out, n, p, q);
      } else {
        kernel.vv(left, right, out, 1, p, q);
        std::fill_n(out + 1, n - 1, *out);
      }
    });
  });
}

}  // namespace

void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype()) [[unlikely]]
    fail<DTypeError>("[", op, "] element types differ: ", a.dtype(), " and ", b.dtype(), ", of shapes ", a.shape(),
                     " and ", b.shape(), ". Hint: .to(DType::", is_floating(a.dtype()) ? a.dtype() : b.dtype(), ")");
}

namespace {

/// y = x in blocks [first, last) of its elements in order, each given to use(first, last) while it is in the cache.
/// A block is a stretch of one axis and all of those behind it.
template <class T, class Use>
void copy_by_blocks(const Tensor& x, T* y, Index most, const Use& use) {
  const Shape& shape = x.shape();
  int axis = 0;
  Index outer = 1, inner = x.size();  // what lies before `axis`, and behind it
  for (; axis < shape.rank(); ++axis) {
    inner /= shape[axis];
    if (inner <= most || axis == shape.rank() - 1) break;
    outer *= shape[axis];
  }
  const Index length = shape[axis];
  Index stretch = std::max<Index>(1, most / inner);
  if (stretch > 16) stretch = stretch / 16 * 16;  // whole cache lines, where a transposed side runs along this axis
  const Index pieces = (length + stretch - 1) / stretch;
  Shape part = shape;
  const Dims &from_strides = x.strides(), to_strides = row_major(shape);
  for (int a = 0; a < axis; ++a) part[a] = 1;
  parallel_for(outer * pieces, 1, [&](Index begin, Index end) {
    for (Index job = begin; job < end; ++job) {
      const Index piece = job % pieces * stretch;
      Shape size = part;
      size[axis] = std::min(stretch, length - piece);
      Index source = piece * x.strides()[axis], rest = job / pieces;
      for (int a = axis; a-- > 0; rest /= shape[a]) source += rest % shape[a] * x.strides()[a];
      const Index first = (job / pieces * length + piece) * inner;
      detail::copy_elements(reinterpret_cast<const std::byte*>(x.data<T>() + source), from_strides,
                            reinterpret_cast<std::byte*>(y + first), to_strides, size, sizeof(T));
      use(first, first + size[axis] * inner);
    }
  });
}

}  // namespace

Tensor map(const char* op, const kernels::UnaryKernel& kernel, const Tensor& x, double p, double q) {
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    T* target = y.write<T>(op);
    const auto run = kernel.get<T>();
    const auto run_from = [&](const T* source, Index begin, Index end) {
      run(source + begin, target + begin, end - begin, static_cast<T>(p), static_cast<T>(q));
    };
    if (!x.is_contiguous())
      return copy_by_blocks(x, target, grain_of(std::max<Index>(2, kernel.cost)),
                            [&](Index begin, Index end) { run_from(target, begin, end); });
    const T* source = x.data<T>();
    parallel_for(y.size(), grain_of(kernel.cost), [&](Index begin, Index end) { run_from(source, begin, end); });
  });
  return y;
}

void zip_into(const char* op, const kernels::BinaryKernel& kernel, const Tensor& a, const Tensor& b, Tensor& y,
              double p, double q) {
  check_same_dtype(op, a, b);
  check_same_dtype(op, a, y);
  const bool same =
      a.shape() == y.shape() && b.shape() == y.shape() && a.is_contiguous() && b.is_contiguous() && y.is_contiguous();
  dispatch_floating(op, a.dtype(), [&]<class T>() {
    const auto& variants = kernel.get<T>();
    const Index grain = grain_of(kernel.cost);
    T* target = y.write<T>(op);
    if (same) {
      const T *left = a.data<T>(), *right = b.data<T>();
      parallel_for(y.size(), grain, [&](Index begin, Index end) {
        variants.vv(left + begin, right + begin, target + begin, end - begin, static_cast<T>(p), static_cast<T>(q));
      });
      return;
    }
    const Tensor left = with_plain_rows(a).broadcast_to(y.shape()), right = with_plain_rows(b).broadcast_to(y.shape());
    zip_rows(variants, grain, left.data<T>(), left.strides(), right.data<T>(), right.strides(), target, y.strides(),
             y.shape(), static_cast<T>(p), static_cast<T>(q));
  });
}

Tensor zip(const char* op, const kernels::BinaryKernel& kernel, const Tensor& a, const Tensor& b, double p, double q) {
  check_same_dtype(op, a, b);
  const bool same = a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous();
  Tensor y = Tensor::empty(same ? a.shape() : broadcast_shapes(op, a.shape(), b.shape()), a.dtype());
  zip_into(op, kernel, a, b, y, p, q);
  return y;
}

Tensor zip3(const char* op, const kernels::TernaryKernel& kernel, const Tensor& a, const Tensor& b, const Tensor& c,
            double p) {
  const Shape shape = broadcast_shapes(op, broadcast_shapes(op, a.shape(), b.shape()), c.shape());
  Tensor y = Tensor::empty(shape, a.dtype());
  zip3_into(op, kernel, a, b, c, y, p);
  return y;
}

void zip3_into(const char* op, const kernels::TernaryKernel& kernel, const Tensor& a, const Tensor& b, const Tensor& c,
               Tensor& y, double p) {
  check_same_dtype(op, a, b);
  check_same_dtype(op, a, c);
  check_same_dtype(op, a, y);
  dispatch_floating(op, a.dtype(), [&]<class T>() {
    std::array<Tensor, 3> in;
    for (std::size_t k = 0; const Tensor* operand : {&a, &b, &c})
      in[k++] = with_plain_rows(*operand).broadcast_to(y.shape());
    const Dims &s0 = in[0].strides(), &s1 = in[1].strides(), &s2 = in[2].strides();
    const std::array<const T*, 3> first{in[0].data<T>(), in[1].data<T>(), in[2].data<T>()};
    T* target = y.write<T>(op);
    const RowWalk<4> walk(y.shape(), {&s0, &s1, &s2, &y.strides()});
    const Index n = walk.row_length(), step = walk.inner_stride(3), grain = grain_of(kernel.cost);
    const std::array<Index, 3> steps{walk.inner_stride(0), walk.inner_stride(1), walk.inner_stride(2)};
    const bool plain = step == 1 && *std::max_element(steps.begin(), steps.end()) <= 1;
    const auto run = kernel.get<T>();
    const auto row = [&](const std::array<Index, 4>& at, Index begin, Index end) {
      std::array<const T*, 3> from;
      for (std::size_t k = 0; k < 3; ++k) from[k] = first[k] + at[k] + begin * steps[k];
      T* to = target + at[3] + begin * step;
      if (plain) return run(from, steps, to, end - begin, static_cast<T>(p));
      for (Index i = begin; i < end; ++i, to += step) {
        run(from, steps, to, 1, static_cast<T>(p));
        for (std::size_t k = 0; k < 3; ++k) from[k] += steps[k];
      }
    };
    if (walk.rows() == 1) return parallel_for(n, grain, [&](Index begin, Index end) { row({}, begin, end); });
    parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
      walk.run(begin, end, [&](const std::array<Index, 4>& at) { row(at, 0, n); });
    });
  });
}

void add_in_place(Tensor& into, const Tensor& x) {
  check_same_dtype("add_in_place", into, x);
  if (!(into.shape() == x.shape()))
    fail<ShapeError>("[add_in_place] shapes differ: ", into.shape(), " and ", x.shape());
  dispatch_floating("add_in_place", into.dtype(), [&]<class T>() {
    const auto& kernel = kernels::binary().add;
    const T* from = x.data<T>();
    T* target = into.write<T>("add_in_place");
    zip_rows(kernel.get<T>(), grain_of(kernel.cost), target, into.strides(), from, x.strides(), target, into.strides(),
             into.shape(), T(0), T(0));
  });
}

}  // namespace espalier
