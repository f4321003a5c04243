// The element-wise optimizers against plain loops written from the papers, with numbers and with schedules.
#include <cmath>

#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/asgd.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/rprop.h"
#include "tests/optim/plain_rules.h"

namespace espalier::optim {
namespace {

using namespace testing;

double blend(double beta, double x, double y) { return beta * x + (1 - beta) * y; }
double square(double x) { return x * x; }
double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }
double power(double x, std::int64_t t) { return std::pow(x, static_cast<double>(t)); }

/// Settings as numbers, then as schedules.
class Directions : public ::testing::TestWithParam<bool> {
 protected:
  static Setting setting(double base) { return {base, GetParam()}; }
};
INSTANTIATE_TEST_SUITE_P(Settings, Directions, ::testing::Bool(),
                         [](const auto& given) { return given.param ? "Scheduled" : "Constant"; });

TEST_P(Directions, Amsgrad) {
  const Setting lr = setting(0.02), b1 = setting(0.9), b2 = setting(0.99), eps = setting(1e-3), decay = setting(0.1);
  for (const bool decoupled : {false, true}) {
    const Chain chain = decoupled ? adamw({lr, {b1, b2}, eps, decay, true}) : adam({lr, {b1, b2}, eps, decay, true});
    expect_rule(chain, {"m", "v", "vmax"}, [=](PlainStep p) {
      const double d = decay.at(p.step), l = lr.at(p.step);
      const double g = p.g + (decoupled ? 0 : d * p.w);
      p.s[0] = blend(b1.at(p.step), p.s[0], g);
      p.s[1] = blend(b2.at(p.step), p.s[1], g * g);
      p.s[2] = std::max(p.s[2], p.s[1]);
      const double m = p.s[0] / (1 - power(b1.at(p.step), p.t)), v = p.s[2] / (1 - power(b2.at(p.step), p.t));
      p.w = (decoupled ? 1 - l * d : 1) * p.w - l * m / (std::sqrt(v) + eps.at(p.step));
    });
  }
}

TEST_P(Directions, AdamSettingsTakeSchedules) {
  const Setting lr = setting(0.02), b1 = setting(0.8), b2 = setting(0.95), eps = setting(1e-3), decay = setting(0.1);
  expect_rule(adam({lr, {b1, b2}, eps, decay}), {"m", "v"}, [=](PlainStep p) {
    const double g = p.g + decay.at(p.step) * p.w;
    p.s[0] = blend(b1.at(p.step), p.s[0], g);
    p.s[1] = blend(b2.at(p.step), p.s[1], g * g);
    const double m = p.s[0] / (1 - power(b1.at(p.step), p.t)), v = p.s[1] / (1 - power(b2.at(p.step), p.t));
    p.w -= lr.at(p.step) * m / (std::sqrt(v) + eps.at(p.step));
  });
}

TEST_P(Directions, SgdSettingsTakeSchedules) {
  const Setting lr = setting(0.02), momentum = setting(0.8), dampening = setting(0.3), decay = setting(0.1);
  expect_rule(sgd({lr, momentum, dampening, decay}), {"momentum"}, [=](PlainStep p) {
    const double g = p.g + decay.at(p.step) * p.w;
    p.s[0] = p.t == 1 ? g : momentum.at(p.step) * p.s[0] + (1 - dampening.at(p.step)) * g;
    p.w -= lr.at(p.step) * p.s[0];
  });
}

TEST_P(Directions, Adamax) {
  const Setting lr = setting(0.02), b1 = setting(0.8), b2 = setting(0.95), eps = setting(1e-3), decay = setting(0.1);
  expect_rule(adamax({lr, {b1, b2}, eps, decay}), {"m", "u"}, [=](PlainStep p) {
    const double g = p.g + decay.at(p.step) * p.w;
    p.s[0] = blend(b1.at(p.step), p.s[0], g);
    p.s[1] = std::max(b2.at(p.step) * p.s[1], std::abs(g) + eps.at(p.step));
    p.w -= lr.at(p.step) / (1 - power(b1.at(p.step), p.t)) * p.s[0] / p.s[1];
  });
}

TEST_P(Directions, Nadam) {
  const Setting lr = setting(0.02), b1 = setting(0.8), b2 = setting(0.95), eps = setting(1e-3), decay = setting(0.1),
                psi = setting(0.05);
  for (const bool decoupled : {false, true})
    expect_rule(nadam({lr, {b1, b2}, eps, decay, psi, decoupled}), {"m", "v"}, [=](PlainStep p) {
      const auto mu = [&](std::int64_t k) {
        return b1.at(p.step) * (1 - 0.5 * std::pow(0.96, static_cast<double>(k) * psi.at(p.step)));
      };
      float product = 1;  // f32, as in PyTorch
      for (std::int64_t k = 1; k <= p.t; ++k) product *= static_cast<float>(mu(k));
      const float next = product * static_cast<float>(mu(p.t)) * static_cast<float>(mu(p.t + 1));
      const double l = lr.at(p.step), d = decay.at(p.step), g = p.g + (decoupled ? 0 : d * p.w);
      p.s[0] = blend(b1.at(p.step), p.s[0], g);
      p.s[1] = blend(b2.at(p.step), p.s[1], g * g);
      const double step = (1 - mu(p.t)) / (1 - static_cast<double>(product)) * g +
                          mu(p.t + 1) / (1 - static_cast<double>(next)) * p.s[0];
      p.w = (decoupled ? 1 - l * d : 1) * p.w -
            l * step / (std::sqrt(p.s[1] / (1 - power(b2.at(p.step), p.t))) + eps.at(p.step));
    });
}

TEST_P(Directions, Radam) {
  const Setting lr = setting(0.02), b1 = setting(0.8), b2 = setting(0.95), eps = setting(1e-3), decay = setting(0.1);
  for (const bool decoupled : {false, true})
    expect_rule(radam({lr, {b1, b2}, eps, decay, decoupled}), {"m", "v"}, [=](PlainStep p) {
      const double l = lr.at(p.step), d = decay.at(p.step), g = p.g + (decoupled ? 0 : d * p.w);
      p.s[0] = blend(b1.at(p.step), p.s[0], g);
      p.s[1] = blend(b2.at(p.step), p.s[1], g * g);
      const double b2t = power(b2.at(p.step), p.t), m = p.s[0] / (1 - power(b1.at(p.step), p.t));
      const double most = 2 / (1 - b2.at(p.step)) - 1, rho = most - 2 * static_cast<double>(p.t) * b2t / (1 - b2t);
      double step = m;
      if (rho > 5)
        step = std::sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) * m * std::sqrt(1 - b2t) /
               (std::sqrt(p.s[1]) + eps.at(p.step));
      p.w = (decoupled ? 1 - l * d : 1) * p.w - l * step;
    });
}

TEST_P(Directions, Rmsprop) {
  const Setting lr = setting(0.02), alpha = setting(0.9), eps = setting(1e-2), decay = setting(0.1);
  for (const bool centered : {false, true})
    for (const double mass : {0.0, 0.6}) {
      const Setting momentum = {mass, GetParam() && mass > 0};
      std::vector<std::string> states = {"v"};
      if (centered) states.push_back("mean");
      if (mass > 0) states.push_back("momentum");
      expect_rule(
          rmsprop({lr, alpha, eps, decay, momentum, centered}), states,
          [=](PlainStep p) {
            const double g = p.g + decay.at(p.step) * p.w;
            p.s[0] = blend(alpha.at(p.step), p.s[0], g * g);
            if (centered) p.s[1] = blend(alpha.at(p.step), p.s[1], g);
            const double variance = p.s[0] - (centered ? square(p.s[1]) : 0);
            double step = g / (std::sqrt(variance) + eps.at(p.step));
            if (mass > 0) {
              double& b = p.s[centered ? 2 : 1];
              step = b = momentum.at(p.step) * b + step;
            }
            p.w -= lr.at(p.step) * step;
          },
          5e-6);
    }
}

TEST_P(Directions, Adagrad) {
  const Setting lr = setting(0.1), lr_decay = setting(0.05), decay = setting(0.1), eps = setting(1e-3);
  for (const double start : {0.0, 0.3})
    expect_rule(adagrad({lr, lr_decay, decay, start, eps}), {"sum"}, [=](PlainStep p) {
      const double g = p.g + decay.at(p.step) * p.w;
      p.s[0] = (p.s[0] == 0 ? start : p.s[0]) + g * g;
      p.w -= lr.at(p.step) / (1 + static_cast<double>(p.t - 1) * lr_decay.at(p.step)) * g /
             (std::sqrt(p.s[0]) + eps.at(p.step));
    });
}

TEST_P(Directions, Adadelta) {
  const Setting lr = setting(0.9), rho = setting(0.9), eps = setting(1e-3), decay = setting(0.1);
  expect_rule(adadelta({lr, rho, eps, decay}), {"v", "a"}, [=](PlainStep p) {
    const double g = p.g + decay.at(p.step) * p.w;
    p.s[0] = blend(rho.at(p.step), p.s[0], g * g);
    const double x = std::sqrt(p.s[1] + eps.at(p.step)) / std::sqrt(p.s[0] + eps.at(p.step)) * g;
    p.s[1] = blend(rho.at(p.step), p.s[1], x * x);
    p.w -= lr.at(p.step) * x;
  });
}

TEST_P(Directions, Asgd) {
  const Setting lr = setting(0.05), lambd = setting(0.1), alpha = setting(0.75), t0 = setting(4), decay = setting(0.1);
  expect_rule(asgd({lr, lambd, alpha, t0, decay}), {"ax"}, [=](PlainStep p) {
    const double before = static_cast<double>(p.t - 1);
    const float eta =
        static_cast<float>(lr.at(p.step) / std::pow(1 + lambd.at(p.step) * lr.at(p.step) * before, alpha.at(p.step)));
    const float mu = static_cast<float>(1 / std::max(1.0, before - t0.at(p.step)));
    const double g = p.g + decay.at(p.step) * p.w, rate = static_cast<double>(eta);
    p.w = (1 - lambd.at(p.step) * rate) * p.w - rate * g;
    p.s[0] += static_cast<double>(mu) * (p.w - p.s[0]);
  });
}

TEST_P(Directions, Rprop) {
  const Setting lr = setting(0.02), minus = setting(0.4), plus = setting(1.3), least = setting(0.01),
                most = setting(0.04);
  expect_rule(rprop({lr, {minus, plus}, {least, most}}), {"previous", "step_size"}, [=](PlainStep p) {
    const double both = sign(p.g) * sign(p.s[0]);
    const double eta = both > 0 ? plus.at(p.step) : both < 0 ? minus.at(p.step) : 1;
    p.s[1] = std::clamp((p.s[1] == 0 ? lr.at(p.step) : p.s[1]) * eta, least.at(p.step), most.at(p.step));
    p.s[0] = both < 0 ? 0 : p.g;
    p.w -= p.s[1] * sign(p.s[0]);
  });
}

TEST_P(Directions, Lion) {
  const Setting lr = setting(0.02), b1 = setting(0.9), b2 = setting(0.99), decay = setting(0.1);
  for (const bool decoupled : {false, true})
    expect_rule(lion({lr, {b1, b2}, decay, decoupled}), {"m"}, [=](PlainStep p) {
      const double l = lr.at(p.step), d = decay.at(p.step), g = p.g + (decoupled ? 0 : d * p.w);
      p.w = (decoupled ? 1 - l * d : 1) * p.w - l * sign(blend(b1.at(p.step), p.s[0], g));
      p.s[0] = blend(b2.at(p.step), p.s[0], g);
    });
}

}  // namespace
}  // namespace espalier::optim
