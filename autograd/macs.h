// What ops cost, read off their shapes; for reports and budgets.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "espalier/autograd/parameter.h"
#include "espalier/autograd/variable.h"

namespace espalier {

/// Multiply-adds of an op as a TapeObserver sees it, as if nothing were pruned: of matrix products, convolutions,
/// attention and recurrent ops. None for all others, which have none worth counting or are made of these. What a causal
/// mask spares is counted.
std::optional<double> multiply_adds(std::string_view op, std::span<const Variable* const> inputs,
                                    std::span<const Variable> outputs);

/// Weights that are not pruned: by the mask, or stored, if the value is packed.
Index live_weights(const ParameterState& parameter);
/// The same as a share of all; 1 if there are none.
double live_share(const ParameterState& parameter);

}  // namespace espalier
