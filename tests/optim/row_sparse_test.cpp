// Gradients of which only some rows are stored: the same step as with the dense gradient, without making it.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <limits>

#include "espalier/core/row_sparse.h"
#include "espalier/optim/constraint.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

Tensor rows_of(const Shape& shape, const std::vector<Index>& rows, unsigned seed, DType type = DType::f32) {
  const Index width = count(shape) / shape[0];
  Shape values_shape = shape;
  values_shape[0] = static_cast<Index>(rows.size());
  return row_sparse_sum(shape, Tensor::from(rows, {static_cast<Index>(rows.size())}),
                        tensor(numbers(rows.size() * static_cast<std::size_t>(width), seed), type, values_shape));
}

/// Three steps with the same gradients, row-sparse and dense: values must be the same bytes.
void compare(const Shape& shape, const std::function<Chain()>& make, DType type, bool masked,
             const std::vector<Index>& rows) {
  const auto n = static_cast<std::size_t>(count(shape));
  std::vector<std::vector<double>> results;
  std::vector<double> norms;
  for (bool sparse : {true, false}) {
    Parameter table = parameter("table", numbers(n, 1), type, shape), other = parameter("other", numbers(10, 2), type);
    if (masked) {
      Mask mask(table.size());
      for (Index i = 0; i < table.size(); i += 3) mask.set(i, false);
      table.set_mask(mask);
    }
    Optimizer opt({{"table", table.ref()}, {"other", other.ref()}}, make());
    for (unsigned t = 0; t < 3; ++t) {
      Tensor g = rows_of(shape, t == 1 ? std::vector<Index>{} : rows, 10 + t, type);
      if (!sparse) g = g.densify();
      table.ref()->accumulate(std::move(g));
      EXPECT_EQ(table.ref()->row_gradient() != nullptr, sparse);
      give_gradient(other, numbers(10, 20 + t));
      const StepReport report = opt.step();
      if (!report.clips().empty()) norms.push_back(report.clips().front().norm_before);
    }
    results.push_back(values_of(table));
    for (double x : values_of(other)) results.back().push_back(x);
  }
  EXPECT_EQ(results[0], results[1]);
  for (std::size_t k = 0; k < norms.size() / 2; ++k) EXPECT_EQ(norms[k], norms[k + norms.size() / 2]);
}

TEST(RowSparseGradients, StepAsDenseOnesDo) {
  const std::vector<std::function<Chain()>> chains = {
      [] { return sgd({.lr = 0.1}); },
      [] { return chain(clip_by_global_norm(0.5), sgd({.lr = 0.1})); },
      [] { return chain(clip_by_value(0.3), clip_per_tensor_norm(0.5), sgd({.lr = 0.1, .momentum = 0.9})); },
      [] {
        return chain(clip_by_global_norm(0.5), adamw({.lr = 0.1, .weight_decay = 0.1}), clamp_parameters(-0.8, 0.8));
      },
      [] { return chain(clip_by_global_norm(0.5), adam({.lr = 0.1}), clip_by_global_norm(0.1), max_norm(1.0)); },
      [] { return chain(clip_by_value({.min = 0.1}), sgd({.lr = 0.1})); },  // moves zeros
  };
  for (const auto& make : chains)
    for (const Shape& shape : {Shape{500, 40}, Shape{3, 9000}, Shape{7, 2, 5}, Shape{20}})
      for (DType type : {DType::f32, DType::f64})
        for (bool masked : {false, true}) compare(shape, make, type, masked, {2, 0, 2, shape[0] - 1, 0});
}

TEST(RowSparseGradients, ManyOfThem) {
  std::vector<Index> rows;
  for (Index i = 0; i < 3000; ++i) rows.push_back(i * 7919 % 4000);
  compare(
      {4000, 33}, [] { return chain(clip_by_global_norm(0.5), sgd({.lr = 0.1})); }, DType::f32, true, rows);
}

/// Counts the blocks it sees.
class Counting final : public TransformOf<Counting> {
 public:
  explicit Counting(std::atomic<int>& blocks) : blocks_(&blocks) {}
  std::string name() const override { return "counting"; }
  bool keeps_zeros() const override { return true; }
  bool passes_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>&) const {
    ++*blocks_;
  }

 private:
  std::atomic<int>* blocks_;
};

TEST(RowSparseGradients, CostWhatTheirRowsCost) {
  Parameter table(Tensor::ones({100'000, 32}), "table");  // 782 blocks
  std::atomic<int> blocks = 0;
  Optimizer opt({{"table", table.ref()}}, chain(Counting(blocks), clip_by_global_norm(1.0), sgd({.lr = 0.1})));
  table.ref()->accumulate(rows_of({100'000, 32}, {5, 77'777}, 3));
  opt.step();
  EXPECT_EQ(blocks, 4);  // two blocks, in two sweeps
  EXPECT_NE(values_of(table.value().select(0, 77'777))[0], 1);
  EXPECT_EQ(values_of(table.value().select(0, 6))[0], 1);
}

TEST(RowSparseGradients, NonFiniteOnesNameTheirPlace) {
  Parameter table = parameter("table", numbers(40, 1), DType::f32, {10, 4});
  const auto before = values_of(table);
  Optimizer opt({{"table", table.ref()}}, chain(clip_by_global_norm(1.0), sgd({.lr = 0.1})));
  Tensor values = Tensor::zeros({2, 4});
  values.write<float>("test")[5] = std::numeric_limits<float>::infinity();
  table.ref()->accumulate(row_sparse_sum({10, 4}, Tensor::from<Index>({3, 8}, {2}), values));
  try {
    opt.step();
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_NE(std::string(error.what()).find("'table' is inf at index 33"), std::string::npos) << error.what();
  }
  EXPECT_EQ(values_of(table), before);

  Optimizer zeroing({{"table", table.ref()}}, chain(clip_by_global_norm(1.0), sgd({.lr = 0.1})),
                    {.nonfinite = Nonfinite::zero});
  EXPECT_EQ(zeroing.step().nonfinite, 1);
  EXPECT_EQ(values_of(table), before);
}

}  // namespace
}  // namespace espalier::optim
