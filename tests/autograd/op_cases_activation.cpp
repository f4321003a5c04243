#include "tests/autograd/op_cases.h"

namespace espalier::testing {

std::vector<OpCase> activation_cases() { return {}; }

}  // namespace espalier::testing
