// PrivacyAccountant: what a run of noisy, clipped steps (optim/per_example.h) has told about its examples.
//
//   PrivacyAccountant spent({.noise_multiplier = 1.1, .sample_rate = 256.0 / 60000});
//   for (...) { ...; clip.backward(tape, losses); opt.step(); spent.step(); }
//   spent.epsilon(1e-5);                                     // (epsilon, delta) of everything up to here
//
// Each step is the sampled Gaussian mechanism: every example takes part with probability q, independently (Poisson
// sampling, so batches differ in size); the sum of gradients clipped to norm C gets noise of deviation sigma C; two data
// sets are neighbours if one has one example more. For shuffled batches of one size the figure is the customary
// stand-in, not a proof.
//
// Steps are composed as Renyi divergences (Mironov 2017, propositions 1 and 3): of each order alpha > 1 their sum. For one
// step it is 1 / (alpha - 1) log A(alpha), A the moment of Mironov, Talwar and Zhang 2019, section 3.3: for whole alpha
// the binomial sum of (1-q)^(alpha-k) q^k exp((k^2 - k) / (2 sigma^2)), for others two infinite series; both in
// logarithms. 1.1, 1.2 ... 10.9, 11 ... 63 and some up to 1024 are looked at.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier::optim {

struct PrivacyOptions {
  double noise_multiplier;  ///< sigma: deviation of the noise over the clip norm
  double sample_rate;       ///< q: probability that an example is in a batch; batch / examples
};

/// From Renyi divergences r(alpha) to epsilon, the smallest over alpha of
enum class PrivacyConversion : std::uint8_t {
  improved,  ///< r + log((alpha - 1) / alpha) - log(delta alpha) / (alpha - 1); Canonne, Kamath, Steinke 2020, prop. 12
  classic    ///< r + log(1 / delta) / (alpha - 1); Mironov 2017, proposition 3: what older papers quote
};

/// r(alpha) of one step. 0 without sampling (q = 0), infinite without noise, alpha / (2 sigma^2) for q = 1.
/// Errors: ConfigError for alpha <= 1, a negative or NaN sigma, q outside [0, 1].
double sampled_gaussian_rdp(double alpha, PrivacyOptions options);

class PrivacyAccountant final {
 public:
  /// Errors: ConfigError for noise_multiplier negative or NaN, sample_rate outside [0, 1].
  explicit PrivacyAccountant(PrivacyOptions options);

  /// `n` more steps as set up now. Errors: ConfigError for n < 0.
  void step(std::int64_t n = 1);
  /// Steps from now on are of this kind; those before stay as they were. Errors: as the constructor.
  void set(PrivacyOptions options);
  const PrivacyOptions& options() const noexcept { return now_; }
  std::int64_t steps() const noexcept;

  /// The least epsilon for which all steps so far are (epsilon, delta)-private by this bound; 0 without steps, infinite
  /// if one had no noise. Errors: ConfigError unless 0 < delta < 1. Cost: milliseconds the first time a kind of step is
  /// seen, then a loop over the orders.
  double epsilon(double delta, PrivacyConversion conversion = PrivacyConversion::improved) const;

  /// f64 [kinds, 3]: noise_multiplier, sample_rate, steps of each kind of step. Composition has no order, so this is all
  /// there is; the present kind stands last.
  Tensor state() const;
  /// Errors: ConfigError for what is no state; then nothing was changed.
  void load_state(const Tensor& state);

 private:
  struct Phase {
    PrivacyOptions options;
    std::int64_t steps = 0;
    std::vector<double> rdp = {};  // of one step, by order; empty until asked for
  };
  Phase& phase_of(const PrivacyOptions& options);
  mutable std::vector<Phase> phases_;
  PrivacyOptions now_;
};

struct PrivacyBudget {
  double epsilon;
  double delta;
  double sample_rate;
  std::int64_t steps;
};
/// The least noise multiplier that keeps `steps` steps within (epsilon, delta), to one part in 10^6 and never below.
/// Errors: ConfigError for a budget out of range, or so small that no noise below 10^6 keeps to it.
/// Cost: some thirty evaluations of epsilon.
double noise_for(PrivacyBudget budget);

}  // namespace espalier::optim
