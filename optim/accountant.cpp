#include "espalier/optim/accountant.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace espalier::optim {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void check(const char* op, const PrivacyOptions& o) {
  if (!(o.noise_multiplier >= 0))
    fail<ConfigError>("[", op, "] noise_multiplier must not be negative or NaN, got ", o.noise_multiplier);
  if (!(o.sample_rate >= 0 && o.sample_rate <= 1))
    fail<ConfigError>("[", op, "] sample_rate ", o.sample_rate,
                      " is outside [0, 1]. Hint: it is the batch size over the number of examples");
}

void check_delta(const char* op, double delta) {
  if (!(delta > 0 && delta < 1))
    fail<ConfigError>("[", op, "] delta must lie between 0 and 1, got ", delta,
                      ". Hint: less than 1 over the number of examples");
}

/// log(exp(a) + exp(b)), log(exp(a) - exp(b)).
double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == -infinity ? a : a + std::log1p(std::exp(b - a));
}
double log_subtract(double a, double b) { return a > b ? a + std::log1p(-std::exp(b - a)) : -infinity; }

/// log(erfc(x)), also where erfc vanishes: there by its asymptotic series.
double log_erfc(double x) {
  if (x < 25) return std::log(std::erfc(x));
  const double u = 1 / (x * x);
  return -x * x - std::log(x) - 0.5 * std::log(std::numbers::pi) +
         u * (-0.5 + u * (0.625 + u * (-37.0 / 24 + u * 353 / 64)));
}

/// log A for whole alpha: sum over k of C(alpha, k) (1-q)^(alpha-k) q^k exp((k^2 - k) / (2 sigma^2)).
double log_moment_whole(int alpha, double q, double sigma) {
  double sum = -infinity, log_choose = 0;
  for (int k = 0; k <= alpha; ++k) {
    sum = log_add(sum, log_choose + k * std::log(q) + (alpha - k) * std::log1p(-q) +
                           (static_cast<double>(k) * k - k) / (2 * sigma * sigma));
    log_choose += std::log(static_cast<double>(alpha - k)) - std::log(static_cast<double>(k + 1));
  }
  return sum;
}

/// log A for any other alpha: the integral split where the two densities weigh the same, z, and the binomial series
/// summed on either side. Behind k = alpha their signs alternate.
double log_moment_fractional(double alpha, double q, double sigma) {
  const double z = sigma * sigma * std::log(1 / q - 1) + 0.5, width = std::numbers::sqrt2 * sigma;
  double positive = -infinity, negative = -infinity, log_choose = 0;
  bool below_zero = false;
  constexpr double negligible = -36;  // exp of it is 2e-16, and A is at least 1
  for (std::int64_t k = 0; k < 10'000'000; ++k) {
    const double i = static_cast<double>(k), j = alpha - i;
    const double left = log_choose + i * std::log(q) + j * std::log1p(-q) + (i * i - i) / (2 * sigma * sigma) +
                        log_erfc((i - z) / width) - std::numbers::ln2;
    const double right = log_choose + j * std::log(q) + i * std::log1p(-q) + (j * j - j) / (2 * sigma * sigma) +
                         log_erfc((z - j) / width) - std::numbers::ln2;
    double& side = below_zero ? negative : positive;
    side = log_add(log_add(side, left), right);
    if (i > alpha && std::max(left, right) < negligible) break;
    below_zero = below_zero != (j < 0);
    log_choose += std::log(std::abs(j)) - std::log(i + 1);
  }
  return log_subtract(positive, negative);
}

std::vector<double> make_orders() {
  std::vector<double> all;
  for (int k = 11; k < 110; ++k) all.push_back(k / 10.0);
  for (int k = 11; k < 64; ++k) all.push_back(k);
  for (int k : {72, 80, 96, 128, 192, 256, 512, 1024}) all.push_back(k);
  return all;
}
const std::vector<double>& orders() {
  static const std::vector<double> all = make_orders();
  return all;
}

/// sampled_gaussian_rdp without the checks.
double rdp_of(double alpha, double q, double sigma) {
  if (q == 0) return 0;
  if (sigma == 0) return infinity;
  if (q == 1) return alpha / (2 * sigma * sigma);
  const double log_a = alpha == std::floor(alpha) && alpha < 1e6 ? log_moment_whole(static_cast<int>(alpha), q, sigma)
                                                                 : log_moment_fractional(alpha, q, sigma);
  // Next to nothing, the sum may round to just below A = 1; not finite, and the order is of no use.
  return std::isfinite(log_a) ? std::max(0.0, log_a) / (alpha - 1) : infinity;
}

double epsilon_of(double alpha, double rdp, double delta, PrivacyConversion conversion) {
  if (conversion == PrivacyConversion::classic) return rdp - std::log(delta) / (alpha - 1);
  return rdp + std::log1p(-1 / alpha) - (std::log(delta) + std::log(alpha)) / (alpha - 1);
}

bool same(const PrivacyOptions& a, const PrivacyOptions& b) {
  return a.noise_multiplier == b.noise_multiplier && a.sample_rate == b.sample_rate;
}

}  // namespace

double sampled_gaussian_rdp(double alpha, PrivacyOptions options) {
  check("sampled_gaussian_rdp", options);
  if (!(alpha > 1 && alpha < infinity))
    fail<ConfigError>("[sampled_gaussian_rdp] the order alpha must be a number above 1, got ", alpha);
  return rdp_of(alpha, options.sample_rate, options.noise_multiplier);
}

PrivacyAccountant::PrivacyAccountant(PrivacyOptions options) : now_(options) { check("PrivacyAccountant", options); }

void PrivacyAccountant::set(PrivacyOptions options) {
  check("PrivacyAccountant", options);
  now_ = options;
}

PrivacyAccountant::Phase& PrivacyAccountant::phase_of(const PrivacyOptions& options) {
  for (Phase& phase : phases_)
    if (same(phase.options, options)) return phase;
  return phases_.emplace_back(Phase{options});
}

void PrivacyAccountant::step(std::int64_t n) {
  if (n < 0) fail<ConfigError>("[PrivacyAccountant] steps cannot be taken back, got ", n);
  if (n > 0) phase_of(now_).steps += n;
}

std::int64_t PrivacyAccountant::steps() const noexcept {
  std::int64_t all = 0;
  for (const Phase& phase : phases_) all += phase.steps;
  return all;
}

double PrivacyAccountant::epsilon(double delta, PrivacyConversion conversion) const {
  check_delta("PrivacyAccountant", delta);
  const std::vector<double>& alphas = orders();
  std::vector<double> total(alphas.size(), 0.0);
  bool any = false;
  for (Phase& phase : phases_) {
    if (phase.options.sample_rate == 0) continue;  // no example was in any of them
    any = true;
    if (phase.rdp.empty())
      for (const double alpha : alphas)
        phase.rdp.push_back(rdp_of(alpha, phase.options.sample_rate, phase.options.noise_multiplier));
    for (std::size_t k = 0; k < alphas.size(); ++k) total[k] += static_cast<double>(phase.steps) * phase.rdp[k];
  }
  if (!any) return 0;
  double least = infinity;
  for (std::size_t k = 0; k < alphas.size(); ++k)
    least = std::min(least, epsilon_of(alphas[k], total[k], delta, conversion));
  return std::max(0.0, least);
}

Tensor PrivacyAccountant::state() const {
  std::vector<double> rows;
  auto add = [&](const PrivacyOptions& o, std::int64_t steps) {
    rows.insert(rows.end(), {o.noise_multiplier, o.sample_rate, static_cast<double>(steps)});
  };
  std::int64_t now = 0;
  for (const Phase& phase : phases_)
    if (same(phase.options, now_))
      now = phase.steps;
    else
      add(phase.options, phase.steps);
  add(now_, now);
  return Tensor::from(rows, {static_cast<Index>(rows.size() / 3), 3});
}

void PrivacyAccountant::load_state(const Tensor& state) {
  if (!state.defined() || state.dtype() != DType::f64 || state.rank() != 2 || state.shape()[0] < 1 ||
      state.shape()[1] != 3)
    fail<ConfigError>("[PrivacyAccountant] a state is f64 [kinds of steps, 3], got ",
                      state.defined() ? join(state.dtype(), " ", state.shape()) : std::string("an undefined tensor"));
  const std::vector<double> rows = state.to_vector<double>();
  PrivacyAccountant loaded({rows[rows.size() - 3], rows[rows.size() - 2]});
  for (std::size_t k = 0; k < rows.size(); k += 3) {
    const PrivacyOptions options{rows[k], rows[k + 1]};
    const double steps = rows[k + 2];
    check("PrivacyAccountant", options);
    if (!(steps >= 0 && steps <= 0x1p53 && steps == std::floor(steps)))
      fail<ConfigError>("[PrivacyAccountant] the state counts ", steps, " steps");
    if (steps > 0) loaded.phase_of(options).steps += static_cast<std::int64_t>(steps);
  }
  *this = std::move(loaded);
}

double noise_for(PrivacyBudget budget) {
  if (!(budget.epsilon > 0)) fail<ConfigError>("[noise_for] epsilon must be positive, got ", budget.epsilon);
  check_delta("noise_for", budget.delta);
  if (budget.steps < 0) fail<ConfigError>("[noise_for] the number of steps must not be negative, got ", budget.steps);
  check("noise_for", {0, budget.sample_rate});
  auto fits = [&](double sigma) {
    PrivacyAccountant accountant({sigma, budget.sample_rate});
    accountant.step(budget.steps);
    return accountant.epsilon(budget.delta) <= budget.epsilon;
  };
  if (fits(0)) return 0;
  double low = 0, high = 1;
  while (!fits(high)) {
    low = high;
    high *= 2;
    if (high > 1e6)
      fail<ConfigError>("[noise_for] no noise keeps ", budget.steps, " steps at sample_rate ", budget.sample_rate,
                        " within epsilon ", budget.epsilon, " at delta ", budget.delta,
                        ". Hint: a larger epsilon or delta, or fewer steps");
  }
  while (high - low > 1e-6 * high) {
    const double middle = (low + high) / 2;
    (fits(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace espalier::optim
