// Units of a network as pieces: what belongs to a unit goes together, wherever it lies.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "espalier/prune/detail/grain.h"
#include "espalier/prune/detail/unit_part.h"

namespace espalier::prune {
namespace {

using detail::Choice;
using detail::Contest;
using detail::Field;
using detail::for_each_weight;
using detail::Grain;

using Unit = std::vector<UnitPart>;

bool any_live(const Unit& unit, const std::function<const Mask&(const ParameterState&)>& mask_of) {
  bool live = false;
  for (const UnitPart& part : unit) {
    const Mask& mask = mask_of(*part.parameter);
    for_each_weight(part, [&](Index i) { live |= !mask.defined() || mask[i]; });
  }
  return live;
}

Index live_now(const std::vector<Unit>& units) {
  return std::count_if(units.begin(), units.end(), [](const Unit& unit) {
    return any_live(unit, [](const ParameterState& p) -> const Mask& { return p.mask(); });
  });
}

/// Scores of parameters, each asked once.
class Scores final {
 public:
  explicit Scores(const Choice& choice) : choice_(choice) {}
  /// Learns from the weight that names a group whether units or weights are scored.
  void ask(const ParameterState& p) {
    const auto [at, fresh] = asked_.try_emplace(&p);
    if (fresh) at->second = choice_.scores_of(p).to(DType::f64).contiguous();
    of_units_ = of_units_ || !(at->second.shape() == p.value().shape());
  }
  /// What the part scores; nothing if the score does not speak of it.
  std::optional<double> of(const UnitPart& part) {
    const ParameterState& p = *part.parameter;
    if (!choice_.scores(p)) return std::nullopt;
    const int axis = choice_.score().axis();
    if (of_units_ && part.axis != axis) return std::nullopt;
    ask(p);
    const Tensor& scores = asked_.at(&p);
    const double* s = scores.data<double>();
    if (!(scores.shape() == p.value().shape())) return part.axis == axis ? std::optional(s[part.index]) : std::nullopt;
    const Mask& fixed = choice_.fixed(p);
    double sum = 0;
    for_each_weight(part, [&](Index i) { sum += !fixed.defined() || fixed[i] ? s[i] : 0; });
    return sum;
  }

 private:
  const Choice& choice_;
  bool of_units_ = false;
  std::map<const ParameterState*, Tensor> asked_;
};

class UnitGrain final : public Grain {
 public:
  explicit UnitGrain(std::vector<UnitGroup> groups) : Grain("units with all that belongs to them") {
    for (UnitGroup& group : groups) {
      Group kept{std::move(group), {}};
      for (const Unit& unit : kept.group.units)
        for (const UnitPart& part : unit) kept.shapes.emplace(part.parameter, part.parameter->value().shape());
      groups_.push_back(std::move(kept));
    }
  }

  std::vector<Field> fields(const ParameterList& selected) const override {
    std::vector<Field> all;
    for (std::size_t g = 0; g < groups_.size(); ++g)
      for (const NamedParameter& named : selected)
        if (named.parameter == groups_[g].group.parameter) all.push_back({named, g});
    if (all.empty())
      fail<ConfigError>("[pruner] none of the ", groups_.size(), " groups of units is of a weight that is selected. ",
                        "Hint: a copied model has parameters of its own; make both from the same model");
    return all;
  }

  ParameterList touched(const ParameterList& all, const std::vector<Field>& fields) const override {
    std::set<ParameterRef> parts;
    for (const Field& field : fields)
      for (const auto& [parameter, shape] : groups_[field.number].shapes) parts.insert(parameter);
    ParameterList list;
    for (const NamedParameter& named : all)
      if (parts.erase(named.parameter)) list.push_back(named);
    for (const Field& field : fields)  // what the caller did not list
      for (const Unit& unit : groups_[field.number].group.units)
        for (const UnitPart& part : unit)
          if (parts.erase(part.parameter)) list.push_back({part.parameter->full_name(), part.parameter});
    return list;
  }

  Contest contest(const Field& field, Choice& choice) const override {
    const Group& of = groups_[field.number];
    const std::vector<Unit>& units = of.group.units;
    check(of);
    Scores scores(choice);
    scores.ask(*field.owner.parameter);
    Tensor means = Tensor::zeros({of.group.size()}, DType::f64);
    double* mean_of = means.write<double>("pruner");
    Mask gone(of.group.size());
    double total = 0;
    for (std::size_t u = 0; u < units.size(); ++u) {
      double sum = 0;
      Index members = 0;
      for (const UnitPart& part : units[u])
        if (const std::optional<double> s = scores.of(part)) {
          sum += *s;
          ++members;
        }
      if (members == 0)
        fail<ConfigError>("[", choice.op(), "] ", choice.score().name(), " says nothing of the units of '",
                          of.group.name, "'");
      mean_of[u] = sum / static_cast<double>(members);
      const bool live = any_live(units[u], [&](const ParameterState& p) -> const Mask& { return choice.fixed(p); });
      gone.set(static_cast<Index>(u), live);
      if (live) total += std::abs(sum / static_cast<double>(members));
    }
    const double mean = total / static_cast<double>(std::max<Index>(gone.live(), 1));
    if (mean > 0 && std::isfinite(mean))
      for (double& s : std::span(mean_of, units.size())) s /= mean;
    return {{of.group.name, std::move(means), std::move(gone), "unit"},
            live_now(units),
            [&units](const Mask& live, Choice& made) {
              for (std::size_t u = 0; live.defined() && u < units.size(); ++u)
                for (const UnitPart& part : units[u]) {
                  if (live[static_cast<Index>(u)]) break;
                  Mask& mask = made.writable(*part.parameter);
                  for_each_weight(part, [&mask](Index i) { mask.set(i, false); });
                }
            }};
  }

  PieceCount count(const Field& field) const override {
    check(groups_[field.number]);
    const std::vector<Unit>& units = groups_[field.number].group.units;
    return {std::ssize(units), live_now(units)};
  }

  std::shared_ptr<const Grain> cut(std::span<const optim::ParameterCut> cuts) const override {
    auto left = std::make_shared<UnitGrain>(*this);
    for (Group& of : left->groups_) {
      for (const optim::ParameterCut& cut : cuts) {
        const auto at = of.shapes.find(cut.parameter);
        if (at == of.shapes.end()) continue;
        for (std::size_t axis = 0; axis < cut.kept.size(); ++axis) {
          if (!cut.kept[axis]) continue;
          const std::vector<Index>& kept = *cut.kept[axis];
          at->second[static_cast<int>(axis)] = std::ssize(kept);
          for (Unit& unit : of.group.units)
            std::erase_if(unit, [&](UnitPart& part) {
              if (part.parameter != cut.parameter || part.axis != static_cast<int>(axis)) return false;
              const auto place = std::lower_bound(kept.begin(), kept.end(), part.index);
              if (place == kept.end() || *place != part.index) return true;
              part.index = place - kept.begin();
              return false;
            });
        }
      }
      std::erase_if(of.group.units, [](const Unit& unit) { return unit.empty(); });
    }
    return left;
  }

 private:
  struct Group {
    UnitGroup group;
    std::map<ParameterRef, Shape> shapes;
  };
  static void check(const Group& of) {
    for (const Unit& unit : of.group.units)
      for (const UnitPart& part : unit)
        if (const Shape& was = of.shapes.at(part.parameter); !(part.parameter->value().shape() == was))
          fail<ConfigError>("[pruner] '", part.parameter->full_name(), "' had shape ", was,
                            " when the units were found, and has ", part.parameter->value().shape(),
                            " now. Hint: give the pruner to shrink(), or make it anew");
  }
  std::vector<Group> groups_;
};

}  // namespace

Granularity dependency_groups(std::vector<UnitGroup> groups) {
  return Granularity(std::make_shared<const UnitGrain>(std::move(groups)));
}

}  // namespace espalier::prune
