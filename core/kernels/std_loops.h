// Plain loops over functions of the standard library, for what is called too rarely to be worth vector code.
#pragma once

#include <cmath>

#include "espalier/core/error.h"

namespace espalier::kernels {

template <class F, class T>
void std_unary(const T* x, T* y, Index n, T, T) {
  for (Index i = 0; i < n; ++i) y[i] = F()(x[i]);
}

template <class F, class T, bool a_moves, bool b_moves>
void std_binary(const T* a, const T* b, T* y, Index n, T, T) {
  const T a0 = n > 0 ? *a : T(0), b0 = n > 0 ? *b : T(0);  // y may lie over them
  for (Index i = 0; i < n; ++i) y[i] = F()(a_moves ? a[i] : a0, b_moves ? b[i] : b0);
}

// clang-format off
struct StdTan { template <class T> T operator()(T x) const { return std::tan(x); } };
struct StdAsin { template <class T> T operator()(T x) const { return std::asin(x); } };
struct StdAcos { template <class T> T operator()(T x) const { return std::acos(x); } };
struct StdAtan { template <class T> T operator()(T x) const { return std::atan(x); } };
struct StdSinh { template <class T> T operator()(T x) const { return std::sinh(x); } };
struct StdCosh { template <class T> T operator()(T x) const { return std::cosh(x); } };
struct StdAsinh { template <class T> T operator()(T x) const { return std::asinh(x); } };
struct StdAcosh { template <class T> T operator()(T x) const { return std::acosh(x); } };
struct StdAtanh { template <class T> T operator()(T x) const { return std::atanh(x); } };
struct StdPow { template <class T> T operator()(T x, T y) const { return std::pow(x, y); } };
struct StdAtan2 { template <class T> T operator()(T y, T x) const { return std::atan2(y, x); } };
// clang-format on

}  // namespace espalier::kernels
