#include "espalier/autograd/anomaly.h"

#include <cmath>
#include <utility>

namespace espalier {
namespace {

constexpr std::size_t parameters_named = 3;

template <class T>
Index first_fault(const T* x, Index n, bool infinities) {
  for (Index i = 0; i < n; ++i)
    if (infinities ? !std::isfinite(x[i]) : std::isnan(x[i])) return i;
  return -1;
}

std::string number(double value) { return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"; }

}  // namespace

thread_local constinit Anomaly* Anomaly::current_ = nullptr;

Anomaly::Anomaly(Tape& tape, AnomalyOptions options)
    : outer_(std::exchange(current_, this)), tape_(tape), options_(options), labels_{""} {
  tape.observe(*this);
}
Anomaly::~Anomaly() {
  tape_.unobserve(*this);
  for (Anomaly** link = &current_; *link; link = &(*link)->outer_)
    if (*link == this) {
      *link = outer_;
      break;
    }
}

std::string Anomaly::fault(const Variable& v) const {
  if (!v.defined() || !is_floating(v.dtype())) return {};
  const Tensor x = v.value().packed() ? v.value().densify() : v.value().contiguous();
  const bool f32 = x.dtype() == DType::f32;
  const Index at = f32 ? first_fault(x.data<float>(), x.size(), options_.infinities)
                       : first_fault(x.data<double>(), x.size(), options_.infinities);
  if (at < 0) return {};
  const double value = f32 ? static_cast<double>(x.data<float>()[at]) : x.data<double>()[at];
  return join(" is ", number(value), " at element ", at);
}

/// The parameters that are the fewest ops away, through the inputs; as many as parameters_named.
std::string Anomaly::upstream(const RecordedOp& node) const {
  std::vector<std::uint32_t> front(node.inputs.begin(), node.inputs.end());
  if (front.empty() && tape_.parameter_of(node.first_output)) front.push_back(node.first_output);
  std::vector<bool> seen(tape_.size(), false);
  std::string names;
  std::size_t found = 0;
  while (!front.empty() && found == 0) {  // a ring of ops at a time
    std::vector<std::uint32_t> next;
    for (std::uint32_t slot : front) {
      if (slot == Tape::constant) continue;
      const std::size_t at = tape_.node_of(slot);
      if (seen[at]) continue;
      seen[at] = true;
      const RecordedOp above = tape_.node(at);
      next.insert(next.end(), above.inputs.begin(), above.inputs.end());
      const ParameterRef parameter = above.inputs.empty() ? tape_.parameter_of(slot) : nullptr;
      if (!parameter || found++ >= parameters_named) continue;
      const std::string& name = parameter->full_name();
      names += join(names.empty() ? "" : ", ", name.empty() ? std::string("one without a name") : "'" + name + "'");
    }
    front = std::move(next);
  }
  if (found == 0) return "; no parameter lies upstream";
  if (found > parameters_named) names += join(" and ", found - parameters_named, " more");
  return join("; nearest parameters upstream: ", names);
}

void Anomaly::report(const std::string& what, const RecordedOp& node) const {
  std::string text = join("[", node.op, "] ", what, upstream(node));
  const std::string& label = node.node < label_of_.size() ? labels_[label_of_[node.node]] : labels_[0];
  if (!label.empty()) text += join(" (in ", label, ")");
  throw NonFiniteError(std::move(text));  // not fail(): the label is that of the node, not of now
}

void Anomaly::recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                       std::span<const Variable> outputs) {
  if (const std::string_view label = Label::innermost(); labels_.back() != label) labels_.emplace_back(label);
  label_of_.resize(std::size_t{node.node} + 1, 0);
  label_of_[node.node] = static_cast<std::uint32_t>(labels_.size() - 1);

  for (std::uint32_t k = 0; k < node.outputs; ++k) {
    const std::string bad = fault(outputs[k]);
    if (bad.empty()) continue;
    std::string read;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i]->defined()) continue;
      const std::string state = fault(*inputs[i]);
      read += join(read.empty() ? "; it read " : ", ", "input ", i, " ", inputs[i]->shape(),
                   state.empty() ? std::string(", finite") : "," + state);
    }
    report(join("output ", k, " ", outputs[k].shape(), " of node ", node.node, bad, read), node);
  }
}

void Anomaly::returned(const RecordedOp& node, std::span<const Variable> incoming,
                       std::span<const Variable> gradients) {
  for (std::size_t k = 0; k < incoming.size(); ++k)
    if (const std::string bad = fault(incoming[k]); !bad.empty())
      report(join("the gradient that came for output ", k, " ", incoming[k].shape(), " of node ", node.node, bad),
             node);
  std::string outputs;
  for (std::size_t k = 0; k < incoming.size(); ++k)
    if (incoming[k].defined())
      outputs += join(outputs.empty() ? "; it came finite for output " : ", output ", k, " ", incoming[k].shape());
  for (std::size_t k = 0; k < node.inputs.size() && k < gradients.size(); ++k)
    if (const std::string bad = fault(gradients[k]); !bad.empty())
      report(join("the gradient for input ", k, " ", gradients[k].shape(), " of node ", node.node, bad, outputs), node);
}

}  // namespace espalier
