// Random chains over random parameters and masks, against a plain interpreter that runs one transform after the other.
#pragma once

namespace espalier::optim::testing {

/// Fails the current test at the first case that goes wrong.
void check_random_chains(int cases);

}  // namespace espalier::optim::testing
