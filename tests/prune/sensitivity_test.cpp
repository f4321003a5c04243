#include "espalier/prune/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/core/row_sparse.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes, espalier::testing::throws;

double total(const Parameter& p) {
  double sum = 0;
  for (double v : p.value().to(DType::f64).to_vector<double>()) sum += std::abs(v);
  return sum;
}

/// Two parameters of unlike size and type, a hard and a soft mask among them, gradients, and one without any weight.
struct Model {
  Model() {
    Mask half(66), some(35);
    for (Index i = 0; i < 66; i += 2) half.set(i, false);
    some.set(3, false);
    b.ref()->set_mask(half);
    c.ref()->set_mask(some, MaskMode::soft);
    Tape tape;
    tape.backward(sum(square(a)) + sum(square(b)));  // raw gradients, at pruned weights, too
    b.ref()->mutable_grad().fill(3);
    const Tensor rows = Tensor::from<std::int64_t>({2, 4});
    table.ref()->accumulate(
        Tensor::packed({6, 2}, DType::f32, std::make_unique<RowSparse>(Shape{6, 2}, rows, Tensor::ones({2, 2}))));
  }
  ParameterList parameters() const { return list_of(a, b, c, table, bias, empty); }
  Parameter a{Rng(1).normal({9, 13}), "a"}, b{Rng(2).normal({6, 11}), "b"},
      c{Rng(3).normal({5, 7}, 0, 1, DType::f64), "c"}, table{Rng(4).normal({6, 2}), "table"},
      bias{Tensor::ones({9}), "bias"}, empty{Tensor::zeros({0, 3}), "empty"};
};

struct Bytes {
  explicit Bytes(const Model& m) {
    for (const NamedParameter& named : m.parameters()) {
      const ParameterState& p = *named.parameter;
      values.push_back(p.value().clone());
      dense.push_back(p.dense().defined() ? p.dense().clone() : Tensor());
      rows.push_back(p.row_gradient() != nullptr);
      gradients.push_back(!p.has_grad() ? Tensor() : rows.back() ? p.row_gradient()->densify() : p.grad().clone());
      masks.push_back(p.mask());
      modes.push_back(p.mask_mode());
    }
  }
  std::vector<Tensor> values, dense, gradients;
  std::vector<Mask> masks;
  std::vector<MaskMode> modes;
  std::vector<bool> rows;
};
void expect_same(const Bytes& a, const Bytes& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    EXPECT_TRUE(same_bytes(a.values[i], b.values[i])) << i;
    EXPECT_TRUE(same_bytes(a.dense[i], b.dense[i])) << i;
    EXPECT_TRUE(same_bytes(a.gradients[i], b.gradients[i])) << i;
  }
  EXPECT_EQ(a.masks, b.masks);
  EXPECT_EQ(a.modes, b.modes);
  EXPECT_EQ(a.rows, b.rows);
}

TEST(Sensitivity, PrunesOneLayerAtATimeAndPutsAllBack) {
  const Model m;
  const Bytes before(m);
  const double a = total(m.a), b = total(m.b), c = total(m.c);
  const auto metric = [&] { return total(m.a) + 10 * total(m.b) + 100 * total(m.c); };
  int calls = 0;
  const Sensitivity scan = sensitivity(m.parameters(),
                                       [&] {
                                         ++calls;
                                         const int touched = (total(m.a) != a) + (total(m.b) != b) + (total(m.c) != c);
                                         EXPECT_LE(touched, 1);
                                         return metric();
                                       },
                                       {.sparsities = {0.5, 0.0, 0.9}});
  expect_same(Bytes(m), before);
  EXPECT_EQ(calls, 1 + 5 * 3);
  ASSERT_EQ(scan.rows.size(), 5u);  // not the bias
  EXPECT_EQ(scan.rows[0].name, "a");
  EXPECT_NEAR(scan.metric, metric(), 1e-9);
  const SensitivityPoint& half = scan.rows[0].points[0];
  EXPECT_NEAR(half.reached, 58.0 / 117, 1e-12);  // 58.5, to even
  EXPECT_NEAR(half.drop, scan.metric - half.metric, 1e-12);
  EXPECT_GT(half.drop, 0);
  EXPECT_EQ(scan.rows[0].points[1].drop, 0);
  EXPECT_NEAR(scan.rows[1].points[0].reached, 0.5, 1e-12);  // b was half pruned: nothing more
  EXPECT_EQ(scan.rows[1].points[0].drop, 0);
  EXPECT_GT(scan.rows[0].points[2].drop, half.drop);
}

TEST(Sensitivity, PutsBackWhatTheMetricInterrupts) {
  for (int stop = 0; stop < 6; ++stop) {
    const Model m;
    const Bytes before(m);
    int calls = 0;
    EXPECT_THROW(sensitivity(m.parameters(),
                             [&]() -> double {
                               if (calls++ == stop) throw std::runtime_error("metric");
                               return 1;
                             }),
                 std::runtime_error);
    expect_same(Bytes(m), before);
  }
}

TEST(Sensitivity, NanWeightsArePutBackToo) {
  Model m;
  Tensor w = m.c.ref()->dense().clone();
  w.write<double>("test")[9] = std::numeric_limits<double>::quiet_NaN();
  m.c.ref()->set_value(w);
  const Bytes before(m);
  EXPECT_TRUE(throws<NonFiniteError>([&] { sensitivity(m.parameters(), [] { return 1.0; }); }, "'c'"));
  expect_same(Bytes(m), before);
}

TEST(Sensitivity, SuggestsTheLargestWithinTheDrop) {
  const Parameter a(Tensor::ones({10, 10}), "a"), b(Tensor::ones({10, 10}), "b");
  // Accuracy in steps of 0.01 a tenth of a pruned, 0.1 of b.
  const auto pruned = [](const Parameter& p) {
    return p.mask().defined() ? 1 - static_cast<double>(p.mask().live()) / 100 : 0;
  };
  const auto accuracy = [&] { return 0.98 - 0.1 * pruned(a) - pruned(b); };
  const SensitivityOptions options{.sparsities = {0.1, 0.3, 0.5, 0.9}};
  const Sensitivity scan = sensitivity(list_of(a, b), accuracy, options);
  using Table = std::vector<std::pair<std::string, double>>;
  EXPECT_EQ(scan.suggest(0.05), (Table{{"a", 0.5}, {"b", 0}}));
  EXPECT_EQ(scan.suggest(0.1), (Table{{"a", 0.9}, {"b", 0.1}}));  // 0.98 - 0.88 is not more than 0.1
  EXPECT_EQ(scan.suggest(10), (Table{{"a", 0.9}, {"b", 0.9}}));
  EXPECT_EQ(scan.suggest(std::nan("")), (Table{{"a", 0}, {"b", 0}}));

  SensitivityOptions loss = options;
  loss.better = Better::lower;
  const Sensitivity by_loss = sensitivity(
      list_of(a, b), [&] { return -accuracy(); }, loss);
  EXPECT_EQ(by_loss.suggest(0.05), scan.suggest(0.05));
  EXPECT_NEAR(by_loss.rows[1].points[3].drop, 0.9, 1e-12);

  const std::string table = scan.table();
  for (const char* part : {"a", "[10, 10]", "50.0 %", "0.9300", "as it is: 0.9800"})
    EXPECT_NE(table.find(part), std::string::npos) << part << " in\n" << table;
}

TEST(Sensitivity, ANanMetricIsNoSuggestion) {
  const Parameter a(Tensor::ones({10, 10}), "a");
  const Sensitivity scan =
      sensitivity(list_of(a), [&] { return a.mask().defined() && a.mask().live() < 50 ? std::nan("") : 1.0; },
                  {.sparsities = {0.4, 0.8}});
  EXPECT_TRUE(std::isnan(scan.rows[0].points[1].drop));
  EXPECT_EQ(scan.suggest(1)[0].second, 0.4);
  EXPECT_THROW(sensitivity(list_of(a), [] { return std::nan(""); }), NonFiniteError);
}

TEST(Sensitivity, ByAScoreOfOnesOwnAndOnASelection) {
  const Parameter a(Tensor::from<float>({1, 2, 3, 4}, {2, 2}), "a"), b(Tensor::ones({2, 2}), "b");
  const Score smallest("smallest stays",
                       [](const ParameterState& p, const Statistics&) { return (Variable(p.value()) * -1.0).value(); });
  std::vector<double> seen;
  sensitivity(list_of(a, b),
              [&] {
                seen.push_back(total(a));
                return 0;
              },
              {.sparsities = {0.5}, .score = smallest, .select = "a"});
  EXPECT_EQ(seen, (std::vector<double>{10, 3}));
  EXPECT_EQ(total(a), 10);
}

}  // namespace
}  // namespace espalier::prune
