// Plateau against the rule as PyTorch writes it, and as a part of optimizers and checkpoints.
#include "espalier/optim/plateau.h"

#include <cmath>
#include <functional>

#include "espalier/io/checkpoint.h"
#include "espalier/nn/linear.h"
#include "espalier/optim/schedule.h"
#include "tests/optim/support.h"
#include "tests/support.h"
#include "tests/support/temp_folder.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::TempFolder;
using espalier::testing::throws;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// The rates after each metric.
std::vector<double> rates(Plateau plateau, const std::vector<double>& metrics) {
  std::vector<double> seen;
  for (const double metric : metrics) {
    plateau.observe(metric);
    seen.push_back(plateau.lr());
  }
  return seen;
}

/// ReduceLROnPlateau for positive metrics, written out.
std::vector<double> reference(const PlateauOptions& o, const std::vector<double>& metrics) {
  const bool min = o.mode == PlateauMode::min, rel = o.threshold_mode == Threshold::rel;
  double rate = o.lr, best = min ? infinity : -infinity;
  std::int64_t bad = 0, cooldown = 0;
  std::vector<double> seen;
  for (const double metric : metrics) {
    const double bar = min ? (rel ? best * (1 - o.threshold) : best - o.threshold)
                           : (rel ? best * (1 + o.threshold) : best + o.threshold);
    if (min ? metric < bar : metric > bar) {
      best = metric;
      bad = 0;
    } else {
      bad += 1;
    }
    if (cooldown > 0) {
      cooldown -= 1;
      bad = 0;
    }
    if (bad > o.patience) {
      const double next = std::max(rate * o.factor, o.min_lr);
      if (rate - next > o.eps) rate = next;
      cooldown = o.cooldown;
      bad = 0;
    }
    seen.push_back(rate);
  }
  return seen;
}

TEST(Plateau, FollowsTheReferenceOverAllSettings) {
  std::vector<double> metrics = numbers(300, 3, 0.2);  // noise about a curve that flattens
  for (std::size_t i = 0; i < metrics.size(); ++i) metrics[i] += 1 + 2 * std::exp(-static_cast<double>(i) / 30);
  metrics[40] = nan;
  int reductions = 0;
  for (const PlateauMode mode : {PlateauMode::min, PlateauMode::max})
    for (const Threshold kind : {Threshold::rel, Threshold::abs})
      for (const std::int64_t patience : {0, 1, 7})
        for (const std::int64_t cooldown : {0, 1, 5})
          for (const double threshold : {0.0, 1e-4, 0.05}) {
            const PlateauOptions o = {.lr = 0.5,
                                      .mode = mode,
                                      .factor = 0.7,
                                      .patience = patience,
                                      .threshold = threshold,
                                      .threshold_mode = kind,
                                      .cooldown = cooldown,
                                      .min_lr = 1e-3};
            const std::vector<double> expected = reference(o, metrics);
            EXPECT_EQ(rates(Plateau(o), metrics), expected) << patience << ' ' << cooldown << ' ' << threshold;
            reductions += expected.back() < 0.5;
          }
  EXPECT_EQ(reductions, 108);
}

TEST(Plateau, WaitsForPatienceAndOne) {
  EXPECT_EQ(rates(Plateau({.lr = 1, .factor = 0.5, .patience = 2}), {5, 5, 5, 5, 5, 5, 5}),
            (std::vector<double>{1, 1, 1, 0.5, 0.5, 0.5, 0.25}));
  EXPECT_EQ(rates(Plateau({.lr = 1, .factor = 0.5, .patience = 0}), {5, 5, 4, 4}),
            (std::vector<double>{1, 0.5, 0.5, 0.25}));
  EXPECT_EQ(rates(Plateau({.lr = 1, .factor = 0.5, .patience = 0, .cooldown = 2}), {5, 5, 5, 5, 5}),
            (std::vector<double>{1, 0.5, 0.5, 0.5, 0.25}));
}

TEST(Plateau, TellsOfAReduction) {
  Plateau plateau({.lr = 1, .factor = 0.1, .patience = 0, .min_lr = 0.05});
  EXPECT_FALSE(plateau.observe(1));
  EXPECT_TRUE(plateau.observe(1));
  EXPECT_EQ(plateau.lr(), 0.1);
  EXPECT_TRUE(plateau.observe(1));
  EXPECT_EQ(plateau.lr(), 0.05);
  EXPECT_FALSE(plateau.observe(1)) << "it is the lowest";
}

TEST(Plateau, LeavesOutReductionsUpToEps) {
  EXPECT_EQ(rates(Plateau({.lr = 1, .factor = 0.5, .patience = 0, .eps = 0.25}), {5, 5, 5, 5}),
            (std::vector<double>{1, 0.5, 0.5, 0.5}));
}

TEST(Plateau, NaNAndInfinitiesAreNeverBetter) {
  for (const PlateauMode mode : {PlateauMode::min, PlateauMode::max})
    for (const double strange : {nan, infinity, -infinity}) {
      const PlateauOptions o = {.lr = 1, .mode = mode, .factor = 0.5, .patience = 0};
      EXPECT_EQ(rates(Plateau(o), {strange, 3, strange}), (std::vector<double>{0.5, 0.5, 0.25})) << strange;
      Plateau plateau(o);
      plateau.observe(3);
      plateau.observe(strange);
      EXPECT_FALSE(plateau.observe(mode == PlateauMode::min ? 2 : 4)) << "the best is still 3, and this is better";
    }
}

TEST(Plateau, RelativeThresholdsBelowZeroAskForBetterToo) {
  const PlateauOptions o = {.lr = 1, .factor = 0.5, .patience = 0, .threshold = 0.1};
  EXPECT_EQ(rates(Plateau(o), {-10, -10.5, -11.5}), (std::vector<double>{1, 0.5, 0.5}));
  EXPECT_EQ(rates(Plateau(o), {-10, -9.5}), (std::vector<double>{1, 0.5})) << "worse is not better";
  EXPECT_EQ(rates(Plateau(o), {0, 0, -1e-9}), (std::vector<double>{1, 0.5, 0.5}));
}

TEST(Plateau, CopiesShareOneState) {
  Plateau plateau({.lr = 0.5, .factor = 0.5, .patience = 0});
  const Parameter a = parameter("a", {1}), b = parameter("b", {1}, DType::f64);
  auto first = Optimizer(list_of(a), sgd({.lr = plateau}));
  auto second = Optimizer(list_of(b), sgd({.lr = warmup(chained({plateau, 2.0}), {.steps = 2})}));
  const auto step = [&] {
    give_gradient(a, {1});
    give_gradient(b, {1});
    first.step();
    second.step();
  };
  step();
  EXPECT_EQ(values_of(a)[0], 0.5);
  EXPECT_EQ(values_of(b)[0], 0.5);
  Plateau moved = std::move(plateau);
  moved.observe(1);
  moved.observe(1);
  EXPECT_EQ(plateau.lr(), 0.25) << "a moved-from handle is still one";
  step();
  EXPECT_EQ(values_of(a)[0], 0.25);
  EXPECT_EQ(values_of(b)[0], 0);
}

TEST(Plateau, ResumesInTheMiddle) {
  const PlateauOptions o = {.lr = 0.5, .factor = 0.7, .patience = 2, .cooldown = 3};
  std::vector<double> metrics = numbers(80, 9, 0.3);
  const std::vector<double> whole = rates(Plateau(o), metrics);
  for (std::size_t cut = 0; cut <= metrics.size(); ++cut) {
    Plateau before(o), after(o);
    const auto middle = metrics.begin() + static_cast<std::ptrdiff_t>(cut);
    std::vector<double> seen = rates(before, {metrics.begin(), middle});
    after.load_state(before.state());
    const std::vector<double> rest = rates(after, {middle, metrics.end()});
    seen.insert(seen.end(), rest.begin(), rest.end());
    EXPECT_EQ(seen, whole) << cut;
  }
}

TEST(Plateau, IsAPartOfACheckpoint) {
  const TempFolder folder;
  Rng rng(1);
  nn::Linear model(rng, 2, 1);
  Plateau plateau({.lr = 0.5, .patience = 0});
  auto opt = Optimizer(model.parameters(), sgd({.lr = plateau}));
  plateau.observe(1);
  plateau.observe(1);
  io::save_checkpoint(folder / "run", model, opt, plateau);
  plateau.observe(1);
  EXPECT_NE(plateau.lr(), 0.05);
  io::load_checkpoint(folder / "run", model, opt, plateau);
  EXPECT_EQ(plateau.lr(), 0.05);
}

TEST(Plateau, RefusesAStateThatIsNotOneAndStaysAsItWas) {
  Plateau plateau({.lr = 0.5, .factor = 0.5, .patience = 0});
  for (double metric : {2.0, 1.0, 1.0}) plateau.observe(metric);
  using State = std::map<std::string, Tensor>;
  const auto refused = [&](const char* part, const std::function<void(State&)>& spoil) {
    State state = Plateau({.lr = 0.125}).state();
    spoil(state);
    EXPECT_TRUE(throws<ConfigError>([&] { plateau.load_state(state); }, "[plateau]", part));
    EXPECT_EQ(plateau.lr(), 0.25);
  };
  for (const char* key : {"lr", "best", "bad", "cooldown"}) {
    refused("lacks", [&](State& s) { s.erase(key); });
    refused(key, [&](State& s) { s[key] = Tensor(); });
    refused(key, [&](State& s) { s[key] = Tensor::scalar(1, DType::f32); });
    refused(key, [&](State& s) { s[key] = Tensor::zeros({2}, s[key].dtype()); });
    refused(key, [&](State& s) {
      s[key] =
          s[key].dtype() == DType::i64 ? Tensor::from<std::int64_t>({-1}, {}) : Tensor::scalar(-infinity, DType::f64);
    });
  }
  refused("'lr'", [](State& s) { s["lr"] = Tensor::scalar(nan, DType::f64); });
  refused("extra", [](State& s) { s["extra"] = Tensor::scalar(1, DType::f64); });
  EXPECT_FALSE(plateau.observe(0.9)) << "the best is still 1";
}

}  // namespace
}  // namespace espalier::optim
