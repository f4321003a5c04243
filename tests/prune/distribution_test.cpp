#include "espalier/prune/distribution.h"

#include <numeric>

#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::pruned_in;

struct Net {
  explicit Net(Rng& rng)
      : conv1(rng.normal({8, 3, 3, 3}), "conv1.weight"),
        bias(rng.normal({8}), "conv1.bias"),
        conv2(rng.normal({16, 8, 5, 5}), "conv2.weight"),
        fc1(rng.normal({120, 64}), "fc1.weight"),
        fc2(rng.normal({10, 120}), "fc2.weight") {}
  ParameterList parameters() const { return list_of(conv1, bias, conv2, fc1, fc2); }
  ParameterList weights() const { return list_of(conv1, conv2, fc1, fc2); }
  Parameter conv1, bias, conv2, fc1, fc2;
};

Index size_of(const ParameterList& list) {
  Index n = 0;
  for (const NamedParameter& p : list) n += p.parameter->value().size();
  return n;
}
Index pruned_in(const ParameterList& list) {
  Index n = 0;
  for (const NamedParameter& p : list) n += p.parameter->value().size() - live_weights(*p.parameter);
  return n;
}

TEST(Distribution, AllTogetherReachTheSparsityUpToRounding) {
  const std::vector<TableRow> rows{{"fc*", 0.98}, {"conv2.*", 0.9}, {"*", 0.5}};
  for (const Distribution& d : {uniform(), erk(), erdos_renyi(), erk({.exempt = "conv1.*"}), table(rows)})
    for (const double s : {0.0, 0.1, 0.5, 0.8, 0.9}) {
      Rng rng(1);
      const Net net(rng);
      Pruner pruner(net.parameters(), {.scope = Scope::tensor, .distribution = d});
      pruner.to_sparsity(s);
      const Index asked = count_of("test", s, size_of(net.weights()));
      EXPECT_NEAR(static_cast<double>(pruned_in(net.weights())), static_cast<double>(asked), 2) << d.name() << " " << s;
      EXPECT_FALSE(net.bias.mask().defined());
    }
}

TEST(Distribution, ErkIsTheFormulaWithOneEpsilon) {
  Rng rng(1);
  const Net net(rng);
  const std::vector<double> each = erk()(net.weights(), 0.5);
  std::vector<double> raw;
  for (const NamedParameter& p : net.weights()) {
    const Shape& s = p.parameter->value().shape();
    raw.push_back(static_cast<double>(std::accumulate(s.begin(), s.end(), Index{0})) / static_cast<double>(count(s)));
  }
  const double eps = (6148 - 216 - 1200) / (34.0 + 184);  // what is left behind the dense ones
  for (const std::size_t dense : {0u, 3u}) {
    EXPECT_EQ(each[dense], 0);
    EXPECT_GT(eps * raw[dense], 1);
  }
  for (const std::size_t l : {1u, 2u}) EXPECT_NEAR(1 - each[l], eps * raw[l], 1e-12);
  const std::vector<double> er = erdos_renyi()(net.weights(), 0.9);
  EXPECT_NEAR((1 - er[1]) / (1 - er[2]), (24.0 / 128) / (184.0 / 7680), 1e-12);
}

TEST(Distribution, ErkOfOneTensorIsUniformAndOfNothingLeftPrunesAll) {
  Rng rng(1);
  const Parameter w(rng.normal({5, 7}), "w"), none(Tensor::zeros({0, 3}), "none");
  EXPECT_NEAR(erk()(list_of(w), 0.6)[0], 0.6, 1e-12);
  EXPECT_EQ(erk()(list_of(w), 1.0)[0], 1);
  EXPECT_EQ(erk()(list_of(w), 0.0)[0], 0);
  EXPECT_NEAR(erk()(list_of(none, w), 0.6)[1], 0.6, 1e-12);
  Pruner(list_of(w), {.scope = Scope::tensor, .distribution = erk()}).to_sparsity(1);
  EXPECT_EQ(live_weights(*w.ref()), 1);
}

TEST(Distribution, ExemptionsTakeFromTheOthers) {
  Rng rng(1);
  const Net net(rng);
  const std::vector<double> each = erk({.exempt = "fc2.*"})(net.weights(), 0.8);
  EXPECT_EQ(each[3], 0);
  EXPECT_GT(each[2], erk()(net.weights(), 0.8)[2]);
  EXPECT_THROW(erk({.exempt = "fc1.*"})(net.weights(), 0.9), ConfigError);  // it alone is more than a tenth
}

TEST(Distribution, ATableHoldsWhereTheSparsityIsWhatItComesTo) {
  Rng rng(2);
  const Net net(rng);
  const std::vector<TableRow> rows{{"fc1.weight", 0.92}, {"fc2.weight", 0.74}, {"*", 0.5}};
  const double most = table_sparsity(rows, net.parameters());
  EXPECT_NEAR(most, (0.92 * 7680 + 0.74 * 1200 + 0.5 * (216 + 3200)) / 12296, 1e-12);
  Pruner pruner(net.parameters(), {.scope = Scope::tensor, .distribution = table(rows)});
  pruner.to_sparsity(most / 2);
  EXPECT_EQ(pruned_in(net.fc1), count_of("test", 0.46, 7680));
  pruner.to_sparsity(most);
  EXPECT_EQ(pruned_in(net.fc1), count_of("test", 0.92, 7680));
  EXPECT_EQ(pruned_in(net.fc2), count_of("test", 0.74, 1200));
  EXPECT_EQ(pruned_in(net.conv1), 108);
  EXPECT_THROW(pruner.to_sparsity(0.9), ConfigError);
  // What no row matches stays whole.
  Pruner(net.parameters(), {.scope = Scope::tensor, .distribution = table({{"conv2.*", 1}})}).to_sparsity(0.1);
}

TEST(Distribution, OfOnesOwn) {
  Rng rng(3);
  const Net net(rng);
  const Distribution last([](const ParameterList& list, double s) {
    std::vector<double> each(list.size());
    each.back() = s;
    return each;
  });
  Pruner pruner(net.parameters(), {.scope = Scope::tensor, .distribution = last});
  pruner.to_sparsity(0.5);
  EXPECT_EQ(pruned_in(net.fc2), 600);
  EXPECT_EQ(pruned_in(net.weights()), 600);
  for (const Distribution& wrong :
       {Distribution([](const ParameterList&, double) { return std::vector<double>{0.5}; }),
        Distribution([](const ParameterList&list, double) { return std::vector<double>(list.size(), 1.5); }),
        Distribution([](const ParameterList&list, double) { return std::vector<double>(list.size(), std::nan("")); })})
    EXPECT_THROW(Pruner(net.parameters(), {.scope = Scope::tensor, .distribution = wrong}).to_sparsity(0.5),
                 ConfigError);
}

TEST(Distribution, FractionsAndCountsAreOfAllTogether) {
  Rng rng(4);
  const Net net(rng);
  Pruner pruner(net.parameters(), {.scope = Scope::tensor, .distribution = erk()});
  pruner.prune_fraction(0.5);
  EXPECT_NEAR(static_cast<double>(pruned_in(net.weights())), 6148, 2);
  pruner.prune_fraction(0.5);
  EXPECT_NEAR(static_cast<double>(pruned_in(net.weights())), 6148 + 3074, 3);
  pruner.prune_count(1000);
  EXPECT_NEAR(static_cast<double>(pruned_in(net.weights())), 10222, 4);
}

TEST(Distribution, OfPieces) {
  Rng rng(5);
  const Net net(rng);
  Pruner pruner(net.parameters(),
                {.granularity = rows(), .scope = Scope::tensor, .distribution = table({{"fc*", 0.5}})});
  pruner.to_sparsity(table_sparsity({{"fc*", 0.5}}, net.parameters()));
  EXPECT_EQ(pruned_in(net.fc1), 60 * 64);
  EXPECT_EQ(pruned_in(net.fc2), 5 * 120);
  EXPECT_EQ(pruned_in(net.conv2), 0);
}

TEST(Selections, OfFirstAndLastWeightsAndOfVectors) {
  Rng rng(6);
  const Net net(rng);
  auto names = [&](const optim::Select& select) {
    std::string text;
    for (const NamedParameter& p : net.parameters())
      if (select(p)) text += p.name + " ";
    return text;
  };
  EXPECT_EQ(names(optim::all_but_first(net.parameters())), "conv2.weight fc1.weight fc2.weight ");
  EXPECT_EQ(names(optim::all_but_last(net.parameters())), "conv1.weight conv2.weight fc1.weight ");
  EXPECT_EQ(names(optim::all_but_first(net.parameters()) && optim::all_but_last(net.parameters())),
            "conv2.weight fc1.weight ");
  EXPECT_EQ(names(optim::vectors()), "conv1.bias ");
  EXPECT_THROW(optim::all_but_last(list_of(net.bias)), ConfigError);
}

}  // namespace
}  // namespace espalier::prune
