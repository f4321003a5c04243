#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/prune/compact_property.h"

namespace espalier {
namespace {

TEST(CompactSlow, AThousandRandomNetworksKeepTheirOutputs) {
  setenv("RC_PARAMS", "max_success=1000", 0);
  EXPECT_TRUE(rc::check("compact keeps the outputs", [] { testing::compact_keeps_outputs(*testing::any_net()); }));
}

}  // namespace
}  // namespace espalier
