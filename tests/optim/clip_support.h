// Clips at work on gradients made by hand.
#pragma once

#include <limits>
#include <memory>

#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/soft_clip.h"
#include "tests/optim/support.h"

namespace espalier::optim::testing {

inline constexpr double inf = std::numeric_limits<double>::infinity();

/// Gradients after the chain, and the report.
struct Clipped {
  std::vector<std::vector<double>> gradients;
  StepReport report;
  double norm(double p = 2) const { return testing::norm(gradients, p); }
};
/// Vectors p0, p1, ... whose values are all 1.
inline Clipped clip(const Chain& chain, const std::vector<std::vector<double>>& gradients, DType type = DType::f32,
                    ApplyOptions options = {}) {
  std::vector<Parameter> parameters;
  ParameterList list;
  for (const auto& g : gradients) {
    parameters.push_back(parameter("p" + std::to_string(parameters.size()), std::vector<double>(g.size(), 1), type));
    give_gradient(parameters.back(), g);
    list.push_back({parameters.back().ref()->name(), parameters.back().ref()});
  }
  Clipped result;
  result.report = apply_to_gradients(list, chain, options);
  for (const Parameter& p : parameters) result.gradients.push_back(values_of(p.grad()));
  return result;
}

/// Keeps the last report; while it is attached, reports are detailed.
class Listening final {
 public:
  Listening() : own_(std::make_shared<Last>()) {}
  const std::shared_ptr<StepListener>& listener() const { return own_; }

 private:
  class Last final : public StepListener {
   public:
    void stepped(const StepReport&, const ParameterList&) override {}
  };
  std::shared_ptr<StepListener> own_;
};

/// An optimizer whose weights become the clipped gradients: w <- 0 w + g.
class Clipper final {
 public:
  Clipper(const std::vector<std::size_t>& sizes, const Chain& chain, DType type = DType::f64,
          OptimizerOptions options = {}) {
    for (std::size_t n : sizes) {
      parameters_.push_back(parameter("p" + std::to_string(parameters_.size()), std::vector<double>(n, 0), type));
      list_.push_back({parameters_.back().ref()->name(), parameters_.back().ref()});
    }
    optimizer_ = std::make_unique<Optimizer>(list_, optim::chain(chain, sgd({.lr = 1.0, .maximize = true})), options);
  }
  /// The clipped gradients of one step; empty where there was none.
  std::vector<std::vector<double>> step(const std::vector<std::vector<double>>& gradients) {
    for (std::size_t k = 0; k < gradients.size(); ++k) {
      parameters_[k].set_value(Tensor::zeros(parameters_[k].shape(), parameters_[k].dtype()));
      if (!gradients[k].empty()) give_gradient(parameters_[k], gradients[k]);
    }
    report = optimizer_->step();
    std::vector<std::vector<double>> result;
    for (const Parameter& p : parameters_) result.push_back(values_of(p));
    return result;
  }
  /// The norm behind the clip of a step whose gradient has this norm.
  double step_of(double norm) { return step({{norm}})[0][0]; }
  Optimizer& optimizer() { return *optimizer_; }
  StepReport report;

 private:
  std::vector<Parameter> parameters_;
  ParameterList list_;
  std::unique_ptr<Optimizer> optimizer_;
};

/// 0 where bit i is pruned: every third from `first` on.
inline Mask every_third_dead(Index n, Index first = 0) {
  Mask mask(n);
  for (Index i = first; i < n; i += 3) mask.set(i, false);
  return mask;
}

}  // namespace espalier::optim::testing
