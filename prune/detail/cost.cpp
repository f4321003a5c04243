#include "espalier/prune/detail/cost.h"

#include <algorithm>
#include <chrono>

#include "espalier/autograd/macs.h"
#include "espalier/autograd/tape.h"
#include "espalier/core/detail/race.h"

namespace espalier::prune::detail {
namespace {

using espalier::detail::median, espalier::detail::race;
using Clock = std::chrono::steady_clock;
constexpr int runs = 7;
constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Charges each op to the weights it reads.
class Meter final : public TapeObserver {
 public:
  Meter(const ParameterList& parameters, Tape& tape) : tape_(tape), last_(Clock::now()) {
    for (const NamedParameter& named : parameters)
      if (named.parameter->value().rank() >= 2) weights_.push_back(named.parameter.get());
    cost.layers.resize(weights_.size());
  }

  void recorded(const RecordedOp& op, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    const double time = seconds_since(last_);
    const double flops = 2 * multiply_adds(op.op, inputs, outputs).value_or(0);
    std::vector<std::size_t> weights;
    double entries = 0;
    for (const std::uint32_t slot : op.inputs)
      if (const std::size_t weight = weight_at(slot); weight < weights_.size()) {
        weights.push_back(weight);
        entries += static_cast<double>(weights_[weight]->value().size());
      }
    double live = weights.empty() ? flops : 0;
    for (const std::size_t weight : weights) {
      const Tensor& value = weights_[weight]->value();
      if (value.size() == 0) continue;
      const double share = static_cast<double>(value.size()) / entries;
      const double own = flops / entries * static_cast<double>(live_entries(value));
      cost.layers[weight].flops += flops * share;
      cost.layers[weight].live_flops += own;
      cost.layers[weight].seconds += time * share;
      live += own;
    }
    cost.live_flops += live;
    last_ = Clock::now();
  }

  ModelCost cost;

 private:
  std::size_t weight_at(std::uint32_t slot) const {
    if (slot == Tape::constant) return weights_.size();
    const auto found = std::find(weights_.begin(), weights_.end(), tape_.parameter_of(slot).get());
    return static_cast<std::size_t>(found - weights_.begin());
  }

  Tape& tape_;
  std::vector<const ParameterState*> weights_;
  Clock::time_point last_;
};

ModelCost metered(const Subject& subject, const Tensor& sample) {
  Tape tape;
  tape.record_frozen();
  const Variable x = is_floating(sample.dtype()) ? tape.watch(sample) : Variable(sample);
  Meter meter(subject.parameters, tape);
  tape.observe(meter);
  subject.run(x);
  return std::move(meter.cost);
}

}  // namespace

ModelCost cost_of(const Subject& subject, const Tensor& sample, bool measure) {
  ModelCost cost = metered(subject, sample);
  cost.seconds = not_measured;
  for (LayerCost& layer : cost.layers) layer.seconds = not_measured;
  if (!measure) return cost;
  std::vector<std::vector<double>> times(cost.layers.size());
  for (int run = 0; run < runs; ++run) {
    const ModelCost once = metered(subject, sample);
    for (std::size_t k = 0; k < times.size(); ++k) times[k].push_back(once.layers[k].seconds);
  }
  for (std::size_t k = 0; k < times.size(); ++k) cost.layers[k].seconds = median(std::move(times[k]));
  const NoTape no_tape;
  cost.seconds = race({[&] { subject.run(Variable(sample)); }})[0];
  return cost;
}

bool is_dead(const Subject& subject, const Tensor& sample) {
  const NoTape no_tape;
  const Tensor zeros = Tensor::zeros(sample.shape(), sample.dtype());
  if (equal(zeros, sample)) return false;  // nothing to be seen
  const std::vector<Variable> outputs = subject.run(Variable(sample)), of_zeros = subject.run(Variable(zeros));
  for (std::size_t k = 0; k < outputs.size(); ++k)
    if (outputs[k].size() > 0 && !equal(outputs[k].value(), of_zeros[k].value())) return false;
  return true;
}

void fill_costs(CompactReport& report, const ModelCost& before, const ModelCost& after) {
  for (std::size_t k = 0; k < report.layers.size(); ++k) {
    CompactLayer& layer = report.layers[k];
    layer.flops_before = before.layers[k].flops;
    layer.flops_after = after.layers[k].live_flops;
    layer.ms_before = 1e3 * before.layers[k].seconds;
    layer.ms_after = 1e3 * after.layers[k].seconds;
  }
  report.ms_before = 1e3 * before.seconds;
  report.ms_after = 1e3 * after.seconds;
}

}  // namespace espalier::prune::detail
