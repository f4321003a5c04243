// Ops that read a part of their input add their gradient to what the input's has come to: a loop over the parts costs
// one pass over it.
#include <gtest/gtest.h>

#include <set>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/tape.h"
#include "espalier/core/rng.h"
#include "espalier/core/storage.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;

Tensor random(const Shape& shape, std::uint64_t seed, DType dtype = DType::f64) {
  return Rng(seed).normal(shape, 0, 1, dtype);
}

/// One number out of overlapping parts of every kind.
Variable over_parts(const Variable& x) {
  Variable total = sum(square(x));
  for (Index t = 0; t < x.dim(1); ++t) {
    total = total + sum(tanh(select(x, 1, t)) * static_cast<double>(t + 1));
    total = total + sum(square(narrow(x, 1, t, 1)));
    total = total + sum(exp(slice(x, 2, t % 3, 100, 2)));
    total = total + sum(sin(index_select(x, 0, Tensor::from({std::int64_t{1}, std::int64_t{0}, std::int64_t{1}}))));
    total = total + sum(square(diagonal(x, t - 1, 0, 2)));
  }
  return total;
}

TEST(Parts, SumToTheGradientOfTheWhole) {
  const DifferentiableFunction f = [](std::span<const Variable> v) { return over_parts(v[0]); };
  const GradcheckResult first = gradcheck(f, {random({2, 4, 5}, 1)});
  EXPECT_TRUE(first) << first.message;
  const GradcheckResult second = gradgradcheck(f, {random({2, 4, 5}, 2)});
  EXPECT_TRUE(second) << second.message;
}

TEST(Parts, OfAnInputThatIsAViewOrAResult) {
  const DifferentiableFunction f = [](std::span<const Variable> v) { return over_parts(transpose(v[0], 0, 2) * 2); };
  const GradcheckResult result = gradcheck(f, {random({5, 4, 2}, 3)});
  EXPECT_TRUE(result) << result.message;
}

TEST(Parts, AreSummedInOnePlace) {
  std::set<const double*> places;
  int calls = 0;
  auto part = [&](const Variable& x, Index row) {
    return record("part", x.value().select(0, row).clone(), {&x},
                  [&, row, shape = x.shape()](const Variable& g, Wants, Tensor so_far) -> Variable {
                    Tensor all = so_far.defined() ? std::move(so_far) : Tensor::zeros(shape, g.dtype());
                    Tensor mine = all.select(0, row);
                    mine.copy_from(g.value(), "part");
                    places.insert(all.data<double>());
                    ++calls;
                    return all;
                  });
  };
  const Tensor value = random({6, 3}, 4);
  Tape tape;
  const Variable x = tape.watch(value);
  Variable total = sum(part(x, 0));
  for (Index row = 1; row < 6; ++row) total = total + sum(part(x, row) * static_cast<double>(row + 1));
  const Tensor g = tape.gradient(total, {x})[0].value();
  EXPECT_EQ(calls, 6);
  EXPECT_EQ(places.size(), 1u);
  for (Index row = 0; row < 6; ++row)
    for (Index k = 0; k < 3; ++k) EXPECT_EQ(g.select(0, row).select(0, k).item(), static_cast<double>(row + 1));
}

TEST(Parts, NeverWriteIntoAGradientThatSomeoneElseHolds) {
  Tape tape;
  const Variable x = tape.watch(random({4, 3}, 5));
  Tensor seen;
  const Variable y = x * 2;
  const Hook hold = tape.hook(y, [&](const Variable& g) { seen = g.value(); });
  const Variable loss = sum(select(x, 0, 1)) + sum(y + x) + sum(select(x, 0, 2));
  const Tensor g = tape.gradient(loss, {x})[0].value();
  EXPECT_TRUE(same_bytes(seen.contiguous(), Tensor::ones({4, 3}, DType::f64)));
  EXPECT_EQ(g.to_vector<double>(), (std::vector<double>{3, 3, 3, 4, 4, 4, 4, 4, 4, 3, 3, 3}));
}

/// Bytes that the thread's cache holds after the backward of a loop over `steps` parts.
std::uint64_t bytes_of_a_loop(Index steps) {
  constexpr Index width = 1 << 12;
  const Parameter x(Tensor::ones({steps, width}, DType::f32), "x");
  release_cached_memory();
  {
    Tape tape;
    Variable total = sum(select(Variable(x), 0, 0));
    for (Index t = 1; t < steps; ++t) total = total + sum(select(Variable(x), 0, t));
    tape.backward(total);
  }
  return allocator_statistics().cached_bytes;
}

TEST(Parts, ALoopOverThemMakesNoSecondWhole) {
  // The one whole is the gradient, which the parameter keeps; what is left over are parts.
  EXPECT_LT(bytes_of_a_loop(200), std::uint64_t{200} * (1 << 12) * 4 / 2);
}

TEST(Parts, SmallAndEmptyOnes) {
  Tape tape;
  const Variable x = tape.watch(random({3, 2}, 6));
  const Variable loss = sum(select(x, 0, 2)) + sum(slice(x, 0, 1, 1)) + sum(narrow(x, 1, 2, 0)) + sum(select(x, 0, 2));
  EXPECT_EQ(tape.gradient(loss, {x})[0].value().to_vector<double>(), (std::vector<double>{0, 0, 0, 0, 2, 2}));
}

}  // namespace
}  // namespace espalier
