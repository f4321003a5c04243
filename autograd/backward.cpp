// The backward pass: a reverse loop over the nodes of a tape.
#include <algorithm>
#include <numeric>

#include "espalier/autograd/detail/tape_store.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/row_sparse.h"

namespace espalier {

namespace {

/// Thrown by Saved, which does not know its node, and completed by the pass, which does.
struct SavedChanged {
  const char* writer;
  Shape shape;
};

void check_scalar(const char* who, const Variable& v) {
  if (v.size() != 1)
    fail<ShapeError>("[", who, "] needs a value with one element, got shape ", v.shape(), ". Hint: sum() or mean() it");
}

/// A sum of gradients that may be written into.
bool is_own(const Tensor& sum) { return sum.defined() && !sum.packed() && sum.sole_owner() && sum.is_contiguous(); }

}  // namespace

void Saved::refuse() const { throw SavedChanged{variable_.value().writer(), variable_.shape()}; }

/// One walk in reverse over what stands between the youngest output and the oldest target, both given as slots.
class Tape::Pass {
 public:
  Pass(Tape& tape, BackwardOptions options, std::uint32_t lowest, std::uint32_t top)
      : tape_(tape),
        store_(*tape.store_),
        keep_(options.retain || options.create_graph),
        create_graph_(options.create_graph),
        observed_(!store_.observers.empty()),
        first_node_(tape.node_of(lowest)),
        end_node_(tape.node_of(top) + 1) {
    if (store_.gradients.size() <= top) store_.gradients.resize(top + 1);
    store_.lowest = lowest;
    store_.top = top;
    store_.running = true;
    if (create_graph_) innermost_.recording = &tape;
  }
  /// Without `keep` the tape is spent, also when a rule threw: half the saved tensors are gone by then.
  ~Pass() {
    store_.running = false;
    store_.incoming.clear();
    if (!done_) {
      store_.drop_gradients();
      for (Variable& result : store_.results) result = {};
    }
    if (keep_) return;
    tape_.spend();
    store_.free_closures();  // of nodes that were not reached
    store_.hooks.clear();
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  /// Marks what leads to the targets; without any, everything.
  void mark(std::span<const std::uint32_t> targets);
  /// Adds to what has come for a slot.
  void add(std::uint32_t slot, Variable gradient);
  /// Walks all nodes, calling hooks on the way. What came for leaves and targets remains in the store.
  void walk();

 private:
  void walk(std::size_t end, std::size_t begin);
  bool collect(const Store::Node& node);
  bool find_wants(const Store::Node& node);
  void apply_rule(std::size_t number, const Store::Node& node);
  void run_hooks(std::span<const std::uint32_t> hooks);
  bool needs(std::uint32_t slot) const noexcept { return slot != constant && store_.has_use(slot, Store::needed); }

  Tape& tape_;
  Store& store_;
  const NoTape quiet_ = {};  // which a tape that ends meanwhile takes itself out of
  const bool keep_, create_graph_, observed_;
  const std::size_t first_node_, end_node_;
  bool done_ = false;
};

void Tape::Pass::mark(std::span<const std::uint32_t> targets) {
  Store& s = store_;
  s.uses.assign(s.top - s.lowest + 1, targets.empty() ? Store::needed : 0);
  if (targets.empty()) return;
  for (const std::uint32_t target : targets)
    if (target <= s.top) s.uses[target - s.lowest] = Store::needed | Store::target;
  for (std::size_t i = first_node_; i < end_node_; ++i)
    if (find_wants(s.nodes[i]))
      for (std::uint32_t o = 0; o < s.nodes[i].outputs; ++o)
        if (const std::uint32_t slot = s.nodes[i].first_output + o; slot <= s.top)
          s.uses[slot - s.lowest] |= Store::needed;
}

void Tape::Pass::add(std::uint32_t slot, Variable gradient) {
  Variable& sum = store_.gradients[slot];
  if (!sum.defined()) {
    sum = std::move(gradient);
    store_.filled.push_back(slot);
  } else if (sum.value_.packed() || gradient.value_.packed())
    sum = Variable(add_row_sparse(std::move(sum.value_), std::move(gradient.value_)));
  else if (!create_graph_ && is_own(sum.value_))
    add_in_place(sum.value_, gradient.value());
  else
    sum = sum + gradient;
}

/// Takes what has come for the outputs of a node; false if nothing has, or nothing that is to flow on.
bool Tape::Pass::collect(const Store::Node& node) {
  Store& s = store_;
  s.incoming.clear();
  bool any = false;
  for (std::uint32_t slot = node.first_output; slot < node.first_output + node.outputs; ++slot) {
    if (slot > s.top) {
      s.incoming.emplace_back();
      continue;
    }
    const bool stays = s.has_use(slot, Store::target);
    s.incoming.push_back(stays ? s.gradients[slot] : std::exchange(s.gradients[slot], {}));
    any = any || (s.incoming.back().defined() && needs(slot));
  }
  return any;
}

/// Which inputs of a node lead to a target; false if none does.
bool Tape::Pass::find_wants(const Store::Node& node) {
  store_.wants.assign(node.inputs, 0);
  bool any = false;
  for (std::uint32_t k = 0; k < node.inputs; ++k)
    if (needs(store_.inputs[node.first_input + k])) store_.wants[k] = any = true;
  return any;
}

/// Calls the rule of a node on what was collected, and adds what it returns to the gradients of its inputs.
void Tape::Pass::apply_rule(std::size_t number, const Store::Node& node) {
  Store& s = store_;
  if (s.results.size() < node.inputs) s.results.resize(node.inputs);
  const std::span<Variable> results(s.results.data(), node.inputs);
  if (node.rule.adds && !create_graph_ && !observed_)
    if (Variable& sum = s.gradients[s.inputs[node.first_input]]; is_own(sum.value_)) results[0] = std::move(sum);
  try {
    node.rule.run(node.rule.closure, s.incoming, Wants(s.wants), results);
  } catch (const SavedChanged& changed) {
    fail<GradError>("[", node.op, "] a tensor of shape ", changed.shape,
                    " saved for its backward was since changed in place by [", changed.writer,
                    "]. Hint: run backward before the change, or change a clone()");
  }
  if (observed_) [[unlikely]]
    for (TapeObserver* observer : s.observers) observer->returned(s.view(number), s.incoming, results);
  s.incoming.clear();  // gives its storage back before the sums, which may then reuse it
  for (std::uint32_t k = 0; k < node.inputs; ++k) {
    Variable gradient = std::exchange(s.results[k], {});
    if (!s.wants[k] || !gradient.defined()) continue;
    const std::uint32_t in = s.inputs[node.first_input + k];
    if (detail::form_of(gradient.value_) != s.forms[in]) [[unlikely]]
      fail<ShapeError>("[", node.op, "] its rule returned a gradient of shape ", gradient.shape(), " and type ",
                       gradient.dtype(), " for input ", k,
                       ", which has another shape or type. Hint: sum_to(g, x.shape())");
    add(in, std::move(gradient));
  }
}

/// Nodes begin to end, from the end.
void Tape::Pass::walk(std::size_t end, std::size_t begin) {
  for (std::size_t i = end; i-- > begin;) {
    const Store::Node node = store_.nodes[i];  // a copy: with create_graph the vector grows meanwhile
    if (node.rule.run == nullptr || node.first_output > store_.top || !collect(node)) continue;
    if (find_wants(node)) apply_rule(i, node);
    store_.incoming.clear();
    if (!keep_) {
      store_.nodes[i].rule.closure = nullptr;
      node.rule.destroy(node.rule.closure);
    }
  }
}

void Tape::Pass::walk() {
  Store& s = store_;
  std::size_t at = end_node_;
  if (!s.hooks.empty()) [[unlikely]] {  // the walk stops at each node that has any
    std::vector<std::uint32_t> order(s.hooks.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return s.hooks[a].node > s.hooks[b].node; });
    for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
      const std::uint32_t node = s.hooks[order[first]].node;
      while (last < order.size() && s.hooks[order[last]].node == node) ++last;
      walk(at, std::size_t{node} + 1);
      run_hooks({order.data() + first, last - first});
      at = std::size_t{node} + 1;
    }
  }
  walk(at, first_node_);
  done_ = true;
}

/// Runs these hooks, all of one node, on the gradients that have come for its outputs.
void Tape::Pass::run_hooks(std::span<const std::uint32_t> hooks) {
  Store& s = store_;
  for (std::uint32_t k : hooks) {
    const Store::HookEntry entry = s.hooks[k];  // a copy: a hook may add others
    if (entry.hook->removed || !needs(entry.slot) || !s.gradients[entry.slot].defined()) continue;
    const Tensor& came = s.gradients[entry.slot].value();
    const Variable gradient = came.packed() ? Variable(came.densify()) : s.gradients[entry.slot];
    Variable changed = entry.hook->function(gradient);
    const char* op = s.nodes[entry.node].op;
    if (!changed.defined())
      fail<GradError>("[hook] a hook on an output of [", op,
                      "] returned no gradient. Hint: return g as it is, or g * 0 to stop it");
    if (!(changed.shape() == gradient.shape()))
      fail<ShapeError>("[hook] a hook on an output of [", op, "] was given a gradient of shape ", gradient.shape(),
                       " and returned ", changed.shape());
    if (changed.dtype() != gradient.dtype())
      fail<DTypeError>("[hook] a hook on an output of [", op, "] was given a gradient of ", gradient.dtype(),
                       " and returned ", changed.dtype());
    s.gradients[entry.slot] = create_graph_ ? std::move(changed) : changed.detach();
  }
}

/// Walks in reverse from `from`, seeded with `seeds`; with targets, only through what leads to them. The gradients of
/// leaves and targets remain in the store.
void Tape::run(std::span<const Variable> from, std::span<const Variable> seeds, BackwardOptions options,
               std::span<const std::uint32_t> targets) {
  const char* who = targets.empty() ? "backward" : "gradient";
  check_usable(who);
  if (store_->running)
    fail<GradError>("[", who,
                    "] called by a hook or a rule while a backward of the same tape runs. Hint: a Tape of its own");
  std::uint32_t top = 0;
  for (const Variable& v : from) {
    if (!v.recorded())
      fail<GradError>("[", who,
                      "] the value was not recorded: no Tape was alive when it was computed, or it depends on "
                      "no parameter that trains (frozen ones are constants) and no watched tensor");
    top = std::max(top, checked_slot(v, who));
  }
  const std::uint32_t lowest = targets.empty() ? 0 : *std::min_element(targets.begin(), targets.end());
  Pass pass(*this, options, std::min(lowest, top), top);
  pass.mark(targets);
  for (std::size_t k = 0; k < from.size(); ++k) pass.add(from[k].slot_, seeds[k]);
  pass.walk();
}

void Tape::backward(const Variable& loss, BackwardOptions options) {
  check_scalar("backward", loss);
  const Variable one(Tensor::ones(loss.shape(), loss.dtype()));
  run({&loss, 1}, {&one, 1}, options, {});
  const ParameterState* unlisted = nullptr;
  const ParameterState* listed = nullptr;
  Store& s = *store_;
  for (const Store::Leaf& leaf : s.leaves) {
    if (leaf.slot >= s.gradients.size() || !s.gradients[leaf.slot].defined()) continue;
    (leaf.parameter->listed() ? listed : unlisted) = leaf.parameter.get();
  }
  if (unlisted && listed) {
    const Shape shape = unlisted->value().shape();
    s.drop_gradients();
    fail<GradError>("[backward] a parameter of shape ", shape,
                    " received a gradient, but no module lists it, while others in the same backward are listed. "
                    "Hint: add it to members(); if a module was copied, use the original by reference; what is not "
                    "to be trained, as all of a model but its head, is frozen with freeze()");
  }
  std::vector<ParameterRef> hooked;
  for (const Store::Leaf& leaf : s.leaves) {
    if (leaf.slot >= s.gradients.size() || !s.gradients[leaf.slot].defined()) continue;
    Variable gradient = std::exchange(s.gradients[leaf.slot], {});
    leaf.parameter->accumulate(std::move(gradient.value_));
    if (leaf.parameter->has_hooks()) [[unlikely]]
      hooked.push_back(leaf.parameter);
  }
  s.drop_gradients();
  if (hooked.empty()) return;
  const NoTape quiet;
  for (const ParameterRef& parameter : hooked) parameter->run_hooks();
}

std::vector<Variable> Tape::gradient(std::span<const Variable> outputs, std::span<const Variable> weights,
                                     std::span<const Variable> inputs, BackwardOptions options) {
  check_usable("gradient");
  if (outputs.size() != weights.size())
    fail<ShapeError>("[gradient] ", outputs.size(), " outputs but ", weights.size(), " weights");
  for (std::size_t k = 0; k < outputs.size(); ++k)
    if (!(outputs[k].shape() == weights[k].shape()) || outputs[k].dtype() != weights[k].dtype())
      fail<ShapeError>("[gradient] the weight of output ", k, " has shape ", weights[k].shape(), " and type ",
                       weights[k].dtype(), ", the output ", outputs[k].shape(), " and ", outputs[k].dtype());
  std::vector<std::uint32_t> targets;
  for (const Variable& v : inputs) {
    if (checked_slot(v, "gradient") == constant)
      fail<GradError>("[gradient] an input of shape ", v.shape(),
                      " is not on the tape. Hint: x = tape.watch(tensor); for parameters, hand over the list of them: "
                      "a Variable made of one under NoTape is a constant");
    targets.push_back(v.slot_);
  }
  if (targets.empty() || outputs.empty()) return std::vector<Variable>(inputs.size());
  run(outputs, weights, options, targets);
  Store& s = *store_;
  std::vector<Variable> result;
  for (std::uint32_t target : targets) {
    result.push_back(target < s.gradients.size() ? s.gradients[target] : Variable());
    if (result.back().value().packed()) result.back() = result.back().value().densify();
  }
  s.drop_gradients();
  return result;
}

std::vector<Variable> Tape::gradient(const Variable& output, std::span<const Variable> inputs,
                                     BackwardOptions options) {
  check_scalar("gradient", output);
  const Variable one(Tensor::ones(output.shape(), output.dtype()));
  return gradient({&output, 1}, {&one, 1}, inputs, options);
}

std::vector<Variable> Tape::gradient(const Variable& output, const ParameterList& inputs, BackwardOptions options) {
  std::vector<Variable> leaves;
  for (const NamedParameter& named : inputs) leaves.push_back(leaf(named.parameter));
  return gradient(output, leaves, options);
}

}  // namespace espalier
