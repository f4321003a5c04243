// What is decided once: the stages of a chain, the sweeps they need, and where their states lie.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "espalier/optim/detail/pipeline.h"

namespace espalier::optim {
namespace {

/// Elements of an output unit: all axes but the first. Vectors and scalars are one unit.
Index unit_of(const Shape& shape) {
  const Index n = count(shape);
  return std::max<Index>(shape.rank() >= 2 && n > 0 ? n / shape[0] : n, 1);
}

int type_index(DType type) { return type == DType::f32 ? 0 : 1; }

/// Each parameter once, under its first name; names that are empty or repeat become distinct.
ParameterList distinct(const ParameterList& given) {
  ParameterList list;
  std::unordered_set<const ParameterState*> seen;
  std::vector<std::string> names;
  for (const NamedParameter& p : given) {
    if (!p.parameter) fail<ConfigError>("[optimizer] '", p.name, "' is no parameter");
    if (!seen.insert(p.parameter.get()).second) continue;
    list.push_back(p);
    names.push_back(p.name.empty() ? "parameter" : p.name);
  }
  names = detail::numbered(std::move(names));
  for (std::size_t i = 0; i < list.size(); ++i) list[i].name = std::move(names[i]);
  return list;
}

}  // namespace

Pipeline::Pipeline(const ParameterList& parameters, const Chain& chain, Nonfinite nonfinite, Goal goal,
                   std::int64_t step)
    : parameters_(distinct(parameters)), nonfinite_(nonfinite), goal_(goal), step_(step) {
  const bool updates = goal_ == Goal::update_values;
  if (updates && parameters_.empty())
    fail<ConfigError>("[optimizer] no parameters. Hint: does the module list its members?");
  for (const NamedParameter& p : parameters_) {
    p.parameter->mark_listed(p.name);
    if (p.parameter->value().packed())
      fail<ConfigError>("[optimizer] '", p.name,
                        "' is packed and cannot be trained. Hint: train the model that "
                        "compact() was given");
    shapes_.push_back(p.parameter->value().shape());
    sizes_.push_back(count(shapes_.back()));
    units_.push_back(unit_of(shapes_.back()));
    types_.push_back(type_index(p.parameter->value().dtype()));
    mask_seen_.push_back(p.parameter->mask_version());
  }
  updates_.resize(parameters_.size());
  last_stage_.assign(parameters_.size(), none);

  std::vector<std::size_t> optimizers(parameters_.size(), none);
  const std::vector<std::string> names = chain.names();
  std::size_t first_constraint = chain.links().size();
  for (std::size_t t = 0; t < chain.links().size(); ++t) {
    const Link& link = chain.links()[t];
    Stage stage;
    stage.transform = link.transform->clone();
    stage.name = names[t];
    stage.keeps_zeros = stage.transform->keeps_zeros();
    stage.span = stage.transform->measures();
    const bool constraint = stage.transform->is_constraint();
    if (constraint) {
      first_constraint = std::min(first_constraint, t);
    } else if (first_constraint < t) {
      fail<ConfigError>("[optimizer] '", stage.name, "' changes gradients but stands behind '", stages_.back().name,
                        "', which changes values. Hint: put constraints last");
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const bool selected = link.select(parameters_[i]);
      stage.selected.push_back(selected);
      if (!selected) continue;
      if (!constraint) last_stage_[i] = t;
      if (!stage.transform->makes_update()) continue;
      if (optimizers[i] != none)
        fail<ConfigError>("[optimizer] both '", names[optimizers[i]], "' and '", stage.name, "' update '",
                          parameters_[i].name, "'. Hint: on(select, ...) gives each its parameters");
      optimizers[i] = t;
    }
    stage.everyone = std::find(stage.selected.begin(), stage.selected.end(), 0) == stage.selected.end();
    add_states(stage);
    add_figures(stage);
    if (!updates && (stage.stateful || constraint || stage.transform->makes_update()))
      fail<ConfigError>("[apply_to_gradients] '", stage.name, "' ",
                        constraint ? "changes values" : "remembers something from step to step or makes updates",
                        ". Hint: that needs an Optimizer");
    if (stage.transform->is_clip()) {
      stage.record = blank_records_.size();
      blank_records_.emplace_back().name = stage.name;
    }
    stages_.push_back(std::move(stage));
  }
  for (std::size_t i = 0; updates && i < parameters_.size(); ++i)
    if (optimizers[i] == none)
      fail<ConfigError>("[optimizer] nothing in the chain updates '", parameters_[i].name,
                        "'. Hint: end the chain with sgd(...), adam(...) or the like, or leave the parameter out");
  plan();
}

void Pipeline::add_states(Stage& stage) {
  stage.stateful = false;
  std::array<Index, 2> total{};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Index& end = total[static_cast<std::size_t>(types_[i])];
    stage.begin.push_back(end);
    if (stage.selected[i]) end += (sizes_[i] + 15) / 16 * 16;  // every parameter begins on a cache line
  }
  for (const StateSpec& spec : stage.transform->states()) {
    stage.stateful = true;
    StateBuffer buffer{spec.name, {}};
    for (std::size_t type = 0; type < 2; ++type) {
      buffer.flat[type] = Tensor::zeros({total[type]}, type == 0 ? DType::f32 : DType::f64);
      stage.bases[type].push_back(buffer.flat[type].write_bytes("optimizer"));
    }
    stage.states.push_back(std::move(buffer));
  }
}

void Pipeline::add_figures(Stage& stage) {
  Index total = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    stage.first_figure.push_back(stage.span == Span::everything ? 0 : total);
    if (stage.selected[i]) total += stage.span == Span::unit ? sizes_[i] / units_[i] : 1;
  }
  if (stage.span == Span::everything) total = 1;
  stage.figures.resize(static_cast<std::size_t>(stage.measures() ? total : 0));
}

void Pipeline::plan() {
  std::size_t gradients = 0;  // number of gradient transforms
  while (gradients < stages_.size() && !stages_[gradients].transform->is_constraint()) ++gradients;

  std::size_t from = 0;
  const auto stateful = [&](std::size_t upto) {
    return std::any_of(stages_.begin() + static_cast<std::ptrdiff_t>(from),
                       stages_.begin() + static_cast<std::ptrdiff_t>(upto), [](const Stage& s) { return s.stateful; });
  };
  for (std::size_t t = 0; t < gradients; ++t) {
    const bool whole = stages_[t].transform->grain() == Grain::tensor;
    if (stages_[t].measures()) {
      const bool store = whole || stateful(t);
      sweeps_.push_back({.from = from, .upto = t, .measure = t, .store = store});
      if (store) from = t;
    }
    if (whole) {
      if (from < t) sweeps_.push_back({.from = from, .upto = t, .store = true});
      sweeps_.push_back({.whole = true, .from = t, .upto = t + 1, .store = true});
      from = t + 1;
    }
  }
  if (goal_ == Goal::update_values) {
    sweeps_.push_back({.from = from, .upto = gradients, .apply = true});
    plan_values(gradients);
  } else {
    sweeps_.push_back({.from = from, .upto = gradients, .store = true});
  }

  if (nonfinite_ == Nonfinite::propagate) return;
  Sweep& first = sweeps_.front();
  if (first.measure == none || first.writes()) {
    sweeps_.insert(sweeps_.begin(), Sweep{.check = true});
  } else {
    first.check = true;
    const Stage& stage = stages_[first.measure];
    first.check_is_measure = first.upto == 0 && stage.everyone && stage.transform->finds_nonfinite();
  }
}

void Pipeline::plan_values(std::size_t first_constraint) {
  const auto cuts = [&](std::size_t t) {
    return stages_[t].measures() || stages_[t].transform->grain() == Grain::tensor;
  };
  std::size_t t = first_constraint;
  while (t < stages_.size() && !cuts(t)) ++t;
  sweeps_.back().constraints_upto = t;
  while (t < stages_.size()) {
    if (stages_[t].measures()) sweeps_.back().measure = t;
    std::size_t upto = t + 1;
    if (stages_[t].transform->grain() == Grain::tensor) {
      sweeps_.push_back({.on_values = true, .whole = true, .from = t, .upto = upto});
      if (upto == stages_.size()) return;
      if (!cuts(upto))
        sweeps_.push_back({.on_values = true, .from = upto, .upto = upto});
      else if (stages_[upto].measures())
        sweeps_.push_back({.on_values = true, .from = upto, .upto = upto});
    } else {
      sweeps_.push_back({.on_values = true, .from = t, .upto = upto});
    }
    while (upto < stages_.size() && !cuts(upto)) ++upto;
    if (!sweeps_.back().whole) sweeps_.back().upto = upto;
    t = upto;
  }
}

std::string Pipeline::describe() const {
  std::string text;
  int number = 0;
  for (const Sweep& s : sweeps_) {
    text += "sweep " + std::to_string(++number) + ":";
    const char* separator = " ";
    const auto add = [&](const std::string& what) {
      text += separator + what;
      separator = " > ";
    };
    if (s.check) add("finite check");
    if (!s.on_values && (s.upto > 0 || s.measure != none || s.apply)) add("mask");
    for (std::size_t t = s.from; t < s.upto; ++t) add(stages_[t].name + (s.whole ? " (whole tensors)" : ""));
    if (s.apply) {
      add("apply");
      for (std::size_t t = s.upto; t < s.constraints_upto; ++t) add(stages_[t].name);
    }
    if (s.measure != none) add("measure " + stages_[s.measure].name);
    if (s.store) add("store");
    if (s.apply || s.on_values) add("mask");
    text += "\n";
  }
  return text;
}

OptimizerState Pipeline::state() const {
  OptimizerState state;
  state["step"] = Tensor::from<std::int64_t>({step_}, {});
  state["updates"] = Tensor::from(updates_, {static_cast<Index>(updates_.size())});
  for (const Stage& stage : stages_)
    for (const StateBuffer& buffer : stage.states)
      for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (!stage.selected[i]) continue;
        const Shape& shape = parameters_[i].parameter->value().shape();
        const Tensor& flat = buffer.flat[static_cast<std::size_t>(types_[i])];
        state[stage.name + "/" + buffer.name + "/" + parameters_[i].name] =
            flat.as_strided(shape, row_major(shape), stage.begin[i]).clone();
      }
  return state;
}

void Pipeline::load_state(const OptimizerState& given) {
  const OptimizerState own = state();
  for (const auto& [key, tensor] : own) {
    const auto found = given.find(key);
    if (found == given.end())
      fail<ConfigError>("[load_state] '", key, "' is missing. Hint: was it saved with another chain or model?");
    const Tensor& t = found->second;
    if (!t.defined() || t.dtype() != tensor.dtype() || !(t.shape() == tensor.shape()))
      fail<ConfigError>("[load_state] '", key, "' should be ", tensor.dtype(), " ", tensor.shape(), ", got ",
                        t.defined() ? join(t.dtype(), " ", t.shape()) : std::string("an undefined tensor"));
  }
  for (const auto& [key, tensor] : given)
    if (!own.contains(key))
      fail<ConfigError>("[load_state] '", key, "' belongs to nothing here. Hint: was it saved with another chain?");

  const std::vector<std::int64_t> updates = given.at("updates").to_vector<std::int64_t>();
  const std::int64_t step = given.at("step").to_vector<std::int64_t>().front();
  if (step < 0 || std::any_of(updates.begin(), updates.end(), [&](std::int64_t n) { return n < 0 || n > step; }))
    fail<ConfigError>("[load_state] 'step' and 'updates' contradict each other");
  step_ = step;
  updates_ = updates;
  for (Stage& stage : stages_)
    for (StateBuffer& buffer : stage.states)
      for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (!stage.selected[i]) continue;
        const Shape& shape = parameters_[i].parameter->value().shape();
        Tensor flat = buffer.flat[static_cast<std::size_t>(types_[i])];
        flat.as_strided(shape, row_major(shape), stage.begin[i])
            .copy_from(given.at(stage.name + "/" + buffer.name + "/" + parameters_[i].name), "load_state");
      }
  for (std::size_t i = 0; i < parameters_.size(); ++i)  // a state saved under another mask
    mask_seen_[i] = parameters_[i].parameter->mask_version() - 1;
  broken_ = false;
}

}  // namespace espalier::optim
