#include "espalier/data/gzip.h"

#include <gtest/gtest.h>

#include "espalier/core/error.h"
#include "tests/support/gzip_bytes.h"
#include "tests/support/temp_folder.h"

namespace espalier::data {
namespace {

using espalier::testing::gzip_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Gzip : public ::testing::Test {
 protected:
  std::string read(const std::string& bytes, ReadOptions options = {}) {
    write_bytes(path, bytes);
    return text(read_file(path, options));
  }
  TempFolder folder;
  const std::string path = folder / "file";
};

std::string long_content() {
  std::string content;
  for (int i = 0; content.size() < 300000; ++i) content += std::to_string(i * 7919) + "\n";
  return content;
}

TEST_F(Gzip, PlainFilesComeAsTheyAre) {
  EXPECT_EQ(read("hello"), "hello");
  EXPECT_EQ(read(""), "");
  EXPECT_EQ(read("\x1f"), "\x1f");
}

TEST_F(Gzip, PackedFilesAreUnpacked) {
  for (const std::string& content : {std::string(), std::string("x"), long_content()})
    EXPECT_EQ(read(gzip_bytes(content)), content);
}

TEST_F(Gzip, MembersFollowEachOther) {
  EXPECT_EQ(read(gzip_bytes("one ") + gzip_bytes("two ") + gzip_bytes("")), "one two ");
  // The boundary falls on every place relative to the 64 KiB read buffer.
  for (const std::size_t n : {65505u, 65506u, 65507u, 65508u, 65509u, 65510u, 65511u, 65512u, 65513u, 65514u}) {
    const std::string content(n, 'a');
    EXPECT_EQ(read(gzip_bytes(content) + gzip_bytes("z")), content + "z");
  }
}

TEST_F(Gzip, EveryCutIsFound) {
  const std::string whole = gzip_bytes("a few words to be packed");
  for (std::size_t n = 2; n < whole.size(); ++n) EXPECT_THROW(read(whole.substr(0, n)), FormatError) << n;
}

TEST_F(Gzip, EveryFlippedBitOfTheStreamIsFound) {
  const std::string whole = gzip_bytes("abc");
  for (std::size_t at = 10; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      if (at == 10 && bit >= 3) continue;  // unused bits of a stored block's header
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ 1 << bit);
      EXPECT_THROW(read(bad), FormatError) << at << ", " << bit;
    }
  }
}

TEST_F(Gzip, TrailingGarbageIsRefusedWithItsOffset) {
  const std::string whole = gzip_bytes("abc");
  EXPECT_ERROR(
      FormatError, [&] { read(whole + "junk"); }, "at byte " + std::to_string(whole.size()));
  EXPECT_ERROR(
      FormatError, [&] { read(whole + std::string(8, '\0')); }, path);
  EXPECT_THROW(read(whole + "\x1fjunk"), FormatError);
  EXPECT_THROW(read(whole + "\x1f"), FormatError);
}

TEST_F(Gzip, TheLimitHoldsForBoth) {
  const std::string content = long_content();
  const ReadOptions exact{.max_bytes = content.size()}, less{.max_bytes = content.size() - 1};
  EXPECT_EQ(read(content, exact), content);
  EXPECT_EQ(read(gzip_bytes(content), exact), content);
  EXPECT_ERROR(
      FormatError, [&] { read(content, less); }, "max_bytes");
  EXPECT_ERROR(
      FormatError, [&] { read(gzip_bytes(content), less); }, "max_bytes");
  EXPECT_ERROR(
      FormatError, [&] { read(gzip_bytes(content) + gzip_bytes("x"), exact); }, "max_bytes");
}

TEST_F(Gzip, PrefixStopsEarly) {
  const std::string content = long_content();
  for (const std::string& bytes : {content, gzip_bytes(content)}) {
    write_bytes(path, bytes);
    EXPECT_EQ(text(read_prefix(path, 10)), content.substr(0, 10));
    EXPECT_EQ(text(read_prefix(path, 0)), "");
    EXPECT_EQ(text(read_prefix(path, content.size() + 5)), content);
  }
}

TEST_F(Gzip, WhatCannotBeReadIsAnIoErrorWithTheSystemsWords) {
  EXPECT_ERROR(
      IoError, [&] { read_file(folder / "missing"); }, "No such file or directory");
  EXPECT_ERROR(
      IoError, [&] { read_file(folder.path().string()); }, "Is a directory");
}

}  // namespace
}  // namespace espalier::data
