// Storage: one counted, 64-byte aligned allocation, from a cache of freed ones.
//
// Freed blocks are kept in a free list of the thread that freed them (four sizes per doubling, so at most 25 % is
// wasted) and given out again without a system call: a training step allocates nothing from the system once warm.
// A thread keeps no more blocks of a size than it has asked of the system itself, and a few.
// Blocks of 2 MB and more ask the kernel for huge pages.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "espalier/core/error.h"

namespace espalier {

class Packed;  // a sparse representation of a weight, see core/packed.h

/// Header of one allocation; the values follow 64 bytes behind it, so a tensor costs one allocation.
struct alignas(64) Storage {
  std::uint32_t references = 1;
  std::uint32_t version = 0;       ///< raised by every write access
  const char* writer = "nothing";  ///< the op that wrote last, for error texts
  std::uint64_t bytes = 0;         ///< as asked for
  std::uint32_t bin = 0;           ///< free list it returns to
  std::unique_ptr<const Packed> packed;
  std::shared_ptr<void> keep_alive;  ///< owner of borrowed memory

  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }

  /// Room for `bytes` bytes, uninitialised. Errors: std::bad_alloc.
  static Storage* take(std::uint64_t bytes);
  static void give(Storage*) noexcept;
};

/// Counted reference. The count is atomic: tensors may be shared between threads, as shared_ptr may.
class StoragePtr {
 public:
  StoragePtr() noexcept = default;
  explicit StoragePtr(Storage* adopted) noexcept : storage_(adopted) {}
  StoragePtr(const StoragePtr& other) noexcept : storage_(other.storage_) {
    if (storage_) __atomic_fetch_add(&storage_->references, 1, __ATOMIC_RELAXED);
  }
  StoragePtr(StoragePtr&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StoragePtr& operator=(StoragePtr other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StoragePtr() {
    if (storage_ && last()) Storage::give(storage_);
  }

  Storage* operator->() const noexcept { return storage_; }
  explicit operator bool() const noexcept { return storage_ != nullptr; }
  void prefetch() const noexcept { __builtin_prefetch(storage_, 1); }
  bool unique() const noexcept { return __atomic_load_n(&storage_->references, __ATOMIC_ACQUIRE) == 1; }
  friend bool operator==(const StoragePtr&, const StoragePtr&) = default;

 private:
  bool last() const noexcept {  // a sole owner needs no locked instruction
    return unique() || __atomic_fetch_sub(&storage_->references, 1, __ATOMIC_ACQ_REL) == 1;
  }
  Storage* storage_ = nullptr;
};

/// What the allocator of this thread holds.
struct AllocatorStatistics {
  std::uint64_t system_allocations = 0;  ///< blocks ever asked of the system by this thread
  std::uint64_t cached_bytes = 0;        ///< waiting in this thread's free lists
};
AllocatorStatistics allocator_statistics() noexcept;
/// Returns this thread's cached blocks to the system.
void release_cached_memory() noexcept;

}  // namespace espalier
