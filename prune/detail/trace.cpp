#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {
namespace {

class Recorder final : public TapeObserver {
 public:
  explicit Recorder(Graph& graph) : graph_(graph) {}

  void recorded(const RecordedOp& op, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    Graph::Node node{op.op, {op.inputs.begin(), op.inputs.end()}, {}, op.first_output, op.outputs};
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      node.present.push_back(inputs[k]->defined());
      if (op.inputs[k] != Tape::constant)
        ++graph_.values[op.inputs[k]].reads;
      else if (inputs[k]->defined())
        mark_escaped(inputs[k]->value());
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

}  // namespace

Graph trace(const Run& run, const Tensor& sample) {
  Graph graph;
  Recorder recorder(graph);
  Tape tape;
  tape.observe(recorder);
  tape.record_frozen();  // frozen or not, it is cut and packed alike
  for (const Variable& output : run(is_floating(sample.dtype()) ? tape.watch(sample) : Variable(sample))) {
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
  return graph;
}

}  // namespace espalier::prune::detail
