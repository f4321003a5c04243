#include <gtest/gtest.h>

#include "tests/optim/random_chains.h"
#include "tests/optim/random_pipelines.h"

namespace espalier::optim {
namespace {

TEST(RandomChainsSlow, DoWhatAPlainInterpreterDoes) { testing::check_random_chains(10000); }

TEST(RandomPipelinesSlow, KeepZerosBoundsAndBytes) { testing::check_random_pipelines(10000); }

}  // namespace
}  // namespace espalier::optim
