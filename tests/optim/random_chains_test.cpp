#include <gtest/gtest.h>

#include "tests/optim/random_chains.h"

namespace espalier::optim {
namespace {

TEST(RandomChains, DoWhatAPlainInterpreterDoes) { testing::check_random_chains(300); }

}  // namespace
}  // namespace espalier::optim
