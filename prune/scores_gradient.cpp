#include "espalier/prune/scores_gradient.h"

#include <cmath>

#include "espalier/prune/detail/exact.h"

namespace espalier::prune {

using detail::exact;

Score taylor(TaylorOptions options) {
  const double p = options.p;
  if (!(p > 0)) fail<ConfigError>("[taylor] p must be above 0, got ", p);
  return Score(p == 1 ? "taylor" : join("taylor(p=", p, ")"),
               [p](const ParameterState& w, const Statistics& s) {
                 return exact(w, s.gradient, [p](auto v, auto g) {
                   return p == 1 ? std::abs(v * g) : p == 2 ? v * g * (v * g) : std::pow(std::abs(v * g), p);
                 });
               },
               {.gradient = true});
}

Score taylor_units() {
  return Score("taylor_units", [](const ParameterState&, const Statistics& s) { return s.unit_saliency; },
               {.unit_saliency = true});
}

Score taylor_activation() {
  return Score("taylor_activation", [](const ParameterState&, const Statistics& s) { return s.output_saliency; },
               {.output_saliency = true});
}

Score fisher() {
  return Score("fisher",
               [](const ParameterState& w, const Statistics& s) {
                 return exact(w, s.squared_gradient, [](auto v, auto square) { return v * v * square / 2; });
               },
               {.squared_gradient = true});
}

Score snip() {
  return Score("snip",
               [](const ParameterState& w, const Statistics& s) {
                 // All gradients 0: no weight matters, and 0 / 0 must not say so.
                 const double total = s.total_saliency == 0 ? 1 : s.total_saliency;
                 return exact(w, s.gradient, [total](auto v, auto g) { return std::abs(v * g) / total; });
               },
               {.gradient = true, .total_saliency = true});
}

}  // namespace espalier::prune
