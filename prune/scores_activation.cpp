#include "espalier/prune/scores_activation.h"

#include <cmath>

#include "espalier/prune/detail/exact.h"

namespace espalier::prune {

using detail::exact;

Score wanda() {
  return Score("wanda",
               [](const ParameterState& w, const Statistics& s) {
                 return exact(w, s.input_squares,
                              [](auto v, auto squares) { return std::abs(v) * std::sqrt(squares); });
               },
               {.inputs = true});
}

Score activation_weighted(ActivationWeightedOptions options) {
  const bool units = options.units;
  return Score(
      units ? "activation_weighted(units)" : "activation_weighted",
      [units](const ParameterState& w, const Statistics& s) {
        const Tensor scores = exact(w, s.input_sum, [](auto v, auto sum) { return std::abs(v) * sum; });
        return units ? sum_units(scores, 1) : scores;
      },
      {.inputs = true}, units ? 1 : 0);
}

Score apoz() {
  return Score("apoz",
               [](const ParameterState&, const Statistics& s) {
                 return map_with("apoz", s.output_zeros, [](auto zeros) { return 1 - zeros; });
               },
               {.outputs = true});
}

Score mean_activation() {
  return Score("mean_activation", [](const ParameterState&, const Statistics& s) { return s.output_mean; },
               {.outputs = true});
}

}  // namespace espalier::prune
