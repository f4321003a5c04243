// Adafactor: second moments of a matrix kept as one number a row and one a column.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct AdafactorOptions {
  Scalar lr = 1e-2;             ///< an upper bound of the relative step size
  double decay_exponent = 0.8;  ///< b2 = 1 - t^-decay_exponent
  double eps = 1e-3;            ///< the step is relative to max(rms(w), eps)
  Scalar max_rms = 1.0;         ///< of the update, before it is scaled; infinity: not clipped
  Scalar momentum = 0.0;        ///< b1; 0: no first moment is kept
  Scalar weight_decay = 0.0;    ///< decoupled: w <- (1 - lr weight_decay) w
  bool relative = true;         ///< step = max(eps, rms(w)) min(lr, 1 / sqrt(t)); else lr itself
  bool maximize = false;
};

/// For a weight taken as the matrix [out, rest]:
///   r_i <- b2 r_i + (1 - b2) mean_j g_ij^2;  c_j <- b2 c_j + (1 - b2) mean_i g_ij^2;  v_ij = r_i c_j / mean(g^2)
/// with mean(g^2) = mean over r; for vectors v <- b2 v + (1 - b2) g^2. u = g / sqrt(v), u <- u / max(1, rms(u) / max_rms),
/// with momentum u <- b1 m + (1 - b1) u;  w <- w - step u. Means are over live weights; where a mask changes, r and c are
/// rebuilt from what is live of their product.
/// States: "adafactor/row/..." [out], "adafactor/column/..." [rest], with momentum "adafactor/m/..." like the weight.
/// Errors: ConfigError for negative settings or a momentum of 1 and more. Cost: whole tensors, three passes; memory
/// out + rest instead of out x rest. Shazeer and Stern 2018, algorithms 4 and 5.
Chain adafactor(AdafactorOptions options = {});

}  // namespace espalier::optim
