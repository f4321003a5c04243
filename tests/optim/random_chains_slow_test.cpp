#include <gtest/gtest.h>

#include "tests/optim/random_chains.h"

namespace espalier::optim {
namespace {

TEST(RandomChainsSlow, DoWhatAPlainInterpreterDoes) { testing::check_random_chains(10000); }

}  // namespace
}  // namespace espalier::optim
