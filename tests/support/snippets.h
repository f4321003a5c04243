// Holds the code on a documentation page to the test that runs it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace espalier::testing {

inline std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

/// The lines without indentation and without empty ones, each ended by a line break.
inline std::string plain_lines(const std::string& text) {
  std::string plain;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin != std::string::npos) plain += line.substr(begin, line.find_last_not_of(' ') - begin + 1) + "\n";
  }
  return plain;
}

/// Expects each C++ block of `page` that is longer than three lines to stand in `source`, line by line, and returns how
/// many there are. Both paths are from the top of the repository.
inline int snippets_that_stand_in(const std::string& source, const std::string& page) {
  const std::string top = ESPALIER_SOURCE_DIR "/";
  const std::string text = content_of(top + page), here = "\n" + plain_lines(content_of(top + source));
  const std::string fence = "```cpp\n";
  int checked = 0;
  for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    const std::size_t end = text.find("```", at);
    EXPECT_NE(end, std::string::npos) << "a block of code does not end";
    if (end == std::string::npos) return checked;
    const std::string block = text.substr(at, end - at);
    at = end;
    if (std::count(block.begin(), block.end(), '\n') <= 3) continue;
    ++checked;
    EXPECT_NE(here.find("\n" + plain_lines(block)), std::string::npos) << "not in " << source << ":\n" << block;
  }
  return checked;
}

/// Lines of the longest C++ block of `page`, for pages that promise brevity.
inline std::ptrdiff_t longest_snippet(const std::string& page) {
  const std::string text = content_of(ESPALIER_SOURCE_DIR "/" + page), fence = "```cpp\n";
  std::ptrdiff_t longest = 0;
  for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at + 1)) {
    const std::string block = text.substr(at + fence.size(), text.find("```", at + fence.size()) - at - fence.size());
    longest = std::max(longest, std::count(block.begin(), block.end(), '\n'));
  }
  return longest;
}

}  // namespace espalier::testing
