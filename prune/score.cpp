#include "espalier/prune/score.h"

#include <cmath>

#include "espalier/core/elementwise.h"

namespace espalier::prune {

Tensor Score::operator()(const NamedParameter& parameter, const Statistics& statistics) const {
  const Shape& shape = parameter.parameter->value().shape();
  if (needs_.gradient && !statistics.gradient.defined())
    fail<ConfigError>("[", name_, "] '", parameter.name,
                      "' has no gradient, which this score needs. Hint: run backward first, "
                      "or leave the parameter out of the pruner's selection");
  Tensor scores = score_(*parameter.parameter, statistics);
  if (!scores.defined() || !(scores.shape() == shape))
    fail<ShapeError>("[", name_, "] scores of shape ", scores.shape(), scores.defined() ? "" : " (undefined)", " for '",
                     parameter.name, "' of shape ", shape);
  if (!is_floating(scores.dtype()))
    fail<DTypeError>("[", name_, "] scores of '", parameter.name, "' must be f32 or f64, got ", scores.dtype());
  return scores.contiguous();
}

Score magnitude(MagnitudeOptions options) {
  const double p = options.p;
  if (!(p > 0)) fail<ConfigError>("[magnitude] p must be above 0, got ", p);
  return Score(p == 1 ? "magnitude" : join("magnitude(p=", p, ")"),
               [p](const ParameterState& parameter, const Statistics&) {
                 const Tensor& w = parameter.dense().defined() ? parameter.dense() : parameter.value();
                 if (p == 1) return map_with("magnitude", w, [](auto v) { return std::abs(v); });
                 // In double: squares of small f32 weights would otherwise all be 0, and tie.
                 return map_with("magnitude", w.to(DType::f64), [p](auto v) {
                   using T = decltype(v);
                   return p == 2 ? v * v : static_cast<T>(std::pow(std::abs(static_cast<double>(v)), p));
                 });
               });
}

Score random(Rng& rng) {
  const Rng::State base = rng.split().state();
  return Score("random", [base](const ParameterState& parameter, const Statistics& statistics) {
    const Rng mixed = [&] {
      Rng r;
      // The counter moves in blocks; 2^20 steps of 2^40 blocks each never meet.
      r.set_state({base[0], base[1] + statistics.parameter, static_cast<std::uint64_t>(statistics.step) << 40});
      return r;
    }();
    Rng own = mixed;
    return own.uniform(parameter.value().shape(), 0, 1, DType::f64);
  });
}

}  // namespace espalier::prune
