#include "espalier/prune/pruner.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "espalier/core/table.h"
#include "espalier/prune/detail/grain.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

struct Snapshot {
  Tensor value;
  Mask mask;
};

/// The fields that compete with each other, as places in the list.
std::vector<std::vector<std::size_t>> competing(const std::vector<detail::Field>& fields,
                                                const PrunerOptions& options) {
  if ((options.scope == Scope::group) != !options.groups.empty())
    fail<ConfigError>("[pruner] Scope::group needs .groups, and only it has them");
  if (options.scope != Scope::tensor && !options.distribution.uniform())
    fail<ConfigError>("[pruner] .distribution = ", options.distribution.name(),
                      " says how much of each tensor is pruned. Hint: .scope = Scope::tensor");
  std::vector<std::vector<std::size_t>> sets;
  if (options.scope == Scope::global) sets.resize(1);
  if (options.scope == Scope::group) sets.resize(options.groups.size());
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (options.scope == Scope::tensor) {
      sets.push_back({i});
    } else if (options.scope == Scope::global) {
      sets[0].push_back(i);
    } else {
      const NamedParameter& owner = fields[i].owner;
      const auto group = std::find_if(options.groups.begin(), options.groups.end(), [&](auto& g) { return g(owner); });
      if (group == options.groups.end())
        fail<ConfigError>("[pruner] '", owner.name,
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

/// "cubic" of "cubic 0 to 0.9 in steps ..."
std::string first_words(const std::string& text) {
  std::string words = text.substr(0, text.find_first_of("0123456789"));
  while (!words.empty() && words.back() == ' ') words.pop_back();
  return words;
}

}  // namespace

class Pruner::Work final : public optim::StepHook {
 public:
  /// How many of a set are to be pruned afterwards.
  struct Amount {
    std::string what;                                   // for the history
    std::function<Index(Index pieces, Index live)> of;  // a set's
    std::optional<double> sparsity = {};                // or that of all
  };

  Work(const ParameterList& parameters, PrunerOptions o)
      : scored(selected(parameters, o.select)),
        fields(o.granularity.grain().fields(scored)),
        list(o.granularity.grain().touched(parameters, fields)),
        sets(competing(fields, o)),
        options(std::move(o)),
        snapshots(list.size()) {
    if (options.min_keep < 0) fail<ConfigError>("[pruner] min_keep must not be negative, got ", options.min_keep);
    if (options.combine == Combine::unite && options.mode == MaskMode::hard)
      fail<ConfigError>(
          "[pruner] Combine::unite with hard masks would never prune again. Hint: .mode = MaskMode::soft");
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
    prune("pruner", context.step, to_sparsity("pruner", first_words(options.schedule.describe()), *sparsity));
    last_step = context.step;
    last_target = *sparsity;
  }

  const detail::Grain& grain() const { return options.granularity.grain(); }

  Amount to_sparsity(const char* op, const std::string& who, double sparsity) const {
    return {join(who, " ", sparsity),
            [op, share = grain().share(op, sparsity)](Index n, Index) { return count_of(op, share, n); }, sparsity};
  }

  /// All masks are made before the first is set. `step`: the optimizer's, -1 without one.
  void prune(const char* op, std::int64_t step, const Amount& amount) {
    for (const NamedParameter& named : list)
      if (named.parameter->value().packed())
        fail<ConfigError>("[", op, "] '", named.name, "' is packed. Hint: prune the model before compact()");
    if (options.loss && options.score.needs() != Needs{})
      gathered = gather(scored, options.loss, options.batches, options.score.needs(), options.gather);
    const std::vector<double> shares = shares_of_tensors(op, amount);
    detail::Choice choice(op, options.score, gathered, scored, options.mode, std::max<std::int64_t>(step, 0));
    for (std::size_t s = 0; s < sets.size(); ++s) {
      std::vector<detail::Contest> contests;
      std::vector<Candidate> candidates;
      Index n = 0, live = 0;
      for (std::size_t i : sets[s]) {
        contests.push_back(grain().contest(fields[i], choice));
        candidates.push_back(std::move(contests.back().candidate));
        n += candidates.back().scores.size();
        live += contests.back().live;
      }
      const Index count = shares.empty() ? amount.of(n, live) : count_of(op, shares[s], n);
      const std::vector<Mask> chosen = prune_lowest(candidates, count, grain().min_keep(options.min_keep));
      for (std::size_t k = 0; k < chosen.size(); ++k) contests[k].prune(chosen[k], choice);
    }
    change(step, amount.what, [&] {
      for (const NamedParameter& named : list) {
        ParameterState& p = *named.parameter;
        Mask made = combined(std::move(choice.mask(p)), p.mask());
        if (p.mask() == made && (!p.mask().defined() || p.mask_mode() == options.mode)) continue;
        p.set_mask(std::move(made), options.mode);
      }
    });
  }

  /// Runs what changes masks and writes it down.
  template <class F>
  void change(std::int64_t step, const std::string& what, F f) {
    const Index before = pruned();
    f();
    detail::add(history, {step, what, before, pruned()});
  }

  Index pruned() const {
    Index n = 0;
    for (const NamedParameter& p : list) n += p.parameter->value().size() - live_weights(*p.parameter);
    return n;
  }

  Pieces pieces() const {
    Pieces sum;
    for (const detail::Field& field : fields) {
      const detail::PieceCount own = grain().count(field);
      sum.all += own.all;
      sum.live += own.live;
    }
    return sum;
  }

  /// By the distribution, a share of pieces for each set; none where all have the same.
  std::vector<double> shares_of_tensors(const char* op, const Amount& amount) const {
    if (options.distribution.uniform()) return {};
    ParameterList owners;
    for (const detail::Field& field : fields) owners.push_back(field.owner);
    if (amount.sparsity) {
      std::vector<double> shares = options.distribution(owners, *amount.sparsity);
      for (double& share : shares) share = grain().share(op, share);
      return shares;
    }
    const Pieces all = pieces();
    const Index n = std::max<Index>(all.all, 1);
    return options.distribution(owners, static_cast<double>(amount.of(all.all, all.live)) / static_cast<double>(n));
  }

  Mask combined(Mask made, const Mask& present) const {
    const bool both = options.combine == Combine::intersect;
    const bool either = options.combine == Combine::unite && options.mode == MaskMode::soft;
    if ((both || either) && present.defined()) {
      if (!made.defined()) return both ? present : Mask();
      std::vector<std::uint64_t> words = made.words();
      for (std::size_t w = 0; w < words.size(); ++w)
        words[w] = both ? words[w] & present.words()[w] : words[w] | present.words()[w];
      made = Mask(made.size(), std::move(words));
    }
    return made.live() == made.size() ? Mask() : made;
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

  ParameterList scored;               // the selection
  std::vector<detail::Field> fields;  // what competes
  ParameterList list;                 // those whose masks are set
  std::vector<std::vector<std::size_t>> sets;
  PrunerOptions options;
  Gathered gathered;
  PruneHistory history;
  std::vector<std::optional<Snapshot>> snapshots;  // all or none
  std::int64_t last_step = -1;
  double last_target = std::numeric_limits<double>::quiet_NaN();
};

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
    work_->snapshots[i] = Snapshot{p.value().clone(), p.mask()};
  }
}

void Pruner::undo() {
  work_->change(-1, "undo", [&] { work_->undo(); });
}

optim::Commit Pruner::prepare_cut(std::span<const optim::ParameterCut> cuts) {
  std::vector<std::optional<Snapshot>> left = work_->snapshots;
  for (std::size_t i = 0; i < left.size(); ++i)
    for (const optim::ParameterCut& cut : cuts)
      if (left[i] && cut.parameter == work_->list[i].parameter)
        left[i] = Snapshot{optim::taken(left[i]->value, cut.kept),
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

Pruner::Pieces Pruner::pieces() const { return work_->pieces(); }
const PruneHistory& Pruner::history() const noexcept { return work_->history; }
const ParameterList& Pruner::parameters() const noexcept { return work_->list; }
std::vector<SparsityRow> Pruner::report() const { return sparsity_rows(work_->list); }

std::string Pruner::describe() const {
  const PrunerOptions& o = work_->options;
  Index weights = 0;
  for (const NamedParameter& named : work_->list) weights += named.parameter->value().size();
  const Pieces pieces = work_->pieces();
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
  PruneHistory history;
  if (const auto at = state.find("history"); at != state.end()) {
    const Tensor* bytes = find("history", DType::u8, {at->second.size()});
    history = detail::history_from(*bytes);
  }
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
  w.history = std::move(history);
  w.snapshots = std::move(snapshots);
}

}  // namespace espalier::prune
