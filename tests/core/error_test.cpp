#include "espalier/core/error.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <string>
#include <thread>

#include "espalier/core/dtype.h"

namespace espalier {
namespace {

std::string text_of(double number) {
  std::string text;
  append(text, number);
  return text;
}

template <class E>
std::string what_of_failing() {
  try {
    fail<E>("[op] ", 1);
  } catch (const E& error) {
    return error.what();
  }
}

TEST(Append, NumbersReadBackToTheSameValue) {
  for (double number : {0.1, 1.0 / 3, 1e300, 5e-324, std::numeric_limits<double>::max(), -2.5})
    EXPECT_EQ(std::strtod(text_of(number).c_str(), nullptr), number);
  EXPECT_EQ(text_of(0.1), "0.1");
  EXPECT_EQ(text_of(1), "1");
  EXPECT_EQ(text_of(-0.0), "-0");
  EXPECT_EQ(text_of(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(text_of(std::numeric_limits<double>::lowest()).size(), 24U) << "the longest text fits the buffer";
}

TEST(Join, TakesPartsOfAllKinds) {
  const Index smallest = std::numeric_limits<Index>::min();
  EXPECT_EQ(join("[op] ", std::string("a"), true, " ", 3, " ", smallest, " ", 0.5, " ", DType::boolean),
            "[op] atrue 3 -9223372036854775808 0.5 bool");
  EXPECT_EQ(join(), "");
}

TEST(Fail, ThrowsTheTypeAskedFor) {
  EXPECT_EQ(what_of_failing<ShapeError>(), "[op] 1");
  EXPECT_EQ(what_of_failing<DTypeError>(), "[op] 1");
  EXPECT_EQ(what_of_failing<NonFiniteError>(), "[op] 1");
  EXPECT_THROW(fail<FormatError>("x"), Error) << "all errors have one base";
  EXPECT_THROW(fail<IoError>("x"), std::exception);
}

TEST(Label, NamesWhereAnErrorHappened) {
  EXPECT_EQ(Label::innermost(), "");
  {
    Label outer("encoder");
    EXPECT_EQ(what_of_failing<ShapeError>(), "[op] 1 (in encoder)");
    {
      Label inner(std::string("encoder.") + "2");  // the text is kept, not the pointer
      EXPECT_EQ(what_of_failing<ShapeError>(), "[op] 1 (in encoder.2)");
    }
    EXPECT_EQ(Label::innermost(), "encoder");
  }
  EXPECT_EQ(what_of_failing<ShapeError>(), "[op] 1");
}

TEST(Label, IsGoneAfterAnExceptionPassedThroughIt) {
  try {
    Label label("fc1");
    fail<ConfigError>("x");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "x (in fc1)");
  }
  EXPECT_EQ(Label::innermost(), "");
}

TEST(Label, BelongsToItsThread) {
  Label label("here");
  std::string seen = "unset";
  std::jthread([&] { seen = Label::innermost(); }).join();
  EXPECT_EQ(seen, "");
  EXPECT_EQ(Label::innermost(), "here");
}

TEST(DType, NamesAndSizesAgreeWithTheTypes) {
  const auto agrees = []<class T>() { EXPECT_EQ(size_of(dtype_of<T>), static_cast<Index>(sizeof(T))); };
  for (DType type : {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean}) {
    dispatch(type, agrees);
    EXPECT_EQ(dispatch(type, []<class T>() { return dtype_of<T>; }), type);
    EXPECT_EQ(is_floating(type), type == DType::f32 || type == DType::f64);
  }
  static_assert(!Element<char> && !Element<unsigned> && !Element<long double> && !Element<const float>);
}

TEST(DType, FloatingDispatchRefusesOtherTypesByName) {
  const auto is_double = []<class T>() { return std::is_same_v<T, double>; };
  EXPECT_FALSE(dispatch_floating("exp", DType::f32, is_double));
  EXPECT_TRUE(dispatch_floating("exp", DType::f64, is_double));
  try {
    dispatch_floating("exp", DType::u8, is_double);
    FAIL() << "no error";
  } catch (const DTypeError& error) {
    EXPECT_STREQ(error.what(), "[exp] needs f32 or f64, got u8. Hint: .to(DType::f32)");
  }
}

}  // namespace
}  // namespace espalier
