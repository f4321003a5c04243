// What a tape holds: nodes, leaves, hooks, the arena of the closures, and the scratch of a backward pass.
#pragma once

#include <algorithm>

#include "espalier/autograd/tape.h"

namespace espalier {

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

namespace detail {
/// Tells shapes and types apart.
inline std::uint64_t form_of(const Tensor& t) noexcept {
  auto form = static_cast<std::uint64_t>(t.dtype()) * 16 + static_cast<std::uint64_t>(t.rank());
  for (const Index length : t.shape()) form = (form ^ static_cast<std::uint64_t>(length)) * 0x9e3779b97f4a7c15ull + 1;
  return form;
}
}  // namespace detail

}  // namespace espalier
