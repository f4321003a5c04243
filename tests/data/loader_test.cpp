#include "espalier/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "espalier/core/parallel.h"
#include "espalier/data/synthetic.h"
#include "tests/support/temp_folder.h"

namespace espalier::data {
namespace {

Dataset counted(Index n, Index width = 2) {
  return {Tensor::arange(0, static_cast<double>(n * width)).reshape({n, width}),
          Tensor::arange(0, static_cast<double>(n), 1, DType::i64)};
}

/// The labels of one epoch, in order.
std::vector<Index> epoch(Loader& loader) {
  std::vector<Index> seen;
  for (auto& [x, y] : loader)
    for (const Index label : y.to_vector<Index>()) seen.push_back(label);
  return seen;
}

TEST(LoaderTest, EveryRowOnceInANewOrderEachEpoch) {
  Loader loader(counted(23), 5, Rng(1));
  EXPECT_EQ(loader.batches(), 5);
  const std::vector<Index> first = epoch(loader), second = epoch(loader);
  EXPECT_NE(first, second);
  for (std::vector<Index> seen : {first, second}) {
    std::sort(seen.begin(), seen.end());
    std::vector<Index> all(23);
    std::iota(all.begin(), all.end(), Index{0});
    EXPECT_EQ(seen, all);
  }
  Loader same(counted(23), 5, Rng(1)), other(counted(23), 5, Rng(2));
  EXPECT_EQ(epoch(same), first);
  EXPECT_NE(epoch(other), first);
}

TEST(LoaderTest, RowsKeepTheirTargets) {
  Loader loader(counted(100, 3), 7, Rng(3));
  for (auto& [x, y] : loader) {
    ASSERT_EQ(x.dim(0), y.dim(0));
    for (Index i = 0; i < y.dim(0); ++i) EXPECT_EQ(x.at({i, 2}), 3 * y.at({i}) + 2);
  }
}

TEST(LoaderTest, InOrderAndWithoutTheLast) {
  Loader loader(counted(7), 3, Rng(1), {.shuffle = false, .drop_last = true});
  EXPECT_EQ(loader.batches(), 2);
  EXPECT_EQ(epoch(loader), (std::vector<Index>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(loader.epoch(), 1);
  Loader all(counted(7), 7, Rng(1), {.shuffle = false});
  EXPECT_EQ(epoch(all).size(), 7u);
}

TEST(LoaderTest, EachBatchIsAFreshTensorAndNeverTheDataset) {
  const Dataset dataset = counted(6);
  Loader loader(dataset, 3, Rng(1), {.shuffle = false});
  std::vector<Tensor> held;
  for (auto& [x, y] : loader) {
    for (const Tensor& old : held) EXPECT_FALSE(x.shares_storage(old));
    EXPECT_FALSE(x.shares_storage(dataset.x));
    x.fill(-1);
    held.push_back(x);
  }
  EXPECT_EQ(dataset.x.at({5, 1}), 11);
}

TEST(LoaderTest, ResumesInTheMiddleOfAnEpoch) {
  for (const Index stop : {1, 3, 5}) {  // 5: behind the last batch
    Loader loader(counted(23), 5, Rng(4));
    epoch(loader);
    Loader::State state{};
    std::vector<Index> rest;
    Index batch = 0;
    for (auto& [x, y] : loader) {
      if (++batch > stop)
        for (const Index label : y.to_vector<Index>()) rest.push_back(label);
      if (batch == stop) state = loader.state();
    }
    Loader resumed(counted(23), 5, Rng(99));
    resumed.set_state(state);
    EXPECT_EQ(epoch(resumed), rest);
    EXPECT_EQ(epoch(resumed), epoch(loader));
    EXPECT_EQ(resumed.epoch(), loader.epoch());
  }
}

TEST(LoaderTest, ALoopLeftEarlyIsOver) {
  Loader loader(counted(10), 2, Rng(5)), whole(counted(10), 2, Rng(5));
  for ([[maybe_unused]] auto& batch : loader) break;
  epoch(whole);
  EXPECT_EQ(epoch(loader), epoch(whole));
}

TEST(LoaderTest, WithoutTargets) {
  Loader loader({Tensor::ones({4, 2}), Tensor()}, 4, Rng(1));
  for (auto& [x, y] : loader) {
    EXPECT_EQ(x.shape(), (Shape{4, 2}));
    EXPECT_FALSE(y.defined());
  }
}

TEST(LoaderTest, Errors) {
  EXPECT_THROW(Loader(counted(0), 1, Rng(1)), ConfigError);
  EXPECT_THROW(Loader(counted(4), 0, Rng(1)), ConfigError);
  EXPECT_THROW(Loader(counted(4), -1, Rng(1)), ConfigError);
  EXPECT_ERROR(
      ConfigError, [] { Loader(counted(4), 5, Rng(1)); }, "must be in [1, 4]");
  EXPECT_THROW(Loader({Tensor::ones({4}), Tensor::ones({3})}, 1, Rng(1)), ShapeError);
  EXPECT_THROW(Loader({Tensor(), Tensor()}, 1, Rng(1)), ShapeError);
  EXPECT_THROW(Loader({Tensor::scalar(1), Tensor()}, 1, Rng(1)), ShapeError);
}

TEST(LoaderTest, BadStatesChangeNothing) {
  Loader loader(counted(10), 3, Rng(1)), same(counted(10), 3, Rng(1));
  Loader::State state = loader.state();
  for (const auto& [place, value] : {std::pair<std::size_t, std::uint64_t>{5, 11}, {4, 11}, {4, ~0ull}, {3, ~0ull}}) {
    Loader::State bad = state;
    bad[place] = value;
    EXPECT_THROW(loader.set_state(bad), ConfigError);
  }
  EXPECT_EQ(epoch(loader), epoch(same));
}

TEST(DatasetTest, RowsOfViewsOfEveryTypeAtAnyThreadCount) {
  const Tensor x = Tensor::arange(0, 600000).reshape({200, 3000}).t();  // rows are not contiguous
  Rng rng(6);
  const std::vector<Index> order = rng.permutation(3000);
  const Tensor expected = gather_rows(x, order);
  for (const Index i : {Index{0}, Index{1500}, Index{2999}})
    EXPECT_TRUE(equal(expected.select(0, i), x.select(0, order[static_cast<std::size_t>(i)])));
  {
    const ThreadLimit one(1);
    EXPECT_TRUE(equal(gather_rows(x, order), expected));
  }
  for (const DType type : {DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean}) {
    const Tensor t = Tensor::arange(0, 6).reshape({3, 2}).to(type);
    EXPECT_TRUE(equal(gather_rows(t, std::vector<Index>{2, 0, 2}).select(0, 2), t.select(0, 2)));
  }
  EXPECT_EQ(gather_rows(Tensor::ones({3, 0}), std::vector<Index>{2, 0}).shape(), (Shape{2, 0}));
  EXPECT_EQ(gather_rows(Tensor::ones({3, 4}), {}).shape(), (Shape{0, 4}));
  EXPECT_THROW(gather_rows(x, std::vector<Index>{3000}), IndexError);
  EXPECT_THROW(gather_rows(x, std::vector<Index>{-1}), IndexError);
  EXPECT_THROW(gather_rows(Tensor::scalar(1), {}), ShapeError);
}

TEST(DatasetTest, Splits) {
  const TrainTest every = split_every(counted(11), 5, 4);
  EXPECT_EQ(every.test.y.to_vector<Index>(), (std::vector<Index>{4, 9}));
  EXPECT_EQ(every.train.size(), 9);
  const TrainTest random = split_at_random(counted(10), 0.3, Rng(1));
  EXPECT_EQ(random.test.size(), 3);
  EXPECT_EQ(random.train.size(), 7);
  EXPECT_EQ(split_at_random(counted(10), 0, Rng(1)).test.size(), 0);
  EXPECT_THROW(split_every(counted(3), 0, 0), ConfigError);
  EXPECT_THROW(split_every(counted(3), 2, 2), ConfigError);
  EXPECT_THROW(split_at_random(counted(3), 1.5, Rng(1)), ConfigError);
}

TEST(SyntheticTest, TasksAreWhatTheySay) {
  Rng rng(7);
  const Dataset line = linear_data(rng, 50, {4, 5}, 1);
  for (Index i = 0; i < 50; ++i)
    EXPECT_NEAR(line.y.at({i, 0}), 4 * line.x.at({i, 0}) + 5 * line.x.at({i, 1}) + 1, 1e-5);
  const Dataset moons = two_moons(rng, 40, 0);
  for (Index i = 0; i < 40; ++i) {
    const double x = moons.x.at({i, 0}), y = moons.x.at({i, 1});
    const double dx = moons.y.at({i}) == 0 ? x : x - 1, dy = moons.y.at({i}) == 0 ? y : y - 0.5;
    EXPECT_NEAR(dx * dx + dy * dy, 1, 1e-5);
  }
  const Dataset arms = spirals(rng, 30, 3, 0);
  EXPECT_EQ(arms.y.at({5}), 2);
  EXPECT_EQ(linear_data(rng, 0, {1}).x.shape(), (Shape{0, 1}));
  EXPECT_THROW(two_moons(rng, -1), ConfigError);
  EXPECT_THROW(two_moons(rng, 3, -1), ConfigError);
  EXPECT_THROW(spirals(rng, 3, 0), ConfigError);
}

}  // namespace
}  // namespace espalier::data
