// Views: same storage, other shapes and strides.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "espalier/core/tensor.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;

constexpr Index huge = std::numeric_limits<Index>::max();
constexpr Index least = std::numeric_limits<Index>::min();

std::vector<float> values(const Tensor& t) { return t.to_vector<float>(); }

TEST(TensorView, ReshapeSharesWhereStridesAllow) {
  const Tensor t = Tensor::arange(0, 24).reshape({2, 3, 4});
  for (const Shape& shape : {Shape{24}, Shape{6, 4}, Shape{2, 12}, Shape{4, 3, 2}, Shape{1, 24, 1}, Shape{2, -1, 2}}) {
    const Tensor r = t.reshape(shape);
    EXPECT_TRUE(r.shares_storage(t));
    EXPECT_EQ(values(r), values(t));
    EXPECT_EQ(t.view(shape).shape(), r.shape());
  }
  EXPECT_EQ(t.reshape({-1}).shape(), Shape{24});
  EXPECT_EQ(t.reshape({-1, 8}).shape(), (Shape{3, 8}));
  const Tensor turned = t.transpose(0, 1);  // [3, 2, 4], strides 4, 12, 1
  EXPECT_TRUE(turned.reshape({3, 2, 2, 2}).shares_storage(t)) << "splitting an axis is always a view";
  EXPECT_FALSE(turned.reshape({6, 4}).shares_storage(t));
  EXPECT_EQ(values(turned.reshape({24})), values(turned.clone()));
  EXPECT_TRUE(throws<ShapeError>([&] { turned.view({24}); }, "[view]", "[24]", "Hint"));
  const Tensor columns = t.slice(2, 0, 4, 2);
  EXPECT_TRUE(columns.view({6, 2}).shares_storage(t));
  EXPECT_TRUE(columns.view({12}).shares_storage(t)) << "an even step runs on from row to row";
  EXPECT_TRUE(throws<ShapeError>([&] { t.slice(2, 0, 3).view({18}); }, "[view]"));
}

TEST(TensorView, ReshapeChecksTheCount) {
  const Tensor t = Tensor::zeros({2, 3});
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({5}); }, "[reshape]", "[2, 3]", "6 elements", "[5]"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({-1, -1}); }, "only one length"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({-1, 4}); }, "-1"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({-2, -3}); }, "[reshape]"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({0, -1}); }, "-1"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.reshape({huge, 4}); }, "[reshape]"));
  EXPECT_EQ(Tensor::zeros({0, 3}).reshape({3, -1}).shape(), (Shape{3, 0}));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::zeros({0, 3}).reshape({0, -1}); }, "-1"));
  EXPECT_EQ(Tensor::scalar(1).reshape({1, 1}).shape(), (Shape{1, 1}));
  EXPECT_EQ(Tensor::ones({1, 1}).reshape({}).rank(), 0);
}

TEST(TensorView, SliceClampsAsPythonDoes) {
  const Tensor t = Tensor::arange(0, 5);
  auto slice = [&](Index start, Index stop, Index step = 1) { return values(t.slice(0, start, stop, step)); };
  using V = std::vector<float>;
  EXPECT_EQ(slice(1, 3), (V{1, 2}));
  EXPECT_EQ(slice(-2, 5), (V{3, 4}));
  EXPECT_EQ(slice(0, -1), (V{0, 1, 2, 3}));
  EXPECT_EQ(slice(-100, 100), (V{0, 1, 2, 3, 4}));
  EXPECT_EQ(slice(least, huge), (V{0, 1, 2, 3, 4}));
  EXPECT_EQ(slice(3, 1), V{});
  EXPECT_EQ(slice(7, 9), V{});
  EXPECT_EQ(slice(5, 5), V{});
  EXPECT_EQ(slice(0, 5, 2), (V{0, 2, 4}));
  EXPECT_EQ(slice(1, 5, 2), (V{1, 3}));
  EXPECT_EQ(slice(0, 5, huge), (V{0}));
  EXPECT_EQ(values(Tensor::arange(0, 6).reshape({2, 3}).slice(0, 1, 2, huge)), (V{3, 4, 5}));
  EXPECT_TRUE(throws<ConfigError>([&] { slice(0, 5, 0); }, "[slice]", "step"));
  EXPECT_TRUE(throws<ConfigError>([&] { slice(0, 5, -1); }, "[slice]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.slice(1, 0, 1); }, "[slice]", "axis 1"));
  EXPECT_EQ(t.slice(-1, 0, 2).size(), 2);
}

TEST(TensorView, NarrowAndSelectDoNotClamp) {
  const Tensor t = Tensor::arange(0, 6).reshape({2, 3});
  EXPECT_EQ(values(t.narrow(1, 1, 2)), (std::vector<float>{1, 2, 4, 5}));
  EXPECT_EQ(values(t.narrow(-1, -1, 1)), (std::vector<float>{2, 5}));
  EXPECT_EQ(t.narrow(1, 3, 0).shape(), (Shape{2, 0}));
  EXPECT_TRUE(throws<IndexError>([&] { t.narrow(1, 1, 3); }, "[narrow]", "[2, 3]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.narrow(1, -4, 1); }, "[narrow]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.narrow(1, 0, -1); }, "[narrow]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.narrow(1, 1, huge); }, "[narrow]"));
  EXPECT_EQ(values(t.select(0, -1)), (std::vector<float>{3, 4, 5}));
  EXPECT_EQ(values(t.select(1, 0)), (std::vector<float>{0, 3}));
  EXPECT_TRUE(throws<IndexError>([&] { t.select(0, 2); }, "[select]", "index 2"));
  EXPECT_TRUE(throws<IndexError>([&] { t.select(0, least); }, "[select]"));
  EXPECT_TRUE(throws<IndexError>([] { Tensor::zeros({0}).select(0, 0); }, "[select]"));
}

TEST(TensorView, AxesMayBeNegativeAndAreChecked) {
  const Tensor t = Tensor::arange(0, 24).reshape({2, 3, 4});
  EXPECT_EQ(t.transpose(-1, 0).shape(), (Shape{4, 3, 2}));
  EXPECT_EQ(t.t().shape(), (Shape{2, 4, 3}));
  EXPECT_EQ(t.permute({-1, 0, 1}).shape(), (Shape{4, 2, 3}));
  EXPECT_EQ(t.permute({2, 0, 1}).at({3, 1, 2}), t.at({1, 2, 3}));
  EXPECT_EQ(t.flatten().shape(), Shape{24});
  EXPECT_EQ(t.flatten(1).shape(), (Shape{2, 12}));
  EXPECT_EQ(t.flatten(-3, -2).shape(), (Shape{6, 4}));
  EXPECT_EQ(Tensor::scalar(1).flatten().shape(), Shape{1});
  EXPECT_TRUE(throws<IndexError>([&] { t.transpose(0, 3); }, "[transpose]", "axis 3"));
  EXPECT_TRUE(throws<IndexError>([] { Tensor::ones({3}).t(); }, "[transpose]", "axis -2"));
  EXPECT_TRUE(throws<IndexError>([&] { t.permute({0, 0, 1}); }, "[permute]", "twice"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.permute({0, 1}); }, "[permute]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.permute({0, 1, huge}); }, "[permute]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.flatten(2, 1); }, "[flatten]"));
}

TEST(TensorView, SqueezeAndUnsqueeze) {
  const Tensor t = Tensor::ones({1, 3, 1});
  EXPECT_EQ(t.squeeze().shape(), Shape{3});
  EXPECT_EQ(t.squeeze(0).shape(), (Shape{3, 1}));
  EXPECT_EQ(t.squeeze(-1).shape(), (Shape{1, 3}));
  EXPECT_EQ(t.squeeze(1).shape(), t.shape()) << "only axes of length 1 are dropped";
  EXPECT_EQ(Tensor::ones({1, 1}).squeeze().rank(), 0);
  EXPECT_EQ(t.unsqueeze(0).shape(), (Shape{1, 1, 3, 1}));
  EXPECT_EQ(t.unsqueeze(-1).shape(), (Shape{1, 3, 1, 1}));
  EXPECT_EQ(t.unsqueeze(3).shape(), (Shape{1, 3, 1, 1}));
  EXPECT_TRUE(throws<IndexError>([&] { t.unsqueeze(4); }, "[unsqueeze]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::ones({1, 1, 1, 1, 1, 1, 1, 1}).unsqueeze(0); }, "at most 8 axes"));
}

TEST(TensorView, BroadcastRepeatsWithStrideZero) {
  const Tensor t = Tensor::arange(0, 3);
  const Tensor wide = t.broadcast_to({2, 3});
  EXPECT_TRUE(wide.shares_storage(t));
  EXPECT_EQ(wide.strides(), (Dims{0, 1}));
  EXPECT_EQ(values(wide), (std::vector<float>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(values(t.unsqueeze(1).broadcast_to({3, 2})), (std::vector<float>{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(Tensor::ones({1}).broadcast_to({0}).size(), 0);
  EXPECT_EQ(Tensor::scalar(4).broadcast_to({2, 2}).at({1, 0}), 4);
  EXPECT_TRUE(throws<ShapeError>([&] { t.broadcast_to({3, 2}); }, "[broadcast_to]", "[3]", "[3, 2]"));
  EXPECT_TRUE(throws<ShapeError>([&] { wide.broadcast_to({3}); }, "[broadcast_to]"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.broadcast_to({0}); }, "[broadcast_to]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::scalar(1).broadcast_to({-1}); }, "negative length"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::scalar(1).broadcast_to({huge, 2}); }, "63 bits"));
}

TEST(TensorView, AsStridedTakesAnyWindow) {
  const Tensor t = Tensor::arange(0, 8);
  EXPECT_EQ(values(t.as_strided({3, 3}, {2, 1}, 1)), (std::vector<float>{1, 2, 3, 3, 4, 5, 5, 6, 7}));
  EXPECT_EQ(values(t.as_strided({3}, {-1}, 4)), (std::vector<float>{4, 3, 2}));
  EXPECT_EQ(values(t.as_strided({2, 2}, {0, 0}, 5)), (std::vector<float>{5, 5, 5, 5}));
  EXPECT_TRUE(t.as_strided({2, 4}, {4, 1}).is_contiguous());
}

// --- against a model that moves values instead of strides ------------------------------------------------------------

struct Model {
  std::vector<Index> shape;
  std::vector<float> values;  // row-major

  Index count() const { return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>()); }
  /// A new model of this shape whose element at `position` is this one's at source(position).
  template <class Source>
  Model gather(std::vector<Index> to, Source source) const {
    Model result{std::move(to), {}};
    std::vector<Index> position(result.shape.size(), 0);
    for (Index n = result.count(); n > 0; --n) {
      const std::vector<Index> from = source(position);
      Index offset = 0;
      for (std::size_t a = 0; a < shape.size(); ++a) offset = offset * shape[a] + from[a];
      result.values.push_back(values[static_cast<std::size_t>(offset)]);
      for (std::size_t a = position.size(); a-- > 0;) {
        if (++position[a] < result.shape[a]) break;
        position[a] = 0;
      }
    }
    return result;
  }
};

TEST(TensorView, RandomChainsOfViewsAgreeWithMovedValues) {
  std::mt19937 random(7);
  auto below = [&](Index n) {
    return static_cast<Index>(random() % static_cast<std::uint32_t>(std::max<Index>(n, 1)));
  };
  for (int round = 0; round < 400; ++round) {
    Tensor t = Tensor::arange(0, 60).reshape({3, 4, 5});
    Model m{{3, 4, 5}, values(t)};
    for (int step = 0; step < 8; ++step) {
      const auto rank = static_cast<Index>(m.shape.size());
      const auto axis = static_cast<std::size_t>(below(rank));
      const int named = static_cast<int>(axis) - (below(2) ? static_cast<int>(rank) : 0);  // from either end
      switch (rank == 0 ? 5 : below(7)) {
        case 0: {  // transpose
          const auto other = static_cast<std::size_t>(below(rank));
          std::vector<Index> to = m.shape;
          std::swap(to[axis], to[other]);
          m = m.gather(to, [&](std::vector<Index> p) { return std::swap(p[axis], p[other]), p; });
          t = t.transpose(named, static_cast<int>(other));
          break;
        }
        case 1: {  // slice
          const Index n = m.shape[axis], start = below(n + 1), stop = start + below(n - start + 1), by = 1 + below(3);
          std::vector<Index> to = m.shape;
          to[axis] = (stop - start + by - 1) / by;
          m = m.gather(to, [&](std::vector<Index> p) { return p[axis] = start + p[axis] * by, p; });
          t = t.slice(named, start, stop, by);
          break;
        }
        case 2: {  // select
          if (m.shape[axis] == 0) break;
          const Index index = below(m.shape[axis]);
          std::vector<Index> to = m.shape;
          to.erase(to.begin() + static_cast<std::ptrdiff_t>(axis));
          m = m.gather(to, [&](std::vector<Index> p) {
            return p.insert(p.begin() + static_cast<std::ptrdiff_t>(axis), index), p;
          });
          t = t.select(named, index - (below(2) ? t.dim(named) : 0));
          break;
        }
        case 3: {  // reshape to two axes
          if (m.count() == 0) break;
          Index first = 1 + below(m.count());
          while (m.count() % first != 0) --first;
          m.shape = {first, m.count() / first};
          t = t.reshape({first, -1});
          break;
        }
        case 4: {  // flatten from an axis on
          Index run = 1;
          for (std::size_t a = axis; a < m.shape.size(); ++a) run *= m.shape[a];
          m.shape.resize(axis);
          m.shape.push_back(run);
          t = t.flatten(static_cast<int>(axis));
          break;
        }
        case 5: {  // unsqueeze, and repeat
          if (rank >= 6 || m.count() > 500) break;
          const Index times = 1 + below(3);
          m.shape.insert(m.shape.begin(), 1);
          std::vector<Index> to = m.shape;
          to[0] = times;
          m = m.gather(to, [&](std::vector<Index> p) { return p[0] = 0, p; });
          t = t.unsqueeze(0).broadcast_to(Shape(std::span<const Index>(to)));
          break;
        }
        case 6: {  // all axes in another order
          std::vector<Index> order(m.shape.size()), to(m.shape.size());
          std::iota(order.begin(), order.end(), Index{0});
          std::shuffle(order.begin(), order.end(), random);
          for (std::size_t a = 0; a < order.size(); ++a) to[a] = m.shape[static_cast<std::size_t>(order[a])];
          m = m.gather(to, [&](const std::vector<Index>& p) {
            std::vector<Index> from(p.size());
            for (std::size_t a = 0; a < p.size(); ++a) from[static_cast<std::size_t>(order[a])] = p[a];
            return from;
          });
          t = t.permute(Dims(std::span<const Index>(order)));
          break;
        }
      }
      ASSERT_EQ(t.shape(), Shape(std::span<const Index>(m.shape))) << "round " << round << " step " << step;
      ASSERT_EQ(values(t), m.values) << "round " << round << " step " << step;
      ASSERT_EQ(t.is_contiguous(), t.size() == 0 || t.strides() == row_major(t.shape()));
    }
  }
}

}  // namespace
}  // namespace espalier
