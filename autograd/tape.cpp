#include "espalier/autograd/tape.h"

#include <algorithm>
#include <atomic>

#include "espalier/autograd/detail/tape_store.h"
#include "espalier/autograd/replay.h"

namespace espalier {

thread_local constinit Tape::Innermost Tape::innermost_ = {};

namespace {

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
    s.forms.push_back(detail::form_of(output.value_));
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

}  // namespace espalier
