#include "espalier/io/safetensors.h"

#include <gtest/gtest.h>

#include <clocale>
#include <cstring>
#include <limits>
#include <locale>

#include "espalier/core/rng.h"
#include "tests/support/gzip_bytes.h"
#include "tests/support/temp_folder.h"

namespace espalier::io {
namespace {

using espalier::testing::little_endian;
using espalier::testing::read_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

/// A file with this header and these values.
std::string file_bytes(const std::string& header, const std::string& values) {
  return little_endian(header.size(), 8) + header + values;
}

class Safetensors : public ::testing::Test {
 protected:
  TensorFile read(const std::string& bytes, SafetensorsLimits limits = {}) {
    write_bytes(path, bytes);
    return read_safetensors(path, limits);
  }
  /// The error for a file with this header; it always names the file.
  std::string error(const std::string& header, const std::string& values = "") {
    const std::string text = espalier::testing::text_of<FormatError>([&] { read(file_bytes(header, values)); });
    EXPECT_PRED2(espalier::testing::contains, text, path);
    return text;
  }
  TempFolder folder;
  const std::string path = folder / "model.safetensors";
};

#define EXPECT_TEXT(text, part) EXPECT_PRED2(espalier::testing::contains, text, part)

TensorFile one_of_each() {
  Rng rng(1);
  TensorFile file;
  file.tensors = {{"flag", Tensor::from(std::vector<bool>{true, false, true}, {3})},
                  {"w", rng.normal({2, 3})},
                  {"empty", Tensor::zeros({0, 4})},
                  {"scalar", Tensor::scalar(2.5, DType::f64)},
                  {"bytes", Tensor::arange(0, 5, 1, DType::u8)},
                  {"i64", Tensor::from({std::numeric_limits<std::int64_t>::min(), std::int64_t{7}})},
                  {"i32", Tensor::from({std::numeric_limits<std::int32_t>::max()})},
                  {"rank8", Tensor::ones({1, 1, 2, 1, 1, 1, 1, 2})},
                  {"naïve \"name\"\n", Tensor::from({std::numeric_limits<float>::quiet_NaN()})}};
  file.metadata = {{"format", "pt"}, {"", "empty key"}, {"text", "quote \" backslash \\ tab \t and ümlaut"}};
  return file;
}

TEST_F(Safetensors, RoundTrip) {
  const TensorFile file = one_of_each();
  write_safetensors(path, file);
  const TensorFile back = read_safetensors(path);
  EXPECT_EQ(back.metadata, file.metadata);
  ASSERT_EQ(back.tensors.size(), file.tensors.size());
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    EXPECT_EQ(back.tensors[i].name, file.tensors[i].name);
    EXPECT_TRUE(allclose(back.tensors[i].tensor, file.tensors[i].tensor, 0, 0, true)) << file.tensors[i].name;
  }
  EXPECT_NE(back.find("w"), nullptr);
  EXPECT_EQ(back.find("v"), nullptr);
  write_safetensors(path + "2", back);
  EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
  EXPECT_EQ(folder.names().size(), 2u);
}

TEST_F(Safetensors, NothingAndViews) {
  write_safetensors(path, {});
  EXPECT_TRUE(read_safetensors(path).tensors.empty());
  const Tensor t = Tensor::arange(0, 6).reshape({2, 3}).t();
  write_safetensors(path, {{{"t", t}}, {}});
  EXPECT_TRUE(equal(*read_safetensors(path).find("t"), t));
}

TEST_F(Safetensors, ReadsWhatTheFormatAllows) {
  const TensorFile file =
      read(file_bytes(R"({"b":{"data_offsets":[4,5],"shape":[1],"dtype":"BOOL"},)"
                      R"("a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},"__metadata__":{}}    )",
                      "abcd\1"));
  EXPECT_EQ(file.tensors[0].name, "b");
  EXPECT_EQ(file.tensors[1].tensor.at({1, 0}), 'c');
  EXPECT_EQ(read(file_bytes(R"({"\u00e4":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", "x")).tensors[0].name, "ä");
}

TEST_F(Safetensors, ValuesAreAligned) {
  write_safetensors(path, one_of_each());
  const std::string bytes = read_bytes(path);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  const std::string text = bytes.substr(8, header);
  EXPECT_TEXT(text, R"("scalar":{"dtype":"F64","shape":[],"data_offsets":[0,8]})");
  EXPECT_TEXT(text, R"("i64":{"dtype":"I64","shape":[2],"data_offsets":[8,24]})");
}

TEST_F(Safetensors, EveryCutIsFound) {
  write_safetensors(path, one_of_each());
  const std::string whole = read_bytes(path);
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_ERROR(
        FormatError, [&] { read(whole.substr(0, n)); }, "model.safetensors");
  EXPECT_TEXT(espalier::testing::text_of<FormatError>([&] { read(whole + "x"); }), "1 bytes behind the last tensor");
}

TEST_F(Safetensors, NoFlippedBitOfTheHeaderCrashes) {
  write_safetensors(path, one_of_each());
  const std::string whole = read_bytes(path);
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < 8 + header; ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 1 << at % 8);
    try {
      read(bad);  // a flipped letter of a name is a good file
    } catch (const FormatError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, header / 3);
}

TEST_F(Safetensors, HeaderLength) {
  EXPECT_ERROR(
      FormatError, [&] { read(little_endian(~0ull, 8) + "{}"); }, "at byte 0: a header of 18446744073709551615");
  EXPECT_ERROR(
      FormatError, [&] { read(little_endian(3, 8) + "{}"); }, "in a file of 10");
  EXPECT_ERROR(
      FormatError, [&] { read(little_endian(100'000'001, 8) + "{}"); }, "at most 100000000");
  EXPECT_ERROR(
      FormatError, [&] { read(little_endian(0, 8)); }, "begin with '{'");
  EXPECT_THROW(read(file_bytes("{}   ", ""), {.header_bytes = 4}), FormatError);
  EXPECT_TRUE(read(file_bytes("{}", "")).tensors.empty());
}

TEST_F(Safetensors, BrokenJson) {
  for (const char* header : {" {}",
                             "[]",
                             "{",
                             "{}}",
                             "{}{}",
                             "{} x",
                             "{,}",
                             R"({"a":})",
                             R"({"a":NaN})",
                             "\xEF\xBB\xBF{}",
                             "{\"\xff\":{}}",
                             R"({"a":1})",
                             R"({"a":null})",
                             R"({"a":"x"})",
                             R"({"a":[]})",
                             R"({"a":true})",
                             R"({"a":-1})",
                             R"({"a":1.5})",
                             R"({"__metadata__":[]})",
                             R"({"__metadata__":1})",
                             R"({"__metadata__":{"a":1}})",
                             R"({"__metadata__":{"a":{}}})",
                             R"({"__metadata__":{"a":null}})",
                             R"({"__metadata__":{"a":["b"]}})",
                             R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],}})"})
    EXPECT_FALSE(error(header).empty()) << header;
  EXPECT_TEXT(error(std::string("{}\0{", 4)), "NUL in the header at byte 10");
  EXPECT_TEXT(error(R"({"a" 1})"), "broken JSON at byte 13");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100000; ++i) deep += "[";
  EXPECT_TEXT(error(deep), "a list has no place here");
  deep.clear();
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  EXPECT_TEXT(error(deep), "unknown field 'a'");
}

TEST_F(Safetensors, DuplicateKeys) {
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_TEXT(error("{\"a\":" + entry + ",\"a\":" + entry + "}", "x"), "the name 'a' is given twice");
  EXPECT_TEXT(error("{\"a\":" + entry + ",\"\\u0061\":" + entry + "}", "x"), "the name 'a' is given twice");
  EXPECT_TEXT(error(R"({"__metadata__":{},"__metadata__":{}})"), "given twice");
  EXPECT_TEXT(error(R"({"__metadata__":{"k":"1","k":"1"}})"), "__metadata__ 'k' is given twice");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"),
              "tensor 'a': field 'dtype' is given twice");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", "x"), "given twice");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}})", "x"),
              "given twice");
}

/// A header of one tensor 'a' with this shape and these offsets.
std::string header(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

TEST_F(Safetensors, EachFieldBroken) {
  EXPECT_TEXT(error(header("F16", "[1]", "[0,2]"), "xx"), "tensor 'a': field 'dtype': unknown type 'F16'");
  EXPECT_TEXT(error(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,1]}})", "x"), "the number 7 has no place here");
  EXPECT_TEXT(error(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "x"), "field 'dtype' is missing");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "x"), "field 'shape' is missing");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","shape":[1]}})", "x"), "field 'data_offsets' is missing");
  EXPECT_TEXT(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}})", "x"), "unknown field 'more'");
  for (const char* shape :
       {"[-1]", "[1.5]", "[NaN]", "[\"1\"]", "[[1]]", "[null]", "1", "{}", "[1e0]", "[true]", "[Infinity]",
        "[18446744073709551615]", "[18446744073709551616]", "[1,1,1,1,1,1,1,1,1]", "[2]", "[0]"})
    EXPECT_FALSE(error(header("U8", shape, "[0,1]"), "x").empty()) << shape;
  for (const char* offsets : {"[]", "[0]", "[0,1,1]", "[-1,0]", "[0,2]", "[1,0]", "[1,2]", "[0,18446744073709551615]",
                              "[18446744073709551615,0]", "[0.0,1]", "{}", "1", "[0,\"1\"]", "[[0,1]]"})
    EXPECT_FALSE(error(header("U8", "[1]", offsets), "x").empty()) << offsets;
  EXPECT_TEXT(error(header("F32", "[4611686018427387904]", "[0,0]")), "overflows");
  EXPECT_TEXT(error(header("U8", "[4294967296,4294967296]", "[0,0]")), "overflows");
  EXPECT_TEXT(error(header("U8", "[0,9223372036854775807,2]", "[0,0]")), "overflows");
  EXPECT_TEXT(error(header("F64", "[1152921504606846975]", "[0,8]"), "12345678"), "which takes 9223372036854775800");
}

TEST_F(Safetensors, OverlapsHolesAndTheRest) {
  auto two = [](const char* first, const char* second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)") + first +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
  };
  EXPECT_TEXT(error(two("[0,2]", "[1,3]"), "xyz"), "tensor 'b': field 'data_offsets': begins at 1 and overlaps");
  EXPECT_TEXT(error(two("[0,2]", "[0,2]"), "xy"), "overlaps");
  EXPECT_TEXT(error(two("[0,2]", "[3,5]"), "xyzuv"), "leaves a hole behind 2");
  EXPECT_TEXT(error(two("[1,3]", "[3,5]"), "xyzuv"), "leaves a hole behind 0");
  EXPECT_TEXT(error(two("[0,2]", "[2,4]"), "xyzuv"), "1 bytes behind the last tensor");
  EXPECT_TEXT(error("{}", "x"), "1 bytes behind");
  EXPECT_TEXT(
      error(
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
          "xy"),
      "overlaps");
}

TEST_F(Safetensors, Bools) {
  EXPECT_TEXT(error(header("BOOL", "[3]", "[0,3]"), std::string("\1\0\2", 3)), "tensor 'a': element 2 is a bool");
  std::string many(3 << 20, '\1');
  many[(2 << 20) + 5] = '\x7f';
  many[(2 << 20) + 9] = '\x7f';
  const std::string n = std::to_string(many.size());
  EXPECT_TEXT(error(header("BOOL", "[" + n + "]", "[0," + n + "]"), many), "element 2097157 is");
}

TEST_F(Safetensors, TooManyTensors) {
  std::string header = "{";
  for (int i = 0; i < 11; ++i)
    header += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  header.back() = '}';
  EXPECT_ERROR(
      FormatError, [&] { read(file_bytes(header, ""), {.tensors = 10}); }, "more than 10 tensors");
  EXPECT_EQ(read(file_bytes(header, ""), {.tensors = 11}).tensors.size(), 11u);
}

TEST_F(Safetensors, HugeHeadersTakeNoTimeToSpeakOf) {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i)
    header += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  header.back() = '}';
  EXPECT_EQ(read(file_bytes(header, "")).tensors.size(), 100000u);
}

TEST_F(Safetensors, WhatCannotBeWrittenLeavesTheOldFile) {
  write_bytes(path, "old");
  const Tensor t = Tensor::ones({1});
  EXPECT_THROW(write_safetensors(path, {{{"a", t}, {"a", t}}, {}}), ConfigError);
  EXPECT_THROW(write_safetensors(path, {{{"__metadata__", t}}, {}}), ConfigError);
  EXPECT_THROW(write_safetensors(path, {{{"a", Tensor()}}, {}}), ConfigError);
  EXPECT_THROW(write_safetensors(path, {{{"\xff", t}}, {}}), ConfigError);
  EXPECT_THROW(write_safetensors(path, {{}, {{"a", "\xff"}}}), ConfigError);
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(folder.names().size(), 1u);
  EXPECT_ERROR(
      IoError, [&] { read_safetensors(folder / "none"); }, "No such file");
  EXPECT_ERROR(
      IoError, [&] { write_safetensors(folder / "none/a", {}); }, "No such file");
}

struct DecimalComma final : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

TEST_F(Safetensors, TheLocaleDoesNotMatter) {
  const TensorFile file{{{"a", Tensor::zeros({1234, 3})}}, {}};
  write_safetensors(path, file);
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new DecimalComma));
  const std::string c_before = std::setlocale(LC_ALL, nullptr);
  std::setlocale(LC_ALL, "de_DE.UTF-8");  // where it is installed
  write_safetensors(path + "2", file);
  const TensorFile back = read_safetensors(path + "2");
  std::setlocale(LC_ALL, c_before.c_str());
  std::locale::global(before);
  EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
  EXPECT_EQ(back.tensors.at(0).tensor.shape(), (Shape{1234, 3}));
}

}  // namespace
}  // namespace espalier::io
