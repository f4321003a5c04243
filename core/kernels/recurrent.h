// The pointwise part of a recurrent cell, one row of one time step: everything between two matrix products in one
// vectorised, single-threaded loop on raw pointers.
//
// With a = W_ih x + bias and p = W_hh h, both cut in gates of `hidden` values:
//   rnn:   h' = act(a + p)
//   lstm:  i, f, g, o = s(a0 + p0), s(a1 + p1), tanh(a2 + p2), s(a3 + p3);  c' = f c + i g;  h' = o tanh(c')
//   gru:   r, z = s(a0 + p0), s(a1 + p1);  n = tanh(a2 + r (p2 + bias));  h' = n + z (h - n)
// s is the sigmoid. As everywhere, the bits depend on the operands and the SIMD target alone.
// Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; Cho et al. 2014, with the reset gate
// behind the product, as PyTorch and cuDNN have it.
#pragma once

#include <type_traits>

#include "espalier/core/error.h"

namespace espalier::kernels {

/// What the loop forward reads and writes. Pointers that a cell does not use, and those marked so, may be null.
template <class T>
struct CellForward {
  Index hidden;
  const T* a;        ///< [gates * hidden]
  const T* product;  ///< [gates * hidden]
  const T* bias;     ///< gru: of the product's last gate; null: none
  T* h;              ///< in: the state; out: the next one
  T* c;              ///< lstm: likewise
  T* gates;          ///< the gates' values, may be `a` itself; null: not kept
  T* h_before;       ///< a copy of h as it came; null: not kept
  T* c_before;       ///< lstm: likewise
  T* inner;          ///< lstm: tanh(c'); gru: p2 + bias; null: not kept
};

/// What the loop backward reads and writes.
template <class T>
struct CellBackward {
  Index hidden;
  const T *gates, *h_before, *c_before, *inner;  ///< as kept
  const T* dy;                                   ///< gradient of h' from outside; null: none
  T* dh;        ///< in: gradient of h' from the next step; gru, out: the part of dh that does not pass the product
  T* dc;        ///< lstm, in: gradient of c' from the next step; out: of c
  T* da;        ///< gradient of a, [gates * hidden]
  T* dproduct;  ///< gradient of p, [gates * hidden]; rnn and lstm: the same as da, and not written
};

template <class T>
struct CellLoops {
  void (*forward)(const CellForward<T>&);
  void (*backward)(const CellBackward<T>&);
};

/// One kind of cell in both computing types.
struct CellKernel {
  CellLoops<float> f32;
  CellLoops<double> f64;

  template <class T>
  const CellLoops<T>& get() const noexcept {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

struct CellKernels {
  CellKernel rnn_tanh, rnn_relu, lstm, gru;
};

/// The table of the SIMD target in use.
const CellKernels& cells() noexcept;

}  // namespace espalier::kernels
