#include "espalier/autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/replay.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/row_sparse.h"

namespace espalier {

thread_local constinit Tape::Innermost Tape::innermost_ = {};

/// The memory of a tape. When the tape ends its thread keeps it for the next one, so a warm step allocates nothing.
struct Tape::Store {
  struct Node {
    const char* op;
    Rule rule;  // its closure is null for a leaf, or once freed
    std::uint32_t first_input, inputs, first_output, outputs;
  };
  struct Leaf {
    ParameterRef parameter;
    std::uint32_t slot;
  };

  struct HookEntry {
    std::uint32_t node, slot;
    std::shared_ptr<detail::HookFunction<Variable(const Variable&)>> hook;
  };

  /// Settings stand apart from the nodes, most of which have none.
  struct SettingsEntry {
    std::uint32_t node, first, count;
  };
  std::span<const Index> settings_of(std::size_t i) const noexcept {
    const auto at = std::lower_bound(settings_entries.begin(), settings_entries.end(), i,
                                     [](const SettingsEntry& e, std::size_t node) { return e.node < node; });
    if (at == settings_entries.end() || at->node != i) return {};
    return {settings.data() + at->first, at->count};
  }
  RecordedOp view(std::size_t i) const noexcept {
    const Node& node = nodes[i];
    return {node.op,
            {inputs.data() + node.first_input, node.inputs},
            node.first_output,
            node.outputs,
            static_cast<std::uint32_t>(i),
            settings_of(i)};
  }

  std::vector<Node> nodes;
  std::vector<std::uint32_t> inputs;  // all nodes' input slots, one after the other
  std::uint32_t slots = 0;            // outputs so far
  std::vector<std::uint64_t> forms;   // per slot: stands for its shape and type
  std::vector<Variable> gradients;    // per slot, filled by run(); between passes all are undefined
  std::vector<std::uint32_t> filled;  // the slots of those that are not, or were not for a while
  std::uint32_t lowest = 0, top = 0;  // slots that the pass goes through
  std::vector<std::uint8_t> uses;     // per slot from the lowest on: bits of Use
  std::vector<std::uint8_t> wants;    // of the node that runs
  std::vector<Variable> incoming;     // of the node that runs: what came for its outputs,
  std::vector<Variable> results;      // and what its rule returns
  std::vector<Leaf> leaves;
  std::vector<std::uint32_t> leaf_table;  // open addressing: parameter -> leaf + 1
  std::vector<TapeObserver*> observers;
  std::vector<HookEntry> hooks;
  std::vector<SettingsEntry> settings_entries;  // ascending by node
  std::vector<Index> settings;
  bool running = false;                              // run() is on its way; its scratch above is taken
  std::vector<std::unique_ptr<std::byte[]>> chunks;  // the closures' arena; a chunk never moves
  std::size_t chunk = 0, used = 0;
  Store* next = nullptr;  // the thread's spare stores
  static constexpr std::size_t chunk_bytes = std::size_t{1} << 16;

  enum Use : std::uint8_t { needed = 1, target = 2 };  // it leads to a wanted input; it is one
  bool has_use(std::uint32_t slot, Use use) const noexcept {
    return slot >= lowest && slot <= top && (uses[slot - lowest] & use) != 0;
  }
  void drop_gradients() noexcept {
    for (const std::uint32_t slot : filled) gradients[slot] = {};
    filled.clear();
  }

  void free_closures() noexcept {  // a loop, not recursion: a chain may be millions of nodes long
    for (Node& node : nodes)
      if (void* closure = std::exchange(node.rule.closure, nullptr)) node.rule.destroy(closure);
  }
  void clear() noexcept {
    free_closures();
    nodes.clear();
    inputs.clear();
    forms.clear();
    drop_gradients();
    observers.clear();
    hooks.clear();
    settings_entries.clear();
    settings.clear();
    slots = 0;
    if (!leaves.empty()) {
      leaves.clear();
      std::fill(leaf_table.begin(), leaf_table.end(), 0u);
    }
    chunk = used = 0;
  }

  static std::size_t hash(const ParameterState* p) noexcept {
    return static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(p) * 0x9e3779b97f4a7c15ull >> 20);
  }
  /// The table entry of this parameter, 0 in it if it has no leaf yet.
  std::uint32_t& leaf_entry(const ParameterState* p) noexcept {
    for (std::size_t h = hash(p);; ++h) {
      std::uint32_t& entry = leaf_table[h & (leaf_table.size() - 1)];
      if (entry == 0 || leaves[entry - 1].parameter.get() == p) return entry;
    }
  }
  void grow_leaf_table() {
    if (leaf_table.size() >= 2 * (leaves.size() + 1)) return;
    leaf_table.assign(std::max<std::size_t>(64, 4 * leaf_table.size()), 0u);
    for (std::size_t i = 0; i < leaves.size(); ++i)
      leaf_entry(leaves[i].parameter.get()) = static_cast<std::uint32_t>(i + 1);
  }
};

namespace {

/// Tells shapes and types apart.
std::uint64_t form_of(const Tensor& t) noexcept {
  auto form = static_cast<std::uint64_t>(t.dtype()) * 16 + static_cast<std::uint64_t>(t.rank());
  for (const Index length : t.shape()) form = (form ^ static_cast<std::uint64_t>(length)) * 0x9e3779b97f4a7c15ull + 1;
  return form;
}

/// Thrown by Saved, which does not know its node, and completed by run(), which does.
struct SavedChanged {
  const char* writer;
  Shape shape;
};

/// Spare stores of a thread; freed with it.
struct Spares {
  void* head = nullptr;
  void (*free_all)(void*) = nullptr;
  ~Spares() {
    if (head) free_all(head);
    head = nullptr;
  }
};
thread_local Spares spares;

/// Ids are unique across threads: the thread's number above, a count below.
constexpr int thread_shift = 44;
std::uint64_t number_of_thread() {
  static std::atomic<std::uint64_t> threads_seen{0};
  thread_local const std::uint64_t number = ++threads_seen;
  return number;
}
std::uint64_t next_tape_id() {
  thread_local std::uint64_t tapes_opened = 0;
  return (number_of_thread() << thread_shift) + ++tapes_opened;
}

}  // namespace

Tape::Tape() : outer_(innermost_.alive), outer_recorded_(innermost_.recording != nullptr), id_(next_tape_id()) {
  store_ = static_cast<Store*>(spares.head);
  if (store_)
    spares.head = store_->next;
  else
    store_ = new Store;
  spares.free_all = [](void* head) {
    for (auto* store = static_cast<Store*>(head); store;) delete std::exchange(store, store->next);
  };
  innermost_.recording = innermost_.alive = this;
}

Tape::~Tape() {
  spend();
  for (Tape* tape = innermost_.alive; tape; tape = tape->outer_)  // those made within this one may outlive it
    if (tape->outer_ == this) {
      tape->outer_ = outer_;
      tape->outer_recorded_ = tape->outer_recorded_ && outer_recorded_;
    }
  store_->clear();
  store_->next = static_cast<Store*>(spares.head);
  spares.head = store_;
}

void Tape::spend() noexcept {
  if (std::exchange(spent_, true)) return;
  Tape* next = outer_;
  while (next && next->spent_) next = next->outer_;
  Tape* resumed = outer_recorded_ ? next : nullptr;
  if (innermost_.alive == this) innermost_.alive = next;
  if (innermost_.recording == this) innermost_.recording = resumed;
  for (NoTape* suspension = innermost_.suspension; suspension; suspension = suspension->outer_)
    if (suspension->resumes_ == this) suspension->resumes_ = resumed;
}

void Tape::check_usable(const char* who) const {
  if (id_ >> thread_shift != number_of_thread())
    fail<GradError>("[", who,
                    "] this tape belongs to another thread. Hint: a Tape for each thread, made, used and ended there");
  if (spent_)
    fail<GradError>("[", who,
                    "] backward ran on this tape already, and its saved tensors are freed. "
                    "Hint: {.retain = true} for all passes but the last, or one Tape for each step");
}

void* Tape::allocate_closure(std::size_t bytes) {
  bytes = (bytes + 15) & ~std::size_t{15};
  Store& s = *store_;
  if (bytes > Store::chunk_bytes) fail<GradError>("[tape] a backward rule that captures ", bytes, " bytes");
  if (s.chunks.empty() || s.used + bytes > Store::chunk_bytes) {
    if (!s.chunks.empty()) ++s.chunk;
    if (s.chunk == s.chunks.size()) s.chunks.push_back(std::make_unique_for_overwrite<std::byte[]>(Store::chunk_bytes));
    s.used = 0;
  }
  return s.chunks[s.chunk].get() + std::exchange(s.used, s.used + bytes);
}

std::uint32_t Tape::checked_slot(const Variable& v, const char* op) const {
  if (v.tape_ == id_) [[likely]]
    return v.slot_;
  if (v.tape_ == 0) return constant;
  for (const Tape* tape = outer_; tape; tape = tape->outer_)
    if (tape->id_ == v.tape_)
      fail<GradError>("[", op, "] an input of shape ", v.shape(),
                      " was recorded on an outer tape, which is still alive. "
                      "Hint: .detach() it, or use one tape");
  for (const Tape* tape = innermost_.alive; tape && tape != this; tape = tape->outer_)
    if (tape->id_ == v.tape_)
      fail<GradError>("[", op, "] an input of shape ", v.shape(),
                      " was recorded on an inner tape, which is still alive. Hint: use the tape that recorded it");
  fail<GradError>("[", op, "] an input of shape ", v.shape(),
                  " was recorded on a tape that is gone, spent or another "
                  "thread's. Hint: .detach() what is carried from one step to the next");
}

void Tape::append(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs,
                  const Rule& rule) {
  Store& s = *store_;
  const auto first = static_cast<std::uint32_t>(s.inputs.size());
  try {
    for (const Variable* v : inputs) s.inputs.push_back(checked_slot(*v, op));
    s.nodes.push_back({op, rule, first, static_cast<std::uint32_t>(inputs.size()), s.slots,
                       static_cast<std::uint32_t>(outputs.size())});
  } catch (...) {
    s.inputs.resize(first);
    if (rule.closure) rule.destroy(rule.closure);
    throw;
  }
  for (Variable& output : outputs) {
    output.tape_ = id_;
    output.slot_ = s.slots++;
    s.forms.push_back(form_of(output.value_));
  }
}

/// Tells the observers of the last node.
void Tape::announce(std::span<const Variable* const> inputs, std::span<const Variable> outputs) {
  Store& s = *store_;
  if (s.observers.empty()) [[likely]]
    return;
  const Store::Node node = s.nodes.back();  // copies: an observer may record too
  const std::vector<std::uint32_t> slots(s.inputs.begin() + node.first_input, s.inputs.end());
  const auto number = static_cast<std::uint32_t>(s.nodes.size() - 1);
  const std::span<const Index> given = s.settings_of(number);
  const std::vector<Index> settings(given.begin(), given.end());
  for (TapeObserver* observer : std::vector(s.observers))
    observer->recorded({node.op, slots, node.first_output, node.outputs, number, settings}, inputs, outputs);
}

void Tape::push(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs,
                const Rule& rule) {
  append(op, outputs, inputs, rule);
  announce(inputs, outputs);
}

void Tape::push(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs, const Rule& rule,
                std::span<const Index> settings) {
  append(op, outputs, inputs, rule);
  Store& s = *store_;
  s.settings_entries.push_back({static_cast<std::uint32_t>(s.nodes.size() - 1),
                                static_cast<std::uint32_t>(s.settings.size()),
                                static_cast<std::uint32_t>(settings.size())});
  s.settings.insert(s.settings.end(), settings.begin(), settings.end());
  announce(inputs, outputs);
}

Variable Tape::watch(Tensor value) {
  check_usable("watch");
  Variable v(std::move(value));
  push("watch", {&v, 1}, {}, {});
  return v;
}

Variable Tape::leaf(const ParameterRef& parameter) {
  Store& s = *store_;
  s.grow_leaf_table();
  std::uint32_t& entry = s.leaf_entry(parameter.get());
  Variable v(parameter->value());
  if (entry == 0) {
    append("parameter", {&v, 1}, {}, {});
    s.leaves.push_back({parameter, v.slot_});
    entry = static_cast<std::uint32_t>(s.leaves.size());
    announce({}, {&v, 1});
  } else {
    v.tape_ = id_;
    v.slot_ = s.leaves[entry - 1].slot;
  }
  return v;
}

Variable::Variable(const Parameter& parameter) {
  const ParameterRef& state = parameter.ref();
  Tape* tape = Tape::recording();
  if (tape && (!state->frozen() || tape->records_frozen())) {
    *this = tape->leaf(state);
    return;
  }
  value_ = state->value();
  if (Replay* replay = Replay::current()) [[unlikely]]
    if (!tape && !state->frozen()) replay->uses(state);
}

Saved Saved::output(const Tensor& y, std::uint32_t index) {
  Variable v(y);
  if (const Tape* tape = Tape::recording()) {
    v.tape_ = tape->id_;
    v.slot_ = tape->store_->slots + index;
  }
  return Saved(v);
}

void detail::refuse_gradients(std::size_t given, std::size_t inputs) {
  fail<GradError>("[tape] a rule returned ", given, " gradients, ", given > inputs ? "more" : "fewer",
                  " gradients than its op has inputs, which are ", inputs,
                  given > inputs ? "" : ". Hint: no_gradient() for an input that wants none");
}

void Saved::refuse() const { throw SavedChanged{variable_.value().writer(), variable_.shape()}; }

void Tape::observe(TapeObserver& observer) { store_->observers.push_back(&observer); }
void Tape::unobserve(TapeObserver& observer) noexcept { std::erase(store_->observers, &observer); }
std::size_t Tape::size() const noexcept { return store_->nodes.size(); }

RecordedOp Tape::node(std::size_t number) const {
  if (number >= store_->nodes.size()) fail<IndexError>("[tape] no node ", number, " among ", store_->nodes.size());
  return store_->view(number);
}

std::size_t Tape::node_of(std::uint32_t slot) const {
  if (slot >= store_->slots) fail<IndexError>("[tape] no slot ", slot, " among ", store_->slots);
  const auto behind = std::upper_bound(store_->nodes.begin(), store_->nodes.end(), slot,
                                       [](std::uint32_t s, const Store::Node& n) { return s < n.first_output; });
  return static_cast<std::size_t>(behind - store_->nodes.begin()) - 1;
}

ParameterRef Tape::parameter_of(std::uint32_t slot) const {
  for (const Store::Leaf& leaf : store_->leaves)
    if (leaf.slot == slot) return leaf.parameter;
  return nullptr;
}

// --- hooks ----------------------------------------------------------------------------------------------------------

Hook Tape::add_hook(const Variable& v, std::function<Variable(const Variable&)> f) {
  check_usable("hook");
  if (v.tape_ != id_)
    fail<GradError>(
        "[hook] a value of shape ", v.shape(),
        v.recorded() ? " is on another tape" : " is a constant: no gradient comes to it",
        ". Hint: hook a parameter, a watched tensor or what was computed from one while this tape recorded");
  Store& s = *store_;
  if (!s.running && s.hooks.size() == s.hooks.capacity())  // rather than growing for hooks that are gone
    std::erase_if(s.hooks, [](const Store::HookEntry& entry) { return entry.hook->removed; });
  auto hook = std::make_shared<detail::HookFunction<Variable(const Variable&)>>(std::move(f));
  s.hooks.push_back({static_cast<std::uint32_t>(node_of(v.slot_)), v.slot_, hook});
  return Hook(hook);
}

/// Runs these hooks, all of one node, on the gradients that have come for its outputs.
void Tape::run_hooks(std::span<const std::uint32_t> hooks, bool create_graph) {
  Store& s = *store_;
  for (std::uint32_t k : hooks) {
    const Store::HookEntry entry = s.hooks[k];  // a copy: a hook may add others
    if (entry.hook->removed || !s.has_use(entry.slot, Store::needed) || !s.gradients[entry.slot].defined()) continue;
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
    s.gradients[entry.slot] = create_graph ? std::move(changed) : changed.detach();
  }
}

// --- backward -------------------------------------------------------------------------------------------------------

/// Walks the nodes in reverse from `from`, seeded with `seeds`. With targets, only through what leads to them; the
/// gradients of leaves and targets remain in store_->gradients.
void Tape::run(std::span<const Variable> from, std::span<const Variable> seeds, BackwardOptions options,
               std::span<const std::uint32_t> targets) {
  const char* who = targets.empty() ? "backward" : "gradient";
  Store& s = *store_;
  check_usable(who);
  if (s.running)
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
  const bool keep = options.retain || options.create_graph;
  struct Finish {  // also when a rule throws: half the saved tensors are gone by then
    Tape& tape;
    bool keep;
    NoTape quiet = {};  // which a tape that ends meanwhile takes itself out of
    bool done = false;
    ~Finish() {
      Store& store = *tape.store_;
      store.running = false;
      if (!done) {
        store.drop_gradients();
        store.incoming.clear();
        for (Variable& result : store.results) result = {};
      }
      if (keep) return;
      tape.spend();
      store.free_closures();  // of nodes that were not reached
      store.hooks.clear();
    }
  } finish{*this, keep};
  s.running = true;
  if (options.create_graph) innermost_.recording = this;

  // Only what stands between the outputs and the first target is looked at.
  s.top = top;
  s.lowest = targets.empty() ? 0 : *std::min_element(targets.begin(), targets.end());
  if (s.lowest > top) {  // all targets are younger
    finish.done = true;
    return;
  }
  const std::size_t first_node = node_of(s.lowest), node_count = node_of(top) + 1;
  s.uses.assign(top - s.lowest + 1, targets.empty() ? Store::needed : 0);
  for (const std::uint32_t target : targets)
    if (target <= top) s.uses[target - s.lowest] = Store::needed | Store::target;
  for (std::size_t i = first_node; i < node_count && !targets.empty(); ++i) {  // what leads to the targets
    const Store::Node& node = s.nodes[i];
    for (std::uint32_t k = 0; k < node.inputs; ++k)
      if (const std::uint32_t in = s.inputs[node.first_input + k]; in != constant && s.has_use(in, Store::needed))
        for (std::uint32_t o = node.first_output; o < node.first_output + node.outputs && o <= top; ++o)
          s.uses[o - s.lowest] |= Store::needed;
  }
  if (s.gradients.size() <= top) s.gradients.resize(top + 1);

  auto is_own = [](const Variable& sum) {  // may be written into
    return sum.value_.defined() && !sum.value_.packed() && sum.value_.sole_owner() && sum.value_.is_contiguous();
  };
  auto accumulate = [&](std::uint32_t slot, Variable gradient) {
    Variable& sum = s.gradients[slot];
    if (!sum.defined()) {
      sum = std::move(gradient);
      s.filled.push_back(slot);
    } else if (sum.value_.packed() || gradient.value_.packed())
      sum = Variable(add_row_sparse(std::move(sum.value_), std::move(gradient.value_)));
    else if (!options.create_graph && is_own(sum))
      add_in_place(sum.value_, gradient.value());
    else
      sum = sum + gradient;
  };
  for (std::size_t k = 0; k < from.size(); ++k) accumulate(from[k].slot_, seeds[k]);

  std::vector<Variable>& incoming = s.incoming;
  const bool observed = !s.observers.empty();
  auto walk = [&](std::size_t end, std::size_t begin) {
    for (std::size_t i = end; i-- > begin;) {
      const Store::Node node = s.nodes[i];  // a copy: with create_graph the vector grows meanwhile
      if (node.first_output > top || node.rule.run == nullptr) continue;
      incoming.clear();
      bool any = false;
      for (std::uint32_t o = 0; o < node.outputs; ++o) {
        const std::uint32_t slot = node.first_output + o;
        if (slot > top) {
          incoming.emplace_back();
          continue;
        }
        const bool stays = s.has_use(slot, Store::target);
        incoming.push_back(stays ? s.gradients[slot] : std::exchange(s.gradients[slot], {}));
        any = any || (incoming.back().defined() && s.has_use(slot, Store::needed));
      }
      if (!any) continue;
      s.wants.assign(node.inputs, 0);
      bool wanted = false;
      for (std::uint32_t k = 0; k < node.inputs; ++k) {
        const std::uint32_t in = s.inputs[node.first_input + k];
        if (in != constant && s.has_use(in, Store::needed)) s.wants[k] = wanted = true;
      }
      if (wanted) {
        if (s.results.size() < node.inputs) s.results.resize(node.inputs);
        const std::span<Variable> results(s.results.data(), node.inputs);
        if (node.rule.adds && !options.create_graph && !observed)
          if (Variable& sum = s.gradients[s.inputs[node.first_input]]; is_own(sum)) results[0] = std::move(sum);
        try {
          node.rule.run(node.rule.closure, incoming, Wants(s.wants), results);
        } catch (const SavedChanged& changed) {
          fail<GradError>("[", node.op, "] a tensor of shape ", changed.shape,
                          " saved for its backward was since changed in place by [", changed.writer,
                          "]. Hint: run backward before the change, or change a clone()");
        }
        if (observed) [[unlikely]]
          for (TapeObserver* observer : s.observers) observer->returned(s.view(i), incoming, results);
        incoming.clear();  // gives its storage back before the sums, which may then reuse it
        for (std::uint32_t k = 0; k < node.inputs; ++k) {
          Variable gradient = std::exchange(s.results[k], {});
          if (!s.wants[k] || !gradient.defined()) continue;
          const std::uint32_t in = s.inputs[node.first_input + k];
          if (form_of(gradient.value_) != s.forms[in]) [[unlikely]]
            fail<ShapeError>("[", node.op, "] its rule returned a gradient of shape ", gradient.shape(), " and type ",
                             gradient.dtype(), " for input ", k,
                             ", which has another shape or type. Hint: sum_to(g, x.shape())");
          accumulate(in, std::move(gradient));
        }
      }
      incoming.clear();
      if (!keep) {
        s.nodes[i].rule.closure = nullptr;
        node.rule.destroy(node.rule.closure);
      }
    }
  };

  std::size_t at = node_count;
  if (!s.hooks.empty()) [[unlikely]] {  // the walk stops at each node that has any
    std::vector<std::uint32_t> order(s.hooks.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return s.hooks[a].node > s.hooks[b].node; });
    for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
      const std::uint32_t node = s.hooks[order[first]].node;
      while (last < order.size() && s.hooks[order[last]].node == node) ++last;
      walk(at, std::size_t{node} + 1);
      run_hooks({order.data() + first, last - first}, options.create_graph);
      at = std::size_t{node} + 1;
    }
  }
  walk(at, first_node);
  finish.done = true;
}

namespace {
void check_scalar(const char* who, const Variable& v) {
  if (v.size() != 1)
    fail<ShapeError>("[", who, "] needs a value with one element, got shape ", v.shape(), ". Hint: sum() or mean() it");
}
}  // namespace

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
