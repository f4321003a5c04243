// Element by element: one kernel over strided, broadcasting tensors, in parallel.
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>

#include "espalier/core/parallel.h"
#include "espalier/core/tensor.h"
#include "espalier/core/walk.h"

namespace espalier {

namespace kernels {
struct UnaryKernel;  // core/kernels/elementwise.h
struct BinaryKernel;
struct TernaryKernel;
}  // namespace kernels

/// y[i] = kernel(x[i]; p, q). f32, f64. Errors: DTypeError, which names `op`.
Tensor map(const char* op, const kernels::UnaryKernel& kernel, const Tensor& x, double p = 0, double q = 0);
/// y = kernel(a, b; p, q) with broadcasting. f32, f64. Errors: ShapeError, DTypeError, which name `op`.
Tensor zip(const char* op, const kernels::BinaryKernel& kernel, const Tensor& a, const Tensor& b, double p = 0,
           double q = 0);
/// The same into y, of the broadcast shape; y may be a view.
void zip_into(const char* op, const kernels::BinaryKernel& kernel, const Tensor& a, const Tensor& b, Tensor& y,
              double p = 0, double q = 0);
/// y = kernel(a, b, c; p) with broadcasting of all three. f32, f64. Errors: ShapeError, DTypeError, which name `op`.
Tensor zip3(const char* op, const kernels::TernaryKernel& kernel, const Tensor& a, const Tensor& b, const Tensor& c,
            double p = 0);
/// The same into y, of the broadcast shape; y may be a view.
void zip3_into(const char* op, const kernels::TernaryKernel& kernel, const Tensor& a, const Tensor& b, const Tensor& c,
               Tensor& y, double p = 0);
/// into += x. Same shape and type; `into` may be a view. Errors: ShapeError, DTypeError.
void add_in_place(Tensor& into, const Tensor& x);

/// Raises DTypeError unless a and b have one type; the text names `op`.
void check_same_dtype(const char* op, const Tensor& a, const Tensor& b);

namespace detail {
/// loop(p, step_p, q, step_q, target, n) over the rows of a and b broadcast into the dense tensor y, in parallel.
template <class T, class Result, class Loop>
void zip_loop(const char* op, const Tensor& a, const Tensor& b, Tensor& y, Loop loop) {
  const Tensor left = a.broadcast_to(y.shape()), right = b.broadcast_to(y.shape());
  const T *p = left.data<T>(), *q = right.data<T>();
  Result* target = y.write<Result>(op);
  const RowWalk<3> walk(y.shape(), {&left.strides(), &right.strides(), &y.strides()});
  const Index n = walk.row_length(), sp = walk.inner_stride(0), sq = walk.inner_stride(1);
  constexpr Index grain = 1 << 14;
  if (walk.rows() == 1) {
    parallel_for(n, grain, [&](Index begin, Index end) {
      loop(p + begin * sp, sp, q + begin * sq, sq, target + begin, end - begin);
    });
    return;
  }
  parallel_for(walk.rows(), std::max<Index>(1, grain / std::max<Index>(1, n)), [&](Index begin, Index end) {
    walk.run(begin, end,
             [&](const std::array<Index, 3>& at) { loop(p + at[0], sp, q + at[1], sq, target + at[2], n); });
  });
}
}  // namespace detail

/// y[i] = f(x[i]) with a function of your own: one plain loop, as fast as the compiler of the caller makes it.
/// Without Out: f32 and f64, f is called with float or double, and returns that type. With Out (bool for a test): any
/// element type, and y holds Out.
template <class Out = void, class F>
Tensor map_with(const char* op, const Tensor& x, F f) {
  const Tensor in = x.contiguous();
  auto loop = [&]<class T>() {
    using Result = std::conditional_t<std::is_void_v<Out>, T, Out>;
    Tensor y = Tensor::empty(x.shape(), dtype_of<Result>);
    const T* source = in.data<T>();
    Result* target = y.write<Result>(op);
    parallel_for(y.size(), 1 << 14, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) target[i] = static_cast<Result>(f(source[i]));
    });
    return y;
  };
  if constexpr (std::is_void_v<Out>)
    return dispatch_floating(op, x.dtype(), loop);
  else
    return dispatch(x.dtype(), loop);
}

/// y = f(a, b) with broadcasting and a function of your own; Out as in map_with. With In: only of that element type.
template <class Out = void, class In = void, class F>
Tensor zip_with(const char* op, const Tensor& a, const Tensor& b, F f) {
  check_same_dtype(op, a, b);
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  auto run = [&]<class T>() {
    using Result = std::conditional_t<std::is_void_v<Out>, T, Out>;
    Tensor y = Tensor::empty(shape, dtype_of<Result>);
    detail::zip_loop<T, Result>(op, a, b, y, [&](const T* p, Index sp, const T* q, Index sq, Result* out, Index n) {
      if (sp == 1 && sq == 1) {
        for (Index i = 0; i < n; ++i) out[i] = static_cast<Result>(f(p[i], q[i]));
      } else if (sp == 1 && sq == 0) {
        for (Index i = 0; i < n; ++i) out[i] = static_cast<Result>(f(p[i], *q));
      } else {
        for (Index i = 0; i < n; ++i) out[i] = static_cast<Result>(f(p[i * sp], q[i * sq]));
      }
    });
    return y;
  };
  if constexpr (!std::is_void_v<In>)
    return run.template operator()<In>();
  else if constexpr (std::is_void_v<Out>)
    return dispatch_floating(op, a.dtype(), run);
  else
    return dispatch(a.dtype(), run);
}

}  // namespace espalier
