#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {
namespace {

class Recorder final : public TapeObserver {
 public:
  explicit Recorder(Graph& graph) : graph_(graph) {}

  void recorded(const RecordedOp& op, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    Graph::Node node{op.op, {op.inputs.begin(), op.inputs.end()}, {}, {}, op.first_output, op.outputs, {}};
    node.settings.assign(op.settings.begin(), op.settings.end());
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      node.present.push_back(inputs[k]->defined());
      node.constants.emplace_back();
      if (op.inputs[k] != Tape::constant) {
        ++graph_.values[op.inputs[k]].reads;
      } else if (inputs[k]->defined()) {
        node.constants.back() = inputs[k]->value();
        mark_escaped(inputs[k]->value());
      }
    }
    graph_.nodes.push_back(std::move(node));
    graph_.values.resize(op.first_output + op.outputs);
    for (std::size_t k = 0; k < outputs.size(); ++k) graph_.values[op.first_output + k].tensor = outputs[k].value();
  }

  /// Whatever shares this tensor's memory is read by code that the tape does not see.
  void mark_escaped(const Tensor& tensor) {
    for (Graph::Value& value : graph_.values)
      if (value.tensor.defined() && value.tensor.shares_storage(tensor)) {
        value.escaped = true;
        ++value.reads;
      }
  }

 private:
  Graph& graph_;
};

/// Buffers that ops read become leaves.
void place_buffers(Graph& graph, const BufferList& buffers) {
  for (const NamedBuffer& named : buffers) {
    const Tensor& held = named.buffer->value();
    std::uint32_t slot = Tape::constant;
    for (Graph::Node& node : graph.nodes)
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        const Tensor& read = node.constants[k];
        if (node.inputs[k] != Tape::constant || !read.defined() || !is_floating(held.dtype()) ||
            !read.shares_storage(held) || !(read.shape() == held.shape()))
          continue;
        if (slot == Tape::constant) {
          slot = static_cast<std::uint32_t>(graph.values.size());
          graph.values.push_back({held, nullptr, named.buffer, 0, false});
        }
        node.inputs[k] = slot;
        ++graph.values[slot].reads;
      }
  }
}

}  // namespace

Graph trace(const Run& run, const Tensor& sample, const BufferList& buffers) {
  Graph graph;
  Recorder recorder(graph);
  Tape tape;
  tape.observe(recorder);
  tape.record_frozen();  // frozen or not, it is cut and packed alike
  Variable x(sample);
  if (is_floating(sample.dtype())) {
    x = tape.watch(sample);
    graph.sample_slot = tape.slot_of(x);
  }
  for (const Variable& output : run(x)) {
    graph.outputs.push_back(output.value());
    if (const std::uint32_t slot = tape.slot_of(output); slot != Tape::constant)
      graph.output_slots.push_back(slot);
    else if (output.defined())
      recorder.mark_escaped(output.value());
  }
  for (const Graph::Node& node : graph.nodes)
    if (node.inputs.empty())
      for (std::uint32_t k = 0; k < node.outputs; ++k)
        graph.values[node.first_output + k].parameter = tape.parameter_of(node.first_output + k);
  place_buffers(graph, buffers);
  return graph;
}

}  // namespace espalier::prune::detail
