// Elementwise kernels: vectorised single-threaded loops on raw pointers.
//
// Each call chooses the best SIMD target that was compiled and that the machine has (see target.h). The bits of a
// result depend on its own operands and on the target, never on alignment, on n, or on where a caller cuts a tensor in
// chunks. Pointers need no alignment; y may be the very same pointer as an operand, other overlap is not allowed; n may
// be 0. NaN and infinities give what the std:: functions give, and NaN survives every comparison.
#pragma once

#include <array>
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

/// y[i] = f(a[i], b[i], c[i]; p). An operand moves by its step, 1, or is one element, step 0.
template <class T>
using Ternary = void (*)(const std::array<const T*, 3>& operands, const std::array<Index, 3>& steps, T* y, Index n,
                         T p);

/// One function of three operands in both computing types.
struct TernaryKernel {
  Ternary<float> f32;
  Ternary<double> f64;
  Index cost;  ///< as in UnaryKernel

  template <class T>
  Ternary<T> get() const noexcept {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

/// Functions of one operand. p and q are ignored where the comment does not name them.
struct UnaryKernels {
  UnaryKernel sign;  ///< 0 of 0 and of NaN
  UnaryKernel copy, neg, abs, square, sqrt, rsqrt, reciprocal;
  UnaryKernel floor, ceil, trunc;
  UnaryKernel round;   ///< halves to even
  UnaryKernel affine;  ///< p x + q, rounded once where the target has a fused multiply-add
  UnaryKernel divide;  ///< x / p
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
  UnaryKernel elu;         ///< x, and p (exp(q x) - 1) below zero
  UnaryKernel selu;        ///< lambda elu(x; alpha), the constants of Klambauer et al. 2017
  UnaryKernel gelu;        ///< x Phi(x), Phi the normal distribution. Hendrycks and Gimpel 2016
  UnaryKernel gelu_tanh;   ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the same authors' approximation
  UnaryKernel silu;        ///< x sigmoid(x)
  UnaryKernel mish;        ///< x tanh(log(1 + exp(x))). Misra 2019
  UnaryKernel softsign;    ///< x / (1 + |x|)
  UnaryKernel logsigmoid;  ///< -log(1 + exp(-x))
  UnaryKernel hardsigmoid, hardswish;  ///< limit(x + 3, 0, 6) / 6, and x times it
  UnaryKernel hardshrink;              ///< 0 where |x| <= p, else x
  UnaryKernel softshrink;              ///< 0 where |x| <= p, else x brought p nearer to 0
  UnaryKernel tanhshrink;              ///< x - tanh(x)
  UnaryKernel threshold;               ///< q where x <= p, else x
};

/// Functions of two operands.
struct BinaryKernels {
  BinaryKernel add, sub, mul, div;
  BinaryKernel maximum, minimum;  ///< NaN if either is
  BinaryKernel pow, atan2;
  BinaryKernel add_scaled;  ///< a + p b
  BinaryKernel blend;       ///< p a + q b
  BinaryKernel mul_scaled;  ///< p a b
  BinaryKernel div_scaled;  ///< p a / b
  BinaryKernel prelu;       ///< a, and a b below zero
  BinaryKernel glu;         ///< a sigmoid(b)
};

/// Derivatives of functions of one operand: g times the slope of the function of that name, from its input x or its
/// output y. At NaN they are what PyTorch gives.
struct BackwardKernels {
  BinaryKernel reciprocal, rsqrt;       ///< (g, y): -g y^2, -g y^3 / 2
  BinaryKernel expm1, tan, tanh;        ///< (g, y): g (y + 1), g (1 + y^2), g (1 - y^2)
  BinaryKernel log1p;                   ///< (g, x): g / (1 + x)
  BinaryKernel sin, cos;                ///< (g, x): g cos(x), -g sin(x)
  BinaryKernel asin, atan;              ///< (g, x; p): p g / sqrt(1 - x^2), p g / (1 + x^2)
  BinaryKernel asinh, acosh, atanh;     ///< (g, x): g / sqrt(x^2 + 1), g / sqrt(x^2 - 1), g / (1 - x^2)
  BinaryKernel erf;                     ///< (g, x; p): p g 2/sqrt(pi) exp(-x^2)
  BinaryKernel abs;                     ///< (g, x): g sign(x); 0 where x is NaN
  BinaryKernel relu;                    ///< (g, y): 0 where y <= 0, else g
  BinaryKernel leaky_relu, elu;         ///< (g, x; p), (g, x; p, q)
  BinaryKernel selu;                    ///< (g, x)
  BinaryKernel clamp;                   ///< (g, x; p, q): g where p <= x <= q, else 0
  BinaryKernel hardtanh;                ///< (g, x; p, q): 0 where x <= p or x >= q, else g
  BinaryKernel threshold;               ///< (g, x; p): 0 where x <= p, else g
  BinaryKernel hardshrink;              ///< (g, x; p): 0 where |x| <= p, else g
  BinaryKernel hardsigmoid;             ///< (g, x): g float(1/6) where |x| < 3, else 0
  BinaryKernel hardswish;               ///< (g, x)
  BinaryKernel tanhshrink;              ///< (g, x): g tanh(x)^2
  BinaryKernel sigmoid;                 ///< (g, y): g y (1 - y)
  BinaryKernel softplus;                ///< (g, x; p, q)
  BinaryKernel softsign, logsigmoid;    ///< (g, x)
  BinaryKernel gelu, gelu_tanh;         ///< (g, x)
  BinaryKernel silu, mish;              ///< (g, x)
};

/// Functions of three operands.
struct TernaryKernels {
  TernaryKernel addcmul;  ///< a + p b c
  TernaryKernel addcdiv;  ///< a + p b / c
  TernaryKernel lerp;     ///< a + c (b - a), exactly b at c = 1
  TernaryKernel larger;   ///< (g, a, b; p): 0 where p a < p b, g/2 where they are equal, else g
  TernaryKernel atan2;    ///< (g, a, b; p): p g b / (a^2 + b^2)
  TernaryKernel prelu;    ///< (g, x, w): g where x > 0, else g w
  TernaryKernel glu;      ///< (g, a, b): g a sigmoid(b) (1 - sigmoid(b))
};

/// The table of the SIMD target in use. Cost: about two nanoseconds.
const UnaryKernels& unary() noexcept;
const BinaryKernels& binary() noexcept;
const BackwardKernels& backward() noexcept;
const TernaryKernels& ternary() noexcept;

}  // namespace espalier::kernels
