#include "espalier/prune/dynamic.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "espalier/autograd/sparse_training.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "espalier/core/table.h"
#include "espalier/prune/detail/followed.h"
#include "espalier/prune/report.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

void check_share(const char* op, const char* what, double value) {
  if (!(value >= 0 && value <= 1))
    fail<ConfigError>("[", op, "] ", what, " must be in [0, 1], got ", value,
                      std::isnan(value) ? ". Hint: it must be given" : "");
}

/// U(0, 1) from (seed, parameter, step) alone. Steps never meet: the counter moves by one for two numbers.
Tensor chances(std::uint64_t seed, std::size_t parameter, std::int64_t step, const Shape& shape) {
  Rng rng;
  rng.set_state({seed, parameter, static_cast<std::uint64_t>(step) << 40});
  return rng.uniform(shape, 0, 1, DType::f64);
}

Tensor sizes_of(const char* op, const Tensor& t) {
  return map_with(op, t.contiguous(), [](auto v) { return std::abs(v); });
}

bool any(const Tensor& sizes, const Mask& where) {
  return dispatch_floating("rigl", sizes.dtype(), [&]<class T>() {
    const T* v = sizes.data<T>();
    for (Index i = 0; i < sizes.size(); ++i)
      if (where[i] && v[i] != 0) return true;
    return false;
  });
}

}  // namespace

/// What the two methods share. They differ in how much they exchange, and in what they grow.
class DynamicSparsity::Work final : public optim::StepHook {
 public:
  struct Method {
    const char* name;
    std::function<double(std::int64_t step)> fraction;
    /// Scores of all weights of a parameter, of which the highest grow.
    std::function<Tensor(const NamedParameter&, std::size_t place, std::int64_t step)> growth;
    bool by_gradient;
    std::int64_t every, end;
    std::string text;
  };
  struct Start {
    double sparsity;
    Distribution distribution;
    std::uint64_t seed;
    const optim::Select& select;
  };

  Work(const ParameterList& parameters, Method m, const Start& start)
      : list(detail::followed(m.name, parameters, start.select)), method(std::move(m)) {
    check_share(method.name, "sparsity", start.sparsity);
    if (method.every < 1) fail<ConfigError>("[", method.name, "] every must be at least 1, got ", method.every);
    for (const NamedParameter& named : list) check(named);
    draw(start);
  }

  void check(const NamedParameter& named) const {
    detail::check_not_packed(method.name, named);
    if (named.parameter->mask_mode() == MaskMode::soft)
      fail<ConfigError>("[", method.name, "] '", named.name, "' has a soft mask. Hint: freeze() it first");
  }

  void draw(const Start& start) {
    const std::vector<double> sparsities = start.distribution(list, start.sparsity);
    std::vector<Mask> masks(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Shape& shape = list[i].parameter->value().shape();
      const Candidate all{list[i].name, chances(start.seed, i, 0, shape)};
      masks[i] = prune_lowest({&all, 1}, count_of(method.name, sparsities[i], count(shape)), 1)[0];
    }
    for (std::size_t i = 0; i < list.size(); ++i)
      if (!list[i].parameter->mask().defined() && masks[i].defined()) list[i].parameter->set_mask(masks[i]);
  }

  bool due(std::int64_t step) const override { return step > 0 && step < method.end && step % method.every == 0; }

  void begin(const optim::StepContext& context) override {
    detail::check_shared(method.name, list, context);
    exchange(context.step);
  }

  /// All masks are made before the first is set.
  void exchange(std::int64_t step) {
    std::vector<Mask> masks(list.size());
    Index grown = 0;
    const double fraction = method.fraction(step);
    if (method.by_gradient && std::none_of(list.begin(), list.end(), [](auto& p) { return p.parameter->has_grad(); }))
      fail<ConfigError>("[", method.name, "] no parameter has a gradient. Hint: exchange() behind backward()");
    for (std::size_t i = 0; i < list.size(); ++i) {
      check(list[i]);
      const ParameterState& p = *list[i].parameter;
      const Mask& mask = p.mask();
      if (!mask.defined() || (method.by_gradient && !p.has_grad())) continue;
      const Index n = mask.size(), live = mask.live();
      const Index k = std::min(count_of(method.name, fraction, live), n - live);
      if (k == 0) continue;
      const Candidate old{list[i].name, sizes_of(method.name, p.value()), mask};
      const Candidate others{list[i].name, method.growth(list[i], i, step), ~mask};
      if (method.by_gradient) check_gradient(list[i], others);
      masks[i] = prune_lowest({&old, 1}, n - live + k)[0];
      masks[i] |= prune_lowest({&others, 1}, n - k)[0];
      grown += k;
    }
    for (std::size_t i = 0; i < list.size(); ++i)
      if (masks[i].defined()) list[i].parameter->set_mask(std::move(masks[i]));
    last_step = step;
    exchanged += grown;
  }

  /// Zeros that stand for gradients that nobody has computed would be taken for gradients.
  void check_gradient(const NamedParameter& named, const Candidate& others) const {
    if (SparseTraining::covers(named.parameter->value()) && !any(others.scores, others.pruned) &&
        any(others.scores, named.parameter->mask()))
      fail<ConfigError>("[", method.name, "] SparseTraining has left out the gradient of the pruned weights of '",
                        named.name,
                        "'. Hint: SparseTrainingOptions{.dense_gradient = [&] { return "
                        "rigl.wants_dense_gradient(opt.steps()); }}");
  }

  ParameterList list;
  Method method;
  std::int64_t last_step = -1, exchanged = 0;
};

std::shared_ptr<optim::StepHook> DynamicSparsity::hook() const { return work_; }
bool DynamicSparsity::due(std::int64_t step) const { return work_->due(step); }
bool DynamicSparsity::wants_dense_gradient(std::int64_t step) const {
  return work_->method.by_gradient && work_->due(step);
}
void DynamicSparsity::exchange(std::int64_t step) { work_->exchange(step); }
double DynamicSparsity::sparsity() const { return prune::sparsity(work_->list, optim::Select()); }
std::int64_t DynamicSparsity::exchanged() const { return work_->exchanged; }
const ParameterList& DynamicSparsity::parameters() const noexcept { return work_->list; }

std::string DynamicSparsity::describe() const {
  return join(work_->method.name, ": ", work_->method.text, " every ", work_->method.every, " steps; ",
              percent(sparsity()), " pruned");
}

std::map<std::string, Tensor> DynamicSparsity::state() const {
  return {{"step", detail::i64_scalar(work_->last_step)}, {"exchanged", detail::i64_scalar(work_->exchanged)}};
}

void DynamicSparsity::load_state(const std::map<std::string, Tensor>& state) {
  detail::StateReader reader(work_->method.name, state);
  const std::int64_t step = reader.count("step"), exchanged = reader.count("exchanged");
  reader.finish();
  work_->last_step = step;
  work_->exchanged = exchanged;
}

DynamicSparsity set(const ParameterList& parameters, SetOptions o) {
  check_share("set", "fraction", o.fraction);
  DynamicSparsity::Work::Method method{
      "set",
      [fraction = o.fraction](std::int64_t) { return fraction; },
      [seed = o.seed](const NamedParameter& named, std::size_t place, std::int64_t step) {
        return chances(seed, place, step, named.parameter->value().shape());
      },
      false,
      o.every,
      o.end,
      join("exchanges ", o.fraction, " of the live, grown at random,")};
  return DynamicSparsity(std::make_shared<DynamicSparsity::Work>(
      parameters, std::move(method), DynamicSparsity::Work::Start{o.sparsity, o.distribution, o.seed, o.select}));
}

DynamicSparsity rigl(const ParameterList& parameters, RiglOptions o) {
  check_share("rigl", "alpha", o.alpha);
  check_share("rigl", "until", o.until);
  if (o.steps < 0)
    fail<ConfigError>("[rigl] steps must not be negative, got ", o.steps,
                      o.steps == -1 ? ". Hint: it must be given" : "");
  const double last = o.until * static_cast<double>(o.steps);
  DynamicSparsity::Work::Method method{
      "rigl",
      [alpha = o.alpha, last](std::int64_t step) {
        const double done = last > 0 ? std::min(static_cast<double>(step) / last, 1.0) : 1;
        return alpha / 2 * (1 + std::cos(std::numbers::pi * done));
      },
      [](const NamedParameter& named, std::size_t, std::int64_t) { return sizes_of("rigl", named.parameter->grad()); },
      true,
      o.every,
      static_cast<std::int64_t>(std::ceil(last)),
      join("exchanges ", o.alpha, " of the live, falling to 0 at step ", last, ", grown by gradient,")};
  return DynamicSparsity(std::make_shared<DynamicSparsity::Work>(
      parameters, std::move(method), DynamicSparsity::Work::Start{o.sparsity, o.distribution, o.seed, o.select}));
}

}  // namespace espalier::prune
