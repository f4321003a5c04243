// Units of random networks, pruned as pieces.
#include <gtest/gtest.h>

#include "espalier/prune/pruner.h"
#include "espalier/prune/select.h"
#include "tests/prune/deep_property.h"

namespace espalier::prune {
namespace {

bool wholly_pruned(const UnitPart& part) {
  const ParameterState& p = *part.parameter;
  if (!p.mask().defined()) return false;
  const Tensor left = p.mask().to_tensor(p.value().shape()).select(part.axis, part.index).contiguous();
  const std::vector<double> bits = left.to(DType::f64).to_vector<double>();
  return std::count(bits.begin(), bits.end(), 0) == std::ssize(bits);
}

TEST(DependencyProperty, UnitsGoWholeCountsAreExactAndCutsKeepOutputs) {
  Index pruned_units = 0;
  EXPECT_TRUE(rc::check("units of any network are pieces", [&] {
    testing::DeepSpec spec = *testing::any_deep_net();
    spec.dead_rows = spec.dead_columns = spec.sparsity = spec.masked_biases = 0;
    testing::DeepNet net(spec);
    net.eval();
    const Tensor x = testing::DeepNet::sample(spec, 2, spec.seed + 1);
    const std::vector<UnitGroup> groups = unit_groups(net, x);
    if (groups.empty()) return;
    const bool global = spec.seed % 2 == 0;
    const double sparsity = static_cast<double>(spec.seed % 11) / 10;
    Pruner pruner(net.parameters(), {.granularity = dependency_groups(net, x),
                                     .scope = global ? Scope::global : Scope::tensor,
                                     .select = optim::Select()});
    pruner.to_sparsity(sparsity);
    Index all = 0, dead = 0, most = 0;
    for (const UnitGroup& group : groups) {
      Index own = 0;
      for (const std::vector<UnitPart>& unit : group.units) {
        const Index parts = std::count_if(unit.begin(), unit.end(), wholly_pruned);
        own += parts == std::ssize(unit);
      }
      if (!global) RC_ASSERT(own == std::min(count_of("test", sparsity, group.size()), group.size() - 1));
      RC_ASSERT(own < group.size());
      all += group.size();
      most += group.size() - 1;
      dead += own;
    }
    if (global) RC_ASSERT(dead == std::min(count_of("test", sparsity, all), most));
    RC_ASSERT(pruner.pieces().all == all);
    RC_ASSERT(pruner.pieces().live == all - dead);
    pruned_units += dead;

    const testing::DeepNet masked = net;
    shrink(net, x, pruner);
    testing::same_outputs(masked, net, spec);
    RC_ASSERT(pruner.pieces().live == all - dead);
    pruner.to_sparsity(0.3);  // and goes on with what is left
  }));
  EXPECT_GT(pruned_units, 50);
}

}  // namespace
}  // namespace espalier::prune
