#include "tests/optim/plain_rules.h"

#include <algorithm>
#include <array>

namespace espalier::optim::testing {
namespace {

struct Plain {
  std::vector<double> w;
  std::vector<std::vector<double>> states;
  std::vector<bool> live;
  std::int64_t updates = 0;
};

double scale_of(int step) { return step == 4 ? 0 : step == 7 ? 1e3 : step == 9 ? 1e-6 : 1; }

bool live_at(std::size_t i, int step) { return (i * 7 + static_cast<std::size_t>(step / 6)) % 3 != 0; }

void set_mask(Parameter& parameter, Plain& plain, int step) {
  Mask mask(parameter.size());
  for (std::size_t i = 0; i < plain.w.size(); ++i) {
    plain.live[i] = live_at(i, step);
    mask.set(static_cast<Index>(i), plain.live[i]);
    if (plain.live[i]) continue;
    plain.w[i] = 0;
    for (auto& state : plain.states) state[i] = 0;
  }
  parameter.set_mask(mask);
}

/// `got` against `expected`, which then becomes `got`: rounding must not add up, and signs must not differ for it.
void expect_values(const std::vector<double>& got, std::vector<double>& expected, const std::vector<bool>& live,
                   double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], tolerance * std::max(1.0, std::abs(expected[i]))) << what << " entry " << i;
    if (!live[i]) {
      ASSERT_TRUE(got[i] == 0 && !std::signbit(got[i])) << what << " entry " << i;
    }
  }
  expected = got;
}

void expect_rule_of(const Chain& chain, const std::vector<std::string>& states, const PlainRule& rule,
                    double f32_tolerance, DType even, DType odd) {
  const std::vector<std::size_t> sizes = {0, 1, 3, 64, 4095, 4097, 10000};
  std::vector<Parameter> parameters;
  ParameterList list;
  std::vector<Plain> model;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    const std::size_t n = sizes[k];
    parameters.push_back(
        parameter("p" + std::to_string(k), numbers(n, static_cast<unsigned>(k + 1)), k % 2 == 0 ? even : odd));
    list.push_back({parameters[k].ref()->name(), parameters[k].ref()});
    model.push_back(
        {values_of(parameters[k]), std::vector(states.size(), std::vector<double>(n)), std::vector<bool>(n, true)});
  }
  Optimizer optimizer(list, chain);
  const std::string name = chain.names().front();
  for (int step = 0; step < 20; ++step) {
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      Plain& plain = model[k];
      if (k % 4 >= 2 && step % 6 == 0) set_mask(parameters[k], plain, step);
      if ((static_cast<std::size_t>(step) + k) % 5 == 3) continue;
      const DType type = parameters[k].dtype();  // gradients rounded to it, so that both see the same
      const auto g = values_of(tensor(
          numbers(sizes[k], static_cast<unsigned>(100 * step) + static_cast<unsigned>(k), scale_of(step)), type));
      give_gradient(parameters[k], g);
      ++plain.updates;
      for (std::size_t i = 0; i < g.size(); ++i) {
        if (!plain.live[i]) continue;
        std::array<double, 3> s{};
        for (std::size_t j = 0; j < states.size(); ++j) s[j] = plain.states[j][i];
        rule({g[i], plain.w[i], s.data(), plain.updates, step});
        for (std::size_t j = 0; j < states.size(); ++j) plain.states[j][i] = s[j];
      }
    }
    optimizer.step();
    const OptimizerState saved = optimizer.state();
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      const double tolerance = parameters[k].dtype() == DType::f32 ? f32_tolerance : 1e-13;
      const std::string where = list[k].name + " step " + std::to_string(step);
      expect_values(values_of(parameters[k]), model[k].w, model[k].live, tolerance, where);
      for (std::size_t j = 0; j < states.size(); ++j)
        expect_values(values_of(saved.at(name + "/" + states[j] + "/" + list[k].name)), model[k].states[j],
                      model[k].live, tolerance, where + " " + states[j]);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace

void expect_rule(const Chain& chain, const std::vector<std::string>& states, const PlainRule& rule,
                 double f32_tolerance) {
  expect_rule_of(chain, states, rule, f32_tolerance, DType::f32, DType::f64);
  expect_rule_of(chain, states, rule, f32_tolerance, DType::f64, DType::f32);
}

}  // namespace espalier::optim::testing
