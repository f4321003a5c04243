// Progress: a bar on a terminal, plain lines when piped.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "espalier/core/error.h"

namespace espalier::train {

/// Shows how far a run of `total` steps is. On a terminal one line is rewritten a few times a second; elsewhere (a
/// pipe, a file, TERM=dumb) only note() prints. Nothing is printed after the last step but what note() says.
class Progress final {
 public:
  Progress(std::string title, Index total, std::FILE* out = stderr);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps are done; `status` stands behind the bar.
  void update(Index done, const std::string& status = "");
  /// A line that stays: on a terminal above the bar.
  void note(const std::string& line);
  /// Takes the bar off the terminal.
  void clear();
  /// True if a bar is drawn; callers then need no lines of their own for each epoch.
  bool on_terminal() const noexcept { return terminal_; }

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::string title_, status_;
  Index total_, done_ = 0;
  std::FILE* out_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = {};
};

}  // namespace espalier::train
