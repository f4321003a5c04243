#include <gtest/gtest.h>

#include "tests/optim/random_chains.h"
#include "tests/optim/random_pipelines.h"

namespace espalier::optim {
namespace {

TEST(RandomChains, DoWhatAPlainInterpreterDoes) { testing::check_random_chains(300); }

TEST(RandomPipelines, KeepZerosBoundsAndBytes) { testing::check_random_pipelines(300); }

}  // namespace
}  // namespace espalier::optim
