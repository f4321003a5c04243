// A warm training step allocates nothing: neither from the system for tensors nor from the heap for nodes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/core/storage.h"

namespace {
thread_local constinit long heap_allocations = 0;

void* counted(std::size_t bytes) {
  ++heap_allocations;
  if (void* p = std::malloc(bytes > 0 ? bytes : 1)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++heap_allocations;
  return std::malloc(bytes > 0 ? bytes : 1);
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept { return operator new(bytes, tag); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace espalier {
namespace {

/// Heap and system allocations of `steps` calls, after ten that warm up.
template <class Step>
std::pair<long, std::uint64_t> allocations(int steps, Step step) {
  for (int i = 0; i < 10; ++i) step();
  const long heap = heap_allocations;
  const std::uint64_t system = allocator_statistics().system_allocations;
  for (int i = 0; i < steps; ++i) step();
  return {heap_allocations - heap, allocator_statistics().system_allocations - system};
}

TEST(Allocation, TheCounterCounts) {
  const long before = heap_allocations;
  delete new int(3);
  EXPECT_EQ(heap_allocations, before + 1);
}

TEST(Allocation, OpsWithoutATapeAllocateNothing) {
  const Variable a(Tensor::ones({8})), b(Tensor::full({8}, 2));
  const auto [heap, system] = allocations(100, [&] { EXPECT_EQ((a * b + b).size(), 8); });
  EXPECT_EQ(heap, 0);
  EXPECT_EQ(system, 0u);
}

TEST(Allocation, RecordingAllocatesNothing) {
  const Parameter w(Tensor::ones({8}), "w");
  const auto [heap, system] = allocations(100, [&] {
    Tape tape;
    Variable x = w;
    for (int i = 0; i < 50; ++i) x = tanh(x) * w;
    EXPECT_TRUE(x.recorded());
  });
  EXPECT_EQ(heap, 0);
  EXPECT_EQ(system, 0u);
}

TEST(Allocation, AWarmStepAllocatesNothingPerNode) {
  Rng rng(1);
  const Parameter w1(rng.normal({16, 8}), "w1"), b1(rng.normal({16}), "b1"), w2(rng.normal({4, 16}), "w2");
  const Tensor x = rng.normal({10, 8}), labels = Tensor::zeros({10}, DType::i64);
  auto step = [&](int depth) {
    Tape tape;
    Variable h = relu(linear(x, w1, b1));
    for (int i = 0; i < depth; ++i) h = tanh(h);
    tape.backward(mean(softmax_cross_entropy(linear(h, w2), labels)));
    for (const Parameter* p : {&w1, &b1, &w2}) p->ref()->clear_grad();
  };
  const auto [shallow, system] = allocations(100, [&] { step(1); });
  EXPECT_EQ(system, 0u);
  const auto [deep, deep_system] = allocations(100, [&] { step(41); });
  EXPECT_EQ(deep_system, 0u);
  EXPECT_EQ(deep, shallow) << "40 more nodes a step";
  EXPECT_EQ(shallow, 0);
}

TEST(Allocation, BackwardFreesAsItWalks) {
  release_cached_memory();
  const Parameter w(Tensor::ones({100, 1000}), "w");
  auto asked = [] { return allocator_statistics().system_allocations; };
  const std::uint64_t before = asked();
  Tape tape;
  Variable x = w;
  for (int i = 0; i < 200; ++i) x = tanh(x);
  const Variable loss = sum(x);
  const std::uint64_t forward = asked();
  EXPECT_GE(forward - before, 200u) << "every output is kept";
  tape.backward(loss);
  EXPECT_LE(asked() - forward, 6u) << "what the walk has passed is used again";
}

}  // namespace
}  // namespace espalier
