#include "espalier/core/storage.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstring>
#include <thread>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier {
namespace {

/// Bytes that the C library has given out and not got back; 0 where a sanitizer stands in for it.
std::size_t in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST(Storage, AWarmLoopAsksTheSystemForNothing) {
  auto step = [] {
    const Tensor a = Tensor::zeros({100, 7}), b = Tensor::ones({3}, DType::f64), c = a.clone();
    const Tensor big = Tensor::empty({1 << 20});
    EXPECT_TRUE(c.defined() && b.defined() && big.defined());
  };
  step();
  const std::uint64_t before = allocator_statistics().system_allocations;
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(allocator_statistics().system_allocations, before);
}

TEST(Storage, BlocksThatAnotherThreadMakesDoNotPileUpWhereTheyAreDropped) {
  release_cached_memory();
  for (int round = 0; round < 50; ++round) {
    std::vector<Tensor> batch;
    std::thread([&] {
      for (int i = 0; i < 4; ++i) batch.push_back(Tensor::zeros({50'000}));  // as a loader's
      for (int i = 0; i < 100; ++i) batch.push_back(Tensor::zeros({3}));
    }).join();
  }
  EXPECT_LT(allocator_statistics().cached_bytes, 200'000u);
  { const Tensor own = Tensor::zeros({50'000}); }
  EXPECT_GE(allocator_statistics().cached_bytes, 200'000u) << "what this thread asked for itself it keeps";
  release_cached_memory();
}

TEST(Storage, BlocksAreReusedForSizesOfTheSameBinOnly) {
  release_cached_memory();
  Storage* block = Storage::take(1000);
  Storage::give(block);
  EXPECT_EQ(allocator_statistics().cached_bytes, 1024u);
  Storage* same = Storage::take(897);  // bins between 512 and 1024: 640, 768, 896, 1024
  EXPECT_EQ(same, block);
  EXPECT_EQ(allocator_statistics().cached_bytes, 0u);
  Storage::give(same);
  Storage* smaller = Storage::take(896);
  EXPECT_NE(smaller, block);
  EXPECT_EQ(smaller->bytes, 896u);
  Storage::give(smaller);
  release_cached_memory();
}

TEST(Storage, NoSizeWastesMoreThanAQuarterAndEverySizeFits) {
  release_cached_memory();
  for (std::uint64_t bytes = 0; bytes < 5000; bytes += 7) {
    Storage* block = Storage::take(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block->data()) % 64, 0u);
    std::memset(block->data(), 0xff, bytes);  // a sanitizer sees if it is too small
    Storage::give(block);
    const std::uint64_t room = allocator_statistics().cached_bytes;
    EXPECT_GE(room, bytes);
    EXPECT_LE(room, std::max<std::uint64_t>(64, bytes + bytes / 4));
    release_cached_memory();
    EXPECT_EQ(allocator_statistics().cached_bytes, 0u);
  }
}

TEST(Storage, StartsFreshWhenReused) {
  release_cached_memory();
  {
    Tensor t = Tensor::empty({100});
    t.write<float>("someone");
  }
  const Tensor t = Tensor::empty({100});
  EXPECT_EQ(t.version(), 0u);
  EXPECT_STREQ(t.writer(), "nothing");
}

TEST(Storage, BlocksFreedOnAnotherThreadBelongToThatThread) {
  release_cached_memory();
  const std::uint64_t before = allocator_statistics().cached_bytes;
  Tensor t = Tensor::ones({1000});
  std::thread([moved = std::move(t)]() mutable {
    EXPECT_EQ(allocator_statistics().cached_bytes, 0u);
    moved = Tensor();
    EXPECT_EQ(allocator_statistics().cached_bytes, 4096u);
    EXPECT_EQ(Tensor::empty({1000}).size(), 1000);
    EXPECT_EQ(allocator_statistics().system_allocations, 0u) << "the freed block serves this thread";
  }).join();
  EXPECT_EQ(allocator_statistics().cached_bytes, before);
}

TEST(Storage, AThreadThatOnlyFreesGivesItsBlocksBackAtItsEnd) {
  release_cached_memory();
  std::thread([] {}).join();  // what the first thread costs is not counted
  const std::size_t before = in_use();
  for (int round = 0; round < 8; ++round) {
    Tensor t = Tensor::ones({1 << 20});
    std::thread([moved = std::move(t)] { EXPECT_TRUE(moved.defined()); }).join();
  }
  release_cached_memory();
  EXPECT_LT(in_use(), before + (std::size_t{1} << 20)) << "8 blocks of 4 MB were freed by threads that are gone";
}

TEST(Storage, TensorsOutliveTheThreadThatMadeThem) {
  Tensor t;
  std::thread([&] { t = Tensor::full({1000}, 3); }).join();
  EXPECT_EQ(t.at({999}), 3);
  t = Tensor();
}

TEST(Storage, StaticTensorsOutliveTheCache) {
  static Tensor forever = Tensor::ones({10});  // destroyed after the thread's locals
  static thread_local Tensor local = Tensor::ones({10});
  EXPECT_TRUE(forever.defined() && local.defined());
  std::thread([] {
    thread_local Tensor other = Tensor::ones({10});
    EXPECT_TRUE(other.defined());
  }).join();
}

TEST(Storage, TheCacheIsCapped) {
  release_cached_memory();
  std::vector<Storage*> blocks;  // 5 GB of addresses; only their first pages are ever touched
  for (int i = 0; i < 5; ++i) blocks.push_back(Storage::take(std::uint64_t{1} << 30));
  for (Storage* block : blocks) Storage::give(block);
  EXPECT_LE(allocator_statistics().cached_bytes, std::uint64_t{4} << 30);
  EXPECT_GE(allocator_statistics().cached_bytes, std::uint64_t{3} << 30);
  release_cached_memory();
  EXPECT_EQ(allocator_statistics().cached_bytes, 0u);
}

TEST(Storage, CountsReferencesAcrossThreads) {
  const Tensor shared = Tensor::ones({64});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 20000; ++k) {
        const Tensor copy = shared;
        const Tensor view = copy.reshape({8, 8});
        ASSERT_EQ(view.size(), 64);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(shared.sole_owner());
}

TEST(Storage, TooMuchIsBadAlloc) {
  EXPECT_THROW(Storage::take(~std::uint64_t{0}), std::bad_alloc);
  EXPECT_THROW(Storage::take((std::uint64_t{1} << 62) + 1), std::bad_alloc);
}

}  // namespace
}  // namespace espalier
