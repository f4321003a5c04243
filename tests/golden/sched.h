// The schedules that golden cases describe, as schedules of the library.
#pragma once

#include "espalier/optim/schedule.h"
#include "tests/golden/args.h"

namespace espalier::golden {

/// A schedule by PyTorch's name for it, with its arguments. `lr` is the rate where they do not hold one: 1 for a factor.
/// Unsupported for other names.
optim::Schedule make_schedule(const std::string& op, const Args& args, double lr = 1);

}  // namespace espalier::golden
