#include "tests/prune/deep_property.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(DeepNets, CompactKeepsOutputs) {
  testing::units_cut_by_properties = 0;
  EXPECT_TRUE(rc::check("compact keeps the outputs",
                        [] { testing::compact_keeps_outputs_of_deep_nets(*testing::any_deep_net()); }));
  EXPECT_GT(testing::units_cut_by_properties, 50);
}

TEST(DeepNets, ShrinkKeepsOutputs) {
  testing::units_cut_by_properties = 0;
  EXPECT_TRUE(rc::check("shrink keeps the outputs",
                        [] { testing::shrink_keeps_outputs_of_deep_nets(*testing::any_deep_net()); }));
  EXPECT_GT(testing::units_cut_by_properties, 50);
}

TEST(DeepNets, ShrunkOnesLearnAsMaskedOnes) {
  testing::units_cut_by_properties = 0;
  EXPECT_TRUE(rc::check("training goes on as under the masks",
                        [] { testing::shrunk_deep_nets_learn_as_masked_ones(*testing::any_deep_net()); }));
  EXPECT_GT(testing::units_cut_by_properties, 50);
}

}  // namespace
}  // namespace espalier
