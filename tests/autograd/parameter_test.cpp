#include "espalier/autograd/parameter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;
using Values = std::vector<double>;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

static_assert(std::is_nothrow_move_constructible_v<Parameter> && std::is_nothrow_move_assignable_v<Parameter>);

Values values(const Tensor& t) { return t.to_vector<double>(); }
Mask mask_of(std::initializer_list<bool> live) { return Mask(Tensor::from(live)); }

// --- identity --------------------------------------------------------------------------------------------------------

TEST(Parameter, TakesItsTensorOverAndMakesItContiguous) {
  const Tensor t = Tensor::from({1., 2., 3., 4.}).reshape({2, 2});
  EXPECT_TRUE(Parameter(t).value().shares_storage(t));
  const Parameter turned(t.t());
  EXPECT_TRUE(turned.value().is_contiguous());
  EXPECT_EQ(values(turned.value()), (Values{1, 3, 2, 4}));
  EXPECT_EQ(turned.shape(), (Shape{2, 2}));
  EXPECT_EQ(turned.size(), 4);
  EXPECT_FALSE(turned.mask().defined());
  EXPECT_FALSE(turned.grad().defined());
  EXPECT_TRUE(throws<DTypeError>([] { Parameter(Tensor::ones({2}, DType::i64), "ids"); }, "'ids'", "i64"));
  EXPECT_TRUE(throws<DTypeError>([] { Parameter(Tensor(), "w"); }, "undefined"));
  EXPECT_EQ(Parameter(Tensor::zeros({0, 3})).size(), 0);
}

TEST(Parameter, UndefinedAndMovedFromSaySo) {
  Parameter none;
  EXPECT_FALSE(none.defined());
  EXPECT_TRUE(throws<ConfigError>([&] { none.value(); }, "[parameter]", "moved from"));
  EXPECT_TRUE(throws<ConfigError>([&] { none.ref(); }));
  EXPECT_TRUE(throws<ConfigError>([&] { none.set_mask(Mask()); }));
  const Parameter copy = none;
  EXPECT_FALSE(copy.defined());
}

TEST(Parameter, CopyingConstructsANewOne) {
  Parameter a(Tensor::from({1., 2.}), "a");
  a.set_mask(mask_of({true, false}));
  a.ref()->accumulate(Tensor::from({5., 5.}));
  const Parameter b = a;
  EXPECT_NE(a.ref(), b.ref());
  EXPECT_FALSE(b.value().shares_storage(a.value()));
  EXPECT_EQ(values(b.value()), (Values{1, 0}));
  EXPECT_EQ(b.mask(), a.mask());
  EXPECT_FALSE(b.grad().defined()) << "a gradient belongs to one step of one parameter";
  a.set_value(Tensor::from({9., 9.}));
  EXPECT_EQ(b.value().at({0}), 1);
}

TEST(Parameter, CopyAssigningWritesIntoTheExistingOne) {
  Parameter a(Tensor::from({1., 2.}), "a");
  Parameter b(Tensor::from({3., 4.}), "b");
  b.set_mask(mask_of({false, true}));
  const ParameterRef identity = a.ref();
  const std::uint32_t version = identity->mask_version();
  identity->accumulate(Tensor::from({5., 5.}));
  a = b;
  EXPECT_EQ(a.ref(), identity);
  EXPECT_EQ(identity->name(), "a");
  EXPECT_EQ(values(a.value()), (Values{0, 4}));
  EXPECT_EQ(a.mask(), b.mask());
  EXPECT_GT(identity->mask_version(), version) << "the optimizer must look again";
  EXPECT_FALSE(a.grad().defined());
  b.set_value(Tensor::from({7., 7.}));
  EXPECT_EQ(a.value().at({1}), 4);
  const Parameter& self = a;
  a = self;
  EXPECT_EQ(values(a.value()), (Values{0, 4}));
  Parameter none;
  none = a;
  EXPECT_TRUE(none.defined());
  EXPECT_NE(none.ref(), a.ref());
  a = Parameter();
  EXPECT_FALSE(a.defined());
}

TEST(Parameter, MovingMovesTheIdentity) {
  Parameter a(Tensor::from({1.}), "a");
  const ParameterRef identity = a.ref();
  Parameter b = std::move(a);
  EXPECT_EQ(b.ref(), identity);
  EXPECT_FALSE(a.defined());  // NOLINT: after the move on purpose
  EXPECT_TRUE(identity->owned());
  std::vector<Parameter> many;
  std::vector<ParameterRef> refs;
  for (int i = 0; i < 33; ++i) {
    many.emplace_back(Tensor::from({static_cast<double>(i)}));
    refs.push_back(many.back().ref());
  }
  for (std::size_t i = 0; i < refs.size(); ++i) EXPECT_EQ(many[i].ref(), refs[i]) << "growth moved, never copied";
}

TEST(Parameter, KnowsWhenNoObjectStandsForItAnyMore) {
  ParameterRef ref;
  {
    const Parameter a(Tensor::from({1.}));
    ref = a.ref();
    EXPECT_TRUE(ref->owned());
  }
  EXPECT_FALSE(ref->owned());
  Parameter b(Tensor::from({1.})), c(Tensor::from({2.}));
  ref = b.ref();
  b = std::move(c);
  EXPECT_FALSE(ref->owned()) << "move-assigning lets the old one go";
  EXPECT_TRUE(b.ref()->owned());
}

TEST(Parameter, ANameOfItsOwnCountsAsListed) {
  EXPECT_TRUE(Parameter(Tensor::from({1.}), "theta").ref()->listed());
  const Parameter nameless(Tensor::from({1.}));
  EXPECT_FALSE(nameless.ref()->listed());
  nameless.ref()->mark_listed("w");
  EXPECT_TRUE(nameless.ref()->listed());
  const Parameter a(Tensor::from({1.}), "a"), b(Tensor::from({1.}), "b");
  const ParameterList list = list_of(a, b);
  EXPECT_EQ(list[1].name, "b");
  EXPECT_EQ(list[1].parameter, b.ref());
}

// --- values and gradients --------------------------------------------------------------------------------------------

TEST(Parameter, SetValueWritesInPlaceAndChecks) {
  Parameter a(Tensor::from({1., 2.}), "fc.weight");
  const Tensor handle = a.value();
  a.set_value(Tensor::from({3., 4.}));
  EXPECT_EQ(values(handle), (Values{3, 4}));
  EXPECT_STREQ(handle.writer(), "set_value");
  EXPECT_TRUE(throws<ShapeError>([&] { a.set_value(Tensor::from({1.})); }, "[set_value]", "'fc.weight'", "[2]", "[1]"));
  EXPECT_TRUE(throws<DTypeError>([&] { a.set_value(Tensor::ones({2})); }, "'fc.weight'", "f64", "f32"));
}

TEST(Parameter, GradientsAddUpAndNeverAlias) {
  const Parameter a(Tensor::from({1., 2.}), "a");
  ParameterState& state = *a.ref();
  const Tensor held = Tensor::from({1., 1.});
  state.accumulate(held);
  EXPECT_FALSE(state.grad().shares_storage(held));
  state.accumulate(Tensor::from({10., 20.}));
  EXPECT_EQ(values(state.grad()), (Values{11, 21}));
  EXPECT_EQ(values(held), (Values{1, 1}));
  state.clear_grad();
  EXPECT_FALSE(state.grad().defined());
  state.accumulate(Tensor::scalar(3, DType::f64).broadcast_to({2}));
  EXPECT_EQ(state.grad().strides(), Dims{1}) << "stride 0 cannot be written to";
  state.accumulate(Tensor::from({0., 9., 1.}).slice(0, 0, 3, 2));
  EXPECT_EQ(values(state.grad()), (Values{3, 4}));
  EXPECT_TRUE(throws<ShapeError>([&] { state.accumulate(Tensor::from({1.})); }, "[accumulate]", "'a'"));
  EXPECT_TRUE(throws<DTypeError>([&] { state.accumulate(Tensor::ones({2})); }, "[accumulate]"));
}

// --- masks -----------------------------------------------------------------------------------------------------------

TEST(ParameterMask, HardZeroesValueAndGradientEvenNaN) {
  Parameter a(Tensor::from({nan, 2., 3., -4.}), "a");
  ParameterState& state = *a.ref();
  state.accumulate(Tensor::from({1., nan, 1., 1.}));
  const std::uint32_t version = state.mask_version();
  a.set_mask(mask_of({false, false, true, true}));
  EXPECT_EQ(values(a.value()), (Values{0, 0, 3, -4}));
  EXPECT_EQ(values(a.grad()), (Values{0, 0, 1, 1}));
  EXPECT_EQ(state.mask_mode(), MaskMode::hard);
  EXPECT_FALSE(state.dense().defined());
  EXPECT_GT(state.mask_version(), version);
  a.set_value(Tensor::from({nan, 5., 6., 7.}));
  EXPECT_EQ(values(a.value()), (Values{0, 0, 6, 7})) << "whatever is loaded, what is pruned stays 0";
  a.set_mask(mask_of({true, true, true, false}));
  EXPECT_EQ(values(a.value()), (Values{0, 0, 6, 0})) << "what lives again starts from 0";
  a.set_mask(Mask());
  EXPECT_FALSE(a.mask().defined());
  EXPECT_TRUE(throws<ShapeError>([&] { a.set_mask(Mask(3)); }, "[set_mask]", "3 bits", "'a'", "[4]"));
}

TEST(ParameterMask, SoftKeepsDenseValuesAndGradients) {
  Parameter a(Tensor::from({1., 2., 3.}), "a");
  ParameterState& state = *a.ref();
  state.accumulate(Tensor::from({7., 8., 9.}));
  a.set_mask(mask_of({true, false, true}), MaskMode::soft);
  EXPECT_EQ(state.mask_mode(), MaskMode::soft);
  EXPECT_EQ(values(a.value()), (Values{1, 0, 3}));
  EXPECT_EQ(values(state.dense()), (Values{1, 2, 3}));
  EXPECT_EQ(values(a.grad()), (Values{7, 8, 9})) << "the gradient belongs to the dense values";
  a.set_mask(mask_of({false, true, true}), MaskMode::soft);
  EXPECT_EQ(values(a.value()), (Values{0, 2, 3})) << "splicing brings the dense value back";
  a.set_value(Tensor::from({10., nan, 30.}));
  EXPECT_EQ(values(state.dense())[0], 10);
  EXPECT_EQ(values(a.value())[0], 0);
  state.mutable_dense().fill(5);
  state.refresh_from_dense();
  EXPECT_EQ(values(a.value()), (Values{0, 5, 5}));
  a.set_mask(Mask(), MaskMode::soft);
  EXPECT_EQ(values(a.value()), (Values{5, 5, 5}));
  EXPECT_FALSE(state.dense().defined());
  EXPECT_EQ(state.mask_mode(), MaskMode::hard);
}

TEST(ParameterMask, FreezeDropsTheDenseValuesForGood) {
  Parameter a(Tensor::from({1., 2.}), "a");
  ParameterState& state = *a.ref();
  a.set_mask(mask_of({true, false}), MaskMode::soft);
  state.accumulate(Tensor::from({7., 8.}));
  const std::uint32_t version = state.mask_version();
  state.freeze();
  EXPECT_EQ(state.mask_mode(), MaskMode::hard);
  EXPECT_FALSE(state.dense().defined());
  EXPECT_EQ(values(a.grad()), (Values{7, 0}));
  EXPECT_GT(state.mask_version(), version) << "moments of pruned weights must go";
  const std::uint32_t after = state.mask_version();
  state.freeze();
  EXPECT_EQ(state.mask_version(), after);
  a.set_mask(Mask());
  EXPECT_EQ(values(a.value()), (Values{1, 0}));
}

TEST(ParameterMask, FromSoftToHardPrunesTheDenseValues) {
  Parameter a(Tensor::from({1., 2., 3.}), "a");
  a.set_mask(mask_of({true, false, false}), MaskMode::soft);
  a.set_mask(mask_of({true, true, false}), MaskMode::hard);
  EXPECT_EQ(values(a.value()), (Values{1, 2, 0}));
  EXPECT_FALSE(a.ref()->dense().defined());
}

TEST(ParameterMask, CopiesCarryMaskModeAndDense) {
  Parameter a(Tensor::from({1., 2.}), "a");
  a.set_mask(mask_of({true, false}), MaskMode::soft);
  const Parameter b = a;
  EXPECT_EQ(b.ref()->mask_mode(), MaskMode::soft);
  EXPECT_EQ(values(b.ref()->dense()), (Values{1, 2}));
  EXPECT_FALSE(b.ref()->dense().shares_storage(a.ref()->dense()));
  Parameter c(Tensor::from({0., 0.}), "c");
  c = a;
  EXPECT_EQ(values(c.ref()->dense()), (Values{1, 2}));
  a = Parameter(Tensor::from({4., 4.}), "hard");
  c = a;
  EXPECT_FALSE(c.ref()->dense().defined());
  EXPECT_FALSE(c.mask().defined());
}

TEST(ParameterMask, ReplaceChangesShapeAndMask) {
  Parameter a(Tensor::from({1., 2., 3.}), "a");
  ParameterState& state = *a.ref();
  a.set_mask(mask_of({true, false, true}), MaskMode::soft);
  state.accumulate(Tensor::from({1., 1., 1.}));
  const std::uint32_t version = state.mask_version();
  state.replace(Tensor::from({nan, 6.}), mask_of({false, true}));
  EXPECT_EQ(a.shape(), Shape{2});
  EXPECT_EQ(values(a.value()), (Values{0, 6}));
  EXPECT_FALSE(a.grad().defined());
  EXPECT_FALSE(state.dense().defined());
  EXPECT_EQ(state.mask_mode(), MaskMode::hard);
  EXPECT_GT(state.mask_version(), version);
  EXPECT_TRUE(throws<ShapeError>([&] { state.replace(Tensor::from({1.}), Mask(2)); }, "2 bits", "'a'"));
  EXPECT_TRUE(throws<DTypeError>([&] { state.replace(Tensor::ones({2}, DType::u8), Mask()); }, "[replace]"));
  EXPECT_TRUE(throws<DTypeError>([&] { state.replace(Tensor(), Mask()); }, "[replace]"));
  EXPECT_EQ(values(a.value()), (Values{0, 6})) << "refused, nothing changes";
  const Tensor shared = Tensor::from({8., 9.});
  state.replace(shared.slice(0, 0, 2), Mask());
  EXPECT_EQ(values(a.value()), (Values{8, 9}));
}

// --- buffers ---------------------------------------------------------------------------------------------------------

TEST(Buffer, IsACellThatConstLayersMaySet) {
  const Buffer a(Tensor::from({1.}));
  a.set(Tensor::from({2.}));
  EXPECT_EQ(a.value().item(), 2);
  Buffer b = a;
  b.set(Tensor::from({3.}));
  EXPECT_EQ(a.value().item(), 2) << "a copy has a cell of its own";
  b = a;
  EXPECT_EQ(b.value().item(), 2);
  EXPECT_FALSE(b.value().shares_storage(a.value()));
  Buffer none;
  EXPECT_FALSE(none.defined());
  EXPECT_TRUE(throws<ConfigError>([&] { none.value(); }, "[buffer]"));
  EXPECT_TRUE(throws<ConfigError>([&] { none.set(Tensor::ones({1})); }, "[buffer]"));
  none = b;
  EXPECT_EQ(none.value().item(), 2);
  b = Buffer();
  EXPECT_FALSE(b.defined());
}

}  // namespace
}  // namespace espalier
