// Clips that find their bound by themselves: from the weights, or from the norms of the steps before. Conventions are
// those of clip.h. Those that learn remember what a resumed run needs; a norm that is not finite is never learned from,
// nor is a step that was skipped. On a selection, on("encoder.*", autoclip()), each has a history of its own.
#pragma once

#include <limits>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct ClipAdaptiveOptions {
  Scalar clipping = 0.01;   ///< lambda
  Scalar eps = 1e-3;        ///< least norm of a weight: units that start at 0 can learn
  bool per_tensor = false;  ///< norms of whole parameters in place of units
  bool measure_only = false;
};
/// Adaptive gradient clipping (AGC): the gradient G of each output unit (each index of the first axis; vectors and
/// scalars whole) is multiplied by lambda max(||W||, eps) / ||G|| where ||G|| > lambda max(||W||, eps); W are the unit's
/// weights. The last linear layer is to be left out: on(!named("head.*"), clip_adaptive()).
/// Errors: ConfigError for a clipping or eps that is negative or NaN. Cost: within the sweep, the weight is read once
/// more; one more pass for units of more than 4,096 weights, and if per_tensor. Brock, De, Smith and Simonyan 2021,
/// equation 3.
Chain clip_adaptive(ClipAdaptiveOptions options = {});

struct ClipUpdateRatioOptions {
  Scalar tau = 0.1;   ///< the largest part of its own size by which a weight may change
  Scalar eps = 1e-3;  ///< least norm of a weight
  bool measure_only = false;
};
/// The same of updates, behind an optimizer, for each parameter: u <- u tau max(||w||, eps) / ||u|| where ||u|| > tau
/// max(||w||, eps). Decoupled decay is not part of u. Cost: one more sweep, behind the optimizer's.
Chain clip_update_ratio(ClipUpdateRatioOptions options = {});
inline Chain clip_update_ratio(Scalar tau) { return clip_update_ratio(ClipUpdateRatioOptions{.tau = std::move(tau)}); }

struct AutoclipOptions {
  Scalar percentile = 10;  ///< of the history, 0 to 100
  Index window = 10000;    ///< norms that are remembered; for short windows larger percentiles, 80 or so, do better
  double p = 2;            ///< of the norm
  double eps = 0;          ///< as ClipNormOptions::eps
  bool measure_only = false;
};
/// AutoClip: clip_by_global_norm with the given percentile of the norms so far, this step's included, as bound; exact,
/// linear between neighbours (numpy.percentile). Errors: ConfigError for a percentile outside [0, 100], window < 1.
/// Cost: as clip_by_global_norm, and O(log window) plus a move of at most window numbers for each step.
/// Seetharaman, Wichern, Pardo and Le Roux 2020, section 2.
Chain autoclip(AutoclipOptions options = {});
inline Chain autoclip(Scalar percentile) { return autoclip(AutoclipOptions{.percentile = std::move(percentile)}); }

struct ZclipOptions {
  Scalar alpha = 0.97;  ///< of the moving mean and variance
  Scalar z = 2.5;       ///< z_T: so many standard deviations above the mean are too many
  std::int64_t warm_up =
      25;  ///< norms whose mean and variance the moving ones start from; nothing is clipped meanwhile
  Scalar max_norm = std::numeric_limits<double>::infinity();  ///< another bound, during warm-up, too
  bool measure_only = false;
};
/// ZClip: with mean mu and standard deviation sigma of the norms so far and z = (||g|| - mu) / sigma, clips to
/// mu + z_T sigma (z_T / z) where z > z_T: the further out, the harder. mu and sigma^2 then move towards the clipped norm n:
/// mu <- alpha mu + (1 - alpha) n, sigma^2 <- alpha sigma^2 + (1 - alpha) (n - mu)^2. While all norms were alike, sigma = 0,
/// nothing is clipped. Errors: ConfigError for alpha outside [0, 1), z or max_norm negative or NaN, warm_up < 1.
/// Cost: as clip_by_global_norm. Kumar, Owen, Chowdhury and Guera 2025, algorithm 1.
Chain zclip(ZclipOptions options = {});

struct ClipByQuantileOptions {
  Scalar quantile = 0.5;  ///< gamma: the share of steps that are to pass unclipped
  Scalar rate = 0.2;      ///< eta
  double initial = 1;     ///< C at first
  double min = 0, max = std::numeric_limits<double>::infinity();  ///< C stays within
  bool measure_only = false;
};
/// clip_by_global_norm with a bound C that follows a quantile of the norms: C <- C exp(-eta (b - gamma)) behind each step,
/// b = 1 if the step passed unclipped, ||g|| <= C, else 0. Errors: ConfigError for a quantile outside [0, 1], a negative
/// rate, an initial that is not positive and finite, min > max. Cost: as clip_by_global_norm.
/// Andrew, Thakkar, McMahan and Ramaswamy 2021 (there with clients in place of steps).
Chain clip_by_quantile(ClipByQuantileOptions options = {});

}  // namespace espalier::optim
