#include "tests/optim/random_chains.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>

#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/soft_clip.h"
#include "tests/optim/support.h"

namespace espalier::optim::testing {
namespace {

/// Does not keep zeros: the pipeline must apply the mask again.
class AddOne final : public TransformOf<AddOne> {
 public:
  std::string name() const override { return "add_one"; }
  template <class T>
  void apply(Block<T>& b) const {
    b.add(1);
  }
};

/// One parameter as the plain interpreter sees it: everything in double.
struct Plain {
  std::vector<double> w, g, m, v, keep;
  std::vector<bool> live;  // hard mask
  int updates = 0;
};
using Model = std::vector<Plain>;
using Rule = std::function<void(Model&)>;  // on all parameters that have a gradient: g not empty

template <class F>
void each(Model& model, F f) {
  for (Plain& p : model) {
    if (p.g.empty()) continue;
    for (std::size_t i = 0; i < p.g.size(); ++i) f(p, i);
  }
}
void scale_to(Model& model, double bound) {
  std::vector<std::vector<double>> all;
  for (const Plain& p : model) all.push_back(p.g);
  const double n = norm(all), c = n > bound ? bound / n : 1;
  each(model, [=](Plain& p, std::size_t i) { p.g[i] *= c; });
}
void mask_gradients(Model& model) {
  each(model, [](Plain& p, std::size_t i) {
    if (!p.live[i]) p.g[i] = 0;
  });
}

/// A transform and what it means.
struct Part {
  Chain chain;
  Rule rule;
};

double positive() { return *rc::gen::element(1e-3, 0.05, 0.3, 1.0, 4.0); }

/// rule(p, norm of its gradient) is what the gradient of each parameter is multiplied by.
template <class F>
Rule scale_each(F factor) {
  return [=](Model& m) {
    for (Plain& p : m) {
      if (p.g.empty()) continue;
      const double c = factor(p, norm({p.g}));
      for (double& g : p.g) g *= c;
    }
  };
}

Part random_gradient_part() {
  const double bound = positive();
  const auto held = [](double n, double c) { return n > c ? c / n : 1; };
  switch (*rc::gen::inRange(0, 9)) {
    case 0:
      return {clip_by_global_norm(bound), [=](Model& m) { scale_to(m, bound); }};
    case 1:
      return {clip_per_tensor_norm(bound), scale_each([=](const Plain&, double n) { return held(n, bound); })};
    case 2:
      return {clip_by_value(bound),
              [=](Model& m) { each(m, [=](Plain& p, std::size_t i) { p.g[i] = std::clamp(p.g[i], -bound, bound); }); }};
    case 3:
      return {clip_per_unit_norm(bound), scale_each([=](const Plain&, double n) { return held(n, bound); })};
    case 4:
      return {clip_by_rms(bound), scale_each([=](const Plain& p, double n) {
                return held(n, bound * std::sqrt(static_cast<double>(std::count(p.live.begin(), p.live.end(), true))));
              })};
    case 5:
      return {clip_adaptive({.clipping = bound, .eps = 1e-2}),
              scale_each([=](const Plain& p, double n) { return held(n, bound * std::max(norm({p.w}), 1e-2)); })};
    case 6:
      return {clip_smooth_norm({.tau = bound, .per_tensor = true}),
              scale_each([=](const Plain&, double n) { return bound / std::hypot(bound, n); })};
    case 7:
      return {clip_tanh(bound),
              [=](Model& m) { each(m, [=](Plain& p, std::size_t i) { p.g[i] = bound * std::tanh(p.g[i] / bound); }); }};
    default:
      return {AddOne(), [](Model& m) {
                each(m, [](Plain& p, std::size_t i) { p.g[i] += 1; });
                mask_gradients(m);
              }};
  }
}

Part random_optimizer() {
  const double lr = *rc::gen::element(0.01, 0.3), decay = *rc::gen::element(0.0, 0.1);
  if (*rc::gen::arbitrary<bool>()) {
    const double momentum = *rc::gen::element(0.0, 0.9);
    const bool nesterov = momentum > 0 && *rc::gen::arbitrary<bool>();
    return {sgd({.lr = lr, .momentum = momentum, .weight_decay = decay, .nesterov = nesterov}), [=](Model& m) {
              each(m, [=](Plain& p, std::size_t i) {
                const double g = p.g[i] + decay * p.w[i];
                p.m[i] = momentum * p.m[i] + g;
                p.g[i] = -lr * (nesterov ? g + momentum * p.m[i] : p.m[i]);
              });
            }};
  }
  const bool decoupled = *rc::gen::arbitrary<bool>();
  const double eps = 1e-3;  // keeps the comparison well conditioned
  Chain chain = decoupled ? adamw({.lr = lr, .eps = eps, .weight_decay = decay})
                          : adam({.lr = lr, .eps = eps, .weight_decay = decay});
  return {std::move(chain), [=](Model& m) {
            each(m, [=](Plain& p, std::size_t i) {
              const double g = p.g[i] + (decoupled ? 0 : decay * p.w[i]);
              if (decoupled) p.keep[i] = 1 - lr * decay;
              p.m[i] = 0.9 * p.m[i] + 0.1 * g;
              p.v[i] = 0.999 * p.v[i] + 0.001 * g * g;
              p.g[i] = -lr * p.m[i] / (1 - std::pow(0.9, p.updates)) /
                       (std::sqrt(p.v[i] / (1 - std::pow(0.999, p.updates))) + eps);
            });
          }};
}

void check_one(DType type) {
  // --- a chain
  Chain chain;
  std::vector<Rule> rules;
  const auto add = [&](Part part) {
    chain.append(std::move(part.chain));
    rules.push_back(std::move(part.rule));
  };
  const int before = *rc::gen::inRange(0, 4), behind = *rc::gen::inRange(0, 3);
  for (int k = 0; k < before; ++k) add(random_gradient_part());
  add(random_optimizer());
  for (int k = 0; k < behind; ++k) add(random_gradient_part());
  rules.push_back([](Model& m) { each(m, [](Plain& p, std::size_t i) { p.w[i] = p.keep[i] * p.w[i] + p.g[i]; }); });
  if (*rc::gen::arbitrary<bool>()) {
    const double lo = *rc::gen::element(-2.0, -0.1, 0.1), hi = *rc::gen::element(0.2, 1.0);
    add({clamp_parameters(lo, hi),
         [=](Model& m) { each(m, [=](Plain& p, std::size_t i) { p.w[i] = std::clamp(p.w[i], lo, hi); }); }});
  }

  // --- parameters
  const auto sizes = *rc::gen::resize(
      4, rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::oneOf(
             rc::gen::inRange<std::size_t>(0, 200), rc::gen::element<std::size_t>(64, 4095, 4096, 4100)))));
  std::vector<Parameter> parameters;
  ParameterList list;
  Model model;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    const std::size_t n = sizes[k];
    const auto start = values_of(tensor(numbers(n, static_cast<unsigned>(k + 1)), type));
    parameters.push_back(parameter("p" + std::to_string(k), start, type));
    list.push_back({parameters[k].ref()->name(), parameters[k].ref()});
    model.push_back({start, {}, std::vector<double>(n), std::vector<double>(n), {}, std::vector<bool>(n, true)});
  }
  auto optimizer = std::make_unique<Optimizer>(list, chain);

  // --- steps
  const double tolerance = type == DType::f32 ? 2e-4 : 1e-9;
  const int steps = *rc::gen::inRange(1, 6);
  for (int step = 0; step < steps; ++step) {
    if (*rc::gen::inRange(0, 4) == 0) {  // saved and resumed
      const OptimizerState saved = optimizer->state();
      optimizer = std::make_unique<Optimizer>(list, chain);
      optimizer->load_state(saved);
    }
    bool any = false;
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      const std::size_t n = sizes[k];
      Plain& p = model[k];
      if (n > 0 && *rc::gen::inRange(0, 5) == 0) {  // pruned further
        const auto every = *rc::gen::inRange<std::size_t>(1, 5);
        Mask mask(static_cast<Index>(n));
        for (std::size_t i = 0; i < n; ++i) {
          if (i % every == 0) p.live[i] = false;
          mask.set(static_cast<Index>(i), p.live[i]);
          if (!p.live[i]) p.w[i] = p.m[i] = p.v[i] = 0;
        }
        parameters[k].set_mask(mask);
      }
      p.g.clear();
      p.keep.assign(n, 1);
      if (*rc::gen::inRange(0, 6) == 0) continue;  // no gradient
      any = true;
      p.g = values_of(tensor(numbers(n, static_cast<unsigned>(100 * step) + static_cast<unsigned>(k)), type));
      give_gradient(parameters[k], p.g);
      ++p.updates;
    }
    if (!any) continue;
    const StepReport report = optimizer->step();
    for (const ClipRecord& clip : report.clips()) RC_ASSERT(clip.norm_after <= clip.norm_before * (1 + 1e-12));
    mask_gradients(model);
    for (const Rule& rule : rules) rule(model);
    each(model, [](Plain& p, std::size_t i) {
      if (!p.live[i]) p.w[i] = 0;
    });

    const OptimizerState state = optimizer->state();
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      const auto got = values_of(parameters[k]);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (!model[k].live[i]) RC_ASSERT(got[i] == 0 && !std::signbit(got[i]));
        RC_ASSERT(std::abs(got[i] - model[k].w[i]) <= tolerance * std::max(1.0, std::abs(model[k].w[i])));
        if (type == DType::f32) model[k].w[i] = got[i];  // rounding must not add up over the steps
      }
      for (const auto& [key, saved] : state) {
        if (!key.ends_with("/" + parameters[k].ref()->name())) continue;
        const auto s = values_of(saved);
        for (std::size_t i = 0; i < s.size(); ++i) RC_ASSERT(model[k].live[i] || s[i] == 0);
      }
    }
  }
}

}  // namespace

void check_random_chains(int cases) {
  for (DType type : {DType::f32, DType::f64}) {
    rc::detail::TestParams settings = rc::detail::configuration().testParams;
    settings.maxSuccess = cases / 2;
    const auto result = rc::detail::checkTestable([=] { check_one(type); }, rc::detail::TestMetadata(), settings);
    std::ostringstream text;
    rc::detail::printResultMessage(result, text);
    EXPECT_TRUE(result.template is<rc::detail::SuccessResult>()) << name_of(type) << ": " << text.str();
  }
}

}  // namespace espalier::optim::testing
