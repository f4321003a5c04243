#include "espalier/optim/rprop.h"

#include "espalier/optim/detail/direction.h"

namespace espalier::optim {
namespace {

class Rprop final : public detail::Direction<Rprop, kernels::RpropStep> {
 public:
  explicit Rprop(const RpropOptions& o)
      : Direction("rprop", {.lr = o.lr, .maximize = o.maximize}, {"previous", "step_size"}),
        minus_("rprop", "etas[0]", o.etas[0], {0, 1, true}),
        plus_("rprop", "etas[1]", o.etas[1], {.low = 1, .open = true}),
        smallest_("rprop", "step_sizes[0]", o.step_sizes[0], detail::positive),
        largest_("rprop", "step_sizes[1]", o.step_sizes[1], detail::positive) {
    if (!o.step_sizes[0].scheduled() && !o.step_sizes[1].scheduled()) check(smallest_.at(0), largest_.at(0));
  }
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.rprop;
  }

 private:
  static void check(double smallest, double largest) {
    if (smallest > largest)
      fail<ConfigError>("[rprop] step_sizes must be the smallest and the largest, got ", smallest, " and ", largest);
  }
  std::vector<const detail::Range*> others() const override { return {&minus_, &plus_, &smallest_, &largest_}; }
  void settle(std::int64_t step) override {
    now_ = {lr(), minus_.at(step), plus_.at(step), smallest_.at(step), largest_.at(step)};
    check(now_.smallest, now_.largest);
  }
  kernels::RpropStep step_of(std::int64_t) const override { return now_; }
  detail::Range minus_, plus_, smallest_, largest_;
  kernels::RpropStep now_;
};

}  // namespace

Chain rprop(RpropOptions options) { return Rprop(options); }

}  // namespace espalier::optim
