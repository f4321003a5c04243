// What is saved of a pipeline, and what a changed mask does to its states.
#include <algorithm>
#include <utility>

#include "espalier/optim/detail/blocks.h"
#include "espalier/optim/detail/pipeline.h"

namespace espalier::optim {

using detail::by_type, detail::for_each_block;

Tensor Pipeline::StateBuffer::of(const Shape& state, int type, std::size_t parameter) const {
  const Tensor& all = flat[static_cast<std::size_t>(type)];
  return all.as_strided(state, row_major(state), begin[parameter]);
}

template <class F>
void Pipeline::for_each_state(F f) const {
  for (const Stage& stage : stages_)
    for (const StateBuffer& buffer : stage.states)
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        if (stage.selected[i])
          f(stage.name + "/" + buffer.name + "/" + parameters_[i].name,
            buffer.of(state_shape(buffer.shape, i), types_[i], i));
}

OptimizerState Pipeline::state() const {
  OptimizerState state;
  state["step"] = Tensor::from<std::int64_t>({step_}, {});
  state["skipped"] = Tensor::from<std::int64_t>({skipped_, skipped_in_a_row_}, {2});
  state["updates"] = Tensor::from(updates_, {static_cast<Index>(updates_.size())});
  state["masks"] = Tensor::from(mask_marks_, {static_cast<Index>(mask_marks_.size())});
  for_each_state([&](const std::string& key, const Tensor& view) { state[key] = view.clone(); });
  for (const Stage& stage : stages_)
    for (auto& [key, tensor] : stage.transform->memory()) state[stage.name + "/" + key] = tensor;
  return state;
}

Tensor Pipeline::state(const std::string& transform, const std::string& name, std::size_t parameter) const {
  for (const Stage& stage : stages_)
    for (const StateBuffer& buffer : stage.states)
      if (stage.name == transform && buffer.name == name && stage.selected.at(parameter))
        return buffer.of(state_shape(buffer.shape, parameter), types_[parameter], parameter).clone();
  fail<ConfigError>("[state] '", transform, "/", name, "' of '", parameters_.at(parameter).name,
                    "' does not exist. Hint: state() lists all");
}

Memory Pipeline::memory(const std::string& transform) const {
  for (const Stage& stage : stages_)
    if (stage.name == transform) return stage.transform->memory();
  fail<ConfigError>("[memory] the chain has no '", transform, "'. Hint: describe() shows the names");
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

  std::vector<std::int64_t> updates = given.at("updates").to_vector<std::int64_t>();
  const std::vector<std::int64_t> skipped = given.at("skipped").to_vector<std::int64_t>();
  const std::int64_t step = given.at("step").to_vector<std::int64_t>().front();
  if (step < 0 || std::any_of(updates.begin(), updates.end(), [&](std::int64_t n) { return n < 0 || n > step; }))
    fail<ConfigError>("[load_state] 'step' and 'updates' contradict each other");
  if (skipped[1] < 0 || skipped[0] < skipped[1])
    fail<ConfigError>("[load_state] 'skipped' counts ", skipped[1], " in a row and ", skipped[0], " in all");
  std::vector<std::pair<Stage*, Memory>> memories;
  for (Stage& stage : stages_) {
    Memory memory = stage.transform->memory();
    if (memory.empty()) continue;
    for (auto& [key, tensor] : memory) tensor = given.at(stage.name + "/" + key);
    stage.transform->clone()->set_memory(memory);  // throws, if at all, before anything was changed
    memories.emplace_back(&stage, std::move(memory));
  }

  step_ = step;
  backwards_ = 0;
  skipped_ = skipped[0];
  skipped_in_a_row_ = skipped[1];
  updates_ = std::move(updates);
  for (const auto& [stage, memory] : memories) stage->transform->set_memory(memory);
  for_each_state([&](const std::string& key, Tensor view) { view.copy_from(given.at(key), "load_state"); });
  mask_marks_ = given.at("masks").to_vector<std::int64_t>();
  for (std::size_t i = 0; i < parameters_.size();
       ++i)  // the masks may be those of the state, or others, or yet to come
    mask_seen_[i] = parameters_[i].parameter->mask_version() - 1;
  broken_ = false;
}

namespace {

/// What stays of a state of a parameter that had this shape.
Tensor left_of(const Tensor& state, StateShape kind, const Shape& shape, const KeptAxes& kept) {
  switch (kind) {
    case StateShape::like_weight:
      return taken(state, kept);
    case StateShape::unit:
      return shape.rank() >= 2 ? taken(state, {kept[0]}) : state;
    case StateShape::column:
      if (shape.rank() < 2) return taken(state, kept);
      return taken(state.reshape(Shape(shape.span().subspan(1))), KeptAxes(kept.begin() + 1, kept.end()));
    default:
      return state;
  }
}

}  // namespace

std::unique_ptr<Pipeline> Pipeline::with_cuts(std::span<const ParameterCut> cuts) const {
  std::vector<Shape> shapes = shapes_;
  std::vector<const ParameterCut*> cut(parameters_.size(), nullptr);
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    for (const ParameterCut& c : cuts) {
      if (c.parameter != parameters_[i].parameter) continue;
      if (static_cast<int>(c.kept.size()) != shapes[i].rank())
        fail<ConfigError>("[cut] '", parameters_[i].name, "' has the shape ", shapes[i], ", and what stays is of ",
                          c.kept.size(), " axes");
      cut[i] = &c;
      for (std::size_t axis = 0; axis < c.kept.size(); ++axis)
        if (c.kept[axis]) shapes[i][static_cast<int>(axis)] = static_cast<Index>(c.kept[axis]->size());
    }
  std::unique_ptr<Pipeline> next(new Pipeline(*this, std::move(shapes)));
  for (std::size_t s = 0; s < stages_.size(); ++s)
    for (std::size_t k = 0; k < stages_[s].states.size(); ++k) {
      const StateBuffer &from = stages_[s].states[k], &to = next->stages_[s].states[k];
      for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (!stages_[s].selected[i] || next->sizes_[i] == 0) continue;
        const Tensor old = from.of(state_shape(from.shape, i), types_[i], i);
        Tensor view = to.of(next->state_shape(to.shape, i), types_[i], i);
        const Tensor left = cut[i] ? left_of(old, from.shape, shapes_[i], cut[i]->kept) : old;
        view.copy_from(left.reshape(view.shape()), "cut");
      }
    }
  return next;
}

std::vector<std::uint8_t> Pipeline::unseen_masks() const {
  std::vector<std::uint8_t> unseen;
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    unseen.push_back(parameters_[i].parameter->mask_version() != mask_seen_[i]);
  return unseen;
}

void Pipeline::follow_masks(const std::vector<std::uint8_t>& unseen) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    mask_seen_[i] = parameters_[i].parameter->mask_version() - (unseen[i] != 0);
    mask_marks_[i] = unseen[i] ? ~mark_of_mask(i) : mark_of_mask(i);
  }
}

bool Pipeline::has_hard_mask(std::size_t i) const {
  const ParameterState& p = *parameters_[i].parameter;
  return p.mask().defined() && p.mask_mode() == MaskMode::hard && sizes_[i] > 0;
}

void Pipeline::zero_dead_states(std::size_t i) {
  if (!has_hard_mask(i)) return;
  const std::uint64_t* mask = parameters_[i].parameter->mask().words().data();
  by_type(types_[i], [&]<class T>() {
    for (const Stage& stage : stages_)
      for (std::size_t k = 0; stage.selected[i] && k < stage.states.size(); ++k) {
        const StateView& view = stage.views[i * stage.states.size() + k];
        if (view.shape != StateShape::like_weight) continue;
        for_each_block(0, sizes_[i], kernels::block_size, [&](Index at, Index size) {
          kernels::step<T>().mask_zero(static_cast<T*>(view.first) + at, mask + at / 64, size);
        });
      }
  });
}

std::int64_t Pipeline::mark_of_mask(std::size_t i) const {
  if (!has_hard_mask(i)) return 0;
  std::uint64_t mark = 14695981039346656037u;  // Fowler, Noll and Vo's hash, a word at a time
  for (std::uint64_t word : parameters_[i].parameter->mask().words()) mark = (mark ^ word) * 1099511628211u;
  return static_cast<std::int64_t>(mark);
}

void Pipeline::fit_states_to_masks() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::uint32_t version = parameters_[i].parameter->mask_version();
    if (std::exchange(mask_seen_[i], version) == version) continue;
    zero_dead_states(i);
    const std::int64_t mark = mark_of_mask(i);  // set again, as by loading, a mask is no new one
    if (std::exchange(mask_marks_[i], mark) == mark || mark == 0) continue;
    by_type(types_[i], [&]<class T>() {
      Block<T> whole = whole_block<T>(make_row(i));
      for (const Stage& stage : stages_) {
        if (!stage.selected[i] || !stage.stateful) continue;
        whole.states_ = stage.views.data() + i * stage.states.size();
        stage.transform->mask_changed(whole);
      }
    });
  }
}

}  // namespace espalier::optim
