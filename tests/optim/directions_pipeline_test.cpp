// What holds for every element-wise optimizer: in chains, on selections, across a resume, at any thread count.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "espalier/core/parallel.h"
#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/asgd.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/rprop.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

struct Rule {
  const char* name;
  std::function<Chain(bool maximize)> make;
  const char* described;
};
/// No decay, so that climbing is descending with the other sign.
std::vector<Rule> all_rules() {
  const auto lr = [](std::int64_t step) { return 0.02 / static_cast<double>(step + 1); };
  return {
      {"adam",  // amsgrad
       [=](bool maximize) { return adam({.lr = 0.02, .amsgrad = true, .maximize = maximize}); }, "adam"},
      {"adamax", [=](bool maximize) { return adamax({.lr = lr, .maximize = maximize}); },
       "adamax(lr scheduled, betas[0] 0.9, betas[1] 0.999, eps 1e-08)"},
      {"nadam", [](bool maximize) { return nadam({.lr = 0.02, .maximize = maximize}); },
       "nadam(lr 0.02, betas[0] 0.9, betas[1] 0.999, eps 1e-08, momentum_decay 0.004)"},
      {"radam",
       [](bool maximize) {
         return radam({.lr = 0.02, .betas = {0.9, 0.8}, .maximize = maximize});
       },
       "radam(lr 0.02, betas[0] 0.9, betas[1] 0.8, eps 1e-08)"},
      {"rmsprop",
       [](bool maximize) { return rmsprop({.lr = 0.02, .momentum = 0.9, .centered = true, .maximize = maximize}); },
       "rmsprop(lr 0.02, alpha 0.99, eps 1e-08, momentum 0.9)"},
      {"adagrad",
       [](bool maximize) { return adagrad({.lr = 0.1, .initial_accumulator_value = 0.5, .maximize = maximize}); },
       "adagrad(lr 0.1, lr_decay 0, initial_accumulator_value 0.5, eps 1e-10)"},
      {"adadelta", [](bool maximize) { return adadelta({.maximize = maximize}); },
       "adadelta(lr 1, rho 0.9, eps 1e-06)"},
      {"asgd", [](bool maximize) { return asgd({.lr = 0.05, .t0 = 2.0, .maximize = maximize}); },
       "asgd(lr 0.05, lambd 1e-04, alpha 0.75, t0 2)"},
      {"rprop", [](bool maximize) { return rprop({.maximize = maximize}); },
       "rprop(lr 0.01, etas[0] 0.5, etas[1] 1.2, step_sizes[0] 1e-06, step_sizes[1] 50)"},
      {"lion", [](bool maximize) { return lion({.lr = 0.01, .maximize = maximize}); },
       "lion(lr 0.01, betas[0] 0.9, betas[1] 0.99)"},
  };
}

/// A large masked f32 parameter and a small f64 one.
struct Model {
  Parameter large = parameter("large", numbers(150'001, 1));
  Parameter small = parameter("small", numbers(5, 2), DType::f64);
  ParameterList list = list_of(large, small);
  Model() {
    Mask mask(large.size());
    for (Index i = 0; i < large.size(); ++i) mask.set(i, i % 3 != 1);
    large.set_mask(mask);
  }
  void give_gradients(unsigned step, double scale = 1) const {
    give_gradient(large, numbers(150'001, 10 + step, scale));
    if (step % 3 != 1) give_gradient(small, numbers(5, 50 + step, scale));
  }
  std::vector<std::vector<double>> values() const { return {values_of(large), values_of(small)}; }
};
std::map<std::string, std::vector<double>> contents(const Optimizer& optimizer) {
  std::map<std::string, std::vector<double>> all;
  for (const auto& [key, tensor] : optimizer.state()) all[key] = values_of(tensor);
  return all;
}

TEST(Directions, SayWhatTheyAre) {
  for (const Rule& rule : all_rules()) {
    const Model model;
    EXPECT_EQ(Optimizer(model.list, rule.make(false)).describe(),
              "sweep 1: finite check\nsweep 2: mask > " + std::string(rule.described) + " > apply > mask\n");
  }
  const Model model;
  const std::string text = Optimizer(model.list, lion({.weight_decay = 0.5})).describe();
  EXPECT_NE(text.find("lion(lr 1e-04, weight_decay 0.5, betas[0]"), std::string::npos) << text;
}

TEST(Directions, GiveTheSameBytesAtAnyThreadCountAndAcrossAResume) {
  for (const Rule& rule : all_rules()) {
    SCOPED_TRACE(rule.name);
    std::vector<std::vector<std::vector<double>>> values;
    std::vector<std::map<std::string, std::vector<double>>> states;
    for (const int threads : {1, 2, 4}) {
      const ThreadLimit limit(threads);
      const Model model;
      Optimizer optimizer(model.list, rule.make(false));
      for (unsigned step = 0; step < 7; ++step) {
        if (threads == 4 && step == 4) {
          const OptimizerState saved = optimizer.state();
          optimizer = Optimizer(model.list, rule.make(false));
          optimizer.load_state(saved);
        }
        model.give_gradients(step);
        optimizer.step();
      }
      values.push_back(model.values());
      states.push_back(contents(optimizer));
    }
    EXPECT_TRUE(values[0] == values[1] && states[0] == states[1]) << "1 and 2 threads";
    EXPECT_TRUE(values[0] == values[2] && states[0] == states[2]) << "4 threads, resumed";
  }
}

TEST(Directions, ClimbAsTheyDescend) {
  for (const Rule& rule : all_rules()) {
    const Model down, up;
    Optimizer a(down.list, rule.make(false)), b(up.list, rule.make(true));
    for (unsigned step = 0; step < 4; ++step) {
      down.give_gradients(step);
      up.give_gradients(step, -1);
      a.step();
      b.step();
    }
    EXPECT_EQ(down.values(), up.values()) << rule.name;
    EXPECT_EQ(contents(a), contents(b)) << rule.name;
  }
}

// A transform behind them makes them leave their update in scratch.
TEST(Directions, GiveTheSameBytesWithSomethingBehindThem) {
  for (const Rule& rule : all_rules()) {
    const Model plain, followed;
    Optimizer a(plain.list, rule.make(false)), b(followed.list, chain(rule.make(false), clip_by_value(1e9)));
    for (unsigned step = 0; step < 4; ++step) {
      plain.give_gradients(step);
      followed.give_gradients(step);
      a.step();
      b.step();
    }
    EXPECT_EQ(plain.values(), followed.values()) << rule.name;
    EXPECT_EQ(contents(a), contents(b)) << rule.name;
  }
}

TEST(Directions, TakeTheirSelectionAndLeaveTheRest) {
  const std::vector<Rule> rules = all_rules();
  for (std::size_t k = 0; k < rules.size(); ++k) {
    const Rule &first = rules[k], &second = rules[(k + 1) % rules.size()];
    const Model both, alone;
    Optimizer together(both.list, chain(on("large", first.make(false)), on("small", second.make(false))));
    Optimizer of_large(list_of(alone.large), first.make(false)), of_small(list_of(alone.small), second.make(false));
    for (unsigned step = 0; step < 5; ++step) {
      both.give_gradients(step);
      alone.give_gradients(step);
      together.step();
      of_large.step();
      if (step % 3 != 1) of_small.step();
    }
    EXPECT_EQ(values_of(both.large), values_of(alone.large)) << first.name;
    // A schedule of `second` would see fewer steps of its own optimizer.
    if (std::string(second.name) != "adamax") {
      EXPECT_EQ(values_of(both.small), values_of(alone.small)) << second.name;
    }
    for (const auto& [key, tensor] : together.state()) {
      if (key.find('/') == std::string::npos) continue;
      EXPECT_TRUE(key.starts_with(std::string(first.name) + "/") != key.ends_with("/small")) << key;
    }
  }
}

// Masks: +0 in the value and in every state, also where a mask is set between steps; what grows back begins anew.
TEST(Directions, KeepDeadWeightsAtZeroAndBeginAnewWhereTheyGrowBack) {
  for (const Rule& rule : all_rules()) {
    SCOPED_TRACE(rule.name);
    Model model;
    Optimizer optimizer(model.list, rule.make(false));
    for (unsigned step = 0; step < 6; ++step) {
      const Index dead = step < 2 ? 1 : 2;  // from step 2 on another third
      if (step == 2) {
        Mask mask(model.large.size());
        for (Index i = 0; i < model.large.size(); ++i) mask.set(i, i % 3 != dead);
        model.large.set_mask(mask);
      }
      model.give_gradients(step);
      optimizer.step();
      std::map<std::string, std::vector<double>> all = contents(optimizer);
      all["value/large"] = values_of(model.large);
      for (const auto& [key, values] : all) {
        if (!key.ends_with("/large")) continue;
        bool zero = true, finite = true, moved = false;
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (static_cast<Index>(i % 3) == dead)
            zero = zero && values[i] == 0 && !std::signbit(values[i]);
          else if (step == 2 && i % 3 == 1)
            moved = moved || values[i] != 0;
          finite = finite && std::isfinite(values[i]);
        }
        EXPECT_TRUE(zero && finite) << key << " in step " << step;
        EXPECT_TRUE(step != 2 || moved) << key << ": what grew back should move";
      }
    }
  }
}

TEST(Directions, RpropAndAdagradBeginWhereTheyWereTold) {
  Parameter w = parameter("w", {1, 1, 1}, DType::f64);
  Mask mask(3);
  mask.set(1, false);
  w.set_mask(mask);
  Optimizer steps(list_of(w), rprop({.lr = 0.25}));
  give_gradient(w, {3, 3, -3});
  steps.step();
  EXPECT_EQ(values_of(steps.state().at("rprop/step_size/w")), (std::vector<double>{0.25, 0, 0.25}));
  EXPECT_EQ(values_of(w), (std::vector<double>{0.75, 0, 1.25}));
  mask.set(1, true);
  w.set_mask(mask);
  give_gradient(w, {3, 3, 3});
  steps.step();
  EXPECT_EQ(values_of(steps.state().at("rprop/step_size/w")), (std::vector<double>{0.25 * 1.2, 0.25, 0.125}));
  EXPECT_EQ(values_of(w), (std::vector<double>{0.75 - 0.25 * 1.2, -0.25, 1.25}));

  Parameter x = parameter("x", {1, 1}, DType::f64);
  Mask half(2);
  half.set(1, false);
  x.set_mask(half);
  Optimizer sums(list_of(x), adagrad({.lr = 1.0, .initial_accumulator_value = 3, .eps = 0.0}));
  give_gradient(x, {1, 1});
  sums.step();
  EXPECT_EQ(values_of(sums.state().at("adagrad/sum/x")), (std::vector<double>{4, 0}));
  EXPECT_EQ(values_of(x), (std::vector<double>{0.5, 0}));
  half.set(1, true);
  x.set_mask(half);
  give_gradient(x, {0, 1});
  sums.step();
  EXPECT_EQ(values_of(sums.state().at("adagrad/sum/x")), (std::vector<double>{4, 4}));
  EXPECT_EQ(values_of(x), (std::vector<double>{0.5, -0.5}));
}

TEST(Directions, AsgdAveragesFromT0On) {
  Parameter w = parameter("w", {0}, DType::f64);
  Optimizer optimizer(list_of(w), asgd({.lr = 1.0, .lambd = 0.0, .t0 = 2.0}));
  double sum = 0;
  for (int t = 1; t <= 12; ++t) {
    give_gradient(w, {-1});
    optimizer.step();
    EXPECT_EQ(values_of(w)[0], t);
    if (t >= 4) sum += t;  // with t0 = 2 the first update that counts is the fourth
    const double average = t < 4 ? t : sum / (t - 3);
    EXPECT_NEAR(values_of(optimizer.state().at("asgd/ax/w"))[0], average, 1e-6 * average) << t;
  }
}

TEST(Directions, CountTheUpdatesOfEachParameter) {
  for (const Rule& rule : all_rules()) {
    if (std::string(rule.name) == "adamax") continue;  // whose rate is scheduled here
    const Parameter early = parameter("early", {1, 2, 3}), late = parameter("late", {1, 2, 3});
    Optimizer optimizer(list_of(early, late), rule.make(false));
    std::vector<double> first;
    for (int step = 0; step < 5; ++step) {
      give_gradient(early, {1, -2, 0.5});
      if (step == 3) give_gradient(late, {1, -2, 0.5});
      optimizer.step();
      if (step == 0) first = values_of(early);
    }
    EXPECT_EQ(values_of(late), first) << rule.name << ": a first update is one whenever it comes";
  }
}

TEST(Directions, LetNaNThroughWhereItIs) {
  for (const Rule& rule : all_rules()) {
    const Parameter w = parameter("w", numbers(70, 1));
    Optimizer optimizer(list_of(w), rule.make(false), {.nonfinite = Nonfinite::propagate});
    for (int step = 0; step < 3; ++step) {
      std::vector<double> g = numbers(70, 3);
      if (step == 1) g[65] = std::numeric_limits<double>::quiet_NaN();
      give_gradient(w, g);
      optimizer.step();
    }
    const auto values = values_of(w);
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::isnan(values[i]), i == 65) << rule.name << " " << i;
  }
}

// Far into training the product of NAdam's momenta is 0 and the corrections are 1; the beginning must not be repeated
// at length for it.
TEST(Directions, CorrectionsEndFarIntoTraining) {
  for (const char* name : {"nadam", "radam", "adamax"}) {
    const Parameter w = parameter("w", {1.0}, DType::f64);
    const std::vector<Rule> rules = all_rules();
    const auto rule =
        std::find_if(rules.begin(), rules.end(), [&](const Rule& r) { return std::string(r.name) == name; });
    Optimizer optimizer(list_of(w), rule->make(false));
    OptimizerState state = optimizer.state();
    state["step"] = Tensor::from<std::int64_t>({1'000'000'000}, {});
    state["updates"] = Tensor::from<std::int64_t>({1'000'000'000}, {1});
    optimizer.load_state(state);
    give_gradient(w, {1.0});
    optimizer.step();
    EXPECT_TRUE(std::isfinite(values_of(w)[0]) && values_of(w)[0] <= 1) << name;
  }
}

}  // namespace
}  // namespace espalier::optim
