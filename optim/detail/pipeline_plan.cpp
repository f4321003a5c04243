// What is decided once: the stages of a chain, the sweeps they need, and where their states lie.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "espalier/core/kernels/step.h"
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

Pipeline::Pipeline(const ParameterList& parameters, const Chain& chain, const OptimizerOptions& options, Goal goal,
                   std::int64_t step)
    : parameters_(distinct(parameters)), options_(options), goal_(goal), step_(step) {
  const bool updates = goal_ == Goal::update_values;
  if (options_.accumulate < 1)
    fail<ConfigError>("[optimizer] accumulate must be at least 1, got ", options_.accumulate);
  if (options_.most_skips_in_a_row < 0)
    fail<ConfigError>("[optimizer] most_skips_in_a_row must not be negative, got ", options_.most_skips_in_a_row);
  if (updates && parameters_.empty())
    fail<ConfigError>("[optimizer] no parameters. Hint: does the module list its members?");
  for (const NamedParameter& p : parameters_) {
    p.parameter->mark_listed(p.name);
    if (p.parameter->value().packed())
      fail<ConfigError>("[optimizer] '", p.name,
                        "' is packed and cannot be trained. Hint: train the model that "
                        "compact() was given");
    shapes_.push_back(p.parameter->value().shape());
    types_.push_back(type_index(p.parameter->value().dtype()));
    mask_seen_.push_back(p.parameter->mask_version());
  }
  measure_parameters();
  updates_.resize(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) mask_marks_.push_back(mark_of_mask(i));
  last_stage_.assign(parameters_.size(), none);

  std::vector<std::size_t> optimizers(parameters_.size(), none);
  const std::vector<std::string> names = chain.names();
  for (std::size_t t = 0; t < names.size(); ++t) {
    Stage stage = make_stage(chain.links()[t], names[t]);
    const bool constraint = stage.transform->is_constraint();
    if (!constraint && !stages_.empty() && stages_.back().transform->is_constraint())
      fail<ConfigError>("[optimizer] '", stage.name, "' changes gradients but stands behind '", stages_.back().name,
                        "', which changes values. Hint: put constraints last");
    if (stage.when && stage.transform->makes_update())
      fail<ConfigError>("[optimizer] '", stage.name,
                        "' makes the update, so it cannot be left out of some steps by when() or every()");
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!stage.selected[i]) continue;
      if (!constraint) last_stage_[i] = t;
      if (!stage.transform->makes_update()) continue;
      if (optimizers[i] != none)
        fail<ConfigError>("[optimizer] both '", names[optimizers[i]], "' and '", stage.name, "' update '",
                          parameters_[i].name, "'. Hint: on(select, ...) gives each its parameters");
      optimizers[i] = t;
    }
    const bool remembers = stage.stateful || !stage.transform->memory().empty();
    if (!updates && (remembers || constraint || stage.transform->makes_update()))
      fail<ConfigError>("[apply_to_gradients] '", stage.name, "' ",
                        constraint ? "changes values" : "remembers something from step to step or makes updates",
                        ". Hint: that needs an Optimizer");
    if (stage.transform->may_skip())
      for (const Stage& before : stages_)
        if (before.stateful)
          fail<ConfigError>("[optimizer] '", stage.name, "' may skip the step, so it must stand before '", before.name,
                            "', which remembers what it saw");
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

  choose_blocks();
  plan();
}

Pipeline::Pipeline(const Pipeline& from, std::vector<Shape> shapes)
    : parameters_(from.parameters_),
      shapes_(std::move(shapes)),
      types_(from.types_),
      last_stage_(from.last_stage_),
      hooks_(from.hooks_),
      listeners_(from.listeners_),
      blank_records_(from.blank_records_),
      options_(from.options_),
      goal_(from.goal_),
      step_(from.step_),
      backwards_(from.backwards_),
      skipped_(from.skipped_),
      skipped_in_a_row_(from.skipped_in_a_row_),
      updates_(from.updates_),
      mask_seen_(from.mask_seen_),
      mask_marks_(from.mask_marks_),
      broken_(from.broken_) {
  measure_parameters();
  for (const Stage& old : from.stages_) {
    Stage stage;
    stage.transform = old.transform->clone();
    stage.name = old.name;
    stage.when = old.when;
    stage.selected = old.selected;
    stage.record = old.record;
    settle(stage);
    stages_.push_back(std::move(stage));
  }
  choose_blocks();
  plan();
}

void Pipeline::measure_parameters() {
  for (const Shape& shape : shapes_) {
    sizes_.push_back(count(shape));
    units_.push_back(unit_of(shape));
  }
}

/// Blocks never cut a unit that fits into one.
void Pipeline::choose_blocks() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const bool by_unit = std::any_of(stages_.begin(), stages_.end(),
                                     [&](const Stage& s) { return s.span == Span::unit && s.selected[i]; });
    blocks_.push_back(by_unit && !is_long(i) ? kernels::block_size / units_[i] * units_[i] : kernels::block_size);
  }
}

bool Pipeline::is_long(std::size_t parameter) const { return units_[parameter] > kernels::block_size; }

Pipeline::Stage Pipeline::make_stage(const Link& link, std::string name) const {
  Stage stage;
  stage.transform = link.transform->clone();
  stage.transform->prepare(parameters_);
  stage.name = std::move(name);
  stage.when = link.when;
  for (const NamedParameter& p : parameters_) {
    stage.selected.push_back(link.select(p));
    if (stage.selected.back()) stage.transform->check(p);
  }
  settle(stage);
  return stage;
}

/// What follows from the transform and the parameters it works on.
void Pipeline::settle(Stage& stage) const {
  stage.keeps_zeros = stage.transform->keeps_zeros();
  stage.span = stage.transform->measures();
  stage.whole = stage.transform->grain() == Grain::tensor;
  stage.ahead = stage.span == Span::tensor || stage.span == Span::everything;
  if (stage.whole && stage.span == Span::unit)
    fail<ConfigError>("[optimizer] '", stage.name, "' cannot both measure units and want whole tensors");
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (stage.selected[i] && stage.span == Span::unit && is_long(i)) stage.ahead = true;
  stage.everyone = std::find(stage.selected.begin(), stage.selected.end(), 0) == stage.selected.end();
  add_states(stage);
  add_figures(stage);
}

void Pipeline::add_states(Stage& stage) const {
  for (const StateSpec& spec : stage.transform->states()) {
    StateBuffer buffer{spec.name, spec.shape, {}, {}};
    std::array<Index, 2> total{};
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      Index& end = total[static_cast<std::size_t>(types_[i])];
      buffer.begin.push_back(end);
      if (stage.selected[i]) end += (count(state_shape(spec.shape, i)) + 15) / 16 * 16;  // each begins on a cache line
    }
    for (std::size_t type = 0; type < 2; ++type)
      buffer.flat[type] = Tensor::zeros({total[type]}, type == 0 ? DType::f32 : DType::f64);
    stage.states.push_back(std::move(buffer));
  }
  stage.stateful = !stage.states.empty();
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    for (StateBuffer& buffer : stage.states) {
      const auto type = static_cast<std::size_t>(types_[i]);
      std::byte* base = buffer.flat[type].write_bytes("optimizer");
      stage.views.push_back({base ? base + buffer.begin[i] * size_of(buffer.flat[type].dtype()) : nullptr, buffer.shape,
                             count(state_shape(buffer.shape, i))});
    }
}

Shape Pipeline::state_shape(StateShape shape, std::size_t parameter) const {
  switch (shape) {
    case StateShape::like_weight:
      return shapes_[parameter];
    case StateShape::unit:
      return {sizes_[parameter] / units_[parameter]};
    case StateShape::column:
      return {sizes_[parameter] == 0 ? 0 : units_[parameter]};
    default:
      return {};
  }
}

void Pipeline::add_figures(Stage& stage) const {
  Index total = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    stage.first_figure.push_back(stage.span == Span::everything ? 0 : total);
    if (!stage.selected[i]) continue;
    if (stage.span != Span::unit)
      ++total;
    else if (is_long(i))
      total += sizes_[i] / units_[i];
  }
  if (stage.span == Span::everything) total = 1;
  stage.figures.resize(static_cast<std::size_t>(stage.span == Span::nothing ? 0 : total));
}

/// The end of the stages from `first` on that can be measured in one sweep: each works on parameters of its own.
std::size_t Pipeline::measured_together(std::size_t first, std::size_t end) const {
  std::size_t k = first + 1;
  const auto overlap = [&](const Stage& a, const Stage& b) {
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (a.selected[i] && b.selected[i]) return true;
    return false;
  };
  for (; k < end && stages_[k].ahead && !stages_[k].whole; ++k)
    for (std::size_t j = first; j < k; ++j)
      if (overlap(stages_[j], stages_[k])) return k;
  return k;
}

void Pipeline::plan() {
  std::size_t gradients = 0;  // number of gradient transforms
  while (gradients < stages_.size() && !stages_[gradients].transform->is_constraint()) ++gradients;
  plan_gradients(gradients);
  if (goal_ == Goal::update_values) plan_values(gradients);
  wants_dense_ =
      std::any_of(sweeps_.begin(), sweeps_.end(), [](const Sweep& s) { return s.store || (s.whole && !s.on_values); });

  if (options_.nonfinite == Nonfinite::propagate) return;
  Sweep& first = sweeps_.front();
  if (!first.measures() || first.writes()) {
    sweeps_.insert(sweeps_.begin(), Sweep{.check = true});
    return;
  }
  first.check = true;
  first.check_is_measure = std::all_of(stages_.begin(), stages_.begin() + static_cast<std::ptrdiff_t>(first.upto),
                                       [](const Stage& stage) { return stage.transform->passes_nonfinite(); });
  std::vector<std::uint8_t> seen(parameters_.size());
  for (std::size_t t = first.measure; t < first.measure_end; ++t) {
    first.check_is_measure &= stages_[t].transform->finds_nonfinite() && stages_[t].span != Span::unit;
    for (std::size_t i = 0; i < seen.size(); ++i) seen[i] |= stages_[t].selected[i];
  }
  first.check_is_measure &= std::find(seen.begin(), seen.end(), 0) == seen.end();
}

void Pipeline::plan_gradients(std::size_t gradients) {
  std::size_t from = 0;
  const auto stateful = [&](std::size_t upto) {
    return std::any_of(stages_.begin() + static_cast<std::ptrdiff_t>(from),
                       stages_.begin() + static_cast<std::ptrdiff_t>(upto), [](const Stage& s) { return s.stateful; });
  };
  for (std::size_t t = 0; t < gradients;) {
    const bool whole = stages_[t].whole;
    std::size_t next = t + 1;
    if (stages_[t].ahead) {
      if (!whole) next = measured_together(t, gradients);
      const bool store = whole || stateful(t);
      sweeps_.push_back({.from = from, .upto = t, .measure = t, .measure_end = next, .store = store});
      if (store) from = t;
    }
    if (whole) {
      if (from < t) sweeps_.push_back({.from = from, .upto = t, .store = true});
      sweeps_.push_back({.whole = true, .from = t, .upto = t + 1, .store = true});
      from = t + 1;
    }
    t = next;
  }
  if (goal_ == Goal::update_values)
    sweeps_.push_back({.from = from, .upto = gradients, .apply = true});
  else
    sweeps_.push_back({.from = from, .upto = gradients, .store = true});
}

void Pipeline::plan_values(std::size_t first_constraint) {
  const auto cuts = [&](std::size_t t) { return stages_[t].ahead || stages_[t].whole; };
  const auto next_cut = [&](std::size_t t) {
    while (t < stages_.size() && !cuts(t)) ++t;
    return t;
  };
  std::size_t t = next_cut(first_constraint);
  sweeps_.back().constraints_upto = t;
  while (t < stages_.size()) {
    std::size_t upto = t + 1;
    if (stages_[t].ahead) {
      if (!stages_[t].whole) upto = measured_together(t, stages_.size());
      if (sweeps_.back().whole) sweeps_.push_back({.on_values = true, .from = t, .upto = t});
      sweeps_.back().measure = t;
      sweeps_.back().measure_end = upto;
    }
    if (stages_[t].whole) {
      sweeps_.push_back({.on_values = true, .whole = true, .from = t, .upto = upto});
      t = upto;
      upto = next_cut(t);
      if (upto > t) sweeps_.push_back({.on_values = true, .from = t, .upto = upto});
    } else {
      upto = next_cut(upto);
      sweeps_.push_back({.on_values = true, .from = t, .upto = upto});
    }
    t = upto;
  }
}

std::string Pipeline::describe(const Stage& stage) const {
  std::string text = stage.name;
  if (const std::string settings = stage.transform->settings(); !settings.empty()) text += "(" + settings + ")";
  if (!stage.everyone)
    text += " on " + std::to_string(std::count(stage.selected.begin(), stage.selected.end(), 1)) + " of " +
            std::to_string(parameters_.size()) + " parameters";
  if (stage.whole) text += " (whole tensors)";
  if (stage.when) text += " (in some steps)";
  return text;
}

std::string Pipeline::describe() const {
  std::string text;
  int number = 0;
  if (options_.accumulate > 1)
    text += "every " + std::to_string(options_.accumulate) + " calls of step(), on the " +
            (options_.average ? "mean" : "sum") + " of the gradients:\n";
  for (const Sweep& s : sweeps_) {
    text += "sweep " + std::to_string(++number) + ":";
    const char* separator = " ";
    const auto add = [&](const std::string& what) {
      text += separator + what;
      separator = " > ";
    };
    if (s.check) add("finite check");
    if (!s.on_values && (s.upto > 0 || s.measures() || s.apply)) add("mask");
    for (std::size_t t = s.from; t < s.upto; ++t) add(describe(stages_[t]));
    if (s.apply) {
      add("apply");
      for (std::size_t t = s.upto; t < s.constraints_upto; ++t) add(describe(stages_[t]));
    }
    for (std::size_t t = s.measure; t < s.measure_end; ++t) add("measure " + stages_[t].name);
    if (s.store) add("store");
    if (s.apply || s.on_values) add("mask");
    text += "\n";
  }
  return text;
}

}  // namespace espalier::optim
