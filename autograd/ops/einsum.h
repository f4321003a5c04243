// Einstein summation.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>

#include "espalier/autograd/tape.h"

namespace espalier {

/// einsum("bhqd,bhkd->bhqk", {q, k}): products of the operands, summed over every letter that the output lacks.
///
/// One letter an axis of each operand, a-z and A-Z; spaces are ignored. A letter twice in one operand takes its
/// diagonal. "..." stands for the axes that no letter names; they broadcast, as do axes of length 1. Without "->" the
/// output has "..." and then, in alphabetical order (capitals first), the letters that occur once. Any number of
/// operands; they are contracted two at a time, the pair that makes the smallest result for its work first, by matmul.
/// Gradient: that of the matmuls, so it can be differentiated again. Errors: ShapeError, which shows the equation.
Variable einsum(std::string_view equation, std::span<const Variable> operands);
inline Variable einsum(std::string_view equation, std::initializer_list<Variable> operands) {
  return einsum(equation, std::span<const Variable>(operands.begin(), operands.size()));
}

}  // namespace espalier
