// Over: what a norm, a mean or a projection is taken of, each on its own.
#pragma once

#include <cstdint>

#include "espalier/optim/transform.h"

namespace espalier::optim {

enum class Over : std::uint8_t {
  unit,       ///< each output unit: the weights of each index of the first axis; vectors and scalars are one unit
  tensor,     ///< each parameter
  everything  ///< all parameters together that have a gradient
};

namespace detail {

inline Span span_of(Over over) {
  return over == Over::unit ? Span::unit : over == Over::tensor ? Span::tensor : Span::everything;
}
inline const char* describe(Over over) {
  return over == Over::unit ? "over units" : over == Over::tensor ? "over tensors" : "over everything";
}
/// For what works on values: parameters that got no gradient would be missing in a figure of everything.
inline Over unit_or_tensor(const char* owner, Over over) {
  if (over == Over::everything) fail<ConfigError>("[", owner, "] over must be Over::unit or Over::tensor");
  return over;
}

}  // namespace detail
}  // namespace espalier::optim
