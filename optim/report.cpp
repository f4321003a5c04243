#include "espalier/optim/report.h"

#include <algorithm>

namespace espalier::optim {

bool StepReport::clipped() const noexcept {
  return std::any_of(clips_.begin(), clips_.end(), [](const ClipRecord& c) { return c.clipped; });
}

bool StepReport::nothing_to_clip() const noexcept {
  return !clips_.empty() &&
         std::all_of(clips_.begin(), clips_.end(), [](const ClipRecord& c) { return c.nothing_to_clip; });
}

const ClipRecord& StepReport::operator[](std::string_view name) const {
  for (const ClipRecord& clip : clips_)
    if (clip.name == name) return clip;
  std::string known;
  for (const ClipRecord& clip : clips_) known += (known.empty() ? "" : ", ") + clip.name;
  fail<ConfigError>("[report] no clip is named '", name, "'; the chain has ", known.empty() ? "none" : known);
}

}  // namespace espalier::optim
