#include "espalier/optim/lion.h"

#include "espalier/optim/detail/direction.h"

namespace espalier::optim {
namespace {

class Lion final : public detail::Direction<Lion, kernels::LionStep> {
 public:
  explicit Lion(const LionOptions& o)
      : Direction("lion", {o.lr, o.weight_decay, o.decoupled_weight_decay, o.maximize}, {"m"}),
        beta1_("lion", "betas[0]", o.betas[0], detail::fraction),
        beta2_("lion", "betas[1]", o.betas[1], detail::fraction) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.lion;
  }

 private:
  std::vector<const detail::Range*> others() const override { return {&beta1_, &beta2_}; }
  void settle(std::int64_t step) override { now_ = {beta1_.at(step), beta2_.at(step), lr()}; }
  kernels::LionStep step_of(std::int64_t) const override { return now_; }
  detail::Range beta1_, beta2_;
  kernels::LionStep now_;
};

}  // namespace

Chain lion(LionOptions options) { return Lion(options); }

}  // namespace espalier::optim
