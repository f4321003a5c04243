#include "espalier/nn/summary.h"

#include <algorithm>
#include <optional>
#include <ostream>
#include <unordered_map>
#include <utility>

#include "espalier/autograd/macs.h"
#include "espalier/core/table.h"

namespace espalier::nn {
namespace {

/// The layers of a model as it lists them.
class Outline final : public Visitor {
 public:
  explicit Outline(const Module& model) {
    on_module("", const_cast<Module&>(model));
    const_cast<Module&>(model).members(*this);
  }

  struct Layer {
    LayerSummary row;
    bool has_modules = false;
    bool worked = false;   // ran ops that count, of its own
    bool forward = false;  // ran in Module::forward
  };
  std::vector<Layer> layers;
  std::unordered_map<const Module*, std::size_t> place_of;
  struct Owned {
    std::size_t layer;
    double density;  // the share of it that is live
  };
  std::unordered_map<const ParameterState*, Owned> owner_of;

  /// `name` is that of this layer or of one below it.
  bool holds(std::size_t layer, const std::string& name) const {
    const std::string& path = layers[layer].row.name;
    return path.empty() || name == path || name.starts_with(path + ".");
  }

 private:
  void on_module(const std::string& name, Module& module) override {
    for (std::size_t k = layers.size(); k-- > 0;)
      if (holds(k, name)) {
        layers[k].has_modules = true;
        break;
      }
    if (!place_of.emplace(&module, layers.size()).second) return;  // one held twice has the place it is listed at first
    Layer& layer = layers.emplace_back();
    layer.row.name = name;
    layer.row.type = module.type_name();
  }
  void on_parameter(const std::string& name, Parameter& parameter) override {
    const ParameterState* state = parameter.ref().get();
    std::size_t owner = layers.size() - 1;  // the deepest layer whose path leads to it
    while (!holds(owner, name)) --owner;
    const Index all = state->value().size(), live = live_weights(*state);
    if (!owner_of.emplace(state, Owned{owner, live_share(*state)}).second)
      return;  // a tied one counts where it is listed first
    LayerSummary& row = layers[owner].row;
    row.parameters += all;
    row.live += live;
    if (state->frozen()) row.frozen += state->value().size();
  }
};

/// Counts what the tape records, for the layer that runs.
class Counter final : public TapeObserver, public ModuleTrace {
 public:
  Counter(Outline& outline, const Tape& tape) : outline_(outline), tape_(tape) {}

  void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    if (node.inputs.empty()) return;  // a leaf
    std::size_t layer = running_.empty() ? 0 : running_.back();
    double density = 1;
    Index largest = -1;
    for (const std::uint32_t slot : node.inputs) {
      const ParameterRef parameter = slot == Tape::constant ? nullptr : tape_.parameter_of(slot);
      if (!parameter) continue;
      const auto owner = outline_.owner_of.find(parameter.get());
      if (owner == outline_.owner_of.end()) continue;
      if (outline_.holds(layer, outline_.layers[owner->second.layer].row.name))
        layer = owner->second.layer;  // it runs its op without Module::forward
      const Index all = parameter->value().size();
      if (all <= largest) continue;
      largest = all;
      density = owner->second.density;
    }
    LayerSummary& row = outline_.layers[layer].row;
    if (!outline_.layers[layer].forward) {  // nobody says what its output is
      row.output = outputs[0].shape();
      row.ran = true;
    }
    last_ = outputs[0].shape();
    const std::optional<double> macs = multiply_adds(node.op, inputs, outputs);
    if (!macs) return;
    row.macs += *macs;
    row.live_macs += *macs * density;
    outline_.layers[layer].worked = true;
  }

  void entered(const Module& module) override {
    const auto at = outline_.place_of.find(&module);
    const bool listed = at != outline_.place_of.end();
    running_.push_back(listed ? at->second : running_.empty() ? 0 : running_.back());
    if (listed) outline_.layers[at->second].forward = true;
  }
  void left(const Module& module, const Variable& output) noexcept override {
    running_.pop_back();
    const auto at = outline_.place_of.find(&module);
    if (at == outline_.place_of.end()) return;
    LayerSummary& row = outline_.layers[at->second].row;
    row.output = output.defined() ? output.shape() : last_;
    row.ran = true;
  }

 private:
  Outline& outline_;
  const Tape& tape_;
  std::vector<std::size_t> running_;
  Shape last_;
};

/// While in scope, packed weights are dense, for what is packed cannot be recorded.
class Densified final {
 public:
  explicit Densified(const Module& model) {
    for (const NamedParameter& named : model.parameters())
      if (named.parameter->value().packed()) others_.emplace_back(named.parameter, named.parameter->value().densify());
    exchange();  // where nothing can fail any more
  }
  ~Densified() { exchange(); }
  Densified(const Densified&) = delete;
  Densified& operator=(const Densified&) = delete;

 private:
  void exchange() noexcept {
    for (auto& [parameter, value] : others_) std::swap(parameter->mutable_value(), value);
  }
  std::vector<std::pair<ParameterRef, Tensor>> others_;  // dense ones, then the packed ones they stand for
};

std::string shape_cell(const LayerSummary& row) { return row.ran ? join(row.output) : "-"; }
std::string sparsity_cell(const LayerSummary& row) {
  return row.parameters > 0 ? percent(1 - static_cast<double>(row.live) / static_cast<double>(row.parameters)) : "";
}
std::string count_cell(double n) { return grouped(static_cast<long long>(n + 0.5)); }

}  // namespace

namespace detail {

Summary summarize(const Module& model, const std::function<Variable(Tape&)>& run) {
  Outline outline(model);
  Summary summary;
  LayerSummary& total = summary.total;
  {
    const EvalMode eval(model);
    const Densified dense(model);
    Tape tape;
    tape.record_frozen();
    Counter counter(outline, tape);
    tape.observe(counter);
    const Variable output = run(tape);
    tape.unobserve(counter);
    LayerSummary& whole = outline.layers[0].row;
    if (output.defined()) {
      whole.ran = true;
      whole.output = output.shape();
    }
    total.ran = whole.ran;
    total.output = whole.output;
    total.type = whole.type;
  }
  total.name = "total";
  for (Outline::Layer& layer : outline.layers) {
    const LayerSummary& row = layer.row;
    total.parameters += row.parameters;
    total.live += row.live;
    total.frozen += row.frozen;
    total.macs += row.macs;
    total.live_macs += row.live_macs;
    if (row.parameters > 0 || layer.worked || !layer.has_modules) summary.layers.push_back(std::move(layer.row));
  }
  return summary;
}

}  // namespace detail

std::string Summary::to_string() const {
  const bool pruned = total.live < total.parameters;
  std::vector<std::string> header = {"<layer", "<type", "<output", "parameters", "sparsity", "MACs"};
  if (pruned) header.emplace_back("live MACs");
  Table table(header);
  auto add = [&](const LayerSummary& row, const std::string& name, const std::string& type) {
    std::vector<std::string> cells = {name,
                                      type,
                                      shape_cell(row),
                                      grouped(row.parameters) + (row.frozen > 0 ? " (frozen)" : ""),
                                      sparsity_cell(row),
                                      count_cell(row.macs)};
    if (pruned) cells.push_back(count_cell(row.live_macs));
    table.add(std::move(cells));
  };
  for (const LayerSummary& row : layers) add(row, row.name.empty() ? "(the model)" : row.name, row.type);
  table.add({});
  LayerSummary sum = total;
  sum.frozen = 0;
  add(sum, "total", "");
  std::string text = table.to_string();
  if (total.frozen > 0) text += join("frozen: ", grouped(total.frozen), " of ", grouped(total.parameters), "\n");
  return text;
}

std::ostream& operator<<(std::ostream& out, const Summary& summary) { return out << summary.to_string(); }

}  // namespace espalier::nn
