#include "espalier/optim/lars.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/optim/adam.h"
#include "espalier/optim/detail/range.h"
#include "espalier/optim/sgd.h"

namespace espalier::optim {
namespace {

class LarsRate final : public TransformOf<LarsRate> {
 public:
  LarsRate(Scalar trust, Scalar weight_decay)
      : trust_("lars", "trust", std::move(trust)), weight_decay_("lars", "weight_decay", std::move(weight_decay)) {}
  std::string name() const override { return "lars_rate"; }
  std::string settings() const override { return trust_.describe() + ", " + weight_decay_.describe(); }
  Span measures() const override { return Span::tensor; }
  bool keeps_zeros() const override { return true; }
  void begin(const StepContext& context) override {
    trust_now_ = trust_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
  }
  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    return {b.sum_squares(), b.value_sum_squares()};
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Figure g = std::sqrt(b.figure(0)), w = std::sqrt(b.figure(1));
    if (decay_now_ != 0) {
      b.add_value(decay_now_);
      b.remask();
    }
    if (g > 0 && w > 0) b.multiply(static_cast<Figure>(trust_now_) * w / (g + static_cast<Figure>(decay_now_) * w));
  }

 private:
  detail::Range trust_, weight_decay_;
  double trust_now_ = 0, decay_now_ = 0;
};

/// u <- u - weight_decay w, of an update that points downhill.
class DecayUpdate final : public TransformOf<DecayUpdate> {
 public:
  explicit DecayUpdate(Scalar weight_decay) : weight_decay_("lamb", "weight_decay", std::move(weight_decay)) {}
  std::string name() const override { return "lamb_decay"; }
  std::string settings() const override { return weight_decay_.describe(); }
  void begin(const StepContext& context) override { now_ = weight_decay_.at(context.step); }
  template <class T>
  void apply(Block<T>& b) const {
    if (now_ != 0) b.add_value(-now_);
  }

 private:
  detail::Range weight_decay_;
  double now_ = 0;
};

class LambRate final : public TransformOf<LambRate> {
 public:
  LambRate(Scalar lr, Scalar most)
      : lr_("lamb", "lr", std::move(lr)), most_("lamb", "max_weight_norm", std::move(most)) {}
  std::string name() const override { return "lamb_rate"; }
  std::string settings() const override { return lr_.describe() + ", " + most_.describe(); }
  Span measures() const override { return Span::tensor; }
  bool keeps_zeros() const override { return true; }
  void begin(const StepContext& context) override {
    lr_now_ = lr_.at(context.step);
    most_now_ = most_.at(context.step);
  }
  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    return {b.sum_squares(), b.value_sum_squares()};
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Figure u = std::sqrt(b.figure(0)), w = std::min(std::sqrt(b.figure(1)), static_cast<Figure>(most_now_));
    b.multiply(static_cast<Figure>(lr_now_) * (u > 0 && w > 0 ? w / u : 1));
  }

 private:
  detail::Range lr_, most_;
  double lr_now_ = 0, most_now_ = 0;
};

}  // namespace

Chain lars(LarsOptions o) {
  return chain(LarsRate(std::move(o.trust), std::move(o.weight_decay)),
               as("lars", sgd({.lr = std::move(o.lr), .momentum = std::move(o.momentum), .nesterov = o.nesterov})));
}

Chain lamb(LambOptions o) {
  return chain(as("lamb", adam({.lr = 1.0, .betas = std::move(o.betas), .eps = std::move(o.eps)})),
               DecayUpdate(std::move(o.weight_decay)), LambRate(std::move(o.lr), std::move(o.max_weight_norm)));
}

}  // namespace espalier::optim
