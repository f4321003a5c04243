#include "espalier/core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

constexpr Index huge = std::numeric_limits<Index>::max();
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr DType all_types[] = {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean};

// --- making --------------------------------------------------------------------------------------------------------

TEST(TensorMaking, FillsEveryType) {
  for (DType type : all_types) {
    EXPECT_EQ(Tensor::zeros({2, 3}, type).to(DType::f64).to_vector<double>(), std::vector<double>(6, 0));
    EXPECT_EQ(Tensor::ones({2, 3}, type).to(DType::f64).to_vector<double>(), std::vector<double>(6, 1));
    const Tensor eye = Tensor::eye(3, type);
    EXPECT_EQ(eye.dtype(), type);
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 3; ++j) EXPECT_EQ(eye.at({i, j}), i == j);
  }
  EXPECT_EQ(Tensor::full({2}, 2.5).to_vector<float>(), (std::vector<float>{2.5, 2.5}));
  EXPECT_EQ(Tensor::full({2}, 2.9, DType::i64).to_vector<Index>(), (std::vector<Index>{2, 2}));
  EXPECT_EQ(Tensor::full({1}, nan, DType::i32).item(), 0);
  EXPECT_EQ(Tensor::full({1}, 300, DType::u8).item(), 255);
  EXPECT_TRUE(std::isnan(Tensor::full({1}, nan).item()));
  EXPECT_EQ(Tensor::scalar(4).rank(), 0);
}

TEST(TensorMaking, StorageIsAligned) {
  for (Index n : {1, 3, 17, 1000, 1 << 20}) {
    const Tensor t = Tensor::empty({n});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data<float>()) % 64, 0u) << n;
  }
}

TEST(TensorMaking, ArangeStopsBeforeItsEnd) {
  EXPECT_EQ(Tensor::arange(0, 5).to_vector<float>(), (std::vector<float>{0, 1, 2, 3, 4}));
  EXPECT_EQ(Tensor::arange(5, 0, -2).to_vector<float>(), (std::vector<float>{5, 3, 1}));
  EXPECT_EQ(Tensor::arange(0, 1, 0.25, DType::f64).to_vector<double>(), (std::vector<double>{0, 0.25, 0.5, 0.75}));
  EXPECT_EQ(Tensor::arange(0, 1.1, 0.5).size(), 3);
  EXPECT_EQ(Tensor::arange(3, 3).shape(), Shape{0});
  EXPECT_EQ(Tensor::arange(3, 1).shape(), Shape{0});
  EXPECT_EQ(Tensor::arange(inf, 0).shape(), Shape{0});
  EXPECT_EQ(Tensor::arange(0, 300, 100, DType::u8).to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{0, 100, 200}));
  EXPECT_TRUE(throws<ConfigError>([] { Tensor::arange(0, 1, 0); }, "[arange]", "step"));
  EXPECT_TRUE(throws<ConfigError>([] { Tensor::arange(0, 1, nan); }, "[arange]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::arange(0, inf); }, "[arange]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::arange(0, nan); }, "[arange]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::arange(0, 1, 1e-300); }, "[arange]"));
}

TEST(TensorMaking, LinspaceIncludesBothEnds) {
  EXPECT_EQ(Tensor::linspace(0, 1, 5).to_vector<float>(), (std::vector<float>{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(Tensor::linspace(3, -3, 3).to_vector<float>(), (std::vector<float>{3, 0, -3}));
  EXPECT_EQ(Tensor::linspace(7, 9, 1).to_vector<float>(), (std::vector<float>{7}));
  EXPECT_EQ(Tensor::linspace(7, 9, 0).size(), 0);
  EXPECT_EQ(Tensor::linspace(-1.5e308, 1.5e308, 3, DType::f64).to_vector<double>(),
            (std::vector<double>{-1.5e308, 0, 1.5e308}));  // whose distance no double holds
  const Tensor thirds = Tensor::linspace(0.1, 0.7, 7, DType::f64);
  EXPECT_EQ(thirds.at({-1}), 0.7) << "the last one exactly, whatever the steps round to";
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::linspace(0, 1, -1); }, "negative length"));
}

TEST(TensorMaking, FromCopiesInRowMajorOrder) {
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::from(values, {2, 3});
  values[0] = 99;
  EXPECT_EQ(t.at({0, 0}), 1);
  EXPECT_EQ(t.at({1, 0}), 4);
  EXPECT_EQ(Tensor::from({1.5, 2.5}).dtype(), DType::f64);
  EXPECT_EQ(Tensor::from({Index{1}, Index{2}}).dtype(), DType::i64);
  EXPECT_EQ(Tensor::from({true, false, true}).to_vector<bool>(), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(Tensor::from(std::vector<bool>{true, false}, {2, 1}).shape(), (Shape{2, 1}));
  EXPECT_EQ(Tensor::from(std::vector<float>{}, {3, 0}).size(), 0);
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::from({1.f, 2.f}, {3}); }, "2 values", "[3]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::from({1.f}, {-1}); }, "negative length"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::from(std::vector<bool>{true}, {2}); }, "1 values"));
}

TEST(TensorMaking, BorrowSharesTheCallersMemory) {
  std::vector<double> values = {1, 2, 3, 4};
  Tensor t = Tensor::borrow(std::span(values), {2, 2});
  values[3] = 40;
  EXPECT_EQ(t.at({1, 1}), 40);
  t.write<double>("test")[0] = 10;
  EXPECT_EQ(values[0], 10);
  EXPECT_EQ(t.clone().bytes() == t.bytes(), false);
  EXPECT_TRUE(throws<ShapeError>([&] { Tensor::borrow(std::span(values), {3}); }, "[borrow]", "4 values"));
  EXPECT_EQ(Tensor::borrow(std::span<float>(), {0}).to_vector<float>().size(), 0u);
}

TEST(TensorMaking, BorrowKeepsItsOwnerUntilTheLastView) {
  auto owner = std::make_shared<std::vector<float>>(6, 2.f);
  const std::weak_ptr<std::vector<float>> watch = owner;
  Tensor row;
  {
    const Tensor t = Tensor::borrow(std::span(*owner), {2, 3}, owner);
    owner.reset();
    row = t.select(0, 1);
  }
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(row.to_vector<float>(), std::vector<float>(3, 2));
  row = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(TensorMaking, ImpossibleShapesAreErrorsAndDoNotWrap) {
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::empty({-1}); }, "negative length"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::zeros({huge, 2}); }, "63 bits"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::zeros({Index{1} << 32, Index{1} << 32}); }, "63 bits"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::zeros({huge / 2}, DType::f64); }, "2^63 bytes"));
  EXPECT_THROW(Tensor::empty({(Index{1} << 62) + 1}, DType::u8), std::bad_alloc);
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::eye(-2); }, "negative length"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::eye(Index{1} << 32); }));
}

TEST(TensorMaking, SizeZeroIsAShapeLikeAnyOther) {
  for (DType type : all_types) {
    for (const Shape& shape : {Shape{0}, Shape{3, 0}, Shape{0, 3}, Shape{2, 0, 4}, Shape{huge, 0}}) {
      Tensor t = Tensor::ones(shape, type);
      EXPECT_TRUE(t.defined());
      EXPECT_EQ(t.size(), 0);
      EXPECT_TRUE(t.is_contiguous());
      t.fill(3);
      t.copy_from(Tensor::zeros(shape));
      EXPECT_TRUE(equal(t, t.clone()));
      EXPECT_TRUE(allclose(t, t));
      EXPECT_EQ(t.to(DType::f64).shape(), shape);
      EXPECT_TRUE(t.to(DType::f32).to_vector<float>().empty());
      EXPECT_EQ(t.transpose(0, -1).contiguous().size(), 0);
      EXPECT_EQ(t.reshape({0}).shape(), Shape{0});
      EXPECT_EQ(t.slice(0, 0, 1).size(), 0);
      EXPECT_FALSE(t.to_string().empty());
    }
  }
}

// --- access --------------------------------------------------------------------------------------------------------

TEST(TensorAccess, UndefinedTensorsSaySo) {
  Tensor t;
  EXPECT_FALSE(t.defined());
  EXPECT_TRUE(throws<ConfigError>([&] { t.data<float>(); }, "undefined tensor"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.write<float>("x"); }, "undefined tensor"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.bytes(); }, "undefined tensor"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.clone(); }, "undefined tensor"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.fill(1); }, "undefined tensor"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.to(DType::i64); }, "undefined tensor"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.item(); }, "[item]"));
  EXPECT_EQ(t.to_string(), "tensor(undefined)");
  Tensor full = Tensor::ones({2});
  t = std::move(full);
  EXPECT_TRUE(t.defined());
  EXPECT_TRUE(throws<ConfigError>([&] { full.data<float>(); }, "moved from"));  // NOLINT: after the move on purpose
}

TEST(TensorAccess, TheElementTypeMustMatch) {
  Tensor t = Tensor::ones({2});
  EXPECT_TRUE(throws<DTypeError>([&] { t.data<double>(); }, "holds f32", "asked for f64", "DType::f64"));
  EXPECT_TRUE(throws<DTypeError>([&] { t.write<Index>("x"); }, "asked for i64"));
  EXPECT_TRUE(throws<DTypeError>([&] { t.to_vector<bool>(); }, "asked for bool"));
  EXPECT_EQ(t.version(), Tensor::ones({2}).version()) << "a refused write is no write";
}

TEST(TensorAccess, ItemAndAt) {
  const Tensor t = Tensor::arange(0, 6).reshape({2, 3});
  EXPECT_EQ(t.at({1, 2}), 5);
  EXPECT_EQ(t.at({-1, -3}), 3);
  EXPECT_EQ(t.t().at({2, 0}), 2);
  EXPECT_EQ(Tensor::scalar(7).at({}), 7);
  EXPECT_EQ(t.slice(0, 1, 2).slice(1, 1, 2).item(), 4);
  EXPECT_TRUE(throws<IndexError>([&] { t.at({2, 0}); }, "[at]", "position 2", "axis 0", "[2, 3]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.at({0, -4}); }, "position -4"));
  EXPECT_TRUE(throws<IndexError>([&] { t.at({std::numeric_limits<Index>::min(), 0}); }, "[at]"));
  EXPECT_TRUE(throws<IndexError>([&] { t.at({1}); }, "1 positions"));
  EXPECT_TRUE(throws<ShapeError>([&] { t.item(); }, "[item]", "[2, 3]"));
  EXPECT_TRUE(throws<ShapeError>([] { Tensor::zeros({0}).item(); }, "[item]"));
  EXPECT_EQ(t.dim(-1), 3);
  EXPECT_TRUE(throws<IndexError>([&] { t.dim(2); }, "[dim]"));
}

TEST(TensorAccess, EveryWriteIsCountedAndNamed) {
  Tensor t = Tensor::empty({2, 2});
  EXPECT_EQ(t.version(), 0u);
  EXPECT_STREQ(t.writer(), "nothing");
  const Tensor view = t.t();
  t.write<float>("first");
  EXPECT_EQ(view.version(), 1u) << "views share the version";
  EXPECT_STREQ(view.writer(), "first");
  Tensor row = t.select(0, 0);
  row.fill(1);
  EXPECT_STREQ(t.writer(), "fill");
  row.copy_from(Tensor::ones({2}), "mine");
  EXPECT_STREQ(t.writer(), "mine");
  EXPECT_EQ(t.version(), 3u);
  t.write_bytes("raw");
  EXPECT_EQ(t.version(), 4u);
  t.data<float>();
  t.bytes();
  t.to_vector<float>();
  EXPECT_EQ(t.version(), 4u) << "reading is no write";
  EXPECT_NE(t.clone().writer(), t.writer());
}

TEST(TensorAccess, SoleOwnerSeesViewsAndHandles) {
  Tensor t = Tensor::ones({2, 2});
  EXPECT_TRUE(t.sole_owner());
  {
    const Tensor view = t.t();
    EXPECT_FALSE(t.sole_owner());
    EXPECT_TRUE(view.shares_storage(t));
  }
  EXPECT_TRUE(t.sole_owner());
  EXPECT_FALSE(t.clone().shares_storage(t));
  EXPECT_FALSE(Tensor().sole_owner());
}

// --- converting ----------------------------------------------------------------------------------------------------

TEST(TensorTo, EveryResultIsDefined) {
  const Tensor wild = Tensor::from({nan, inf, -inf, 1e300, -1e300, 2.9, -2.9, 0.5, -0.0});
  EXPECT_EQ(wild.to(DType::i64).to_vector<Index>(),
            (std::vector<Index>{0, huge, -huge - 1, huge, -huge - 1, 2, -2, 0, 0}));
  constexpr auto top = std::numeric_limits<std::int32_t>::max();
  EXPECT_EQ(wild.to(DType::i32).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{0, top, -top - 1, top, -top - 1, 2, -2, 0, 0}));
  EXPECT_EQ(wild.to(DType::u8).to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{0, 255, 0, 255, 0, 2, 0, 0, 0}));
  EXPECT_EQ(wild.to(DType::boolean).to_vector<bool>(),
            (std::vector<bool>{true, true, true, true, true, true, true, true, false}));
  const std::vector<float> narrow = wild.to(DType::f32).to_vector<float>();
  EXPECT_TRUE(std::isnan(narrow[0]));
  EXPECT_EQ(narrow[1], inf);
  EXPECT_EQ(narrow[3], inf);
  EXPECT_EQ(narrow[5], 2.9f);
  EXPECT_TRUE(std::signbit(narrow[8]));
}

TEST(TensorTo, IntegersClampToTheNarrowerType) {
  const Tensor wide = Tensor::from({huge, -huge - 1, Index{256}, Index{-1}, Index{7}});
  EXPECT_EQ(wide.to(DType::u8).to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{255, 0, 255, 0, 7}));
  EXPECT_EQ(wide.to(DType::i32).at({0}), 2147483647);
  EXPECT_EQ(wide.to(DType::i32).at({1}), -2147483648.0);
  EXPECT_EQ(wide.to(DType::boolean).to_vector<bool>(), std::vector<bool>(5, true));
  const Tensor flags = Tensor::from({true, false});
  for (DType type : all_types) {
    EXPECT_EQ(flags.to(type).to(DType::f64).to_vector<double>(), (std::vector<double>{1, 0})) << name_of(type);
  }
  // 2^63 is no i64: the nearest below is.
  EXPECT_EQ(Tensor::from({0x1p63}).to(DType::i64).to_vector<Index>()[0], huge);
  EXPECT_EQ(Tensor::from({0x1p63 - 1024}).to(DType::i64).to_vector<Index>()[0], huge - 1023);
}

TEST(TensorTo, SameTypeIsTheSameTensorAndViewsConvertInOrder) {
  const Tensor t = Tensor::arange(0, 6).reshape({2, 3});
  EXPECT_TRUE(t.to(DType::f32).shares_storage(t));
  const Tensor turned = t.t().to(DType::i64);
  EXPECT_TRUE(turned.is_contiguous());
  EXPECT_EQ(turned.to_vector<Index>(), (std::vector<Index>{0, 3, 1, 4, 2, 5}));
}

// --- copying -------------------------------------------------------------------------------------------------------

TEST(TensorCopy, FromOverlappingViewsReadsBeforeItWrites) {
  const Tensor start = Tensor::arange(0, 6);
  Tensor t = start.clone();
  t.slice(0, 1, 6).copy_from(t.slice(0, 0, 5));
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{0, 0, 1, 2, 3, 4}));
  t = start.clone();
  t.slice(0, 0, 5).copy_from(t.slice(0, 1, 6));
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{1, 2, 3, 4, 5, 5}));
  t = Tensor::arange(0, 9).reshape({3, 3});
  t.copy_from(t.t());  // the same first element, another order
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{0, 3, 6, 1, 4, 7, 2, 5, 8}));
  t.copy_from(t);
  EXPECT_EQ(t.at({0, 1}), 3);
}

TEST(TensorCopy, ConvertsAndChecksShapes) {
  Tensor t = Tensor::zeros({2, 2}, DType::i64);
  t.copy_from(Tensor::full({2, 2}, 3.7));
  EXPECT_EQ(t.to_vector<Index>(), std::vector<Index>(4, 3));
  Tensor turned = t.t();
  turned.copy_from(Tensor::arange(0, 4).reshape({2, 2}));
  EXPECT_EQ(t.to_vector<Index>(), (std::vector<Index>{0, 2, 1, 3}));
  EXPECT_TRUE(throws<ShapeError>([&] { t.copy_from(Tensor::zeros({4})); }, "[copy_from]", "[2, 2]", "[4]"));
  EXPECT_TRUE(throws<ConfigError>([&] { t.copy_from(Tensor().reshape({1}).broadcast_to({2, 2})); }, "undefined"));
}

TEST(TensorCopy, FillWritesOnlyTheView) {
  Tensor t = Tensor::zeros({3, 4});
  t.slice(1, 0, 4, 2).fill(1);
  t.select(0, 2).fill(5);
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{1, 0, 1, 0, 1, 0, 1, 0, 5, 5, 5, 5}));
  t.t().slice(0, 1, 2).fill(-1);
  EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{1, -1, 1, 0, 1, -1, 1, 0, 5, -1, 5, 5}));
}

TEST(TensorCopy, ContiguousCopiesOnlyWhatIsNot) {
  const Tensor t = Tensor::arange(0, 6).reshape({2, 3});
  EXPECT_TRUE(t.contiguous().shares_storage(t));
  EXPECT_TRUE(t.slice(0, 1, 2).contiguous().shares_storage(t)) << "a run of whole rows is contiguous";
  EXPECT_FALSE(t.t().contiguous().shares_storage(t));
  EXPECT_EQ(t.t().clone().to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(t.unsqueeze(0).t().is_contiguous(), false);
  EXPECT_TRUE(t.slice(0, 0, 1).t().is_contiguous()) << "axes of length 1 have no order";
}

// --- comparing -----------------------------------------------------------------------------------------------------

TEST(TensorCompare, EqualTellsShapesTypesAndNaN) {
  const Tensor t = Tensor::arange(0, 4).reshape({2, 2});
  EXPECT_TRUE(equal(t, t.clone()));
  EXPECT_TRUE(equal(t.t(), t.t().clone()));
  EXPECT_FALSE(equal(t, t.t()));
  EXPECT_FALSE(equal(t, t.reshape({4})));
  EXPECT_FALSE(equal(t, t.to(DType::f64)));
  const Tensor odd = Tensor::from({nan});
  EXPECT_FALSE(equal(odd, odd));
  EXPECT_TRUE(equal(Tensor::from({0.0}), Tensor::from({-0.0})));
  EXPECT_FALSE(equal(Tensor::from({huge}), Tensor::from({huge - 1}))) << "not through double";
}

TEST(TensorCompare, AllcloseIsAsymmetricAndTreatsInfinityAndNaN) {
  EXPECT_TRUE(allclose(Tensor::from({1.0 + 1e-6}), Tensor::from({1.0})));
  EXPECT_FALSE(allclose(Tensor::from({1.0 + 2e-5}), Tensor::from({1.0})));
  EXPECT_TRUE(allclose(Tensor::from({1e-9}), Tensor::from({0.0})));
  EXPECT_FALSE(allclose(Tensor::from({1e-7}), Tensor::from({0.0})));
  EXPECT_TRUE(allclose(Tensor::from({100.0}), Tensor::from({200.0}), 0.5, 0)) << "rtol counts from the second";
  EXPECT_FALSE(allclose(Tensor::from({200.0}), Tensor::from({100.0}), 0.5, 0));
  EXPECT_TRUE(allclose(Tensor::from({inf, -inf}), Tensor::from({inf, -inf})));
  EXPECT_FALSE(allclose(Tensor::from({inf}), Tensor::from({-inf})));
  EXPECT_FALSE(allclose(Tensor::from({inf}), Tensor::from({1e308}), 1e9)) << "an infinity is close to no number";
  EXPECT_FALSE(allclose(Tensor::from({1e308}), Tensor::from({inf})));
  EXPECT_FALSE(allclose(Tensor::from({nan}), Tensor::from({nan})));
  EXPECT_TRUE(allclose(Tensor::from({nan, 1.0}), Tensor::from({nan, 1.0}), 1e-5, 1e-8, true));
  EXPECT_FALSE(allclose(Tensor::from({nan}), Tensor::from({1.0}), 1e-5, 1e-8, true));
  EXPECT_FALSE(allclose(Tensor::ones({2}), Tensor::ones({1})));
  EXPECT_FALSE(allclose(Tensor::ones({2}), Tensor::ones({2}, DType::f64)));
}

TEST(TensorCompare, BroadcastShapesFollowsNumPy) {
  EXPECT_EQ(broadcast_shapes("op", {3, 1}, {1, 4}), (Shape{3, 4}));
  EXPECT_EQ(broadcast_shapes("op", {4}, {2, 3, 4}), (Shape{2, 3, 4}));
  EXPECT_EQ(broadcast_shapes("op", {}, {2}), Shape{2});
  EXPECT_EQ(broadcast_shapes("op", {1}, {0}), Shape{0});
  EXPECT_EQ(broadcast_shapes("op", {2, 0}, {1, 1}), (Shape{2, 0}));
  EXPECT_TRUE(throws<ShapeError>([] { broadcast_shapes("add", {3, 2}, {4}); }, "[add]", "[3, 2]", "[4]"));
  EXPECT_TRUE(throws<ShapeError>([] { broadcast_shapes("add", {0}, {2}); }, "[add]"));
}

}  // namespace
}  // namespace espalier
