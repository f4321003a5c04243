// SGD, Adam and AdamW against plain loops in double.
#include <gtest/gtest.h>

#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// One parameter of the reference, with whatever states its rule needs.
struct Reference {
  std::vector<double> w, a, b, c;
  int t = 0;
  explicit Reference(std::vector<double> start) : w(std::move(start)), a(w.size()), b(w.size()), c(w.size()) {}

  void sgd(const std::vector<double>& gradient, double lr, double momentum, double dampening, double decay,
           bool nesterov, bool maximize) {
    ++t;
    for (std::size_t i = 0; i < w.size(); ++i) {
      double g = (maximize ? -gradient[i] : gradient[i]) + decay * w[i];
      if (momentum != 0) {
        a[i] = t == 1 ? g : momentum * a[i] + (1 - dampening) * g;
        g = nesterov ? g + momentum * a[i] : a[i];
      }
      w[i] -= lr * g;
    }
  }
  void adam(const std::vector<double>& gradient, double lr, double b1, double b2, double eps, double coupled,
            double decoupled, bool amsgrad, bool maximize) {
    ++t;
    for (std::size_t i = 0; i < w.size(); ++i) {
      double g = maximize ? -gradient[i] : gradient[i];
      w[i] -= lr * decoupled * w[i];
      g += coupled * w[i];
      a[i] = b1 * a[i] + (1 - b1) * g;
      b[i] = b2 * b[i] + (1 - b2) * g * g;
      c[i] = std::max(c[i], b[i]);
      const double second = (amsgrad ? c[i] : b[i]) / (1 - std::pow(b2, t));
      w[i] -= lr * a[i] / (1 - std::pow(b1, t)) / (std::sqrt(second) + eps);
    }
  }
};

/// Runs `steps` steps on two parameters of unlike size, in both types, and compares after each.
template <class Step>
void compare(const Chain& chain, Step step, int steps = 4, double f32_tolerance = 3e-6) {
  for (DType type : {DType::f32, DType::f64}) {
    const double tolerance = type == DType::f32 ? f32_tolerance : 1e-13;
    const Parameter small = parameter("small", numbers(3, 1), type), large = parameter("large", numbers(5003, 2), type);
    std::vector<Reference> reference = {Reference(values_of(small)), Reference(values_of(large))};
    Optimizer opt(list_of(small, large), chain);
    for (int k = 0; k < steps; ++k) {
      std::size_t i = 0;
      for (const Parameter* p : {&small, &large}) {
        // Rounded to the type first, so that both see the same numbers; the third step is all zeros.
        const auto g = values_of(
            tensor(numbers(static_cast<std::size_t>(p->size()), static_cast<unsigned>(10 + k), k == 2 ? 0 : 1), type));
        give_gradient(*p, g);
        step(reference[i++], g);
      }
      opt.step();
      i = 0;
      for (const Parameter* p : {&small, &large}) {
        const auto got = values_of(*p);
        for (std::size_t e = 0; e < got.size(); ++e)
          ASSERT_NEAR(got[e], reference[i].w[e], tolerance * std::max(1.0, std::abs(reference[i].w[e])))
              << p->ref()->name() << " step " << k << " entry " << e << " " << name_of(type);
        ++i;
      }
    }
    EXPECT_EQ(opt.steps(), steps);
  }
}

TEST(Sgd, Plain) {
  compare(sgd({.lr = 0.1}), [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0, 0, 0, false, false); });
}
TEST(Sgd, MomentumAndDampening) {
  compare(sgd({.lr = 0.1, .momentum = 0.9}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0.9, 0, 0, false, false); });
  compare(sgd({.lr = 0.1, .momentum = 0.9, .dampening = 0.3}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0.9, 0.3, 0, false, false); });
}
TEST(Sgd, Nesterov) {
  compare(sgd({.lr = 0.1, .momentum = 0.9, .nesterov = true}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0.9, 0, 0, true, false); });
}
TEST(Sgd, Decay) {
  compare(sgd({.lr = 0.1, .weight_decay = 0.2}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0, 0, 0.2, false, false); });
  compare(sgd({.lr = 0.1, .momentum = 0.5, .weight_decay = 0.2, .nesterov = true}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0.5, 0, 0.2, true, false); });
}
TEST(Sgd, Maximize) {
  compare(sgd({.lr = 0.1, .momentum = 0.5, .weight_decay = 0.2, .maximize = true}),
          [](Reference& r, const auto& g) { r.sgd(g, 0.1, 0.5, 0, 0.2, false, true); });
}
TEST(Sgd, Schedule) {
  int t = 0;
  const auto lr = [](std::int64_t step) { return 0.1 / static_cast<double>(step + 1); };
  compare(sgd({.lr = lr}), [&](Reference& r, const auto& g) { r.sgd(g, lr(t++ / 2 % 4), 0, 0, 0, false, false); });
}

TEST(Adam, Plain) {
  compare(adam({.lr = 0.01}),
          [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0, 0, false, false); });
  compare(adam({.lr = 0.01, .betas = {0.8, 0.95}, .eps = 1e-4}),
          [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.8, 0.95, 1e-4, 0, 0, false, false); });
}
TEST(Adam, CoupledDecay) {
  compare(
      adam({.lr = 0.01, .weight_decay = 0.1}),
      [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0.1, 0, false, false); }, 4, 2e-5);
}
TEST(Adam, AmsgradAndMaximize) {
  compare(
      adam({.lr = 0.01, .weight_decay = 0.1, .amsgrad = true, .maximize = true}),
      [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0.1, 0, true, true); }, 4, 2e-5);
}
TEST(AdamW, DecoupledDecay) {
  compare(adamw({.lr = 0.01, .weight_decay = 0.2}),
          [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0, 0.2, false, false); });
  compare(adamw({.lr = 0.01}),
          [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0, 0.01, false, false); });
  compare(adamw({.lr = 0.01, .weight_decay = 0.2, .amsgrad = true}),
          [](Reference& r, const auto& g) { r.adam(g, 0.01, 0.9, 0.999, 1e-8, 0, 0.2, true, false); });
}

TEST(Adam, CorrectsByTheUpdatesOfEachParameter) {
  const Parameter early = parameter("early", {1, 2}, DType::f64), late = parameter("late", {1, 2}, DType::f64);
  Optimizer opt(list_of(early, late), adam({.lr = 0.1}));
  for (int k = 0; k < 5; ++k) {
    give_gradient(early, {1, -1});
    if (k == 4) give_gradient(late, {1, -1});
    const StepReport report = opt.step();
    EXPECT_EQ(report.without_gradient, k == 4 ? 0 : 1);
  }
  // A first update of Adam is lr * sign(g), whenever it comes.
  EXPECT_NEAR(values_of(late)[0], 0.9, 1e-8);
  EXPECT_NEAR(values_of(late)[1], 2.1, 1e-8);
}

TEST(Directions, RefuseImpossibleSettings) {
  EXPECT_THROW(sgd({.lr = -0.1}), ConfigError);
  EXPECT_THROW(sgd({.lr = NAN}), ConfigError);
  EXPECT_THROW(sgd({.lr = 0.1, .momentum = -1}), ConfigError);
  EXPECT_THROW(sgd({.lr = 0.1, .nesterov = true}), ConfigError);
  EXPECT_THROW(sgd({.lr = 0.1, .momentum = 0.9, .dampening = 0.5, .nesterov = true}), ConfigError);
  EXPECT_THROW(adam({.betas = {1.0, 0.9}}), ConfigError);
  EXPECT_THROW(adam({.eps = -1e-8}), ConfigError);
  EXPECT_THROW(adamw({.weight_decay = -1}), ConfigError);
}

}  // namespace
}  // namespace espalier::optim
