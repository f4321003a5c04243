// What the element-wise optimizers share: settings that may be schedules, numbers that depend on how often a parameter
// was updated, and the way from a block to its kernel.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "espalier/core/kernels/directions.h"
#include "espalier/optim/detail/range.h"
#include "espalier/optim/transform.h"

namespace espalier::optim::detail {

/// Settings that (nearly) all of them have.
struct Common {
  Scalar lr;
  Scalar weight_decay = 0.0;
  bool decoupled = false;  ///< w <- (1 - lr weight_decay) w instead of g <- g + weight_decay w
  bool maximize = false;
};

/// Abstract. Self is the optimizer, Step what its kernel is given; Self has
/// `template <class T> kernels::Direction<T, Step> kernel(const kernels::DirectionKernels<T>&) const`.
template <class Self, class Step>
class Direction : public TransformOf<Self> {
 public:
  std::string name() const final { return name_; }
  std::string settings() const final {
    std::string text = lr_.describe();
    if (!weight_decay_.constantly(0)) text += ", " + weight_decay_.describe();
    for (const Range* other : others()) text += ", " + other->describe();
    return text;
  }
  std::vector<StateSpec> states() const final {
    std::vector<StateSpec> specs;
    for (const char* state : states_) specs.push_back({state});
    return specs;
  }
  bool keeps_zeros() const final { return true; }
  bool makes_update() const final { return true; }

  void begin(const StepContext& context) final {
    lr_now_ = lr_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
    settle(context.step);
    steps_.clear();
    which_.resize(context.updates.size());
    std::int64_t count = -1;  // parameters that were updated equally often share one
    for (std::size_t i = 0; i < which_.size(); ++i) {
      if (context.updates[i] != count) {
        count = context.updates[i];
        steps_.push_back(count == 0 ? Step() : step_of(count));
      }
      which_[i] = steps_.size() - 1;
    }
  }

  template <class T>
  void apply(Block<T>& b) const {
    if (maximize_) b.multiply(-1);
    if (decoupled_) b.decay(1 - lr_now_ * decay_now_);
    const auto in = b.pending();
    kernels::StepBlock<T> block{.g = in.source,
                                .w = b.writable_value(),
                                .u = b.last() ? nullptr : b.result(),
                                .mask = b.mask(),
                                .n = b.size(),
                                .scale = in.scale,
                                .weight_decay = static_cast<T>(decoupled_ ? 0 : decay_now_),
                                .keep = static_cast<T>(b.keep())};
    for (std::size_t k = 0; k < states_.size(); ++k) block.states[k] = b.state(k).data();
    block.ahead = in.ahead;
    static_cast<const Self&>(*this).template kernel<T>(kernels::directions<T>())(step_for(b), block);
    b.last() ? b.set_applied() : b.set_result();
  }

 protected:
  Direction(const char* name, Common common, std::vector<const char*> states)
      : name_(name),
        states_(std::move(states)),
        lr_(name, "lr", std::move(common.lr)),
        weight_decay_(name, "weight_decay", std::move(common.weight_decay)),
        decoupled_(common.decoupled),
        maximize_(common.maximize) {}
  double lr() const noexcept { return lr_now_; }
  template <class T>
  const Step& step_for(const Block<T>& b) const noexcept {
    return steps_[which_[b.parameter()]];
  }

 private:
  /// All settings but lr and weight_decay, for describe().
  virtual std::vector<const Range*> others() const = 0;
  /// Once a step: evaluates them.
  virtual void settle(std::int64_t step) = 0;
  /// What the kernel is given for parameters whose update number `t` this is, from 1. A function of t and the settings
  /// alone, so that nothing but the states need be saved.
  virtual Step step_of(std::int64_t t) const = 0;
  const char* name_;
  std::vector<const char*> states_;
  Range lr_, weight_decay_;
  bool decoupled_, maximize_;
  double lr_now_ = 0, decay_now_ = 0;
  std::vector<Step> steps_;
  std::vector<std::size_t> which_;  // [parameter]: in steps_
};

/// 1 - beta^t.
inline double correction(double beta, std::int64_t t) { return 1 - std::pow(beta, static_cast<double>(t)); }

}  // namespace espalier::optim::detail
