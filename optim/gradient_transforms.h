// Gradient transforms besides clipping. They stand before the optimizer in the chain, or behind it, where they work on
// the update:
//
//   chain(skip_large(100.0), clip_by_global_norm(1.0), centralize(), add_noise({.eta = 0.01}), adam({.lr = 1e-3}))
//   chain(weight_decay(1e-5), adam({.lr = 1.0}), trust_ratio(), scale(1e-3))
//
// All work on live coordinates only. Numbers may be schedules. Errors of all: ConfigError for settings that make no
// sense, when they are given or, for a schedule, in step() before anything is written.
#pragma once

#include <cstdint>
#include <limits>

#include "espalier/optim/chain.h"
#include "espalier/optim/over.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct CentralizeOptions {
  Select select = select_rank(2);  ///< weights of layers; of a selected vector, all is one unit
};
/// g <- g - mean(g) over the live weights of each output unit, so that the sum of a unit's weights no longer moves.
/// Cost: within the sweep where units fit into a block (4,096 weights); else one sweep more. Yong, Huang, Hua and Zhang
/// 2020, equation 1.
Chain centralize(CentralizeOptions options = {});

struct NormalizeOptions {
  Over over = Over::everything;
};
/// g <- g / ||g||_2, of all gradients together, of each parameter or of each output unit. A norm of 0 gives 0.
/// Cost: one sweep more, to measure; units that fit into a block are measured within the sweep. Over everything and over
/// tensors it finds NaN and infinities by the way. Hazan, Levy and Shalev-Shwartz 2015, algorithm 1.
Chain normalize(NormalizeOptions options = {});

/// g <- -1, 0 or 1; NaN stays. Cost: within the sweep. Bernstein, Wang, Azizzadenesheli and Anandkumar 2018,
/// algorithm 1.
Chain sign();

/// g <- factor g. Cost: none of its own, the factor rides along with the next read. Errors: ConfigError for NaN.
Chain scale(Scalar factor);

struct NoiseOptions {
  Scalar eta;
  double gamma = 0.55;  ///< how fast the noise fades; 0: not at all
  std::uint64_t seed = 0;
};
/// g <- g + N(0, eta / (1 + t)^gamma), t the optimizer's step from 0. A draw depends on (seed, t, place of the parameter in
/// the optimizer's list, index of the weight) alone: so it is the same at any thread count, under any mask, behind any
/// other transform, and after a resume, and nothing is saved. Two in one chain need seeds of their own.
/// Errors: ConfigError for an eta or a gamma that is negative or NaN. Cost: within the sweep, about three nanoseconds a
/// weight. Neelakantan et al. 2015, section 3.
Chain add_noise(NoiseOptions options);

/// Skips the step, which the report says, if the 2-norm of all gradients together lies above the bound or is NaN.
/// It must stand before everything that has a state. Errors: ConfigError for a bound that is negative or NaN.
/// Cost: one pass to measure. As in Chowdhery et al. 2022 (PaLM), section 5.1, who skip batches behind a spike.
Chain skip_large(Scalar bound);

enum class Decay : std::uint8_t {
  decoupled,  ///< w <- (1 - rate) w, together with the update: no optimizer sees it
  coupled     ///< g <- g + rate w: the gradient of rate/2 ||w||^2
};
struct WeightDecayOptions {
  Decay how = Decay::decoupled;
  Select select = select_rank(2);  ///< weights of layers; biases, gains and other vectors are left alone
};
/// Decay of its own, whatever the optimizer. Decoupled, it does not know of any lr: a rate of lr * weight_decay is what
/// adamw() does. Pruned weights are 0 and stay so; soft masks: the dense values decay.
/// Errors: ConfigError for a rate that is negative or NaN, or, decoupled, above 1. Cost: none of its own; coupled, one read
/// of the value within the sweep. Hanson and Pratt 1988; Loshchilov and Hutter 2019, equation 1.
Chain weight_decay(Scalar rate, WeightDecayOptions options = {});

struct TrustRatioOptions {
  Scalar trust = 1.0;
  Scalar min_weight_norm = 0.0;  ///< ||w|| counts as at least so much, where it is not 0,
  Scalar max_weight_norm = std::numeric_limits<double>::infinity();  ///< and as at most so much
  Over over = Over::tensor;
};
/// u <- trust ||w|| / ||u|| u for each parameter, and u where either 2-norm is 0. Before an optimizer, u is the gradient
/// (LARS); behind it, the update (LAMB), whose lr then cancels: chain(adam({.lr = 1.0}), trust_ratio(), scale(lr)).
/// Biases and gains are usually left out: on(select_rank(2), trust_ratio()). lars() and lamb() are the whole optimizers.
/// Errors: ConfigError for settings that are negative, NaN, min above max, or over everything. Cost: one sweep more, to
/// measure both. You, Gitman and Ginsburg 2017, equation 6; You et al. 2020, algorithm 2.
Chain trust_ratio(TrustRatioOptions options = {});

}  // namespace espalier::optim
