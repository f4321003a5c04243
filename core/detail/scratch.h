// Scratch: room for a loop's intermediate values.
#pragma once

#include <type_traits>

#include "espalier/core/storage.h"

namespace espalier::detail {

/// Room for n plain values from the cache of freed blocks; none for 0.
template <class T>
class Scratch {
 public:
  static_assert(std::is_trivially_copyable_v<T>);
  explicit Scratch(Index n)
      : storage_(n > 0 ? Storage::take(static_cast<std::uint64_t>(n) * sizeof(T)) : nullptr),
        data_(n > 0 ? reinterpret_cast<T*>(storage_->data()) : nullptr) {}
  T* data() const noexcept { return data_; }
  T& operator[](Index i) const noexcept { return data_[i]; }

 private:
  StoragePtr storage_;
  T* data_;
};

}  // namespace espalier::detail
