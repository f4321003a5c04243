#include "espalier/optim/asgd.h"

#include <algorithm>
#include <cmath>

#include "espalier/optim/detail/direction.h"

namespace espalier::optim {
namespace {

class Asgd final : public detail::Direction<Asgd, kernels::AsgdStep> {
 public:
  explicit Asgd(const AsgdOptions& o)
      : Direction("asgd", {.lr = o.lr, .weight_decay = o.weight_decay, .maximize = o.maximize}, {"ax"}),
        lambd_("asgd", "lambd", o.lambd),
        alpha_("asgd", "alpha", o.alpha),
        t0_("asgd", "t0", o.t0) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.asgd;
  }
  template <class T>
  void apply(Block<T>& b) const {
    b.decay(1 - lambd_now_ * step_for(b).eta);
    Direction::apply(b);
  }

 private:
  std::vector<const detail::Range*> others() const override { return {&lambd_, &alpha_, &t0_}; }
  void settle(std::int64_t step) override {
    lambd_now_ = lambd_.at(step);
    alpha_now_ = alpha_.at(step);
    t0_now_ = t0_.at(step);
  }
  kernels::AsgdStep step_of(std::int64_t t) const override {
    const auto before = static_cast<double>(t - 1);
    // Rounded to f32, as PyTorch holds them: the same steps, digit by digit.
    const auto rounded = [](double x) { return static_cast<double>(static_cast<float>(x)); };
    return {.eta = rounded(lr() / std::pow(1 + lambd_now_ * lr() * before, alpha_now_)),
            .mu = rounded(1 / std::max(1.0, before - t0_now_))};
  }
  detail::Range lambd_, alpha_, t0_;
  double lambd_now_ = 0, alpha_now_ = 0, t0_now_ = 0;
};

}  // namespace

Chain asgd(AsgdOptions options) { return Asgd(options); }

}  // namespace espalier::optim
