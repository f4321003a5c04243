#include "espalier/prune/pruner.h"

#include <algorithm>
#include <utility>

#include "espalier/core/table.h"
#include "espalier/prune/detail/followed.h"
#include "espalier/prune/detail/pruner_work.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

const char* name_of(Scope scope) {
  return scope == Scope::tensor ? "each tensor" : scope == Scope::group ? "groups" : "global";
}

}  // namespace

Pruner::Pruner(const ParameterList& parameters, PrunerOptions options)
    : work_(std::make_shared<Work>(parameters, std::move(options))) {}

std::shared_ptr<optim::StepHook> Pruner::hook() const { return work_; }

void Pruner::use(Gathered gathered) { work_->gathered = std::move(gathered); }

void Pruner::to_sparsity(double sparsity) {
  work_->prune("to_sparsity", -1, work_->to_sparsity("to_sparsity", "to_sparsity", sparsity));
}

void Pruner::prune_fraction(double fraction) {
  work_->prune("prune_fraction", -1, {join("prune_fraction ", fraction), [fraction](Index n, Index live) {
                                        return n - live + count_of("prune_fraction", fraction, live);
                                      }});
}

void Pruner::prune_count(Index count) {
  if (count < 0) fail<ConfigError>("[prune_count] the count must not be negative, got ", count);
  work_->prune("prune_count", -1, {join("prune_count ", count), [count](Index n, Index live) {
                                     return n - live + std::min(count, live);
                                   }});
}

void Pruner::snapshot() {
  for (std::size_t i = 0; i < work_->list.size(); ++i) {
    const ParameterState& p = *work_->list[i].parameter;
    work_->snapshots[i] = Work::Snapshot{p.value().clone(), p.mask()};
  }
}

void Pruner::undo() {
  work_->change(-1, "undo", [&] { work_->undo(); });
}

optim::Commit Pruner::prepare_cut(std::span<const optim::ParameterCut> cuts) {
  std::vector<std::optional<Work::Snapshot>> left = work_->snapshots;
  for (std::size_t i = 0; i < left.size(); ++i)
    for (const optim::ParameterCut& cut : cuts)
      if (left[i] && cut.parameter == work_->list[i].parameter)
        left[i] = Work::Snapshot{optim::taken(left[i]->value, cut.kept),
                                 optim::taken(left[i]->mask, left[i]->value.shape(), cut.kept)};
  return [work = work_, left, grain = work_->grain().cut(cuts)] {
    work->snapshots = left;
    if (grain) work->options.granularity = Granularity(grain);
  };
}

void Pruner::freeze() {
  work_->change(-1, "freeze", [&] {
    for (const NamedParameter& named : work_->list) named.parameter->freeze();
  });
  work_->options.mode = MaskMode::hard;
}

void Pruner::thaw() {
  work_->change(-1, "thaw", [&] {
    for (const NamedParameter& named : work_->list)
      if (ParameterState& p = *named.parameter; p.mask().defined() && p.mask_mode() == MaskMode::hard)
        p.set_mask(p.mask(), MaskMode::soft);
  });
  work_->options.mode = MaskMode::soft;
}

void Pruner::strip() {
  work_->change(-1, "strip", [&] {
    for (const NamedParameter& named : work_->list) {
      ParameterState& p = *named.parameter;
      p.freeze();
      if (p.mask().defined()) p.set_mask(Mask());
    }
  });
}

double Pruner::sparsity() const { return prune::sparsity(work_->list, optim::Select()); }

PieceCount Pruner::pieces() const { return work_->pieces(); }
const PruneHistory& Pruner::history() const noexcept { return work_->history; }
const ParameterList& Pruner::parameters() const noexcept { return work_->list; }
std::vector<SparsityRow> Pruner::report() const { return sparsity_rows(work_->list); }

std::string Pruner::describe() const {
  const PrunerOptions& o = work_->options;
  Index weights = 0;
  for (const NamedParameter& named : work_->list) weights += named.parameter->value().size();
  const PieceCount pieces = work_->pieces();
  std::string text = join(o.score.name(), ", ", o.granularity.name(), ", ", name_of(o.scope),
                          o.distribution.uniform() ? "" : " by " + o.distribution.name(), ", ", o.schedule.describe(),
                          ", ", o.mode == MaskMode::hard ? "hard" : "soft", " masks",
                          o.combine == Combine::replace     ? ""
                          : o.combine == Combine::intersect ? " and those before"
                                                            : " or those before",
                          ", min_keep ", o.min_keep, "; ", weights, " weights, ", percent(sparsity()), " pruned");
  if (pieces.all != weights) text += join("; ", pieces.all - pieces.live, " of ", pieces.all, " pieces");
  for (const std::vector<std::size_t>& set : work_->sets) {
    text += "\n ";
    for (std::size_t i : set) text += " " + work_->fields[i].owner.name;
  }
  return text;
}

PrunerState Pruner::state() const {
  const Work& w = *work_;
  PrunerState state;
  state["mode"] = Tensor::scalar(static_cast<double>(w.options.mode), DType::i64);
  state["step"] = Tensor::scalar(static_cast<double>(w.last_step), DType::i64);
  state["target"] = Tensor::scalar(w.last_target, DType::f64);
  if (!w.history.empty()) state["history"] = detail::to_tensor(w.history);
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
  detail::StateReader reader("pruner", state);
  const std::int64_t mode = reader.count("mode"), step = reader.count("step");
  const double target = reader.number("target", DType::f64);
  if (mode != 0 && mode != 1) fail<ConfigError>("[pruner] unknown mode ", mode, " in the saved state");
  PruneHistory history;
  if (const auto at = state.find("history"); at != state.end()) {
    const Tensor* bytes = reader.find("history", DType::u8, {at->second.size()});
    history = detail::history_from(*bytes);
  }
  std::vector<std::optional<Work::Snapshot>> snapshots(w.list.size());
  for (std::size_t i = 0; i < w.list.size(); ++i) {
    const Tensor& value = w.list[i].parameter->value();
    const std::string key = "snapshot/" + w.list[i].name;
    const Tensor* mask = reader.find(key + "/mask", DType::boolean, value.shape());
    if (const Tensor* old = reader.find(key + "/value", value.dtype(), value.shape()))
      snapshots[i] = Work::Snapshot{old->clone(), mask ? Mask(*mask) : Mask()};
    else if (mask)
      fail<ConfigError>("[pruner] '", key, "/value' is missing in the saved state");
  }
  reader.finish();
  w.options.mode = static_cast<MaskMode>(mode);
  w.last_step = step;
  w.last_target = target;
  w.history = std::move(history);
  w.snapshots = std::move(snapshots);
}

}  // namespace espalier::prune
