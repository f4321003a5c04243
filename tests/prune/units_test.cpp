#include "espalier/prune/units.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/compact.h"

namespace espalier {
namespace {

TEST(MaskUnits, MasksTheRowsOfLeastAbsoluteSumAndWhatReadsThem) {
  Parameter weight(Tensor::from({3.f, -3.f, 1.f, 1.f, -5.f, 0.f}, {3, 2}), "weight");
  Parameter bias(Tensor::from({1.f, 2.f, 3.f}), "bias");
  Parameter next(Tensor::ones({2, 3}), "next");
  EXPECT_EQ(prune::mask_units(weight, bias, next, 2), (std::vector<Index>{1, 2}));
  EXPECT_EQ(weight.value().to_vector<float>(), (std::vector<float>{3, -3, 0, 0, 0, 0}));
  EXPECT_EQ(bias.value().to_vector<float>(), (std::vector<float>{1, 0, 0}));
  EXPECT_EQ(next.value().to_vector<float>(), (std::vector<float>{1, 0, 0, 1, 0, 0}));
}

TEST(MaskUnits, TiesGoByIndexAndAMaskThatIsThereStays) {
  Parameter weight(Tensor::ones({4, 1}), "weight"), none, next(Tensor::ones({1, 4}), "next");
  Mask first(4);
  first.set(3, false);
  next.set_mask(first);
  EXPECT_EQ(prune::mask_units(weight, none, next, 1), (std::vector<Index>{0}));
  EXPECT_EQ(next.value().to_vector<float>(), (std::vector<float>{0, 1, 1, 0}));
}

TEST(MaskUnits, CompactCutsThemOutWhateverTheActivationMakesOfZero) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 3, 6), sigmoid, nn::Linear(rng, 6, 2));
  auto& hidden = net.get<nn::Linear>(0);
  prune::mask_units(hidden.weight, hidden.bias, net.get<nn::Linear>(2).weight, 4);
  const Tensor x = rng.normal({5, 3});
  nn::Sequential small = prune::compact(net, x);
  EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{2, 3}));
  EXPECT_EQ(small.get<nn::Linear>(2).weight.shape(), (Shape{2, 2}));
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-5, 1e-6));
}

TEST(MaskUnits, RefusesWhatDoesNotFit) {
  Parameter weight(Tensor::ones({4, 1}), "weight"), none, next(Tensor::ones({1, 3}), "next");
  EXPECT_THROW(prune::mask_units(weight, none, next, 1), ShapeError);
  Parameter fits(Tensor::ones({1, 4}), "next");
  EXPECT_THROW(prune::mask_units(weight, none, fits, 5), ConfigError);
  EXPECT_THROW(prune::mask_units(weight, none, fits, -1), ConfigError);
  weight.set_value(Tensor::from({1.f, NAN, 1.f, 1.f}, {4, 1}));
  EXPECT_THROW(prune::mask_units(weight, none, fits, 1), NonFiniteError);
  EXPECT_FALSE(fits.mask().defined());
}

}  // namespace
}  // namespace espalier
