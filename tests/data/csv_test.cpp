#include "espalier/data/csv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <clocale>
#include <cmath>
#include <limits>
#include <locale>

#include "espalier/data/digits.h"
#include "tests/support/gzip_bytes.h"
#include "tests/support/temp_folder.h"

namespace espalier::data {
namespace {

using espalier::testing::gzip_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

class Csv : public ::testing::Test {
 protected:
  Tensor read(const std::string& text, const CsvOptions& options = {}) {
    write_bytes(path, text);
    return read_csv(path, options);
  }
  std::vector<double> values(const std::string& text, CsvOptions options = {}) {
    options.dtype = DType::f64;
    return read(text, options).to_vector<double>();
  }
  TempFolder folder;
  const std::string path = folder / "table.csv";
};

using Values = std::vector<double>;

TEST_F(Csv, LineEndsBlanksAndSigns) {
  const Values expected{1, 2.5, -3, 4e-3};
  for (const char* text : {"1,2.5\n-3,4e-3\n", "1,2.5\n-3,4e-3", "1,2.5\r\n-3,4e-3\r\n", " 1 ,\t2.5 \n -3, +4E-3\n",
                           "\xEF\xBB\xBF"
                           "1,2.5\n-3,.004\n\n  \n"})
    EXPECT_EQ(values(text), expected) << text;
  EXPECT_EQ(read("1,2\n3,4\n5,6").shape(), (Shape{3, 2}));
  EXPECT_EQ(read("1,2").dtype(), DType::f32);
}

TEST_F(Csv, SeparatorsHeadersColumnsGzip) {
  EXPECT_EQ(values("1;2\n3;4", {.separator = ';'}), (Values{1, 2, 3, 4}));
  EXPECT_EQ(values("1\t2\n3\t4", {.separator = '\t'}), (Values{1, 2, 3, 4}));
  EXPECT_EQ(values("  1   2\n3 \t 4  \n", {.separator = ' '}), (Values{1, 2, 3, 4}));
  EXPECT_EQ(values("a,b\n1,2\n", {.header = true}), (Values{1, 2}));
  EXPECT_EQ(values("1,text,3\n4,\"\",6\n", {.columns = {-1, 0}}), (Values{3, 1, 6, 4}));
  EXPECT_EQ(values(gzip_bytes("1,2\n")), (Values{1, 2}));
}

TEST_F(Csv, NothingInIt) {
  EXPECT_EQ(read("").shape(), (Shape{0, 0}));
  EXPECT_EQ(read("\n\n").shape(), (Shape{0, 0}));
  EXPECT_EQ(read("a,b\n", {.header = true, .columns = {0}}).shape(), (Shape{0, 1}));
}

TEST_F(Csv, NumbersAtTheEdges) {
  const Values v = values("nan,inf,-inf,1e-400,-0,1.7976931348623157e308,5e-324");
  EXPECT_TRUE(std::isnan(v[0]));
  EXPECT_EQ(v[1], std::numeric_limits<double>::infinity());
  EXPECT_EQ(v[2], -std::numeric_limits<double>::infinity());
  EXPECT_EQ(v[3], 0);
  EXPECT_TRUE(std::signbit(v[4]));
  EXPECT_EQ(v[5], std::numeric_limits<double>::max());
  EXPECT_EQ(v[6], std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(read("1e-50").data<float>()[0], 0.0f);
  EXPECT_ERROR(
      FormatError, [&] { read("1e39"); }, "too large for f32: '1e39'");
  EXPECT_ERROR(
      FormatError, [&] { values("1e400"); }, "too large for f64");
  EXPECT_EQ(values("0." + std::string(400, '0') + "1"), Values{0});
  EXPECT_THROW(values("1" + std::string(400, '0')), FormatError);
}

TEST_F(Csv, ErrorsNameFileLineColumnAndText) {
  const std::string where = "'" + path + "' line 2, column 3: ";
  EXPECT_ERROR(
      FormatError, [&] { read("1,2,3\n4,5,six\n"); }, where + "not a number: 'six'");
  EXPECT_ERROR(
      FormatError, [&] { read("1,2,3\n4,5,\n"); }, where + "an empty field");
  EXPECT_ERROR(
      FormatError, [&] { read("1,2,3\n4,5,\"6\"\n"); }, where + "quoted fields");
  EXPECT_ERROR(
      FormatError, [&] { read("1,2,3\n4,5\n"); }, "line 2: 2 fields, where the first row has 3");
  EXPECT_ERROR(
      FormatError, [&] { read("1,2,3\n\n4,5,6\n"); }, "line 2: an empty line");
  EXPECT_ERROR(
      FormatError, [&] { read("a,b\n1,2\n"); }, ".header = true");
  for (const char* bad : {"1.2.3", "0x10", "1,5e", "--1", "+-1", "1 2", "1e", "\x1b[31m", "1\r2"})
    EXPECT_THROW(read(bad), FormatError) << bad;
  EXPECT_ERROR(
      FormatError, [&] { read("\x1b[31m"); }, "\\x1b[31m");
  EXPECT_THROW(read(std::string("1\0", 2)), FormatError);
}

TEST_F(Csv, EmptyFieldsMayHaveAValue) {
  const Values v = values("1,,3\n,5,6\n", {.empty = -1});
  EXPECT_EQ(v, (Values{1, -1, 3, -1, 5, 6}));
  EXPECT_EQ(values("1\n\n3\n", {.empty = 0}), (Values{1, 0, 3}));
}

TEST_F(Csv, BadOptions) {
  EXPECT_THROW(read("1,2", {.separator = '1'}), ConfigError);
  EXPECT_THROW(read("1,2", {.separator = '\n'}), ConfigError);
  EXPECT_THROW(read("1,2", {.columns = {2}}), ConfigError);
  EXPECT_THROW(read("1,2", {.columns = {-3}}), ConfigError);
  EXPECT_THROW(read("1,2", {.dtype = DType::i64}), DTypeError);
  EXPECT_THROW(read("1,2", {.max_bytes = 2}), FormatError);
  EXPECT_THROW(read_csv(folder / "missing"), IoError);
}

struct DecimalComma final : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

TEST_F(Csv, TheLocaleDoesNotMatter) {
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new DecimalComma));
  const std::string c_before = std::setlocale(LC_ALL, nullptr);
  std::setlocale(LC_ALL, "de_DE.UTF-8");  // where it is installed
  const Values v = values("1234.5,0.25");
  const std::string text = espalier::testing::text_of<FormatError>([&] { read(std::string(2000, '\n') + "x"); });
  std::setlocale(LC_ALL, c_before.c_str());
  std::locale::global(before);
  EXPECT_EQ(v, (Values{1234.5, 0.25}));
  EXPECT_TRUE(espalier::testing::contains(text, "line 1:")) << text;
}

class Digits : public Csv {};

TEST_F(Digits, TheShippedFile) {
  const Dataset all = digits(ESPALIER_SOURCE_DIR "/examples/data/digits.csv.gz");
  EXPECT_EQ(all.x.shape(), (Shape{1797, 64}));
  EXPECT_EQ(all.y.shape(), (Shape{1797}));
  const std::vector<float> x = all.x.to_vector<float>();
  EXPECT_EQ(*std::min_element(x.begin(), x.end()), 0);
  EXPECT_EQ(*std::max_element(x.begin(), x.end()), 1);
  std::vector<int> of_class(10);
  for (const Index label : all.y.to_vector<Index>()) ++of_class[static_cast<std::size_t>(label)];
  EXPECT_EQ(of_class, (std::vector<int>{178, 182, 177, 183, 181, 182, 181, 179, 174, 180}));
  const TrainTest parts = split_digits(all);
  EXPECT_EQ(parts.test.size(), 359);
  EXPECT_EQ(parts.train.size(), 1438);
  EXPECT_TRUE(equal(parts.test.x.select(0, 1), all.x.select(0, 9)));
  EXPECT_EQ(parts.train.y.at({4}), all.y.at({5}));
}

TEST_F(Digits, RefusesOtherTables) {
  std::string row;
  for (int i = 0; i < 64; ++i) row += "3,";
  write_bytes(path, row + "9\n");
  EXPECT_EQ(digits(path).y.at({0}), 9);
  write_bytes(path, row + "10\n");
  EXPECT_ERROR(
      FormatError, [&] { digits(path); }, "row 0, column 64: 10 is no class");
  write_bytes(path, "17" + row.substr(1) + "9\n");
  EXPECT_ERROR(
      FormatError, [&] { digits(path); }, "17 is no pixel");
  for (const char* bad : {"nan", "-1", "0.5", "inf"}) {
    write_bytes(path, bad + row.substr(1) + "9\n");
    EXPECT_THROW(digits(path), FormatError) << bad;
  }
  write_bytes(path, "1,2\n");
  EXPECT_ERROR(
      FormatError, [&] { digits(path); }, "2 columns");
  write_bytes(path, "");
  EXPECT_THROW(digits(path), FormatError);
}

}  // namespace
}  // namespace espalier::data
