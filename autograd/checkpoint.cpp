#include "espalier/autograd/checkpoint.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "espalier/autograd/anomaly.h"
#include "espalier/autograd/replay.h"

namespace espalier::detail {
namespace {

/// What backward needs to run a segment again.
struct Kept {
  Segment segment;
  std::vector<Saved> sources;  // the inputs, then the leaves of the parameters
  std::size_t inputs;
  Replay replay;
  std::string label;
  struct Form {
    Shape shape;
    DType type;
  };
  std::vector<Form> outputs;

  std::vector<Variable> run_again(std::span<const Variable> in) const {
    std::vector<Variable> again;
    try {
      again = segment(in);
    } catch (const GradError& error) {
      throw GradError(join(error.what(),
                           " (as a checkpoint ran its segment again. Hint: every recorded value that it "
                           "uses must be one of its inputs)"));
    }
    if (again.size() != outputs.size())
      fail<GradError>("[checkpoint] the segment returned ", outputs.size(), " values, and ", again.size(),
                      " when it ran again");
    for (std::size_t k = 0; k < again.size(); ++k)
      if (!(again[k].shape() == outputs[k].shape) || again[k].dtype() != outputs[k].type)
        fail<GradError>("[checkpoint] output ", k, " was ", outputs[k].shape, " ", outputs[k].type, ", and ",
                        again[k].shape(), " ", again[k].dtype(),
                        " when the segment ran again. Hint: it must do the same each time");
    return again;
  }

  /// d <g, segment(inputs)> / d source for each source that is wanted.
  std::vector<Variable> gradients(std::span<const Variable> g, Wants wants) const {
    Tape tape;
    std::optional<Anomaly> anomaly;
    if (const Anomaly* outer = Anomaly::current()) anomaly.emplace(tape, outer->options());
    std::optional<Label> scope;
    if (!label.empty()) scope.emplace(label);
    const Replay::Rewind rewind(replay);

    std::vector<Variable> in, targets;
    std::vector<std::size_t> places;
    for (std::size_t k = 0; k < inputs; ++k) {
      in.push_back(wants[k] ? tape.watch(sources[k].value()) : Variable(sources[k].value()));
      if (!wants[k]) continue;
      targets.push_back(in.back());
      places.push_back(k);
    }
    const std::vector<Variable> again = run_again(in);
    for (std::size_t k = inputs; k < sources.size(); ++k) {
      sources[k].get();  // an error if it was changed in place since
      if (!wants[k]) continue;
      targets.push_back(tape.leaf(replay.parameters()[k - inputs]));
      places.push_back(k);
    }
    std::vector<Variable> results(sources.size()), from, weights;
    for (std::size_t k = 0; k < again.size(); ++k)
      if (g[k].defined() && tape.slot_of(again[k]) != Tape::constant) {
        from.push_back(again[k]);
        weights.push_back(g[k].detach());
      }
    if (from.empty()) return results;
    std::vector<Variable> found = tape.gradient(from, weights, targets);
    for (std::size_t k = 0; k < places.size(); ++k) results[places[k]] = std::move(found[k]);
    return results;
  }
};

/// Where an output is not finite, the segment runs once more with each op looked at, which ends in an error that says
/// whose doing it is.
void find_fault(const Anomaly& anomaly, const Segment& segment, const std::vector<Variable>& inputs,
                const std::vector<Variable>& outputs, const Replay& replay) {
  const auto is_fault = [&](const Variable& v) { return anomaly.is_fault(v); };
  if (std::any_of(inputs.begin(), inputs.end(), is_fault) || std::none_of(outputs.begin(), outputs.end(), is_fault))
    return;
  Tape tape;
  const Anomaly inner(tape, anomaly.options());
  const Replay::Rewind rewind(replay);
  std::vector<Variable> in;
  for (const Variable& v : inputs)
    in.push_back(v.defined() && is_floating(v.dtype()) ? tape.watch(v.value()) : v.detach());
  segment(in);
}

}  // namespace

std::vector<Variable> run_segment(Segment segment, std::vector<Variable> inputs) {
  Tape* tape = Tape::recording();
  if (tape == nullptr) return segment(inputs);

  Replay replay;
  std::vector<Variable> outputs;
  {
    std::vector<Variable> plain;
    for (const Variable& v : inputs) plain.push_back(v.detach());
    const NoTape quiet;
    const Replay::Recording recording(replay);
    outputs = segment(plain);
  }
  for (std::size_t k = 0; k < outputs.size(); ++k)
    if (outputs[k].recorded())
      fail<GradError>("[checkpoint] output ", k, " of shape ", outputs[k].shape(),
                      " was recorded outside of the segment. Hint: make it an input of the checkpoint");
  if (const Anomaly* anomaly = Anomaly::current()) find_fault(*anomaly, segment, inputs, outputs, replay);

  const std::size_t count = inputs.size();
  for (const ParameterRef& parameter : replay.parameters()) inputs.push_back(tape->leaf(parameter));
  if (!recording(std::span<const Variable>(inputs))) return outputs;
  // One object behind a pointer: what a rule captures must be small.
  auto kept = std::make_shared<Kept>(
      Kept{std::move(segment), {}, count, std::move(replay), std::string(Label::innermost()), {}});
  std::vector<const Variable*> pointers;
  for (const Variable& v : inputs) {
    kept->sources.emplace_back(v);
    pointers.push_back(&v);
  }
  for (const Variable& y : outputs) kept->outputs.push_back({y.shape(), y.dtype()});
  record_outputs("checkpoint", outputs, pointers, [kept](std::span<const Variable> g, Wants wants) {
    std::vector<Variable> results = kept->gradients(g, wants);
    if (Tape::recording() == nullptr) return results;
    // Recorded only to say that it cannot be done, should anyone differentiate once more.
    std::vector<Variable> from(g.begin(), g.end());
    for (const Saved& source : kept->sources) from.push_back(source.get());
    for (Variable& result : results)
      if (result.defined())
        result = record("checkpoint", result.value(), from, [](const Variable&, Wants) -> Variable {
          fail<GradError>(
              "[checkpoint] can be differentiated only once. Hint: {.create_graph = true} needs the segment itself on "
              "the tape");
        });
    return results;
  });
  return outputs;
}

}  // namespace espalier::detail
