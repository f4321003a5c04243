#include "espalier/optim/plateau.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/error.h"
#include "espalier/optim/detail/settings.h"

namespace espalier::optim {
namespace {

struct State {
  double lr;
  double best = std::numeric_limits<double>::quiet_NaN();  // none yet
  std::int64_t bad = 0;
  std::int64_t cooldown = 0;
};

bool is_better(const PlateauOptions& o, double metric, double best) {
  if (!std::isfinite(metric)) return false;
  if (std::isnan(best)) return true;
  const double margin = o.threshold_mode == Threshold::rel ? o.threshold * std::abs(best) : o.threshold;
  return o.mode == PlateauMode::min ? metric < best - margin : metric > best + margin;
}

PlateauOptions checked(const PlateauOptions& o) {
  detail::given("plateau", "lr", o.lr);
  detail::at_least("plateau", "lr", o.lr, 0.0);
  if (!(o.factor >= 0 && o.factor < 1)) fail<ConfigError>("[plateau] factor must be in [0, 1), got ", o.factor);
  detail::at_least("plateau", "patience", o.patience, 0);
  detail::at_least("plateau", "threshold", o.threshold, 0.0);
  detail::at_least("plateau", "cooldown", o.cooldown, 0);
  detail::within("plateau", "min_lr", o.min_lr, 0, o.lr);
  detail::at_least("plateau", "eps", o.eps, 0.0);
  return o;
}

/// The one number under this key, still to be counted as taken.
double number(const std::map<std::string, Tensor>& state, const char* key, DType type) {
  const auto found = state.find(key);
  if (found == state.end()) fail<ConfigError>("[plateau] the state lacks '", key, "'");
  const Tensor& value = found->second;
  if (!value.defined() || value.rank() != 0 || value.dtype() != type)
    fail<ConfigError>("[plateau] '", key, "' in the state must be one ", name_of(type), " number of shape []");
  return value.item();
}

/// A count under this key.
std::int64_t count(const std::map<std::string, Tensor>& state, const char* key) {
  const double value = number(state, key, DType::i64);
  if (!(value >= 0 && value < 0x1p62)) fail<ConfigError>("[plateau] '", key, "' in the state is impossible: ", value);
  return static_cast<std::int64_t>(value);
}

Tensor i64_scalar(std::int64_t value) { return Tensor::from<std::int64_t>({value}, {}); }

}  // namespace

struct Plateau::Shared {
  PlateauOptions options;
  State now;
};

Plateau::Plateau(PlateauOptions options)
    : shared_(std::make_shared<Shared>(Shared{checked(options), {.lr = options.lr}})) {}

double Plateau::operator()(std::int64_t) const { return lr(); }

double Plateau::lr() const { return shared_->now.lr; }

bool Plateau::observe(double metric) {
  const PlateauOptions& o = shared_->options;
  State& now = shared_->now;
  if (is_better(o, metric, now.best)) {
    now.best = metric;
    now.bad = 0;
  } else {
    ++now.bad;
  }
  if (now.cooldown > 0) {
    --now.cooldown;
    now.bad = 0;
  }
  if (now.bad <= o.patience) return false;
  now.bad = 0;
  now.cooldown = o.cooldown;
  const double next = std::max(now.lr * o.factor, o.min_lr);
  if (!(now.lr - next > o.eps)) return false;
  now.lr = next;
  return true;
}

std::map<std::string, Tensor> Plateau::state() const {
  const State& now = shared_->now;
  return {{"lr", Tensor::scalar(now.lr, DType::f64)},
          {"best", Tensor::scalar(now.best, DType::f64)},
          {"bad", i64_scalar(now.bad)},
          {"cooldown", i64_scalar(now.cooldown)}};
}

void Plateau::load_state(const std::map<std::string, Tensor>& state) {
  State next{.lr = number(state, "lr", DType::f64)};
  next.best = number(state, "best", DType::f64);
  next.bad = count(state, "bad");
  next.cooldown = count(state, "cooldown");
  for (const auto& [key, value] : state)
    if (key != "lr" && key != "best" && key != "bad" && key != "cooldown")
      fail<ConfigError>("[plateau] the state has an unknown key '", key, "'");
  if (!(next.lr >= 0 && std::isfinite(next.lr)))
    fail<ConfigError>("[plateau] 'lr' in the state is impossible: ", next.lr);
  if (std::isinf(next.best)) fail<ConfigError>("[plateau] 'best' in the state is impossible: ", next.best);
  shared_->now = next;
}

}  // namespace espalier::optim
