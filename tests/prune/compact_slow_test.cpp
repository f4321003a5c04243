#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/prune/compact_property.h"
#include "tests/prune/deep_property.h"

namespace espalier {
namespace {

TEST(CompactSlow, AThousandRandomNetworksKeepTheirOutputs) {
  setenv("RC_PARAMS", "max_success=1000", 0);
  EXPECT_TRUE(rc::check("compact keeps the outputs", [] { testing::compact_keeps_outputs(*testing::any_net()); }));
}

TEST(CompactSlow, AThousandRandomNetworksOfAllLayersKeepTheirOutputs) {
  setenv("RC_PARAMS", "max_success=1000", 0);
  EXPECT_TRUE(rc::check("compact keeps the outputs",
                        [] { testing::compact_keeps_outputs_of_deep_nets(*testing::any_deep_net()); }));
}

TEST(ShrinkSlow, AThousandRandomNetworksKeepTheirOutputs) {
  setenv("RC_PARAMS", "max_success=1000", 0);
  EXPECT_TRUE(rc::check("shrink keeps the outputs",
                        [] { testing::shrink_keeps_outputs_of_deep_nets(*testing::any_deep_net()); }));
}

TEST(ShrinkSlow, AThousandRandomNetworksLearnAsUnderTheirMasks) {
  setenv("RC_PARAMS", "max_success=1000", 0);
  EXPECT_TRUE(rc::check("training goes on as under the masks",
                        [] { testing::shrunk_deep_nets_learn_as_masked_ones(*testing::any_deep_net()); }));
}

}  // namespace
}  // namespace espalier
