// Element by element: one kernel over strided, broadcasting tensors, in parallel.
#pragma once

#include <array>

#include "espalier/core/parallel.h"
#include "espalier/core/tensor.h"
#include "espalier/core/walk.h"

namespace espalier {

namespace kernels {
struct UnaryKernel;  // core/kernels/elementwise.h
struct BinaryKernel;
}  // namespace kernels

/// y[i] = kernel(x[i]; p, q). f32, f64. Errors: DTypeError, which names `op`.
Tensor map(const char* op, const kernels::UnaryKernel& kernel, const Tensor& x, double p = 0, double q = 0);
/// y = kernel(a, b; p, q) with broadcasting. f32, f64. Errors: ShapeError, DTypeError, which name `op`.
Tensor zip(const char* op, const kernels::BinaryKernel& kernel, const Tensor& a, const Tensor& b, double p = 0,
           double q = 0);
/// into += x. Same shape and type; `into` may be a view. Errors: ShapeError, DTypeError.
void add_in_place(Tensor& into, const Tensor& x);

/// Raises DTypeError unless a and b have one type; the text names `op`.
void check_same_dtype(const char* op, const Tensor& a, const Tensor& b);

/// y[i] = f(x[i]) with a function of your own: f is called with float or double. One plain loop, as fast as the
/// compiler of the caller makes it.
template <class F>
Tensor map_with(const char* op, const Tensor& x, F f) {
  const Tensor in = x.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const T* source = in.data<T>();
    T* target = y.write<T>(op);
    parallel_for(y.size(), 1 << 14, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) target[i] = f(source[i]);
    });
  });
  return y;
}

/// y = f(a, b) with broadcasting and a function of your own. Without Out: f32 and f64, and f returns the type of its
/// arguments. With Out (bool for a comparison): any element type, and y holds Out.
template <class Out = void, class F>
Tensor zip_with(const char* op, const Tensor& a, const Tensor& b, F f) {
  check_same_dtype(op, a, b);
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  const Tensor left = a.broadcast_to(shape).contiguous(), right = b.broadcast_to(shape).contiguous();
  auto loop = [&]<class T>() {
    using Result = std::conditional_t<std::is_void_v<Out>, T, Out>;
    Tensor y = Tensor::empty(shape, dtype_of<Result>);
    const T *p = left.data<T>(), *q = right.data<T>();
    Result* target = y.write<Result>(op);
    parallel_for(y.size(), 1 << 14, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) target[i] = static_cast<Result>(f(p[i], q[i]));
    });
    return y;
  };
  if constexpr (std::is_void_v<Out>)
    return dispatch_floating(op, a.dtype(), loop);
  else
    return dispatch(a.dtype(), loop);
}

}  // namespace espalier
