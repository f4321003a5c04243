#include "espalier/prune/pruner.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "espalier/core/table.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

struct Snapshot {
  Tensor value;
  Mask mask;
};

/// The groups of parameters that compete, as places in the list.
std::vector<std::vector<std::size_t>> competing(const ParameterList& list, const PrunerOptions& options) {
  if ((options.scope == Scope::group) != !options.groups.empty())
    fail<ConfigError>("[pruner] Scope::group needs .groups, and only it has them");
  std::vector<std::vector<std::size_t>> sets;
  if (options.scope == Scope::global) sets.resize(1);
  if (options.scope == Scope::group) sets.resize(options.groups.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (options.scope == Scope::tensor) {
      sets.push_back({i});
    } else if (options.scope == Scope::global) {
      sets[0].push_back(i);
    } else {
      const auto group =
          std::find_if(options.groups.begin(), options.groups.end(), [&](auto& g) { return g(list[i]); });
      if (group == options.groups.end())
        fail<ConfigError>("[pruner] '", list[i].name,
                          "' belongs to none of the groups. Hint: \"*\" as the last takes the rest");
      sets[static_cast<std::size_t>(group - options.groups.begin())].push_back(i);
    }
  }
  return sets;
}

ParameterList selected(const ParameterList& parameters, const optim::Select& select) {
  ParameterList list;
  for (const NamedParameter& named : parameters) {
    const bool known = std::any_of(list.begin(), list.end(), [&](auto& p) { return p.parameter == named.parameter; });
    if (!known && select(named)) list.push_back(named);
  }
  if (list.empty())
    fail<ConfigError>("[pruner] none of ", parameters.size(),
                      " parameters is selected. Hint: the default takes those of rank 2 "
                      "and more; .select = optim::Select() takes all");
  return list;
}

const char* name_of(Scope scope) {
  return scope == Scope::tensor ? "each tensor" : scope == Scope::group ? "groups" : "global";
}

}  // namespace

class Pruner::Work final : public optim::StepHook {
 public:
  Work(const ParameterList& parameters, PrunerOptions o)
      : list(selected(parameters, o.select)), sets(competing(list, o)), options(std::move(o)), snapshots(list.size()) {
    if (options.min_keep < 0) fail<ConfigError>("[pruner] min_keep must not be negative, got ", options.min_keep);
  }

  bool due(std::int64_t step) const override { return options.schedule(step).has_value(); }

  void begin(const optim::StepContext& context) override {
    const std::optional<double> sparsity = options.schedule(context.step);
    if (!sparsity) return;
    const bool shared = std::any_of(context.parameters.begin(), context.parameters.end(), [&](const NamedParameter& p) {
      return std::any_of(list.begin(), list.end(), [&](auto& mine) { return mine.parameter == p.parameter; });
    });
    if (!shared)
      fail<ConfigError>(
          "[pruner] none of its parameters is one of the optimizer's. Hint: a copied model has parameters of its "
          "own; make both from the same model");
    prune("pruner", context.step, [&](Index n, Index) { return count_of("pruner", *sparsity, n); });
    last_step = context.step;
    last_target = *sparsity;
  }

  /// count(n, live): how many of a set are to be pruned afterwards. All masks are made before the first is set.
  template <class Count>
  void prune(const char* op, std::int64_t step, Count count) {
    std::vector<Mask> masks(list.size());
    if (options.loss && options.score.needs() != Needs{})
      gathered = gather(list, options.loss, options.batches, options.score.needs(), options.gather);
    for (const std::vector<std::size_t>& set : sets) {
      std::vector<Candidate> candidates;
      Index n = 0, live = 0;
      for (std::size_t i : set) {
        const ParameterState& p = *list[i].parameter;
        if (p.value().packed())
          fail<ConfigError>("[", op, "] '", list[i].name, "' is packed. Hint: prune the model before compact()");
        const bool hard = options.mode == MaskMode::hard && p.mask_mode() == MaskMode::hard;
        candidates.push_back({list[i].name, scores(op, i, step), hard ? p.mask() : Mask()});
        n += p.value().size();
        live += live_weights(p);
      }
      std::vector<Mask> chosen = prune_lowest(candidates, count(n, live), options.min_keep);
      for (std::size_t k = 0; k < set.size(); ++k) masks[set[k]] = std::move(chosen[k]);
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      ParameterState& p = *list[i].parameter;
      if (p.mask() == masks[i] && (!p.mask().defined() || p.mask_mode() == options.mode)) continue;
      p.set_mask(std::move(masks[i]), options.mode);
    }
  }

  Tensor scores(const char* op, std::size_t i, std::int64_t step) const {
    const ParameterState& p = *list[i].parameter;
    Statistics statistics = gathered.of(p);
    statistics.step = step;
    statistics.parameter = i;
    if (!statistics.gradient.defined()) statistics.gradient = p.grad();
    Tensor all = options.score(list[i], statistics);
    if (!(all.shape() == p.value().shape()))
      fail<ConfigError>("[", op, "] ", options.score.name(), " scores whole units of '", list[i].name,
                        "', and single weights are pruned here");
    return all;
  }

  void undo() {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const ParameterState& p = *list[i].parameter;
      const std::optional<Snapshot>& old = snapshots[i];
      if (!old && p.mask().defined() && p.mask_mode() == MaskMode::hard)
        fail<ConfigError>("[undo] the pruned weights of '", list[i].name,
                          "' are gone. Hint: snapshot() before pruning, or "
                          ".mode = MaskMode::soft");
      if (old && (!(old->value.shape() == p.value().shape()) || p.value().packed()))
        fail<ConfigError>("[undo] '", list[i].name, "' had shape ", old->value.shape(), " at the snapshot and has ",
                          p.value().shape(), " now");
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      ParameterState& p = *list[i].parameter;
      const Mask before = p.mask(), after = snapshots[i] ? snapshots[i]->mask : Mask();
      if (before == after) continue;
      const bool hard = p.mask_mode() == MaskMode::hard;
      p.set_mask(after, p.mask_mode());
      if (!hard || !before.defined()) continue;
      dispatch_floating("undo", p.value().dtype(), [&]<class T>() {
        const T* from = snapshots[i]->value.data<T>();
        T* to = p.mutable_value().write<T>("undo");
        for (Index k = 0; k < before.size(); ++k)
          if (!before[k] && (!after.defined() || after[k])) to[k] = from[k];
      });
    }
  }

  ParameterList list;
  std::vector<std::vector<std::size_t>> sets;
  PrunerOptions options;
  Gathered gathered;
  std::vector<std::optional<Snapshot>> snapshots;  // all or none
  std::int64_t last_step = -1;
  double last_target = std::numeric_limits<double>::quiet_NaN();
};

Pruner::Pruner(const ParameterList& parameters, PrunerOptions options)
    : work_(std::make_shared<Work>(parameters, std::move(options))) {}

std::shared_ptr<optim::StepHook> Pruner::hook() const { return work_; }

void Pruner::use(Gathered gathered) { work_->gathered = std::move(gathered); }

void Pruner::to_sparsity(double sparsity) {
  work_->prune("to_sparsity", 0, [&](Index n, Index) { return count_of("to_sparsity", sparsity, n); });
}

void Pruner::prune_fraction(double fraction) {
  work_->prune("prune_fraction", 0,
               [&](Index n, Index live) { return n - live + count_of("prune_fraction", fraction, live); });
}

void Pruner::prune_count(Index count) {
  if (count < 0) fail<ConfigError>("[prune_count] the count must not be negative, got ", count);
  work_->prune("prune_count", 0, [&](Index n, Index live) { return n - live + std::min(count, live); });
}

void Pruner::snapshot() {
  for (std::size_t i = 0; i < work_->list.size(); ++i) {
    const ParameterState& p = *work_->list[i].parameter;
    work_->snapshots[i] = Snapshot{p.value().clone(), p.mask()};
  }
}

void Pruner::undo() { work_->undo(); }

optim::Commit Pruner::prepare_cut(std::span<const optim::ParameterCut> cuts) {
  std::vector<std::optional<Snapshot>> left = work_->snapshots;
  for (std::size_t i = 0; i < left.size(); ++i)
    for (const optim::ParameterCut& cut : cuts)
      if (left[i] && cut.parameter == work_->list[i].parameter)
        left[i] = Snapshot{optim::taken(left[i]->value, cut.kept),
                           optim::taken(left[i]->mask, left[i]->value.shape(), cut.kept)};
  return [work = work_, left] { work->snapshots = left; };
}

void Pruner::freeze() {
  for (const NamedParameter& named : work_->list) named.parameter->freeze();
  work_->options.mode = MaskMode::hard;
}

double Pruner::sparsity() const { return prune::sparsity(work_->list, optim::Select()); }

const ParameterList& Pruner::parameters() const noexcept { return work_->list; }
std::vector<SparsityRow> Pruner::report() const { return sparsity_rows(work_->list); }

std::string Pruner::describe() const {
  const PrunerOptions& o = work_->options;
  Index weights = 0;
  for (const NamedParameter& named : work_->list) weights += named.parameter->value().size();
  std::string text = join(o.score.name(), ", ", name_of(o.scope), ", ", o.schedule.describe(), ", ",
                          o.mode == MaskMode::hard ? "hard" : "soft", " masks, min_keep ", o.min_keep, "; ", weights,
                          " weights, ", percent(sparsity()), " pruned");
  for (std::size_t s = 0; s < work_->sets.size(); ++s) {
    text += "\n ";
    for (std::size_t i : work_->sets[s]) text += " " + work_->list[i].name;
  }
  return text;
}

PrunerState Pruner::state() const {
  const Work& w = *work_;
  PrunerState state;
  state["mode"] = Tensor::scalar(static_cast<double>(w.options.mode), DType::i64);
  state["step"] = Tensor::scalar(static_cast<double>(w.last_step), DType::i64);
  state["target"] = Tensor::scalar(w.last_target, DType::f64);
  for (std::size_t i = 0; i < w.list.size(); ++i) {
    if (!w.snapshots[i]) continue;
    const std::string key = "snapshot/" + w.list[i].name;
    state[key + "/value"] = w.snapshots[i]->value.clone();
    if (const Mask& mask = w.snapshots[i]->mask; mask.defined())
      state[key + "/mask"] = mask.to_tensor(w.snapshots[i]->value.shape());
  }
  return state;
}

void Pruner::load_state(const PrunerState& state) {
  Work& w = *work_;
  std::size_t used = 0;
  auto find = [&](const std::string& key, DType type, const Shape& shape) -> const Tensor* {
    const auto at = state.find(key);
    if (at == state.end()) return nullptr;
    ++used;
    if (at->second.dtype() != type || !(at->second.shape() == shape))
      fail<ConfigError>("[pruner] '", key, "' in the saved state is ", at->second.dtype(), " of shape ",
                        at->second.shape(), ", expected ", type, " of shape ", shape);
    return &at->second;
  };
  auto need = [&](const std::string& key, DType type) {
    const Tensor* t = find(key, type, {});
    if (!t) fail<ConfigError>("[pruner] '", key, "' is missing in the saved state");
    return t->item();
  };
  const double mode = need("mode", DType::i64), step = need("step", DType::i64), target = need("target", DType::f64);
  if (mode != 0 && mode != 1) fail<ConfigError>("[pruner] unknown mode ", mode, " in the saved state");
  std::vector<std::optional<Snapshot>> snapshots(w.list.size());
  for (std::size_t i = 0; i < w.list.size(); ++i) {
    const Tensor& value = w.list[i].parameter->value();
    const std::string key = "snapshot/" + w.list[i].name;
    const Tensor* mask = find(key + "/mask", DType::boolean, value.shape());
    if (const Tensor* old = find(key + "/value", value.dtype(), value.shape()))
      snapshots[i] = Snapshot{old->clone(), mask ? Mask(*mask) : Mask()};
    else if (mask)
      fail<ConfigError>("[pruner] '", key, "/value' is missing in the saved state");
  }
  if (used != state.size())
    fail<ConfigError>("[pruner] the saved state has ", state.size() - used,
                      " entries that are not this pruner's. Hint: make it "
                      "with the same selection");
  w.options.mode = static_cast<MaskMode>(static_cast<int>(mode));
  w.last_step = static_cast<std::int64_t>(step);
  w.last_target = target;
  w.snapshots = std::move(snapshots);
}

}  // namespace espalier::prune
