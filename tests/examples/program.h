// Running an example as a user does: what it prints, what it writes, its exit code.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/temp_folder.h"

/// A fixture for the program of this name, which lies in bin/ beside the folder of the tests.
class ProgramTest : public ::testing::Test {
 protected:
  explicit ProgramTest(const char* program) : program_(program) {}

  std::string path(const std::string& name) const { return folder_ / name; }
  /// Runs it with these arguments; gives its exit code, or -1.
  int run_here(const std::string& arguments) {
    const std::filesystem::path tests = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const std::string program = (tests.parent_path() / "bin" / program_).string();
    const int status = std::system((program + " " + arguments + " > " + path("output") + " 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// What the last run printed.
  std::string output() const { return content(path("output")); }
  static std::string content(const std::string& file) { return espalier::testing::read_bytes(file); }

 private:
  const char* program_;
  espalier::testing::TempFolder folder_;
};
