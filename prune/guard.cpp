#include "espalier/prune/guard.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "espalier/prune/detail/followed.h"
#include "espalier/prune/detail/saved_weights.h"

namespace espalier::prune {

using detail::Gradients, detail::SavedWeights;

class Guard::Work final : public optim::StepHook {
 public:
  Work(Pruner p, Metric m, GuardOptions o)
      : pruner(std::move(p)), inner(pruner.hook()), metric(std::move(m)), options(std::move(o)) {
    if (!metric) fail<ConfigError>("[guard] there is no metric");
    if (!(options.max_drop >= 0))
      fail<ConfigError>("[guard] max_drop must be at least 0, got ", options.max_drop,
                        std::isnan(options.max_drop) ? ". Hint: it must be given" : "");
    if (options.recover < 0) fail<ConfigError>("[guard] recover must not be negative, got ", options.recover);
    if (options.patience < 0) fail<ConfigError>("[guard] patience must not be negative, got ", options.patience);
    baseline = options.baseline;
    ParameterList all = pruner.parameters();
    all.insert(all.end(), options.parameters.begin(), options.parameters.end());
    list = detail::followed("guard", all, optim::Select());
  }

  bool due(std::int64_t step) const override { return !stopped && (inner->due(step) || judgement_due(step)); }

  void begin(const optim::StepContext& context) override {
    if (waiting && (judgement_due(context.step) || inner->due(context.step))) judge(Gradients::without);
    if (stopped || !inner->due(context.step)) return;
    const bool changed = prune([&] { inner->begin(context); });
    if (!changed) return;
    pruned_at = context.step;
    if (options.recover == 0) judge(saves_gradients() ? Gradients::with : Gradients::without);
  }

  bool by_hand(const std::function<void()>& change) {
    if (waiting) judge(Gradients::without);
    if (stopped) return false;
    if (!prune(change)) return !std::isnan(last) ? within(last) : true;
    pruned_at = 0;
    return judge(saves_gradients() ? Gradients::with : Gradients::without);
  }

  /// False if no mask has changed.
  bool prune(const std::function<void()>& change) {
    if (std::isnan(baseline)) {
      baseline = last = measured(metric);
      if (std::isnan(baseline)) fail<NonFiniteError>("[guard] the metric before the first pruning is NaN");
    }
    const bool fresh = options.action == GuardAction::roll_back && bad == 0;
    SavedWeights now;
    if (fresh) now = SavedWeights(list, saves_gradients() ? Gradients::with : Gradients::without);
    const std::vector<std::uint32_t> versions = mask_versions();
    change();
    if (mask_versions() == versions) return false;
    if (fresh) before = std::move(now);
    waiting = true;
    return true;
  }

  bool judge(Gradients gradients) {
    last = measured(metric);
    waiting = false;
    if (within(last)) {
      bad = 0;
      before = SavedWeights();
      return true;
    }
    if (++bad <= options.patience) return false;
    stopped = true;
    if (options.action == GuardAction::roll_back) before.restore("guard", gradients);
    before = SavedWeights();
    return false;
  }

  bool within(double value) const { return within_drop(baseline, value, options.better, options.max_drop); }
  bool judgement_due(std::int64_t step) const { return waiting && step - pruned_at >= options.recover; }
  /// The roll-back, if there is one, comes in the step of the pruning.
  bool saves_gradients() const { return options.recover == 0 && options.patience == 0; }
  std::vector<std::uint32_t> mask_versions() const {
    std::vector<std::uint32_t> versions;
    for (const NamedParameter& named : list) versions.push_back(named.parameter->mask_version());
    return versions;
  }

  Pruner pruner;
  std::shared_ptr<optim::StepHook> inner;
  Metric metric;
  GuardOptions options;
  ParameterList list;
  SavedWeights before;  // the first pruning that is not within the bound, or not judged yet
  double baseline, last = std::numeric_limits<double>::quiet_NaN();
  std::int64_t pruned_at = 0, bad = 0;
  bool waiting = false, stopped = false;  // waiting: for judgement
};

Guard::Guard(Pruner pruner, Metric metric, GuardOptions options)
    : work_(std::make_shared<Work>(std::move(pruner), std::move(metric), std::move(options))) {}

std::shared_ptr<optim::StepHook> Guard::hook() const { return work_; }
bool Guard::to_sparsity(double sparsity) {
  return work_->by_hand([&] { work_->pruner.to_sparsity(sparsity); });
}
bool Guard::prune_fraction(double fraction) {
  return work_->by_hand([&] { work_->pruner.prune_fraction(fraction); });
}
bool Guard::check() {
  if (work_->waiting) return work_->judge(Gradients::without);
  return !work_->stopped && work_->bad == 0;
}
optim::Commit Guard::prepare_cut(std::span<const optim::ParameterCut> cuts) {
  return [work = work_, left = work_->before.cut(cuts), commit = work_->pruner.prepare_cut(cuts)] {
    work->before = left;
    commit();
  };
}
bool Guard::stopped() const noexcept { return work_->stopped; }
double Guard::baseline() const noexcept { return work_->baseline; }
double Guard::metric() const noexcept { return work_->last; }

std::string Guard::describe() const {
  const Work& w = *work_;
  std::string text = join(w.options.action == GuardAction::stop ? "stops" : "rolls back",
                          " when the metric drops by more than ", w.options.max_drop);
  if (w.options.recover > 0) text += join(", ", w.options.recover, " steps after a pruning");
  if (w.options.patience > 0) text += join(", ", w.options.patience, " bad ones let pass");
  if (!std::isnan(w.baseline)) text += join("; baseline ", w.baseline);
  if (!std::isnan(w.last)) text += join(", last ", w.last);
  return text + (w.stopped ? "; stopped" : "") + "\n" + w.pruner.describe();
}

PrunerState Guard::state() const {
  const Work& w = *work_;
  PrunerState state{{"baseline", Tensor::scalar(w.baseline, DType::f64)},
                    {"metric", Tensor::scalar(w.last, DType::f64)},
                    {"pruned_at", detail::i64_scalar(w.pruned_at)},
                    {"waiting", detail::i64_scalar(w.waiting)},
                    {"bad", detail::i64_scalar(w.bad)},
                    {"stopped", detail::i64_scalar(w.stopped)}};
  w.before.add_to(state, "before/");
  return state;
}

void Guard::load_state(const PrunerState& state) {
  Work& w = *work_;
  detail::StateReader reader("guard", state);
  const double baseline = reader.number("baseline", DType::f64), last = reader.number("metric", DType::f64);
  const std::int64_t pruned_at = reader.count("pruned_at"), waiting = reader.count("waiting"),
                     bad = reader.count("bad"), stopped = reader.count("stopped");
  SavedWeights before = SavedWeights::from(
      w.list, "before/", [&](const std::string& key, DType type, const Shape& s) { return reader.find(key, type, s); });
  reader.finish();
  w.baseline = baseline;
  w.last = last;
  w.pruned_at = pruned_at;
  w.waiting = waiting != 0;
  w.bad = bad;
  w.stopped = stopped != 0;
  w.before = std::move(before);
}

}  // namespace espalier::prune
