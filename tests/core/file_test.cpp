#include "espalier/core/file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tests/support/temp_folder.h"

namespace espalier {
namespace {

using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

void put(const std::string& path, std::string_view text) {
  AtomicFile file("test", path);
  file.write(text);
  file.commit();
}

TEST(AtomicFileTest, WritesAndReplaces) {
  TempFolder folder;
  const std::string path = folder / "a";
  put(path, "one");
  EXPECT_EQ(read_bytes(path), "one");
  put(path, "");
  EXPECT_EQ(read_bytes(path), "");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFileTest, TheTargetIsUntouchedUntilCommit) {
  TempFolder folder;
  const std::string path = folder / "a";
  write_bytes(path, "old");
  {
    AtomicFile file("test", path);
    file.write(std::string_view("new"));
    EXPECT_EQ(read_bytes(path), "old");
  }
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFileTest, KeepsTheModeAndFollowsLinks) {
  TempFolder folder;
  const std::string path = folder / "a", link = folder / "link";
  write_bytes(path, "old");
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  std::filesystem::create_symlink("a", link);
  put(link, "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_bytes(path), "new");
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST(AtomicFileTest, ANewFileHasTheModeTheUmaskGives) {
  TempFolder folder;
  const mode_t before = ::umask(027);
  put(folder / "a", "x");
  ::umask(before);
  struct stat info;
  ASSERT_EQ(::stat((folder / "a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST(AtomicFileTest, NamesPathAndReason) {
  TempFolder folder;
  EXPECT_ERROR(
      IoError, [&] { put(folder / "none/a", "x"); }, "No such file or directory");
  EXPECT_ERROR(
      IoError, [&] { put(folder.path().string(), "x"); }, "Is a directory");
  EXPECT_ERROR(
      IoError, [&] { put(folder / std::string(300, 'n'), "x"); }, "File name too long");
  EXPECT_ERROR(
      IoError, [&] { put("", "x"); }, "test");
  EXPECT_TRUE(folder.names().empty());
}

TEST(AtomicFileTest, APipeIsNoTarget) {
  TempFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_ERROR(
      IoError, [&] { put(pipe, "x"); }, "not a regular file");
  EXPECT_ERROR(
      IoError, [&] { InputFile("test", pipe); }, "not a regular file");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

TEST(AtomicFileTest, AReadOnlyFolder) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write into read-only folders";
  TempFolder folder;
  write_bytes(folder / "a", "old");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  EXPECT_ERROR(
      IoError, [&] { put(folder / "a", "new"); }, "Permission denied");
  EXPECT_EQ(read_bytes(folder / "a"), "old");
}

/// While it lives, files cannot grow beyond `bytes`, as on a disk that is full.
class FullDisk final {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_;
  sighandler_t handler_;
};

TEST(AtomicFileTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  TempFolder folder;
  const std::string path = folder / "a";
  write_bytes(path, "old");
  {
    const FullDisk full(1000);
    EXPECT_ERROR(
        IoError, [&] { put(path, std::string(5000, 'x')); }, "File too large");
  }
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFileTest, StepsOverLeftovers) {
  TempFolder folder;
  write_bytes(folder / join(".espalier-", ::getpid(), "-0.tmp"), "left by a killed process");
  put(folder / "a", "x");
  EXPECT_EQ(read_bytes(folder / "a"), "x");
}

TEST(InputFileTest, ReadsWhereAsked) {
  TempFolder folder;
  write_bytes(folder / "a", "hello");
  const InputFile file("test", folder / "a");
  EXPECT_EQ(file.size(), 5u);
  std::string out(3, ' ');
  file.read(1, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "ell");
  EXPECT_ERROR(
      IoError, [&] { file.read(4, std::as_writable_bytes(std::span(out))); }, "became shorter");
}

TEST(InQuotesTest, ShowsWhatATerminalWouldHide) {
  EXPECT_EQ(in_quotes("a b"), "'a b'");
  EXPECT_EQ(in_quotes("\x1b[0m\n"), "'\\x1b[0m\\x0a'");
  EXPECT_EQ(in_quotes(std::string(1000, 'x')).size(), 125u);
}

}  // namespace
}  // namespace espalier
