#include "espalier/core/kernels/directions.h"

#include <array>
#include <functional>
#include <utility>

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

template <class T>
using Run = std::function<void(const StepBlock<T>&)>;

/// Every kernel of the table in use, with settings that let all of their terms show.
template <class T>
std::vector<std::pair<std::string, Run<T>>> all_kernels() {
  const DirectionKernels<T>& k = directions<T>();
  std::vector<std::pair<std::string, Run<T>>> all = {
      {"amsgrad", [&](const StepBlock<T>& b) { k.amsgrad({.root = 2}, b); }},
      {"adamax", [&](const StepBlock<T>& b) { k.adamax({}, b); }},
      {"nadam", [&](const StepBlock<T>& b) { k.nadam({.root = 2}, b); }},
      {"radam", [&](const StepBlock<T>& b) { k.radam({}, b); }},
      {"radam, not rectified", [&](const StepBlock<T>& b) { k.radam({.rectified = false}, b); }},
      {"adagrad", [&](const StepBlock<T>& b) { k.adagrad({.initial = 0.1}, b); }},
      {"adadelta", [&](const StepBlock<T>& b) { k.adadelta({}, b); }},
      {"asgd", [&](const StepBlock<T>& b) { k.asgd({.mu = 0.25}, b); }},
      {"rprop", [&](const StepBlock<T>& b) { k.rprop({}, b); }},
      {"lion", [&](const StepBlock<T>& b) { k.lion({}, b); }}};
  for (const bool centred : {false, true})
    for (const bool momentum : {false, true})
      all.push_back({"rmsprop", [&k, centred, momentum](const StepBlock<T>& b) {
                       k.rmsprop[centred][momentum]({.momentum = 0.5}, b);
                     }});
  return all;
}

template <class T>
bool positive_zero(T x) {
  return x == 0 && !std::signbit(x);
}

/// A weight, its gradient and three states, before or after a step.
template <class T>
struct Data {
  std::vector<T> g, w, u;
  std::array<std::vector<T>, 3> states;
  explicit Data(Index n)
      : g(uniform<T>(n, -2, 2, 1)),
        w(uniform<T>(n, -1, 1, 2)),
        u(static_cast<std::size_t>(n), T(-77)),
        states{uniform<T>(n, 0.5, 1, 3), uniform<T>(n, 0, 0.5, 4), uniform<T>(n, 0, 1, 5)} {}
  StepBlock<T> block(std::size_t offset, Mask mask, Index n, bool scratch, T decay) {
    return {.g = g.data() + offset,
            .w = w.data() + offset,
            .u = scratch ? u.data() + offset : nullptr,
            .mask = mask,
            .n = n,
            .scale = T(0.5),
            .weight_decay = decay,
            .keep = T(0.875),
            .states = {states[0].data() + offset, states[1].data() + offset, states[2].data() + offset}};
  }
};

template <class T>
class DirectionKernelsTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(DirectionKernelsTest, Types);

// Any block at once gives the bits that its elements give one by one; straight into the value those of scratch that is
// applied; dead elements are +0 whatever was there; nothing around the block is touched.
TYPED_TEST(DirectionKernelsTest, BlocksAreTheirElements) {
  using T = TypeParam;
  constexpr std::size_t offset = 3;
  on_each_target([] {
    for (const Index n : {0, 1, 3, 7, 8, 16, 17, 63, 64, 65, 130})
      for (const bool masked : {false, true})
        for (const T decay : {T(0), T(0.1)})
          for (const auto& [name, run] : all_kernels<T>()) {
            SCOPED_TRACE(name + ", n " + std::to_string(n));
            const std::vector<std::uint64_t> words(3, 0x6b5a'39c6'f01e'55d3);
            const Mask mask = masked ? words.data() : nullptr;
            const auto live = [&](Index i) { return !masked || (words[0] >> (i % 64) & 1) != 0; };
            Data<T> start(n + 8);
            for (Index i = 0; i < n; ++i) {
              if (live(i)) continue;
              const std::size_t j = static_cast<std::size_t>(i) + offset;
              start.g[j] = start.states[0][j] = start.states[1][j] = T(nan);
              start.w[j] = 0;
            }
            Data<T> whole = start, scratch = start, single = start;
            run(whole.block(offset, mask, n, false, decay));
            run(scratch.block(offset, mask, n, true, decay));
            for (std::size_t j = 0; j < scratch.w.size(); ++j) ASSERT_EQ(scratch.w[j], start.w[j]) << "only read";
            step<T>().sgd({.lr = -1, .keep = 0.875}, scratch.u.data() + offset, nullptr, scratch.w.data() + offset,
                          nullptr, mask, n);
            for (Index i = 0; i < n; ++i)
              if (live(i)) run(single.block(offset + static_cast<std::size_t>(i), nullptr, 1, false, decay));
            for (std::size_t j = 0; j < start.w.size(); ++j) {
              const Index i = static_cast<Index>(j) - static_cast<Index>(offset);
              const bool inside = i >= 0 && i < n;
              if (inside && !live(i)) {
                ASSERT_TRUE(positive_zero(whole.w[j]) && positive_zero(scratch.u[j]));
                for (std::size_t k = 0; k < 3; ++k)
                  ASSERT_TRUE(positive_zero(whole.states[k][j]) || same_bits(whole.states[k][j], start.states[k][j]));
                ASSERT_TRUE(positive_zero(whole.states[0][j])) << "every rule has at least one";
                continue;
              }
              ASSERT_TRUE(same_bits(whole.w[j], single.w[j]) && same_bits(whole.w[j], scratch.w[j])) << "element " << i;
              for (std::size_t k = 0; k < 3; ++k)
                ASSERT_TRUE(same_bits(whole.states[k][j], single.states[k][j]) &&
                            same_bits(whole.states[k][j], scratch.states[k][j]));
              if (!inside) {
                ASSERT_EQ(whole.w[j], start.w[j]);
                ASSERT_EQ(scratch.u[j], T(-77));
              }
            }
          }
  });
}

// What the best target gives, give the others: they are all the same rule.
TYPED_TEST(DirectionKernelsTest, TargetsAgree) {
  using T = TypeParam;
  const std::size_t count = all_kernels<T>().size();
  for (std::size_t which = 0; which < count; ++which) {
    const std::string name = all_kernels<T>()[which].first;
    Data<T> best(200);
    all_kernels<T>()[which].second(best.block(0, nullptr, 200, false, T(0.1)));
    on_each_target([&] {
      Data<T> here(200);
      all_kernels<T>()[which].second(here.block(0, nullptr, 200, false, T(0.1)));
      for (std::size_t j = 0; j < 200; ++j) {
        ASSERT_NEAR(here.w[j], best.w[j], 16 * std::numeric_limits<T>::epsilon()) << name;
        for (std::size_t k = 0; k < 3; ++k)
          ASSERT_NEAR(here.states[k][j], best.states[k][j], 16 * std::numeric_limits<T>::epsilon()) << name;
      }
    });
  }
}

// A weight without a gradient, and no eps: 0 / 0 must stay within the dead ones.
TYPED_TEST(DirectionKernelsTest, NoEpsLeavesDeadWeightsAtZero) {
  using T = TypeParam;
  on_each_target([] {
    const std::uint64_t none = 0;
    std::vector<T> g(9, T(1)), w(9), a(9), b(9);
    const StepBlock<T> block{
        .g = g.data(), .w = w.data(), .u = nullptr, .mask = &none, .n = 9, .states = {a.data(), b.data()}};
    directions<T>().adamax({.eps = 0}, block);
    directions<T>().adagrad({.eps = 0, .initial = 1}, block);
    directions<T>().adadelta({.eps = 0}, block);
    directions<T>().rprop({}, block);
    for (std::size_t i = 0; i < 9; ++i) EXPECT_TRUE(positive_zero(w[i]) && positive_zero(a[i]) && positive_zero(b[i]));
  });
}

TYPED_TEST(DirectionKernelsTest, SignsAndMaximaKeepNaN) {
  using T = TypeParam;
  on_each_target([] {
    for (const auto& [name, run] : all_kernels<T>()) {
      Data<T> data(20);
      data.g[2] = data.g[18] = T(nan);
      run(data.block(0, nullptr, 20, false, T(0)));
      for (std::size_t j = 0; j < 20; ++j) EXPECT_EQ(std::isnan(data.w[j]), j == 2 || j == 18) << name << " " << j;
    }
  });
}

}  // namespace
}  // namespace espalier::kernels
