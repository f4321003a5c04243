// What ops do to units. Each function describes one node; see Units.
#pragma once

#include "espalier/prune/detail/units.h"

namespace espalier::prune::detail {

using Describe = void (*)(Units& u, const Graph::Node& node);

/// Ops with weights, norms, recurrences, attention: null for any other.
Describe layer_rule(const std::string& op);

/// Operands that broadcast against each other: add, mul, ...
void describe_broadcast(Units& u, const Graph::Node& node);

}  // namespace espalier::prune::detail
