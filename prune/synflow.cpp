#include "espalier/prune/synflow.h"

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"

namespace espalier::prune {

Score synflow() {
  return Score("synflow", [](const ParameterState&, const Statistics& s) { return s.flow; }, {.flow = true});
}

namespace detail {

Gathered flow(const ParameterList& originals, const ParameterList& copies, const Run& run, const Shape& input) {
  if (originals.size() != copies.size())
    fail<ConfigError>("[synflow] the model lists ", originals.size(), " parameters, its copy ", copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    ParameterState& copy = *copies[i].parameter;
    if (copy.value().dtype() != DType::f64) copy.convert(DType::f64);
    copy.set_value(
        map_with("synflow", originals[i].parameter->value().to(DType::f64), [](auto v) { return std::abs(v); }));
  }
  Tape tape;
  tape.record_frozen();
  Variable total;
  for (const Variable& output : run(Tensor::ones(input, DType::f64)))
    total = total.defined() ? add(total, sum(output)) : sum(output);
  if (!total.defined()) fail<ConfigError>("[synflow] the model has no output");
  if (!std::isfinite(total.item()))
    fail<NonFiniteError>("[synflow] the flow through the model is ", total.item(),
                         ". Hint: it is a sum over all paths; smaller weights, or weights that are finite");
  Gathered gathered;
  std::vector<Variable> gradients(copies.size());
  if (total.recorded()) gradients = tape.gradient(total, copies);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    Statistics s;
    if (gradients[i].defined())
      s.flow =
          zip_with("synflow", copies[i].parameter->value(), gradients[i].value(), [](auto w, auto g) { return w * g; });
    gathered.insert(originals[i].parameter, std::move(s));
  }
  return gathered;
}

}  // namespace detail

void prune_in_rounds(Pruner& pruner, double sparsity, Index rounds, const std::function<Gathered(Index)>& gather) {
  if (!(sparsity >= 0 && sparsity <= 1))
    fail<ConfigError>("[prune_in_rounds] the sparsity must be in [0, 1], got ", sparsity);
  if (rounds < 1) fail<ConfigError>("[prune_in_rounds] rounds must be at least 1, got ", rounds);
  for (Index round = 0; round < rounds; ++round) {
    pruner.use(gather(round));
    const double done = static_cast<double>(round + 1) / static_cast<double>(rounds);
    pruner.to_sparsity(round + 1 == rounds ? sparsity : 1 - std::pow(1 - sparsity, done));
  }
}

}  // namespace espalier::prune
