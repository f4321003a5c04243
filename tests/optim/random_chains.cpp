#include "tests/optim/random_chains.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <sstream>

#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/average.h"
#include "espalier/optim/gradient_transforms.h"
#include "espalier/optim/projection.h"
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
  switch (*rc::gen::inRange(0, 13)) {
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
    case 8:
      return {scale(-bound), [=](Model& m) { each(m, [=](Plain& p, std::size_t i) { p.g[i] *= -bound; }); }};
    case 9:
      return {weight_decay(0.01, {.how = Decay::coupled, .select = Select()}),
              [](Model& m) { each(m, [](Plain& p, std::size_t i) { p.g[i] += 0.01 * p.w[i]; }); }};
    case 10:
      return {weight_decay(0.1, {.select = Select()}),
              [](Model& m) { each(m, [](Plain& p, std::size_t i) { p.keep[i] *= 0.9; }); }};
    case 11:
      return {centralize({.select = Select()}), [](Model& m) {
                for (Plain& p : m) {
                  const auto live = static_cast<double>(std::count(p.live.begin(), p.live.end(), true));
                  const double mean = std::accumulate(p.g.begin(), p.g.end(), 0.0) / std::max(live, 1.0);
                  for (double& g : p.g) g -= mean;
                }
                mask_gradients(m);
              }};
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
              if (decoupled) p.keep[i] *= 1 - lr * decay;
              p.m[i] = 0.9 * p.m[i] + 0.1 * g;
              p.v[i] = 0.999 * p.v[i] + 0.001 * g * g;
              p.g[i] = -lr * p.m[i] / (1 - std::pow(0.9, p.updates)) /
                       (std::sqrt(p.v[i] / (1 - std::pow(0.999, p.updates))) + eps);
            });
          }};
}

/// None that jumps: rounding must not decide.
Part random_constraint() {
  const double bound = positive();
  const auto shrunk = [](double w, double by) { return std::copysign(std::max(std::abs(w) - by, 0.0), w); };
  switch (*rc::gen::inRange(0, 6)) {
    case 0:
      return {non_negative(),
              [](Model& m) { each(m, [](Plain& p, std::size_t i) { p.w[i] = std::max(p.w[i], 0.0); }); }};
    case 1:
      return {proximal_l1(0.1 * bound),
              [=](Model& m) { each(m, [=](Plain& p, std::size_t i) { p.w[i] = shrunk(p.w[i], 0.1 * bound); }); }};
    case 2:
    case 3: {
      const Over over = *rc::gen::element(Over::unit, Over::tensor);
      const bool lasso = *rc::gen::arbitrary<bool>();
      return {lasso ? group_lasso({.strength = bound, .over = over}) : l2_ball({.radius = bound, .over = over}),
              [=](Model& m) {
                for (Plain& p : m) {
                  const double n = norm({p.w}), c = lasso ? std::max(1 - bound / n, 0.0) : std::min(bound / n, 1.0);
                  for (double& w : p.w) w *= p.g.empty() || n == 0 ? 1 : c;
                }
              }};
    }
    case 4:
      return {l1_ball({.radius = bound}), [=](Model& m) {
                for (Plain& p : m) {
                  std::vector<double> sizes;
                  for (double w : p.w) sizes.push_back(std::abs(w));
                  std::sort(sizes.begin(), sizes.end(), std::greater<>());
                  double sum = 0, by = 0;
                  for (std::size_t j = 0; j < sizes.size(); ++j) {
                    sum += sizes[j];
                    const double next = (sum - bound) / static_cast<double>(j + 1);
                    if (sizes[j] > next) by = std::max(next, 0.0);
                  }
                  if (p.g.empty() || sum <= bound) continue;
                  for (double& w : p.w) w = shrunk(w, by);
                }
              }};
    default: {
      const double lo = *rc::gen::element(-2.0, -0.1, 0.1), hi = *rc::gen::element(0.2, 1.0);
      return {clamp_parameters(lo, hi), [=](Model& m) {
                each(m, [=](Plain& p, std::size_t i) { p.w[i] = p.live[i] ? std::clamp(p.w[i], lo, hi) : 0; });
              }};
    }
  }
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
  const int constraints = *rc::gen::inRange(0, 3);
  for (int k = 0; k < constraints; ++k) add(random_constraint());
  if (*rc::gen::arbitrary<bool>()) add({ema({.decay = 0.5}), [](Model&) {}});

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
