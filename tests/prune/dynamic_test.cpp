#include "espalier/prune/dynamic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/report.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes, espalier::testing::Threads, espalier::testing::throws;

constexpr DType f64 = DType::f64;

/// The exchange by plain loops: masks as vectors, in double.
std::vector<bool> reference(const std::vector<double>& w, const std::vector<double>& growth, std::vector<bool> live,
                            double fraction) {
  const auto count = static_cast<double>(std::count(live.begin(), live.end(), true));
  const auto k =
      static_cast<std::size_t>(std::min(std::nearbyint(fraction * count), static_cast<double>(w.size()) - count));
  const std::vector<bool> old = live;
  std::vector<std::size_t> order(w.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return std::abs(w[a]) < std::abs(w[b]); });
  std::size_t dropped = 0;
  for (std::size_t i : order)
    if (old[i] && dropped < k) {
      live[i] = false;
      ++dropped;
    }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return growth[a] < growth[b]; });
  std::size_t grown = 0;
  for (auto i = order.rbegin(); i != order.rend(); ++i)
    if (!old[*i] && grown < k) {
      live[*i] = true;
      ++grown;
    }
  return live;
}

std::vector<bool> bits(const Parameter& p) {
  std::vector<bool> live(static_cast<std::size_t>(p.size()), true);
  for (Index i = 0; p.mask().defined() && i < p.size(); ++i) live[static_cast<std::size_t>(i)] = p.mask()[i];
  return live;
}
std::vector<double> sizes(const Tensor& t) {
  std::vector<double> v = t.to(f64).to_vector<double>();
  for (double& x : v) x = std::abs(x);
  return v;
}

/// Two parameters of unlike size and type, none of which fills its words.
struct Training {
  template <class Make>
  explicit Training(Make make, std::uint64_t seed = 1)
      : a(Rng(seed).normal({31, 23}), "a"),
        b(Rng(seed + 1).normal({5, 3, 3}, 0, 1, f64), "b"),
        opt(list_of(a, b), optim::adam({.lr = 0.02})),
        dynamic(make(list_of(a, b))) {
    opt.attach(dynamic);
  }
  void backward(Rng& data) {
    const Tensor x = data.normal({31, 23}), y = data.normal({5, 3, 3}, 0, 1, f64);
    {
      Tape tape;
      tape.backward(sum(square(a - x)));
    }
    Tape tape;
    tape.backward(sum(square(b - y)));
  }
  void steps(int n, Rng& data) {
    for (int k = 0; k < n; ++k) {
      backward(data);
      opt.step();
    }
  }
  Parameter a, b;
  optim::Optimizer opt;
  DynamicSparsity dynamic;
};
const auto make_rigl = [](const ParameterList& list) {
  return rigl(list, {.sparsity = 0.8, .every = 4, .steps = 40, .seed = 3});
};
const auto make_set = [](const ParameterList& list) { return set(list, {.sparsity = 0.8, .every = 4, .seed = 3}); };

TEST(Rigl, DropsTheSmallestAndGrowsByTheGradientAsAPlainLoopDoes) {
  Training t(make_rigl);
  Rng data(9);
  for (std::int64_t step = 0; step < 40; ++step) {
    const std::vector<bool> before[] = {bits(t.a), bits(t.b)};
    const Tensor values[] = {t.a.value().clone(), t.b.value().clone()};
    t.backward(data);
    const Tensor gradients[] = {t.a.grad().clone(), t.b.grad().clone()};
    t.opt.step();
    const Parameter* parameters[] = {&t.a, &t.b};
    const bool due = step > 0 && step < 30 && step % 4 == 0;
    EXPECT_EQ(t.dynamic.due(step), due);
    EXPECT_EQ(t.dynamic.wants_dense_gradient(step), due);
    const double fraction = 0.15 * (1 + std::cos(std::numbers::pi * static_cast<double>(step) / 30));
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_EQ(bits(*parameters[i]),
                due ? reference(sizes(values[i]), sizes(gradients[i]), before[i], fraction) : before[i])
          << "step " << step << " parameter " << i;
  }
  EXPECT_GT(t.dynamic.exchanged(), 50);
}

TEST(Rigl, TheNumberOfLiveWeightsNeverChanges) {
  for (int which : {0, 1}) {
    Training t([&](const ParameterList& list) { return which == 0 ? make_rigl(list) : make_set(list); });
    Rng data(2);
    const Index live_a = 713 - static_cast<Index>(std::nearbyint(0.8 * 713)),
                live_b = 45 - static_cast<Index>(std::nearbyint(0.8 * 45));
    const std::vector<bool> first = bits(t.a);
    for (int k = 0; k < 30; ++k) {
      EXPECT_EQ(live_weights(*t.a.ref()), live_a);
      EXPECT_EQ(live_weights(*t.b.ref()), live_b);
      for (Index i = 0; i < 713; ++i) EXPECT_TRUE(t.a.mask()[i] || t.a.value().data<float>()[i] == 0);
      t.steps(1, data);
    }
    EXPECT_NE(bits(t.a), first);
  }
}

TEST(Rigl, GrownWeightsAndTheirMomentsStartAtZero) {
  Training t(make_rigl);
  Rng data(4);
  t.steps(4, data);  // the next is due
  const std::vector<bool> before = bits(t.a);
  t.backward(data);
  t.dynamic.exchange(4);  // by hand, to see the weights before the update
  std::vector<Index> grown;
  for (Index i = 0; i < 713; ++i)
    if (t.a.mask()[i] && !before[static_cast<std::size_t>(i)]) grown.push_back(i);
  ASSERT_FALSE(grown.empty());
  const Tensor m = t.opt.state("adam", "m", 0).flatten(), v = t.opt.state("adam", "v", 0).flatten();
  for (Index i : grown) {
    EXPECT_EQ(t.a.value().flatten().at({i}), 0);
    EXPECT_EQ(m.at({i}), 0);
    EXPECT_EQ(v.at({i}), 0);
  }
}

TEST(Rigl, DroppedMomentsAreZero) {
  Training t(make_rigl);
  Rng data(4);
  t.steps(5, data);  // the last of them exchanged
  const Tensor m = t.opt.state("adam", "m", 0).flatten();
  Index dead = 0;
  for (Index i = 0; i < 713; ++i)
    if (!t.a.mask()[i]) {
      EXPECT_EQ(m.at({i}), 0) << i;
      ++dead;
    }
  EXPECT_EQ(dead, 570);
}

TEST(Set, GrowsAtRandomByTheSeed) {
  std::vector<std::vector<bool>> masks;
  for (std::uint64_t seed : {3u, 3u, 4u}) {
    Training t([&](const ParameterList& list) { return set(list, {.sparsity = 0.5, .every = 2, .seed = seed}); });
    Rng data(1);
    t.steps(8, data);
    masks.push_back(bits(t.a));
    EXPECT_FALSE(t.dynamic.wants_dense_gradient(2));
    EXPECT_TRUE(t.dynamic.due(2));
  }
  EXPECT_EQ(masks[0], masks[1]);
  EXPECT_NE(masks[0], masks[2]);
}

TEST(Dynamic, ResumesInTheMiddleWithTheSameBytes) {
  for (int which : {0, 1}) {
    const auto make = [&](const ParameterList& list) { return which == 0 ? make_rigl(list) : make_set(list); };
    Training run(make);
    Rng data(5);
    run.steps(10, data);

    Training again(make, 77);
    again.a = run.a;  // after the masks were drawn, as loading does
    again.b = run.b;
    again.opt.load_state(run.opt.state());
    again.dynamic.load_state(run.dynamic.state());
    Rng same = data;
    run.steps(15, data);
    again.steps(15, same);
    EXPECT_TRUE(same_bytes(run.a.value(), again.a.value()));
    EXPECT_TRUE(same_bytes(run.b.value(), again.b.value()));
    EXPECT_EQ(run.a.mask(), again.a.mask());
    EXPECT_EQ(run.dynamic.exchanged(), again.dynamic.exchanged());
  }
}

TEST(Dynamic, SameBytesAtAnyNumberOfThreads) {
  for (int which : {0, 1}) {
    std::vector<Tensor> values;
    for (int n : {1, 2, 4}) {
      const Threads threads(n);
      const Parameter w(Rng(1).normal({301, 257}), "w");
      DynamicSparsity d = which == 0 ? rigl(list_of(w), {.sparsity = 0.9, .every = 1, .steps = 10})
                                     : set(list_of(w), {.sparsity = 0.9, .every = 1});
      optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.1, .momentum = 0.9}));
      opt.attach(d);
      for (std::uint64_t k = 0; k < 4; ++k) {
        Tape tape;
        tape.backward(sum(square(w - Rng(k).normal({301, 257}))));
        opt.step();
      }
      values.push_back(w.value());
    }
    EXPECT_TRUE(same_bytes(values[0], values[1]));
    EXPECT_TRUE(same_bytes(values[0], values[2]));
  }
}

TEST(Dynamic, MasksThatAreThereStayAndDensitiesMayDiffer) {
  const Parameter a(Rng(1).normal({10, 10}), "a"), b(Rng(1).normal({10, 20}), "b"), c(Rng(1).normal({3, 3}), "c");
  Mask mask(100);
  mask.set(7, false);
  a.ref()->set_mask(mask);
  const auto distribution = [](const ParameterList& list, double sparsity) {
    EXPECT_EQ(list.size(), 3u);
    EXPECT_EQ(sparsity, 0.6);
    return std::vector<double>{0.5, 0.75, 0};
  };
  const DynamicSparsity d = rigl(list_of(a, b, c), {.sparsity = 0.6, .distribution = distribution, .steps = 100});
  EXPECT_EQ(a.mask(), mask);
  EXPECT_EQ(live_weights(*b.ref()), 50);
  EXPECT_FALSE(c.mask().defined());  // a dense layer has nothing to exchange
}

TEST(Dynamic, StartsWithTheSparsitiesOfErdosRenyiKernel) {
  const Parameter wide(Rng(1).normal({100, 200}), "wide"), narrow(Rng(2).normal({10, 100}), "narrow");
  const ParameterList list = list_of(wide, narrow);
  const std::vector<double> each = erk()(list, 0.9);
  ASSERT_LT(each[1], each[0] - 0.1);
  for (const bool by_gradient : {false, true}) {
    const DynamicSparsity d = by_gradient ? rigl(list, {.sparsity = 0.9, .distribution = erk(), .steps = 100})
                                          : set(list, {.sparsity = 0.9, .distribution = erk()});
    EXPECT_NEAR(static_cast<double>(live_weights(*wide.ref())), (1 - each[0]) * 20000, 0.5);
    EXPECT_NEAR(static_cast<double>(live_weights(*narrow.ref())), (1 - each[1]) * 1000, 0.5);
    wide.ref()->set_mask(Mask());
    narrow.ref()->set_mask(Mask());
  }
}

TEST(Dynamic, OddSizesAndNothing) {
  for (double s : {0.0, 0.5, 1.0}) {
    const Parameter empty(Tensor::zeros({0, 4}), "empty"), one(Tensor::ones({1, 1}), "one"),
        two(Tensor::ones({2, 1}, f64), "two"), zeros(Tensor::zeros({5, 13}), "zeros");
    DynamicSparsity d = set(list_of(empty, one, two, zeros), {.sparsity = s, .fraction = 1});
    const Index live = live_weights(*zeros.ref());
    for (std::int64_t step : {100, 200, 300}) d.exchange(step);
    EXPECT_EQ(live_weights(*one.ref()), 1);
    EXPECT_EQ(live_weights(*zeros.ref()), live);
    EXPECT_GE(live, 1);
  }
}

TEST(Dynamic, NanIsAnErrorAndNothingIsExchanged) {
  Training t(make_rigl);
  Rng data(1);
  t.steps(4, data);
  const Mask a = t.a.mask();
  t.backward(data);
  Index pruned = 0;
  while (t.b.mask()[pruned]) ++pruned;  // the finite check of the optimizer looks at live gradients only
  t.b.ref()->mutable_grad().write<double>("test")[pruned] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(throws<NonFiniteError>([&] { t.opt.step(); }, "'b'"));
  EXPECT_EQ(t.a.mask(), a);
  EXPECT_EQ(t.opt.steps(), 4);
}

TEST(Dynamic, ATiedParameterIsOneAndAStrangerIsAnError) {
  Parameter w(Rng(1).normal({4, 4}), "w");
  ParameterList twice = list_of(w);
  twice.push_back({"decoder", w.ref()});
  EXPECT_EQ(set(twice, {.sparsity = 0.5}).parameters().size(), 1u);

  const Parameter copy = w;
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 0.1}));
  opt.attach(set(list_of(copy), {.sparsity = 0.5, .every = 1}));
  const auto step = [&] {
    Tape tape;
    tape.backward(sum(square(w)));
    opt.step();
  };
  step();  // 0: not due
  EXPECT_THROW(step(), ConfigError);
}

/// A linear layer with SparseTraining, trained on random numbers.
struct SparseRun {
  SparseRun()
      : opt(list_of(w), optim::sgd({.lr = 0.01})),
        dynamic(rigl(list_of(w), {.sparsity = 0.9, .every = 3, .steps = 20})) {
    opt.attach(dynamic);
  }
  void backward(std::uint64_t seed) {
    Tape tape;
    tape.backward(sum(square(linear(Rng(seed).normal({16, 40}), w, Variable()) - Rng(seed + 100).normal({16, 30}))));
  }
  Index dead_gradients() const {
    Index n = 0;
    for (Index i = 0; i < w.size(); ++i) n += !w.mask()[i] && w.grad().data<float>()[i] != 0;
    return n;
  }
  Parameter w{Rng(1).normal({30, 40}), "w"};
  optim::Optimizer opt;
  DynamicSparsity dynamic;
};

TEST(Rigl, TheDenseProductIsComputedOnlyWhenDue) {
  SparseRun run;
  const SparseTraining sparse(list_of(run.w), {.measure = false, .dense_gradient = [&] {
                                                 return run.dynamic.wants_dense_gradient(run.opt.steps());
                                               }});
  ASSERT_EQ(sparse.chosen().size(), 1u);
  for (std::uint64_t step = 0; step < 20; ++step) {
    run.backward(step);
    const bool due = step > 0 && step < 15 && step % 3 == 0;
    EXPECT_EQ(run.dead_gradients(), due ? 1080 : 0) << step;  // 0.9 * 1200
    run.opt.step();
  }
}

TEST(Rigl, GradientsThatSparseTrainingLeftOutAreAnError) {
  SparseRun run;
  const SparseTraining sparse(list_of(run.w), {.measure = false});
  for (std::uint64_t step = 0; step < 3; ++step) {
    run.backward(step);
    run.opt.step();
  }
  run.backward(3);
  EXPECT_TRUE(throws<ConfigError>([&] { run.opt.step(); }, "left out the gradient", "wants_dense_gradient"));
  EXPECT_EQ(run.opt.steps(), 3);
}

}  // namespace
}  // namespace espalier::prune
