#include "espalier/optim/sgd.h"

#include <utility>

#include "espalier/core/kernels/step.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class Sgd final : public TransformOf<Sgd> {
 public:
  explicit Sgd(SgdOptions o)
      : lr_("sgd", "lr", std::move(o.lr)),
        momentum_("sgd", "momentum", std::move(o.momentum)),
        weight_decay_("sgd", "weight_decay", std::move(o.weight_decay)),
        dampening_("sgd", "dampening", std::move(o.dampening)),
        nesterov_(o.nesterov),
        maximize_(o.maximize),
        remembers_(!momentum_.constantly(0)) {
    if (nesterov_ && (!remembers_ || !dampening_.constantly(0)))
      fail<ConfigError>("[sgd] nesterov needs a momentum and no dampening");
  }

  std::string name() const override { return "sgd"; }
  std::vector<StateSpec> states() const override {
    return remembers_ ? std::vector<StateSpec>{{"momentum"}} : std::vector<StateSpec>{};
  }
  bool keeps_zeros() const override { return true; }
  bool passes_zeros() const override { return !remembers_ && decay_now_ == 0; }
  bool makes_update() const override { return true; }

  void begin(const StepContext& context) override {
    lr_now_ = lr_.at(context.step);
    momentum_now_ = momentum_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
    dampening_now_ = dampening_.at(context.step);
  }

  template <class T>
  void apply(Block<T>& b) const {
    if (maximize_) b.multiply(-1);
    if (!remembers_ && decay_now_ == 0) {
      b.multiply(-lr_now_);  // pending: joins the loop that writes the value
      return;
    }
    const auto in = b.pending_within_bounds();
    const kernels::SgdStep step{.lr = lr_now_,
                                .momentum = momentum_now_,
                                .dampening = dampening_now_,
                                .scale = in.scale,
                                .weight_decay = decay_now_,
                                .keep = b.keep(),
                                .low = in.low,
                                .high = in.high,
                                .nesterov = nesterov_,
                                .first = b.updates() == 1,
                                .ahead = in.ahead};
    b.count_clamped(kernels::step<T>().sgd(step, in.source, remembers_ ? b.state(0).data() : nullptr,
                                           b.writable_value(), b.last() ? nullptr : b.result(), b.mask(), b.size()));
    b.last() ? b.set_applied() : b.set_result();
  }

 private:
  detail::Range lr_, momentum_, weight_decay_, dampening_;
  bool nesterov_, maximize_, remembers_;
  double lr_now_ = 0, momentum_now_ = 0, decay_now_ = 0, dampening_now_ = 0;
};

}  // namespace

Chain sgd(SgdOptions options) { return Sgd(std::move(options)); }

}  // namespace espalier::optim
