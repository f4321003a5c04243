#include "espalier/optim/adam.h"

#include <cmath>
#include <utility>

#include "espalier/core/kernels/step.h"
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
        betas_(o.betas),
        eps_(o.eps),
        amsgrad_(o.amsgrad),
        maximize_(o.maximize) {
    for (double beta : betas_)
      if (!(beta >= 0 && beta < 1)) fail<ConfigError>("[", name, "] betas must lie in [0, 1), got ", beta);
    if (!(eps_ >= 0)) fail<ConfigError>("[", name, "] eps must not be negative, got ", eps_);
  }

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
    // The corrections of parameters that got their gradients in the same steps are the same.
    corrections_.resize(context.updates.size());
    std::int64_t count = 0;
    Correction c;
    for (std::size_t i = 0; i < corrections_.size(); ++i) {
      if (context.updates[i] != count) {
        count = context.updates[i];
        const auto t = static_cast<double>(count);
        c.step = lr_now_ / (1 - std::pow(betas_[0], t));
        c.root = 1 / std::sqrt(1 - std::pow(betas_[1], t));
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
    if (amsgrad_) return apply_amsgrad(b, c, coupled);
    const auto in = b.pending();
    const kernels::AdamStep step{.beta1 = betas_[0],
                                 .beta2 = betas_[1],
                                 .step = c.step,
                                 .root = c.root,
                                 .eps = eps_,
                                 .scale = in.scale,
                                 .weight_decay = coupled,
                                 .keep = b.keep()};
    kernels::step<T>().adam(step, in.source, b.state(0).data(), b.state(1).data(), b.writable_value(),
                            b.last() ? nullptr : b.result(), b.mask(), b.size());
    b.last() ? b.set_applied() : b.set_result();
  }

 private:
  struct Correction {
    double step = 0, root = 1;  // lr / (1 - b1^t), 1 / sqrt(1 - b2^t)
  };

  template <class T>
  void apply_amsgrad(Block<T>& b, const Correction& c, double coupled) const {
    if (coupled != 0) {
      b.add_value(coupled);
      b.remask();
    }
    const std::span<T> g = b.gradient(), m = b.state(0), v = b.state(1), most = b.state(2);
    const T b1 = static_cast<T>(betas_[0]), b2 = static_cast<T>(betas_[1]), eps = static_cast<T>(eps_);
    const T step = static_cast<T>(c.step), root = static_cast<T>(c.root);
    for (std::size_t i = 0; i < g.size(); ++i) {
      m[i] = b1 * m[i] + (1 - b1) * g[i];
      v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
      most[i] = most[i] > v[i] ? most[i] : v[i];
      g[i] = -step * m[i] / (root * std::sqrt(most[i]) + eps);
    }
  }
  const char* name_;
  bool decoupled_;
  detail::Range lr_, weight_decay_;
  std::array<double, 2> betas_;
  double eps_;
  bool amsgrad_, maximize_;
  double lr_now_ = 0, decay_now_ = 0;
  std::vector<Correction> corrections_;
};

}  // namespace

Chain adam(AdamOptions options) { return Adam("adam", false, std::move(options)); }
Chain adamw(AdamWOptions options) { return Adam("adamw", true, std::move(options)); }

}  // namespace espalier::optim
