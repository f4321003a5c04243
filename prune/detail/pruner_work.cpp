#include "espalier/prune/detail/pruner_work.h"

#include <algorithm>
#include <utility>

#include "espalier/prune/detail/followed.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

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

/// "cubic" of "cubic 0 to 0.9 in steps ..."
std::string first_words(const std::string& text) {
  std::string words = text.substr(0, text.find_first_of("0123456789"));
  while (!words.empty() && words.back() == ' ') words.pop_back();
  return words;
}

}  // namespace

Pruner::Work::Work(const ParameterList& parameters, PrunerOptions o)
    : scored(detail::followed("pruner", parameters, o.select)),
      fields(o.granularity.grain().fields(scored)),
      list(o.granularity.grain().touched(parameters, fields)),
      sets(competing(fields, o)),
      options(std::move(o)),
      snapshots(list.size()) {
  if (options.min_keep < 0) fail<ConfigError>("[pruner] min_keep must not be negative, got ", options.min_keep);
  if (options.combine == Combine::unite && options.mode == MaskMode::hard)
    fail<ConfigError>("[pruner] Combine::unite with hard masks would never prune again. Hint: .mode = MaskMode::soft");
}

void Pruner::Work::begin(const optim::StepContext& context) {
  const std::optional<double> sparsity = options.schedule(context.step);
  if (!sparsity) return;
  detail::check_shared("pruner", list, context);
  prune("pruner", context.step, to_sparsity("pruner", first_words(options.schedule.describe()), *sparsity));
  last_step = context.step;
  last_target = *sparsity;
}

Pruner::Work::Amount Pruner::Work::to_sparsity(const char* op, const std::string& who, double sparsity) const {
  return {join(who, " ", sparsity),
          [op, share = grain().share(op, sparsity)](Index n, Index) { return count_of(op, share, n); }, sparsity};
}

void Pruner::Work::prune(const char* op, std::int64_t step, const Amount& amount) {
  for (const NamedParameter& named : list) detail::check_not_packed(op, named);
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

Index Pruner::Work::pruned() const {
  Index n = 0;
  for (const NamedParameter& p : list) n += p.parameter->value().size() - live_weights(*p.parameter);
  return n;
}

PieceCount Pruner::Work::pieces() const {
  PieceCount sum;
  for (const detail::Field& field : fields) {
    const PieceCount own = grain().count(field);
    sum.all += own.all;
    sum.live += own.live;
  }
  return sum;
}

std::vector<double> Pruner::Work::shares_of_tensors(const char* op, const Amount& amount) const {
  if (options.distribution.uniform()) return {};
  ParameterList owners;
  for (const detail::Field& field : fields) owners.push_back(field.owner);
  if (amount.sparsity) {
    std::vector<double> shares = options.distribution(owners, *amount.sparsity);
    for (double& share : shares) share = grain().share(op, share);
    return shares;
  }
  const PieceCount all = pieces();
  const Index n = std::max<Index>(all.all, 1);
  return options.distribution(owners, static_cast<double>(amount.of(all.all, all.live)) / static_cast<double>(n));
}

Mask Pruner::Work::combined(Mask made, const Mask& present) const {
  if (options.combine == Combine::intersect) made &= present;
  if (options.combine == Combine::unite && options.mode == MaskMode::soft && present.defined()) made |= present;
  return made.live() == made.size() ? Mask() : made;
}

void Pruner::Work::undo() {
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

}  // namespace espalier::prune
