// Elementwise kernels: vectorised single-threaded loops on raw pointers.
//
// Each call chooses the best SIMD target that was compiled and that the machine has (see target.h). The bits of a
// result depend on its own operands and on the target, never on alignment, on n, or on where a caller cuts a tensor in
// chunks. Pointers need no alignment; y may be the very same pointer as an operand, other overlap is not allowed; n may
// be 0. NaN and infinities give what the std:: functions give, and NaN survives every comparison.
#pragma once

#include <type_traits>

#include "espalier/core/error.h"

namespace espalier::kernels {

/// y[i] = f(x[i]; p, q).
template <class T>
using Unary = void (*)(const T* x, T* y, Index n, T p, T q);
/// y[i] = f(a[i], b[i]; p, q).
template <class T>
using Binary = void (*)(const T* a, const T* b, T* y, Index n, T p, T q);

/// One unary function in both computing types.
struct UnaryKernel {
  Unary<float> f32;
  Unary<double> f64;
  Index cost;  ///< rough work per element: 1 = one pass over memory, 8 = an exponential, 30 = a call into libm

  template <class T>
  Unary<T> get() const noexcept {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

/// One binary function for one type. A scalar operand is one element behind its pointer.
template <class T>
struct BinaryVariants {
  Binary<T> vv;  ///< both operands advance
  Binary<T> vs;  ///< b is one element
  Binary<T> sv;  ///< a is one element
};

/// One binary function in both computing types.
struct BinaryKernel {
  BinaryVariants<float> f32;
  BinaryVariants<double> f64;
  Index cost;  ///< as in UnaryKernel

  template <class T>
  const BinaryVariants<T>& get() const noexcept {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

/// Functions of one operand. p and q are ignored where the comment does not name them.
struct UnaryKernels {
  UnaryKernel copy, neg, abs, sign, square, sqrt, rsqrt, reciprocal;
  UnaryKernel floor, ceil, trunc;
  UnaryKernel round;   ///< halves to even
  UnaryKernel affine;  ///< p x + q, rounded once where the target has a fused multiply-add
  UnaryKernel clamp;   ///< to [p, q]
  UnaryKernel exp, expm1, log, log1p, log2, log10;
  UnaryKernel pow_scalar;  ///< x^p
  UnaryKernel sin, cos, tan, asin, acos, atan;
  UnaryKernel sinh, cosh, tanh, asinh, acosh, atanh;
  UnaryKernel erf, erfc;
  UnaryKernel sigmoid;     ///< 1 / (1 + exp(-x))
  UnaryKernel softplus;    ///< log(1 + exp(p x)) / p, and x where p x > q
  UnaryKernel relu;        ///< max(x, 0)
  UnaryKernel leaky_relu;  ///< x, and p x below zero
  UnaryKernel elu;         ///< x, and p (exp(x) - 1) below zero
  UnaryKernel gelu;        ///< x Phi(x), Phi the normal distribution. Hendrycks and Gimpel 2016
  UnaryKernel gelu_tanh;   ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the same authors' approximation
  UnaryKernel silu;        ///< x sigmoid(x)
};

/// Functions of two operands. A name f_backward(g, t) is g times the derivative of f, from f's input x or output y.
struct BinaryKernels {
  BinaryKernel add, sub, mul, div;
  BinaryKernel maximum, minimum;  ///< NaN if either is
  BinaryKernel pow, atan2;
  BinaryKernel add_scaled;                                        ///< a + p b
  BinaryKernel blend;                                             ///< p a + q b
  BinaryKernel abs_backward;                                      ///< g sign(x); 0 where x is NaN
  BinaryKernel relu_backward;                                     ///< 0 where y <= 0, else g
  BinaryKernel leaky_relu_backward;                               ///< (g, x; p)
  BinaryKernel elu_backward;                                      ///< (g, x; p)
  BinaryKernel clamp_backward;                                    ///< (g, x; p, q): g where p <= x <= q, else 0
  BinaryKernel tanh_backward, sigmoid_backward;                   ///< (g, y): g (1 - y^2), g y (1 - y)
  BinaryKernel softplus_backward;                                 ///< (g, x; p, q)
  BinaryKernel gelu_backward, gelu_tanh_backward, silu_backward;  ///< (g, x)
};

/// The table of the SIMD target in use. Cost: about two nanoseconds.
const UnaryKernels& unary() noexcept;
const BinaryKernels& binary() noexcept;

}  // namespace espalier::kernels
