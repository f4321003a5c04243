#include "espalier/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace espalier::train {
namespace {

constexpr int bar_width = 28;
constexpr std::chrono::milliseconds redraw_after{80};

bool is_terminal(std::FILE* out) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(out)) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

std::size_t terminal_width(std::FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// "9 s", "3:07", "1:02:45"
std::string duration(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  char text[32];
  if (s < 60)
    std::snprintf(text, sizeof text, "%ld s", s);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

}  // namespace

Progress::Progress(std::string title, Index total, std::FILE* out)
    : title_(std::move(title)), total_(std::max<Index>(total, 1)), out_(out), terminal_(is_terminal(out)) {}

void Progress::update(Index done, const std::string& status) {
  done_ = std::min(done, total_);
  status_ = status;
  if (!terminal_) return;
  const Clock::time_point now = Clock::now();
  if (drawn_ && now - last_ < redraw_after && done_ < total_) return;
  last_ = now;
  draw();
}

void Progress::draw() {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  const int filled = static_cast<int>(share * bar_width);
  std::string line = title_ + " [" + std::string(static_cast<std::size_t>(filled), '=') +
                     (filled < bar_width ? ">" : "") +
                     std::string(static_cast<std::size_t>(std::max(0, bar_width - filled - 1)), ' ') + "] ";
  char text[64];
  std::snprintf(text, sizeof text, "%3.0f %%", 100 * share);
  line += text;
  if (done_ > 0 && done_ < total_) line += ", " + duration(elapsed * (1 - share) / share) + " left";
  if (!status_.empty()) line += "  " + status_;
  const std::size_t width = terminal_width(out_);
  if (line.size() >= width) line.resize(width - 1);  // a wrapped line could not be rewritten
  std::fprintf(out_, "\r\033[K%s", line.c_str());
  std::fflush(out_);
  drawn_ = true;
}

void Progress::note(const std::string& line) {
  const bool redraw = drawn_;
  clear();
  std::fprintf(out_, "%s\n", line.c_str());
  std::fflush(out_);
  if (redraw && done_ < total_) draw();
}

void Progress::clear() {
  if (!std::exchange(drawn_, false)) return;
  std::fputs("\r\033[K", out_);
  std::fflush(out_);
}

}  // namespace espalier::train
