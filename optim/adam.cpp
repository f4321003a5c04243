#include "espalier/optim/adam.h"

#include <cmath>
#include <utility>

#include "espalier/core/kernels/directions.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class Adam final : public TransformOf<Adam> {
 public:
  template <class Options>
  Adam(const char* name, bool decoupled, Options o)
      : name_(name),
        decoupled_(decoupled),
        lr_(name, "lr", std::move(o.lr)),
        weight_decay_(name, "weight_decay", std::move(o.weight_decay)),
        beta1_(name, "betas[0]", std::move(o.betas[0]), detail::fraction),
        beta2_(name, "betas[1]", std::move(o.betas[1]), detail::fraction),
        eps_(name, "eps", std::move(o.eps)),
        amsgrad_(o.amsgrad),
        maximize_(o.maximize) {}

  std::string name() const override { return name_; }
  std::vector<StateSpec> states() const override {
    std::vector<StateSpec> states = {{"m"}, {"v"}};
    if (amsgrad_) states.push_back({"vmax"});
    return states;
  }
  bool keeps_zeros() const override { return true; }
  bool makes_update() const override { return true; }

  void begin(const StepContext& context) override {
    lr_now_ = lr_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
    b1_ = beta1_.at(context.step);
    b2_ = beta2_.at(context.step);
    eps_now_ = eps_.at(context.step);
    // The corrections of parameters that got their gradients in the same steps are the same.
    corrections_.resize(context.updates.size());
    std::int64_t count = 0;
    Correction c;
    for (std::size_t i = 0; i < corrections_.size(); ++i) {
      if (context.updates[i] != count) {
        count = context.updates[i];
        const auto t = static_cast<double>(count);
        c.step = lr_now_ / (1 - std::pow(b1_, t));
        c.root = 1 / std::sqrt(1 - std::pow(b2_, t));
      }
      corrections_[i] = c;
    }
  }

  template <class T>
  void apply(Block<T>& b) const {
    if (maximize_) b.multiply(-1);
    if (decoupled_) b.decay(1 - lr_now_ * decay_now_);
    const Correction& c = corrections_[b.parameter()];
    const double coupled = decoupled_ ? 0 : decay_now_;
    const auto in = amsgrad_ ? b.pending() : b.pending_within_bounds();
    T* const u = b.last() ? nullptr : b.result();
    if (amsgrad_) {
      kernels::directions<T>().amsgrad({b1_, b2_, c.step, c.root, eps_now_},
                                       {.g = in.source,
                                        .w = b.writable_value(),
                                        .u = u,
                                        .mask = b.mask(),
                                        .n = b.size(),
                                        .scale = in.scale,
                                        .weight_decay = static_cast<T>(coupled),
                                        .keep = static_cast<T>(b.keep()),
                                        .states = {b.state(0).data(), b.state(1).data(), b.state(2).data()},
                                        .ahead = in.ahead});
    } else {
      const kernels::AdamStep step{.beta1 = b1_,
                                   .beta2 = b2_,
                                   .step = c.step,
                                   .root = c.root,
                                   .eps = eps_now_,
                                   .scale = in.scale,
                                   .weight_decay = coupled,
                                   .keep = b.keep(),
                                   .low = in.low,
                                   .high = in.high,
                                   .ahead = in.ahead};
      b.count_clamped(kernels::step<T>().adam(step, in.source, b.state(0).data(), b.state(1).data(), b.writable_value(),
                                              u, b.mask(), b.size()));
    }
    b.last() ? b.set_applied() : b.set_result();
  }

 private:
  struct Correction {
    double step = 0, root = 1;  // lr / (1 - b1^t), 1 / sqrt(1 - b2^t)
  };

  const char* name_;
  bool decoupled_;
  detail::Range lr_, weight_decay_, beta1_, beta2_, eps_;
  bool amsgrad_, maximize_;
  double lr_now_ = 0, decay_now_ = 0, b1_ = 0, b2_ = 0, eps_now_ = 0;
  std::vector<Correction> corrections_;
};

}  // namespace

Chain adam(AdamOptions options) { return Adam("adam", false, std::move(options)); }
Chain adamw(AdamWOptions options) { return Adam("adamw", true, std::move(options)); }

}  // namespace espalier::optim
