// Buffer: a tensor that belongs to a layer but is not learned by gradient (running statistics).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/autograd/replay.h"
#include "espalier/core/tensor.h"

namespace espalier {

/// A cell: a const layer may set it, as normalisation does in training. A copied layer gets a cell of its own, and
/// copy-assigning writes into the existing one.
class Buffer {
 public:
  /// Undefined: not listed.
  Buffer() = default;
  explicit Buffer(Tensor value) : cell_(std::make_shared<Tensor>(std::move(value))) {}
  Buffer(const Buffer& other) : cell_(other.cell_ ? std::make_shared<Tensor>(other.cell_->clone()) : nullptr) {}
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(const Buffer& other) {
    if (this == &other) return *this;
    if (cell_ && other.cell_)
      *cell_ = other.cell_->clone();
    else
      *this = Buffer(other);
    return *this;
  }
  Buffer& operator=(Buffer&&) noexcept = default;

  bool defined() const noexcept { return cell_ != nullptr; }
  /// Errors: ConfigError if undefined.
  const Tensor& value() const { return *checked(); }
  /// In a checkpointed segment that runs again it starts from what it held then, and keeps what it holds now.
  void set(Tensor value) const {
    checked();
    Replay::changes(cell_);
    *cell_ = std::move(value);
  }

 private:
  Tensor* checked() const {
    if (!cell_) [[unlikely]]
      fail<ConfigError>("[buffer] used before it was given a value, or after it was moved from");
    return cell_.get();
  }
  std::shared_ptr<Tensor> cell_;
};

/// A buffer under its full name. Valid as long as the layer that holds it stays where it is.
struct NamedBuffer {
  std::string name;
  const Buffer* buffer;
};
using BufferList = std::vector<NamedBuffer>;

}  // namespace espalier
