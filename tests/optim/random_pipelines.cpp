#include "tests/optim/random_pipelines.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <sstream>

#include "espalier/optim/adafactor.h"
#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/asgd.h"
#include "espalier/optim/average.h"
#include "espalier/optim/gradient_transforms.h"
#include "espalier/optim/lars.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/muon.h"
#include "espalier/optim/projection.h"
#include "espalier/optim/rprop.h"
#include "espalier/optim/soft_clip.h"
#include "tests/optim/support.h"

namespace espalier::optim::testing {
namespace {

using Make = std::function<Chain()>;

double bound() { return *rc::gen::element(1e-3, 0.05, 0.7, 4.0); }

/// A clip, and one behind it that only measures the same norm: "probe.<k>" finds it.
Chain probed(Chain clip, double p, int& probes) {
  return chain(
      std::move(clip),
      as("probe." + std::to_string(++probes),
         clip_by_global_norm({.max_norm = std::numeric_limits<double>::infinity(), .p = p, .measure_only = true})));
}

std::vector<Make> gradient_transforms(int& probes) {
  return {
      [&] {
        const double p = *rc::gen::element(1.0, 2.0, 3.0, std::numeric_limits<double>::infinity());
        return probed(clip_by_global_norm({.max_norm = bound(), .p = p}), p, probes);
      },
      [] { return clip_per_tensor_norm(bound()); },
      [] { return clip_per_unit_norm(bound()); },
      [] { return clip_by_rms(bound()); },
      [] { return clip_by_value(bound()); },
      [] { return clip_by_value({.min = 1e-3, .max = 1.0}); },
      [] { return clip_adaptive(); },
      [] { return clip_update_ratio(bound()); },
      [] { return autoclip(50.0); },
      [] { return zclip(); },
      [] { return clip_by_quantile(); },
      [] { return clip_smooth_norm(bound()); },
      [] { return clip_tanh(bound()); },
      [] { return centralize(); },
      [] { return normalize({.over = *rc::gen::element(Over::everything, Over::tensor, Over::unit)}); },
      [] { return sign(); },
      [] { return scale(0.5); },
      [] { return add_noise({.eta = 0.01, .seed = 3}); },
      [] { return weight_decay(0.01); },
      [] { return trust_ratio(); },
      [] { return mask_gradient(); },
  };
}

std::vector<Make> optimizers() {
  const auto both = [](Chain matrices) {
    return chain(on(select_rank(2), std::move(matrices)), on(select_rank(0, 1), sgd({.lr = 0.1})));
  };
  return {
      [] { return sgd({.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}); },
      [] { return sgd({.lr = 0.1}); },
      [] { return adam({.lr = 0.05, .weight_decay = 0.1}); },
      [] { return adamw({.lr = 0.05, .amsgrad = *rc::gen::arbitrary<bool>()}); },
      [] { return adamax(); },
      [] { return nadam({.lr = 0.02}); },
      [] { return radam({.lr = 0.02}); },
      [] { return rmsprop({.lr = 0.02, .momentum = 0.9, .centered = true}); },
      [] { return adagrad({.lr = 0.1, .initial_accumulator_value = 0.1}); },
      [] { return adadelta(); },
      [] { return asgd({.lr = 0.1, .t0 = 1}); },
      [] { return rprop(); },
      [] { return lion({.lr = 0.01, .weight_decay = 0.1}); },
      [] { return lamb({.lr = 0.02}); },
      [=] { return both(lars({.lr = 0.5})); },
      [] { return adafactor({.momentum = *rc::gen::element(0.0, 0.9)}); },
      [=] { return both(muon({.weight_decay = 0.1})); },
  };
}

std::vector<Make> constraints() {
  return {
      [] { return clamp_parameters(0.01, 1.0); },
      [] { return non_negative(); },
      [] { return max_norm(bound()); },
      [] { return l2_ball({.radius = bound()}); },
      [] { return unit_norm(); },
      [] { return min_max_norm({.min = 0.2, .rate = 0.5}); },
      [] { return proximal_l1(0.01); },
      [] { return group_lasso(0.01); },
      [] { return l1_ball({.radius = 3.0}); },
      [] { return simplex(); },
      [] { return top_k({.fraction = 0.5}); },
      [] { return ema(); },
      [] { return swa(); },
  };
}

/// One of them, now and then only in some steps or on some parameters.
Chain random_part(const std::vector<Make>& table) {
  Chain part = table[*rc::gen::inRange<std::size_t>(0, table.size())]();
  if (*rc::gen::inRange(0, 4) == 0) part = every(2, std::move(part));
  if (*rc::gen::inRange(0, 4) == 0) part = on(named("*0") || named("*2"), std::move(part));
  return part;
}

struct Model {
  std::vector<Parameter> parameters;
  ParameterList list;
  Model(const std::vector<Shape>& shapes, const std::vector<DType>& types) {
    for (std::size_t k = 0; k < shapes.size(); ++k) {
      const auto n = static_cast<std::size_t>(count(shapes[k]));
      parameters.push_back(
          parameter("p" + std::to_string(k), numbers(n, static_cast<unsigned>(k + 1)), types[k], shapes[k]));
      list.push_back({parameters[k].ref()->name(), parameters[k].ref()});
    }
  }
};

/// What happens in one step, the same in every run of a case.
struct Event {
  std::vector<int> prune;              // [parameter]: every so many-th weight dies, 0: none
  std::vector<std::uint8_t> gradient;  // [parameter]
  double scale = 1;
};

void prune(const Parameter& p, int every) {
  if (every == 0 || p.size() == 0) return;
  Mask mask = p.ref()->mask().defined() ? p.ref()->mask() : Mask(p.size());
  for (Index i = 0; i < p.size(); i += every) mask.set(i, false);
  p.ref()->set_mask(mask);
}

bool is_zero(double x) { return std::bit_cast<std::uint64_t>(x) == 0; }

void check_zeros(const Model& model, const Optimizer& opt) {
  const OptimizerState state = opt.state();
  for (const Parameter& p : model.parameters) {
    const Mask& mask = p.ref()->mask();
    if (!mask.defined()) continue;
    const auto all_zero = [&](const Tensor& t) {
      const auto x = values_of(t);
      for (Index i = 0; i < mask.size(); ++i)
        if (!mask[i] && !is_zero(x[static_cast<std::size_t>(i)])) return false;
      return true;
    };
    RC_ASSERT(all_zero(p.value()));
    for (const auto& [key, tensor] : state)
      if (key.ends_with("/" + p.ref()->name()) && tensor.shape() == p.shape() && !all_zero(tensor)) RC_FAIL(key);
  }
}

void check_one() {
  int probes = 0;
  Chain chain;
  const auto transforms = gradient_transforms(probes);
  const int before = *rc::gen::inRange(0, 4), behind = *rc::gen::inRange(0, 3), at_end = *rc::gen::inRange(0, 3);
  for (int k = 0; k < before; ++k) chain.append(random_part(transforms));
  const auto directions = optimizers();
  chain.append(directions[*rc::gen::inRange<std::size_t>(0, directions.size())]());
  for (int k = 0; k < behind; ++k) chain.append(random_part(transforms));
  const auto ends = constraints();
  for (int k = 0; k < at_end; ++k) chain.append(random_part(ends));

  const std::vector<Shape> all = {{3, 7}, {64}, {1}, {2, 5, 3}, {70, 65}, {0, 4}, {5, 1}, {2, 4500}};
  std::vector<Shape> shapes;
  std::vector<DType> types;
  for (int k = *rc::gen::inRange(1, 5); k > 0; --k) {
    shapes.push_back(all[*rc::gen::inRange<std::size_t>(0, all.size())]);
    types.push_back(*rc::gen::element(DType::f32, DType::f64));
  }
  std::vector<Event> events(static_cast<std::size_t>(*rc::gen::inRange(2, 6)));
  for (Event& e : events) {
    e.scale = *rc::gen::element(1e-6, 0.1, 1.0, 100.0, 0.0);
    for (std::size_t k = 0; k < shapes.size(); ++k) {
      e.prune.push_back(*rc::gen::inRange(0, 3) == 0 ? *rc::gen::inRange(1, 6) : 0);
      e.gradient.push_back(k == 0 || *rc::gen::inRange(0, 5) > 0);
    }
  }
  const auto resume_at = *rc::gen::inRange<std::size_t>(0, events.size());

  std::vector<std::vector<double>> ends_with;
  for (bool resume : {false, true}) {
    const Model model(shapes, types);
    auto optimizer = std::make_unique<Optimizer>(model.list, chain, OptimizerOptions{.nonfinite = Nonfinite::zero});
    for (std::size_t t = 0; t < events.size(); ++t) {
      for (std::size_t k = 0; k < shapes.size(); ++k) {
        const Parameter& p = model.parameters[k];
        prune(p, events[t].prune[k]);
        if (events[t].gradient[k])
          give_gradient(
              p, numbers(static_cast<std::size_t>(p.size()), static_cast<unsigned>(100 * t + k + 7), events[t].scale));
      }
      if (resume && t == resume_at) {
        const OptimizerState saved = optimizer->state();
        optimizer = std::make_unique<Optimizer>(model.list, chain, OptimizerOptions{.nonfinite = Nonfinite::zero});
        optimizer->load_state(saved);
      }
      const StepReport report = optimizer->step();
      const auto& clips = report.clips();
      for (std::size_t k = 1; k < clips.size(); ++k)
        if (clips[k].name.starts_with("probe.") && clips[k].active && !clips[k].nothing_to_clip)
          RC_ASSERT(clips[k].norm_before <= clips[k - 1].bound * (1 + 1e-6));
      for (const Parameter& p : model.parameters) RC_ASSERT(!p.ref()->has_grad());
      check_zeros(model, *optimizer);
    }
    ends_with.emplace_back();
    const auto add = [&](const Tensor& t) {
      for (double x : values_of(t)) ends_with.back().push_back(x);
    };
    for (const Parameter& p : model.parameters) add(p.value());
    for (const auto& [key, tensor] : optimizer->state()) add(tensor);
  }
  RC_ASSERT(ends_with[0].size() == ends_with[1].size());
  for (std::size_t i = 0; i < ends_with[0].size(); ++i)
    RC_ASSERT(std::bit_cast<std::uint64_t>(ends_with[0][i]) == std::bit_cast<std::uint64_t>(ends_with[1][i]));
}

}  // namespace

void check_random_pipelines(int cases) {
  rc::detail::TestParams settings = rc::detail::configuration().testParams;
  settings.maxSuccess = cases;
  const auto result = rc::detail::checkTestable([] { check_one(); }, rc::detail::TestMetadata(), settings);
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  EXPECT_TRUE(result.template is<rc::detail::SuccessResult>()) << text.str();
}

}  // namespace espalier::optim::testing
