// Projections of the values onto sets whose nearest point takes sorting: l1 ball, simplex, l0 ball. They are constraints,
// see constraint.h, and so are the projections onto a box (clamp_parameters) and the 2-norm ball (l2_ball).
//
//   chain(sgd({.lr = 0.1}), on("*.weight", top_k({.fraction = 0.1})))      // iterative hard thresholding
//
// All project the live weights of each parameter, or with Over::unit of each of its output units; what has none of them
// stays 0, and what holds a NaN or an infinity is left as it is. Errors of all: ConfigError for settings that are
// negative or NaN, or over everything. Cost of all: a sweep of their own over whole parameters, O(n) for n weights on
// average, top_k some 4 nanoseconds a weight, the others 10 to 45; with Over::unit, units are shared out to the threads.
#pragma once

#include <optional>
#include <utility>

#include "espalier/optim/constraint.h"

namespace espalier::optim {

/// w <- the nearest point with ||w||_1 <= radius: sign(w) max(|w| - theta, 0), which makes exact zeros. Weights within the
/// ball keep their bits. Duchi, Shalev-Shwartz, Singer and Chandra 2008, figures 1 and 2.
Chain l1_ball(BallOptions options = {});

struct SimplexOptions {
  Scalar total = 1.0;
  Over over = Over::tensor;
};
/// w <- the nearest point with w >= 0 and sum w = total: max(w - theta, 0).
/// Held, Wolfe and Crowder 1974; Duchi, Shalev-Shwartz, Singer and Chandra 2008, figure 1.
Chain simplex(SimplexOptions options = {});

struct TopKOptions {
  std::optional<Scalar> count = {};     ///< a whole number
  std::optional<Scalar> fraction = {};  ///< of the live weights, in [0, 1]; rounded, half to even
  Over over = Over::tensor;
};
/// w <- the nearest point with at most k weights that are not 0: the k largest |w| keep their bits, exactly k of them
/// (among equals those that come first), all others become 0. They may come back in later steps: the mask does not
/// change. Errors: ConfigError also unless one of count and fraction is given, for a count that is not whole, or a fraction
/// above 1. Blumensath and Davies 2009 (iterative hard thresholding).
Chain top_k(TopKOptions options);
inline Chain top_k(Scalar count) { return top_k(TopKOptions{.count = std::move(count)}); }

}  // namespace espalier::optim
