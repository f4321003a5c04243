// Random pipelines: any transforms in any order, any optimizer, masks that change, a resume in the middle.
#pragma once

namespace espalier::optim::testing {

/// Fails the current test at the first case in which a pruned weight, its gradient or a state of it is not 0, a norm
/// right behind its clip lies above the bound, or a resumed run ends in other bytes.
void check_random_pipelines(int cases);

}  // namespace espalier::optim::testing
