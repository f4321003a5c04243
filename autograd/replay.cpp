#include "espalier/autograd/replay.h"

#include <algorithm>

namespace espalier {

thread_local constinit Replay* Replay::current_ = nullptr;

void Replay::uses(const ParameterRef& parameter) {
  if (std::find(parameters_.begin(), parameters_.end(), parameter) == parameters_.end())
    parameters_.push_back(parameter);
}

bool Replay::knows(const void* cell) const noexcept {
  return std::any_of(cells_.begin(), cells_.end(), [cell](const CellEntry& entry) { return entry.cell == cell; });
}

Replay::Rewind::Rewind(const Replay& replay) {
  back_.reserve(replay.cells_.size());
  for (const CellEntry& entry : replay.cells_) back_.push_back(entry.rewind());
}

Replay::Rewind::~Rewind() {
  for (const std::function<void()>& back : back_) back();
}

}  // namespace espalier
