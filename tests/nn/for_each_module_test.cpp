#include "espalier/nn/for_each_module.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"

namespace espalier::nn {
namespace {

Sequential make(Rng& rng) {
  return Sequential(Linear(rng, 2, 4), BatchNorm1d(4), relu, Residual(Sequential(Linear(rng, 4, 4), BatchNorm1d(4))));
}

TEST(ForEachModule, NamesEveryModuleOnceInOrder) {
  Rng rng(1);
  Sequential model = make(rng);
  std::vector<std::string> seen;
  for_each_module(model, [&](const std::string& name, Module& m) { seen.push_back(name + " " + m.type_name()); });
  EXPECT_EQ(seen, (std::vector<std::string>{" Sequential", "0 Linear", "1 BatchNorm1d", "3 Residual",
                                            "3.body Sequential", "3.body.0 Linear", "3.body.1 BatchNorm1d"}));
}

TEST(ForEachModule, FreezesAllNormsInOneLine) {
  Rng rng(1);
  Sequential model = make(rng);
  for_each_module<BatchNorm1d>(model, [](auto& norm) { norm.freeze(), norm.eval(); });
  int norms = 0, linears = 0;
  const Sequential& seen = model;
  for_each_module<BatchNorm1d>(seen, [&](const BatchNorm1d& norm) {
    ++norms;
    EXPECT_TRUE(norm.weight.frozen() && norm.bias.frozen());
  });
  for_each_module<Linear>(seen, [&](auto& linear) {
    static_assert(std::is_const_v<std::remove_reference_t<decltype(linear)>>);
    ++linears;
    EXPECT_FALSE(linear.weight.frozen());
  });
  EXPECT_EQ(norms, 2);
  EXPECT_EQ(linears, 2);
  const Tape tape;
  EXPECT_TRUE(model.training());
  for_each_module<BatchNorm1d>(seen, [](const BatchNorm1d& norm) { EXPECT_FALSE(norm.training()); });
}

}  // namespace
}  // namespace espalier::nn
