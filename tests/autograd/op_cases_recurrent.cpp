#include "tests/autograd/op_cases.h"

namespace espalier::testing {

std::vector<OpCase> recurrent_cases() { return {}; }

}  // namespace espalier::testing
