#include "espalier/data/idx.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <filesystem>

#include "espalier/data/mnist.h"
#include "tests/support/gzip_bytes.h"
#include "tests/support/temp_folder.h"

namespace espalier::data {
namespace {

using espalier::testing::gzip_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

template <class U>
std::string big_endian(U value) {
  std::string result;
  for (int shift = 8 * (static_cast<int>(sizeof(U)) - 1); shift >= 0; shift -= 8)
    result += static_cast<char>(value >> shift & 255);
  return result;
}

std::string header(unsigned type, const std::vector<std::uint32_t>& lengths) {
  std::string result{'\0', '\0', static_cast<char>(type), static_cast<char>(lengths.size())};
  for (const std::uint32_t length : lengths) result += big_endian(length);
  return result;
}

class Idx : public ::testing::Test {
 protected:
  Tensor read(const std::string& bytes, ReadOptions options = {}) {
    write_bytes(path, bytes);
    return read_idx(path, options);
  }
  TempFolder folder;
  const std::string path = folder / "file.idx";
};

TEST_F(Idx, EveryType) {
  EXPECT_EQ(read(header(0x08, {2}) + "\x01\xff").to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 255}));
  EXPECT_EQ(read(header(0x09, {2}) + "\x01\xff").to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, -1}));
  EXPECT_EQ(read(header(0x0B, {2}) + std::string("\x01\x02\xff\xfe")).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{258, -2}));
  EXPECT_EQ(read(header(0x0C, {1}) + "\xff\xff\xff\x01").to_vector<std::int32_t>(), (std::vector<std::int32_t>{-255}));
  EXPECT_EQ(read(header(0x0D, {1}) + big_endian(std::bit_cast<std::uint32_t>(1.5f))).to_vector<float>(),
            (std::vector<float>{1.5f}));
  EXPECT_EQ(read(header(0x0E, {1}) + big_endian(std::bit_cast<std::uint64_t>(-2.25))).to_vector<double>(),
            (std::vector<double>{-2.25}));
}

TEST_F(Idx, ShapesAndGzip) {
  const std::string bytes = header(0x08, {2, 1, 3}) + "abcdef";
  const Tensor plain = read(bytes), packed = read(gzip_bytes(bytes));
  EXPECT_EQ(plain.shape(), (Shape{2, 1, 3}));
  EXPECT_TRUE(equal(plain, packed));
  EXPECT_EQ(read(header(0x08, {0, 28, 28})).shape(), (Shape{0, 28, 28}));
}

TEST_F(Idx, EveryCutIsFound) {
  const std::string whole = header(0x0B, {2, 2}) + "abcdefgh";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THROW(read(whole.substr(0, n)), FormatError) << n;
    EXPECT_THROW(read(gzip_bytes(whole.substr(0, n))), FormatError) << n;
  }
  EXPECT_ERROR(
      FormatError, [&] { read(whole + "i"); }, "at byte " + std::to_string(whole.size()));
  EXPECT_THROW(read(gzip_bytes(whole + "i")), FormatError);
}

TEST_F(Idx, BadHeaders) {
  EXPECT_ERROR(
      FormatError, [&] { read("\x01" + header(0x08, {1}).substr(1) + "a"); }, "first two bytes");
  EXPECT_ERROR(
      FormatError, [&] { read(header(0x0A, {1}) + "a"); }, "element type 10");
  EXPECT_ERROR(
      FormatError, [&] { read(header(0x08, {}) + "a"); }, "0 dimensions");
  EXPECT_ERROR(
      FormatError, [&] { read(header(0x08, std::vector<std::uint32_t>(9, 1)) + "a"); }, "9 dimensions");
  EXPECT_ERROR(
      FormatError,
      [&] {
        read(header(0x0E, {0xffffffff, 0xffffffff, 0xffffffff}) + "a");
      },
      "overflows");
  EXPECT_ERROR(
      FormatError,
      [&] {
        read(header(0x08, {0, 0xffffffff, 0xffffffff, 0xffffffff}));
      },
      "overflows");
  // Believable but absent: refused before anything of that size is allocated.
  EXPECT_ERROR(
      FormatError,
      [&] {
        read(header(0x08, {0xffffffff, 1000}) + "a");
      },
      "limit");
  EXPECT_ERROR(
      FormatError, [&] { read(header(0x08, {0xfffffff0u}) + "a"); }, path);
  EXPECT_ERROR(
      FormatError, [&] { read(header(0x08, {100}) + "a", {.max_bytes = 50}); }, "max_bytes");
}

TEST_F(Idx, AGzipBombIsUnpackedNoFurtherThanItsHeaderSays) {
  const std::string bomb = gzip_bytes(header(0x08, {4}) + std::string(1 << 22, '\0'));
  EXPECT_ERROR(
      FormatError, [&] { read(bomb); }, "goes on behind");
}

class Mnist : public ::testing::Test {
 protected:
  void write(const std::string& part, std::uint32_t images, std::uint32_t labels, bool gz) {
    std::string pixels, classes;
    for (std::uint32_t i = 0; i < images * 6; ++i) pixels += static_cast<char>(i * 17);
    for (std::uint32_t i = 0; i < labels; ++i) classes += static_cast<char>(i % 10);
    save(part + "-images-idx3-ubyte", header(0x08, {images, 2, 3}) + pixels, gz);
    save(part + "-labels-idx1-ubyte", header(0x08, {labels}) + classes, gz);
  }
  void save(const std::string& name, const std::string& bytes, bool gz) {
    write_bytes(folder / (gz ? name + ".gz" : name), gz ? gzip_bytes(bytes) : bytes);
  }
  TempFolder folder;
};

TEST_F(Mnist, FindsPlainAndPackedFiles) {
  write("train", 12, 12, true);
  write("t10k", 3, 3, false);
  const Dataset train = mnist(folder.path().string(), Split::train);
  EXPECT_EQ(train.x.shape(), (Shape{12, 6}));
  EXPECT_EQ(train.x.dtype(), DType::f32);
  EXPECT_EQ(train.y.dtype(), DType::i64);
  EXPECT_EQ(train.y.at({11}), 1);
  EXPECT_EQ(train.x.data<float>()[15], 1.0f);  // pixel 255
  EXPECT_EQ(train.x.data<float>()[1], 17.0f / 255);
  const Dataset test = mnist(folder.path().string(), Split::test, {.flatten = false, .normalize = true});
  EXPECT_EQ(test.x.shape(), (Shape{3, 1, 2, 3}));
  EXPECT_FLOAT_EQ(test.x.data<float>()[0], static_cast<float>(-0.1307 / 0.3081));
}

TEST_F(Mnist, NamesWhatIsMissing) {
  const std::string where = folder.path().string();
  EXPECT_ERROR(
      IoError, [&] { mnist(where, Split::test); }, "looked for t10k-images-idx3-ubyte and t10k-images-idx3-ubyte.gz");
  EXPECT_ERROR(
      IoError, [&] { mnist(where + "/none", Split::train); }, "no folder");
}

TEST_F(Mnist, RefusesWhatDoesNotFit) {
  write("train", 3, 4, false);
  EXPECT_ERROR(
      FormatError, [&] { mnist(folder.path().string(), Split::train); }, "3 images");
  save("train-labels-idx1-ubyte", header(0x0C, {3}) + std::string(12, '\0'), false);
  EXPECT_ERROR(
      FormatError, [&] { mnist(folder.path().string(), Split::train); }, "not u8 [N]");
  EXPECT_THROW(mnist(folder.path().string(), Split::train, {.deviation = 0}), ConfigError);
}

TEST(RealMnist, ReadsThePublishedFiles) {
  const char* given = std::getenv("ESPALIER_SHARED");
  const std::filesystem::path folder =
      (given ? std::filesystem::path(given) : std::filesystem::path(ESPALIER_SOURCE_DIR) / ".." / "shared") / "data" /
      "mnist";
  if (!std::filesystem::is_directory(folder)) GTEST_SKIP() << "no MNIST in " << folder << "; set ESPALIER_SHARED";
  const Dataset train = mnist(folder.string(), Split::train), test = mnist(folder.string(), Split::test);
  EXPECT_EQ(train.x.shape(), (Shape{60000, 784}));
  EXPECT_EQ(test.size(), 10000);
  double sum = 0;
  for (const float v : train.x.to_vector<float>()) sum += static_cast<double>(v);
  EXPECT_NEAR(sum / static_cast<double>(train.x.size()), 0.1307, 5e-5);
  EXPECT_EQ(test.y.slice(0, 0, 5).to_vector<Index>(), (std::vector<Index>{7, 2, 1, 0, 4}));
}

}  // namespace
}  // namespace espalier::data
