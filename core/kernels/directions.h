// Kernels of the element-wise optimizers: each runs on one block while it is in the first-level cache.
//
// All of them do, element by element,
//   g <- scale g + weight_decay w;  (d, states) <- rule(g, states);  u = d, or, without a u, w <- keep w + d,
// and differ in the rule. What an element starts from is 0 in every state; a dead element (see step.h) is left with
// exactly +0 in u, w and every state, whatever was there, NaN included. Bits depend on the SIMD target and the block.
#pragma once

#include <array>

#include "espalier/core/kernels/step.h"

namespace espalier::kernels {

/// What a rule is run on.
template <class T>
struct StepBlock {
  const T* g;
  T* w;       ///< written if there is no u; otherwise only read, if weight_decay is not 0 or the rule says so
  T* u;       ///< may be null; may be g
  Mask mask;  ///< null: all are live
  Index n;    ///< at most block_size
  T scale = 1, weight_decay = 0, keep = 1;
  std::array<T*, 3> states = {};
  const T* ahead = nullptr;  ///< n elements to fetch into the cache meanwhile: what is read next
};

template <class T, class Step>
using Direction = void (*)(const Step& s, const StepBlock<T>& b);

// Bias corrections are folded into the numbers of a step by whoever calls.

/// m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;  most <- max(most, v);
///   d = -step m / (root sqrt(most) + eps). States m, v, most. Reddi, Kale and Kumar 2018, algorithm 2.
struct AmsgradStep {
  double beta1 = 0.9, beta2 = 0.999, step = 1e-3, root = 1, eps = 1e-8;
};
/// m as above;  n <- max(beta2 n, |g| + eps);  d = -step m / n. States m, n. Kingma and Ba 2015, algorithm 2.
struct AdamaxStep {
  double beta1 = 0.9, beta2 = 0.999, step = 2e-3, eps = 1e-8;
};
/// m, v as above;  d = -(now g + step m) / (root sqrt(v) + eps). States m, v. Dozat 2016, algorithm 2.
struct NadamStep {
  double beta1 = 0.9, beta2 = 0.999, now = 1e-3, step = 1e-3, root = 1, eps = 1e-8;
};
/// m, v as above;  d = -step m / (sqrt(v) + eps), unless rectified -step m. States m, v. Liu et al. 2020, algorithm 2.
struct RadamStep {
  double beta1 = 0.9, beta2 = 0.999, step = 1e-3, eps = 1e-8;
  bool rectified = true;
};
/// v <- alpha v + (1 - alpha) g^2, centred also a <- alpha a + (1 - alpha) g, else a = 0;
///   r = g / (sqrt(max(v - a^2, 0)) + eps);  with momentum b <- momentum b + r, else b = r;  d = -lr b.
/// States v, a if centred, b if there is momentum. Tieleman and Hinton 2012; Graves 2013, equations 38-45.
struct RmspropStep {
  double alpha = 0.99, lr = 1e-2, eps = 1e-8, momentum = 0;
};
/// s <- s + g^2, where an s of 0 counts as `initial`;  d = -lr g / (sqrt(s) + eps). State s. Duchi et al. 2011.
struct AdagradStep {
  double lr = 1e-2, eps = 1e-10, initial = 0;
};
/// v <- rho v + (1 - rho) g^2;  x = sqrt(a + eps) / sqrt(v + eps) g;  a <- rho a + (1 - rho) x^2;  d = -lr x.
/// States v, a. Zeiler 2012, algorithm 1.
struct AdadeltaStep {
  double lr = 1, rho = 0.9, eps = 1e-6;
};
/// d = -eta g;  a <- a + mu (keep w + d - a). State a; reads w. Polyak and Juditsky 1992; Bottou 2012.
struct AsgdStep {
  double eta = 1e-2, mu = 1;
};
/// s <- s eta, where an s of 0 counts as `initial` and eta is `plus` if g and p have one sign, `minus` if they have
///   unlike ones, else 1;  s <- s within [smallest, largest];  g <- 0 where the signs were unlike;
///   d = -s sign(g);  p <- g. States p, s. Riedmiller and Braun 1993, in the form of Igel and Hüsken 2000 (iRprop-).
struct RpropStep {
  double initial = 1e-2, minus = 0.5, plus = 1.2, smallest = 1e-6, largest = 50;
};
/// d = -lr sign(beta1 m + (1 - beta1) g), with sign(0) = 0;  m <- beta2 m + (1 - beta2) g. State m.
/// Chen et al. 2023, algorithm 2.
struct LionStep {
  double beta1 = 0.9, beta2 = 0.99, lr = 1e-4;
};

template <class T>
struct DirectionKernels {
  Direction<T, AmsgradStep> amsgrad;
  Direction<T, AdamaxStep> adamax;
  Direction<T, NadamStep> nadam;
  Direction<T, RadamStep> radam;
  Direction<T, RmspropStep> rmsprop[2][2];  ///< [centred][with momentum]
  Direction<T, AdagradStep> adagrad;
  Direction<T, AdadeltaStep> adadelta;
  Direction<T, AsgdStep> asgd;
  Direction<T, RpropStep> rprop;
  Direction<T, LionStep> lion;
};

/// The table of the SIMD target in use, for float or double. Cost: about two nanoseconds.
template <class T>
const DirectionKernels<T>& directions() noexcept;

}  // namespace espalier::kernels
