#include "espalier/core/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "espalier/core/packed.h"

namespace espalier {
namespace {

constexpr std::uint32_t bins = 4 * 64;
constexpr std::uint64_t huge_page = std::uint64_t{2} << 20;
constexpr std::uint64_t cache_limit = std::uint64_t{4} << 30;  // per thread; what exceeds it goes back to the system

/// Trivially destructible, so that tensors destroyed after the thread's other locals still find it.
struct Cache {
  Storage* free_list[bins];
  std::uint32_t held[bins];   // blocks in the list
  std::uint32_t asked[bins];  // blocks of this size that this thread asked of the system and has not given back
  AllocatorStatistics statistics;
  bool open;    // the closer below will run
  bool closed;  // the thread is ending: give blocks straight back
};
thread_local constinit Cache cache = {};

/// Empties the cache when the thread ends.
struct CacheCloser {
  ~CacheCloser() {
    release_cached_memory();
    cache.closed = true;
  }
};
void close_with_thread() {
  thread_local CacheCloser closer;
  cache.open = true;
}

/// Blocks of other threads that a thread keeps for itself: few, or what one thread makes and another drops, as a loader's
/// batches, would pile up where nobody takes it.
constexpr std::uint64_t foreign_bytes = std::uint64_t{1} << 16;
constexpr std::uint32_t most_foreign = 64;
bool piles_up(std::uint32_t bin, std::uint64_t bytes) {
  if (cache.held[bin] < cache.asked[bin]) return false;
  const auto foreign = static_cast<std::uint32_t>(std::min<std::uint64_t>(most_foreign, foreign_bytes / bytes));
  return cache.held[bin] >= cache.asked[bin] + foreign;
}

/// The link to the next free block lies where the values of a used one lie.
Storage*& next_of(Storage* block) { return *reinterpret_cast<Storage**>(block->data()); }

/// Sizes 64, 80, 96, 112, 128, 160, ...: four per doubling.
std::uint32_t bin_of(std::uint64_t bytes) {
  bytes = std::max<std::uint64_t>(bytes, 64) - 1;
  const unsigned top = 63u - static_cast<unsigned>(std::countl_zero(bytes));
  return (top - 5) * 4 + static_cast<std::uint32_t>(bytes >> (top - 2) & 3) + 1;
}
std::uint64_t bytes_of(std::uint32_t bin) {
  const unsigned top = (bin - 1) / 4 + 5;
  return (4 + (bin - 1) % 4 + std::uint64_t{1}) << (top - 2);
}

}  // namespace

Storage* Storage::take(std::uint64_t bytes) {
  if (bytes > std::uint64_t{1} << 62) throw std::bad_alloc();
  const std::uint32_t bin = bin_of(bytes);
  Storage* block = cache.free_list[bin];
  if (block) [[likely]] {
    cache.free_list[bin] = next_of(block);
    --cache.held[bin];
    cache.statistics.cached_bytes -= bytes_of(bin);
  } else {
    std::uint64_t room = bytes_of(bin) + sizeof(Storage);
    const std::uint64_t alignment = room >= huge_page ? huge_page : alignof(Storage);
    room = (room + alignment - 1) / alignment * alignment;
    block = static_cast<Storage*>(std::aligned_alloc(alignment, room));
    if (!block) {
      release_cached_memory();
      block = static_cast<Storage*>(std::aligned_alloc(alignment, room));
      if (!block) throw std::bad_alloc();
    }
    if (alignment == huge_page) madvise(block, room, MADV_HUGEPAGE);
    ++cache.asked[bin];
    ++cache.statistics.system_allocations;
  }
  new (block) Storage;
  block->bytes = bytes;
  block->bin = bin;
  return block;
}

void Storage::give(Storage* block) noexcept {
  const std::uint32_t bin = block->bin;
  block->~Storage();
  const std::uint64_t bytes = bytes_of(bin);
  if (cache.closed || cache.statistics.cached_bytes + bytes > cache_limit || piles_up(bin, bytes)) {
    if (cache.asked[bin] > 0) --cache.asked[bin];
    std::free(block);
    return;
  }
  if (!cache.open) [[unlikely]]
    close_with_thread();
  next_of(block) = cache.free_list[bin];
  cache.free_list[bin] = block;
  ++cache.held[bin];
  cache.statistics.cached_bytes += bytes;
}

AllocatorStatistics allocator_statistics() noexcept { return cache.statistics; }

void release_cached_memory() noexcept {
  for (std::uint32_t bin = 0; bin < bins; ++bin) {
    for (Storage*& head = cache.free_list[bin]; head;) std::free(std::exchange(head, next_of(head)));
    cache.asked[bin] -= std::min(cache.asked[bin], std::exchange(cache.held[bin], 0));
  }
  cache.statistics.cached_bytes = 0;
}

}  // namespace espalier
