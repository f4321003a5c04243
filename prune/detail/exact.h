// Scores are computed in f64: squares and products of small f32 numbers would otherwise all be 0, and tie.
#pragma once

#include "espalier/core/elementwise.h"
#include "espalier/prune/score.h"

namespace espalier::prune::detail {

inline Tensor exact_weights(const ParameterState& parameter) {
  return weights_of(parameter).to(DType::f64).contiguous();
}

/// f(w, s) element by element; s broadcasts to the weight's shape.
template <class F>
Tensor exact(const ParameterState& parameter, const Tensor& s, F f) {
  return zip_with("score", exact_weights(parameter), s.to(DType::f64), f);
}

}  // namespace espalier::prune::detail
