// parallel_for and parallel_reduce: the only way threads are used inside Espalier.
//
// Work of length n is cut into chunks [k * grain, min(n, (k + 1) * grain)). The chunks depend on n and grain alone,
// never on the number of threads, and reductions combine the chunks' values by a fixed tree: so results are the same
// bytes at any thread count. Which thread runs which chunk is left open.
#pragma once

#include <array>
#include <memory>
#include <type_traits>

#include "espalier/core/error.h"

namespace espalier {

/// Threads that a parallel_for started here may use: 1 inside a parallel_for's body, else the smallest ThreadLimit of
/// this thread and the process-wide count.
int threads() noexcept;
/// Sets the process-wide count (default: the processors this process may run on). Errors: ConfigError if n < 1.
void set_threads(int n);

/// While it lives, this thread's parallel_for uses at most n threads. Limits nest, and an inner one cannot raise an
/// outer one. Errors: ConfigError if n < 1.
class [[nodiscard]] ThreadLimit {
 public:
  explicit ThreadLimit(int n);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int outer_;
};

namespace detail {
/// Calls run(context, k) for each k in [0, chunks), on up to threads() threads, and returns when all are done.
/// If calls throw, the exception of the smallest k is rethrown; chunks that had not begun by then are left out.
void run_chunks(Index chunks, void (*run)(void* context, Index chunk), void* context);

constexpr Index chunk_count(Index n, Index grain) noexcept { return n <= 0 ? 0 : (n - 1) / grain + 1; }
}  // namespace detail

/// body(begin, end) on every chunk of [0, n), in any order and at the same time. Grain >= 1.
/// Errors: what a body throws is rethrown here (the first chunk's, if several do).
/// Cost: a plain call while n <= grain or one thread is allowed; about a microsecond to hand work to another thread
/// otherwise.
template <class F>
void parallel_for(Index n, Index grain, F&& body) {
  if (n <= grain) {
    if (n > 0) body(Index{0}, n);
    return;
  }
  if (threads() == 1) {
    for (Index begin = 0; begin < n;) {
      const Index end = n - begin > grain ? begin + grain : n;
      body(begin, end);
      begin = end;
    }
    return;
  }
  struct Context {
    Index n, grain;
    std::remove_reference_t<F>* body;
  } context{n, grain, &body};
  detail::run_chunks(
      detail::chunk_count(n, grain),
      [](void* raw, Index chunk) {
        const Context& c = *static_cast<const Context*>(raw);
        const Index begin = chunk * c.grain;
        (*c.body)(begin, c.n - begin > c.grain ? begin + c.grain : c.n);
      },
      &context);
}

/// combine(combine(v0, v1), combine(v2, v3)) ...: chunk_value(begin, end) of every chunk, combined in chunk order by a
/// binary tree that depends on the number of chunks alone. T{} if n <= 0. Errors: as parallel_for.
template <class T, class F, class Combine>
T parallel_reduce(Index n, Index grain, F&& chunk_value, Combine&& combine) {
  if (n <= grain) return n > 0 ? static_cast<T>(chunk_value(Index{0}, n)) : T{};
  const Index chunks = detail::chunk_count(n, grain);
  std::array<T, 32> few;
  std::unique_ptr<T[]> many;
  T* partial = few.data();
  if (chunks > static_cast<Index>(few.size())) {
    many = std::make_unique<T[]>(static_cast<std::size_t>(chunks));
    partial = many.get();
  }
  parallel_for(n, grain, [&](Index begin, Index end) { partial[begin / grain] = chunk_value(begin, end); });
  for (Index stride = 1; stride < chunks; stride *= 2) {
    for (Index k = 0; k + stride < chunks; k += 2 * stride) partial[k] = combine(partial[k], partial[k + stride]);
  }
  return partial[0];
}

}  // namespace espalier
