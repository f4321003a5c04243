// Muon: momentum, orthogonalised.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct MuonOptions {
  Scalar lr = 0.02;
  Scalar momentum = 0.95;
  bool nesterov = true;
  int steps = 5;              ///< of the Newton-Schulz iteration
  Scalar weight_decay = 0.0;  ///< decoupled: w <- (1 - lr weight_decay) w
  /// The update is multiplied by 0.2 sqrt(max(rows, columns)), so that its root mean square is that of Adam's and lr and
  /// weight_decay may be Adam's (Liu et al. 2025); else by sqrt(max(1, rows / columns)).
  bool match_adam = false;
};

/// m <- momentum m + g;  x = g + momentum m with nesterov, else m;  w <- w - lr s orthogonalize(x), the weight taken as
/// the matrix [out, rest]; s see match_adam. For weights of hidden layers: leave embeddings, heads, biases and gains to
/// another optimizer, chain(on(hidden, muon()), on(!hidden, adamw())).
/// State: "muon/momentum/...". Errors: ConfigError for a parameter of fewer than two axes, a negative setting or no
/// steps. Cost: whole tensors: two sweeps more, and steps (4 m^2 n + 2 m^3) operations for m <= n.
/// Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein 2024.
Chain muon(MuonOptions options = {});

/// About U V^T for x = U S V^T, [rows, columns]: every singular value moves to within about 0.3 of 1; those that are 0, or
/// below 1e-4 of the norm, stay small. By x <- a x + b (x x^T) x + c (x x^T)^2 x with (a, b, c) = (3.4445, -4.775, 2.0315),
/// from x / ||x||. Zeros give zeros. f32, f64. Errors: ShapeError unless a matrix. Jordan et al. 2024; Bernstein and
/// Newhouse 2024.
Tensor orthogonalize(const Tensor& x, int steps = 5);

}  // namespace espalier::optim
