#include "espalier/optim/gradient_transforms.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/core/kernels/random_normal.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class Centralize final : public TransformOf<Centralize> {
 public:
  std::string name() const override { return "centralize"; }
  Span measures() const override { return Span::unit; }
  bool takes_whole_units() const override { return true; }
  bool keeps_zeros() const override { return true; }  // where the mask is 0: both verbs leave that alone
  bool passes_nonfinite() const override { return true; }
  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    return {b.sum(), static_cast<Figure>(b.live())};
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (b.unit_size() <= Block<T>::capacity)
      b.center_units();
    else if (b.figure(1) > 0)
      b.add(static_cast<double>(-b.figure(0) / b.figure(1)));
  }
};

class Normalize final : public TransformOf<Normalize> {
 public:
  explicit Normalize(Over over) : over_(over) {}
  std::string name() const override { return "normalize"; }
  std::string settings() const override { return detail::describe(over_); }
  Span measures() const override { return detail::span_of(over_); }
  bool keeps_zeros() const override { return true; }
  bool finds_nonfinite() const override { return true; }
  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (b.figure() != 0) b.multiply(1 / std::sqrt(b.figure()));
  }

 private:
  Over over_;
};

class Sign final : public TransformOf<Sign> {
 public:
  std::string name() const override { return "sign"; }
  bool keeps_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    b.sign();
  }
};

class Scale final : public TransformOf<Scale> {
 public:
  explicit Scale(Scalar factor) : factor_(std::move(factor)) {
    if (!factor_.scheduled()) checked(factor_.value());
  }
  std::string name() const override { return "scale"; }
  std::string settings() const override { return detail::describe("factor", factor_); }
  bool keeps_zeros() const override { return true; }
  bool passes_nonfinite() const override { return true; }
  void begin(const StepContext& context) override { now_ = checked(factor_.at(context.step)); }
  template <class T>
  void apply(Block<T>& b) const {
    b.multiply(now_);
  }

 private:
  static double checked(double factor) {
    if (std::isnan(factor)) fail<ConfigError>("[scale] factor must not be NaN");
    return factor;
  }
  Scalar factor_;
  double now_ = 1;
};

class AddNoise final : public TransformOf<AddNoise> {
 public:
  explicit AddNoise(NoiseOptions o) : eta_("add_noise", "eta", std::move(o.eta)), gamma_(o.gamma), seed_(o.seed) {
    if (!(gamma_ >= 0)) fail<ConfigError>("[add_noise] gamma must not be negative or NaN, got ", gamma_);
  }
  std::string name() const override { return "add_noise"; }
  std::string settings() const override { return join(eta_.describe(), ", gamma ", gamma_, ", seed ", seed_); }
  bool passes_nonfinite() const override { return true; }
  void begin(const StepContext& context) override {
    const auto t = static_cast<double>(context.step);
    deviation_ = std::sqrt(eta_.at(context.step) / std::pow(1 + t, gamma_));
    stream_ = static_cast<std::uint64_t>(context.step) << 32;
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (deviation_ == 0) return;
    // Another key than an Rng of the same seed has: weights may have been drawn with that one.
    const kernels::RandomPlace place{seed_ ^ 0x6772616469656e74u, stream_ + b.parameter(), 0};
    alignas(64) T draws[Block<T>::capacity];
    const std::span<T> drawn(draws, static_cast<std::size_t>(b.size()));
    kernels::random_normal<T>().fill(place, static_cast<std::uint64_t>(b.begin()), draws, b.size());
    b.add(deviation_, drawn);
  }

 private:
  detail::Range eta_;
  double gamma_;
  std::uint64_t seed_;
  double deviation_ = 0;
  std::uint64_t stream_ = 0;
};

class SkipLarge final : public TransformOf<SkipLarge> {
 public:
  explicit SkipLarge(Scalar bound) : bound_("skip_large", "bound", std::move(bound)) {}
  std::string name() const override { return "skip_large"; }
  std::string settings() const override { return bound_.describe(); }
  Span measures() const override { return Span::everything; }
  bool keeps_zeros() const override { return true; }
  bool may_skip() const override { return true; }
  bool finds_nonfinite() const override { return true; }
  bool skips() const override { return skips_; }
  void begin(const StepContext& context) override { now_ = bound_.at(context.step); }
  void measured(const Measured& m, const StepContext&) override { skips_ = !(std::sqrt(m.total) <= now_); }
  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>&) const {}

 private:
  detail::Range bound_;
  Figure now_ = 0;
  bool skips_ = false;
};

class WeightDecay final : public TransformOf<WeightDecay> {
 public:
  WeightDecay(Scalar rate, Decay how)
      : how_(how),
        rate_("weight_decay", "rate", std::move(rate),
              how == Decay::coupled ? detail::not_negative : detail::closed_fraction) {}
  std::string name() const override { return "weight_decay"; }
  std::string settings() const override {
    return rate_.describe() + (how_ == Decay::coupled ? ", coupled" : ", decoupled");
  }
  bool keeps_zeros() const override { return true; }
  bool passes_nonfinite() const override { return true; }
  void begin(const StepContext& context) override { now_ = rate_.at(context.step); }
  template <class T>
  void apply(Block<T>& b) const {
    if (now_ == 0) return;
    how_ == Decay::coupled ? b.add_value(now_) : b.decay(1 - now_);
  }

 private:
  Decay how_;
  detail::Range rate_;
  double now_ = 0;
};

class TrustRatio final : public TransformOf<TrustRatio> {
 public:
  explicit TrustRatio(TrustRatioOptions o)
      : over_(detail::unit_or_tensor("trust_ratio", o.over)),
        trust_("trust_ratio", "trust", std::move(o.trust)),
        least_("trust_ratio", "min_weight_norm", o.min_weight_norm),
        norms_("trust_ratio", std::move(o.min_weight_norm), std::move(o.max_weight_norm)) {}
  std::string name() const override { return "trust_ratio"; }
  std::string settings() const override {
    return trust_.describe() + ", weight norm: " + norms_.describe() + ", " + detail::describe(over_);
  }
  Span measures() const override { return detail::span_of(over_); }
  bool keeps_zeros() const override { return true; }
  void begin(const StepContext& context) override {
    trust_now_ = trust_.at(context.step);
    least_.at(context.step);
    norms_.begin(context.step);
  }
  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    return {b.sum_squares(), b.value_sum_squares()};
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Figure u = std::sqrt(b.figure(0)), w = std::sqrt(b.figure(1));
    if (u == 0 || w == 0) return;
    b.multiply(trust_now_ * std::clamp<Figure>(w, norms_.min(), norms_.max()) / u);
  }

 private:
  Over over_;
  detail::Range trust_, least_;
  detail::Bounds norms_;
  Figure trust_now_ = 1;
};

}  // namespace

Chain centralize(CentralizeOptions options) { return on(options.select, Centralize()); }
Chain normalize(NormalizeOptions options) { return Normalize(options.over); }
Chain sign() { return Sign(); }
Chain scale(Scalar factor) { return Scale(std::move(factor)); }
Chain add_noise(NoiseOptions options) { return AddNoise(std::move(options)); }
Chain skip_large(Scalar bound) { return SkipLarge(std::move(bound)); }
Chain weight_decay(Scalar rate, WeightDecayOptions options) {
  return on(options.select, WeightDecay(std::move(rate), options.how));
}
Chain trust_ratio(TrustRatioOptions options) { return TrustRatio(std::move(options)); }

}  // namespace espalier::optim
