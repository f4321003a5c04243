#include "espalier/optim/reshape.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"

namespace espalier::optim {
namespace {

const KeptAxes rows_and_columns{std::vector<Index>{0, 2}, std::vector<Index>{1, 2, 4}};

TEST(Taken, KeepsTheNamedIndicesOfEachAxis) {
  const Tensor t = Tensor::arange(0, 15).reshape({3, 5});
  EXPECT_EQ(taken(t, rows_and_columns).to_vector<float>(), (std::vector<float>{1, 2, 4, 11, 12, 14}));
  EXPECT_EQ(taken(t, {std::nullopt, std::vector<Index>{3}}).to_vector<float>(), (std::vector<float>{3, 8, 13}));
  EXPECT_EQ(taken(t, {std::vector<Index>{}}).shape(), (Shape{0, 5}));
  EXPECT_TRUE(equal(taken(t, {}), t));
}

TEST(Taken, CutsMasksByBits) {
  Mask mask(15);
  for (Index i : {0, 2, 11, 13}) mask.set(i, false);
  const Mask left = taken(mask, {3, 5}, rows_and_columns);
  ASSERT_EQ(left.size(), 6);
  for (Index i = 0; i < 6; ++i) EXPECT_EQ(left[i], i != 1 && i != 3);
  EXPECT_FALSE(taken(mask, {3, 5}, {std::vector<Index>{1}}).defined());  // all that is left is live
  EXPECT_FALSE(taken(Mask(), {3, 5}, rows_and_columns).defined());
  EXPECT_FALSE(taken(mask, {3, 5}, {std::vector<Index>{}}).defined());
}

TEST(Composed, TheSecondCountsInWhatTheFirstHasLeft) {
  const KeptAxes second{std::nullopt, std::vector<Index>{0, 2}};
  const KeptAxes both = composed(rows_and_columns, second);
  EXPECT_EQ(*both[0], (std::vector<Index>{0, 2}));
  EXPECT_EQ(*both[1], (std::vector<Index>{1, 4}));
  EXPECT_EQ(composed({}, second), second);
  EXPECT_EQ(composed(second, {}), second);
}

/// Remembers a number of each kind, so that it can be seen where it goes.
class Diary final : public TransformOf<Diary> {
 public:
  std::string name() const override { return "diary"; }
  Grain grain() const override { return Grain::tensor; }
  bool keeps_zeros() const override { return true; }
  std::vector<StateSpec> states() const override {
    return {{"weight"}, {"unit", StateShape::unit}, {"column", StateShape::column}, {"tensor", StateShape::tensor}};
  }
  template <class T>
  void apply(Block<T>& b) const {
    for (std::size_t k = 0; k < 4; ++k) {
      T n = 0;
      for (T& entry : b.state(k)) entry = ++n;
    }
  }
};

struct Fixture {
  Parameter w{Tensor::ones({3, 5}), "w"}, v{Tensor::ones({3}), "v"}, other{Tensor::ones({2, 2}, DType::f64), "other"};
  Optimizer optimizer{list_of(w, v, other), chain(Diary(), sgd({.lr = 0.1, .momentum = 0.9}))};
  void step() {
    for (const Parameter* p : {&w, &v, &other}) p->ref()->accumulate(Tensor::ones(p->shape(), p->dtype()));
    optimizer.step();
  }
  std::vector<ParameterCut> cuts() const {
    return {{w.ref(), rows_and_columns}, {v.ref(), {std::vector<Index>{0, 2}}}};
  }
  void cut(const std::vector<ParameterCut>& all) {
    const Commit commit = optimizer.prepare_cut(all);
    for (const ParameterCut& c : all)
      c.parameter->replace(taken(c.parameter->value(), c.kept),
                           taken(c.parameter->mask(), c.parameter->value().shape(), c.kept));
    commit();
  }
};

TEST(PrepareCut, StatesOfEveryShapeAreCut) {
  Fixture f;
  f.step();
  f.cut(f.cuts());
  const auto values = [&](const char* state, std::size_t k) {
    return f.optimizer.state("diary", state, k).to(DType::f64).to_vector<double>();
  };
  EXPECT_EQ(values("weight", 0), (std::vector<double>{2, 3, 5, 12, 13, 15}));
  EXPECT_EQ(values("unit", 0), (std::vector<double>{1, 3}));
  EXPECT_EQ(values("column", 0), (std::vector<double>{2, 3, 5}));
  EXPECT_EQ(values("tensor", 0), (std::vector<double>{1}));
  EXPECT_EQ(values("weight", 1), (std::vector<double>{1, 3}));  // a vector is one unit
  EXPECT_EQ(values("unit", 1), (std::vector<double>{1}));
  EXPECT_EQ(values("column", 1), (std::vector<double>{1, 3}));
  EXPECT_EQ(values("weight", 2), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(f.optimizer.steps(), 1);
  f.step();
  EXPECT_EQ(f.optimizer.steps(), 2);
  EXPECT_EQ(f.w.shape(), (Shape{2, 3}));
}

TEST(PrepareCut, NothingHappensBeforeTheCommit) {
  Fixture f;
  f.step();
  const OptimizerState before = f.optimizer.state();
  f.optimizer.prepare_cut(f.cuts());
  std::vector<ParameterCut> wrong = f.cuts();
  wrong[0].kept[1] = std::vector<Index>{7};  // no such column
  EXPECT_THROW(f.optimizer.prepare_cut(wrong), Error);
  wrong[0].kept.pop_back();
  EXPECT_THROW(f.optimizer.prepare_cut(wrong), ConfigError);
  const OptimizerState after = f.optimizer.state();
  for (const auto& [key, tensor] : before) EXPECT_TRUE(equal(tensor, after.at(key))) << key;
  f.step();
}

TEST(PrepareCut, AParameterMayBeCutToNothing) {
  Fixture f;
  f.step();
  f.cut({{f.w.ref(), {std::vector<Index>{}, std::nullopt}}, {f.v.ref(), {std::vector<Index>{}}}});
  f.step();
  EXPECT_EQ(f.w.shape(), (Shape{0, 5}));
  EXPECT_EQ(f.optimizer.state("diary", "unit", 0).size(), 0);
}

// Units longer than a block are measured in a sweep of their own: the plan changes with the sizes.
TEST(PrepareCut, PlansAnew) {
  Rng rng(1);
  Parameter w(rng.normal({6, 9000}), "w");
  Optimizer optimizer(list_of(w), chain(clip_per_unit_norm(0.5), adam({.lr = 0.01})));
  const auto step = [&] {
    w.ref()->accumulate(Tensor::ones(w.shape()));
    optimizer.step();
  };
  step();
  const std::string before = optimizer.describe();
  KeptAxes kept{std::nullopt, std::vector<Index>()};
  for (Index c = 0; c < 100; ++c) kept[1]->push_back(90 * c);
  const Commit commit = optimizer.prepare_cut(std::array{ParameterCut{w.ref(), kept}});
  w.ref()->replace(taken(w.value(), kept), {});
  commit();
  EXPECT_NE(optimizer.describe(), before);
  Parameter same(w.value().clone(), "w");
  Optimizer fresh(list_of(same), chain(clip_per_unit_norm(0.5), adam({.lr = 0.01})));
  EXPECT_EQ(optimizer.describe(), fresh.describe());
  fresh.load_state(optimizer.state());
  step();
  same.ref()->accumulate(Tensor::ones(w.shape()));
  fresh.step();
  EXPECT_TRUE(equal(w.value(), same.value()));  // the same bytes
}

TEST(PrepareCut, MasksThatTheOptimizerHasNotSeenAreStillSeen) {
  Fixture f;
  f.step();
  Mask mask(15);
  mask.set(1, false);
  f.w.set_mask(mask);
  f.cut(f.cuts());
  EXPECT_EQ(f.optimizer.state("diary", "weight", 0).at({0, 0}), 2);  // of the weight that was masked just now
  f.step();
  EXPECT_EQ(f.optimizer.state("sgd", "momentum", 0).at({0, 0}), 0);
  EXPECT_EQ(f.w.value().at({0, 0}), 0);
}

}  // namespace
}  // namespace espalier::optim
