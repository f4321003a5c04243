// How chunks are shared out.
//
// Waking a sleeping thread costs 10 to 50 us, more than most kernels run, so a helper that has run out of work watches
// for more during `linger` before it gives its thread back. Handing work to a watching helper is one store. Chunks are
// claimed one at a time from a counter and the caller claims too: it never waits for a helper that has not begun (a
// sleeping or descheduled one costs nothing but its help), only for chunks that are being run.
#include "espalier/core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include "espalier/core/detail/parallel_backend.h"

namespace espalier {

namespace {

constexpr int no_limit = std::numeric_limits<int>::max();
thread_local int thread_limit = no_limit;
std::atomic<int> process_threads{0};  // 0: not set, as many as there are processors

int checked_threads(const char* op, int n) {
  if (n < 1) fail<ConfigError>("[", op, "] at least 1 thread is needed, got ", n);
  return n;
}

}  // namespace

int threads() noexcept {
  static const int available = detail::processors();
  const int set = process_threads.load(std::memory_order_relaxed);
  return std::min(thread_limit, set == 0 ? available : set);
}

void set_threads(int n) { process_threads.store(checked_threads("set_threads", n), std::memory_order_relaxed); }

ThreadLimit::ThreadLimit(int n) : outer_(thread_limit) {
  thread_limit = std::min(outer_, checked_threads("ThreadLimit", n));
}
ThreadLimit::~ThreadLimit() { thread_limit = outer_; }

namespace detail {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto linger = std::chrono::microseconds(1000);
constexpr auto polite = std::chrono::microseconds(100);  // from here on a watching helper lets others run first

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The one region that runs at a time. `state` is (generation << 32 | next chunk); `closed` as next chunk means that the
// fields may be changing. They are written only while closed, and each region has a generation of its own, so a claim
// (a compare-and-swap on the state that was read before the fields) can succeed only if the fields belong to it.
class Pool {
 public:
  /// False if another thread's region is running.
  bool run(std::uint32_t chunks, int helpers, void (*body)(void*, Index), void* context, Index first) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    if (helpers > prepared_) {
      prepare_helpers(helpers);
      prepared_ = helpers;
    }
    const std::uint64_t generation = (state_.load(std::memory_order_relaxed) >> 32) + 1;
    chunks_.store(chunks, std::memory_order_relaxed);
    helpers_.store(helpers, std::memory_order_relaxed);
    run_.store(body, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    first_.store(first, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    failed_at_.store(std::numeric_limits<std::uint32_t>::max(), std::memory_order_relaxed);
    // seq_cst here and in help(): either the helper that is about to leave sees this region, or we see that it left.
    state_.store(generation << 32);
    const int wanted = static_cast<int>(std::min<std::uint32_t>(static_cast<std::uint32_t>(helpers), chunks - 1));
    for (int k = 0; k < wanted; ++k) {
      if (!active_[k].load() && !active_[k].exchange(true)) {
        start_helper(k, [](int id) { instance().help(id); });
      }
    }
    {
      const ThreadLimit nested(1);
      while (claim_and_run(0)) {
      }
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) != chunks; ++spins) {
      if (spins < 2000) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
    state_.store(generation << 32 | closed, std::memory_order_relaxed);
    std::exception_ptr failure;
    if (failed_at_.load(std::memory_order_relaxed) != std::numeric_limits<std::uint32_t>::max()) {
      failure = std::exchange(failure_, nullptr);
    }
    busy_.store(false, std::memory_order_release);
    if (failure) std::rethrow_exception(failure);
    return true;
  }

  // Never destroyed: helpers may still linger when the process ends.
  static Pool& instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

 private:
  static constexpr std::uint32_t closed = std::numeric_limits<std::uint32_t>::max();

  /// Runs one chunk of the open region, if it has one left and wants this helper.
  bool claim_and_run(int helper) {
    std::uint64_t state = state_.load(std::memory_order_acquire);
    for (;;) {
      const auto chunk = static_cast<std::uint32_t>(state);
      if (chunk == closed || helper >= helpers_.load(std::memory_order_relaxed)) return false;
      const auto body = run_.load(std::memory_order_relaxed);
      void* const context = context_.load(std::memory_order_relaxed);
      const Index first = first_.load(std::memory_order_relaxed);
      if (chunk >= chunks_.load(std::memory_order_relaxed)) return false;
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      // Chunks are claimed in order: all before a failed one have begun, so the smallest failure is always the same.
      if (chunk < failed_at_.load(std::memory_order_relaxed)) {
        try {
          body(context, first + chunk);
        } catch (...) {
          const std::lock_guard lock(failure_mutex_);
          if (chunk < failed_at_.load(std::memory_order_relaxed)) {
            failed_at_.store(chunk, std::memory_order_relaxed);
            failure_ = std::current_exception();
          }
        }
      }
      done_.fetch_add(1, std::memory_order_acq_rel);
      return true;
    }
  }

  void help(int k) {
    const ThreadLimit nested(1);
    for (;;) {
      Clock::time_point last = Clock::now();
      for (int spins = 1;; ++spins) {
        if (claim_and_run(k)) {
          spins = 0;
          last = Clock::now();
          continue;
        }
        relax();
        if (spins % 64 != 0) continue;
        const auto idle = Clock::now() - last;
        if (idle > linger) break;
        if (idle > polite) std::this_thread::yield();
      }
      active_[k].store(false);
      const std::uint64_t state = state_.load();
      const auto chunk = static_cast<std::uint32_t>(state);
      const bool open = chunk != closed && chunk < chunks_.load(std::memory_order_relaxed) &&
                        k < helpers_.load(std::memory_order_relaxed);
      if (!open || active_[k].exchange(true)) return;
    }
  }

  alignas(64) std::atomic<std::uint64_t> state_{closed};
  std::atomic<std::uint32_t> chunks_{0};
  std::atomic<int> helpers_{0};
  std::atomic<void (*)(void*, Index)> run_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<Index> first_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};
  std::atomic<std::uint32_t> failed_at_{0};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  alignas(64) std::atomic<bool> busy_{false};
  int prepared_ = 0;  // belongs to whoever holds busy_
  std::atomic<bool> active_[max_helpers] = {};
};

}  // namespace

void run_chunks(Index chunks, void (*run)(void*, Index), void* context) {
  constexpr Index most = Index{1} << 31;
  const int helpers = std::min(threads() - 1, max_helpers);
  for (Index first = 0; first < chunks; first += most) {
    const Index here = std::min(most, chunks - first);
    if (helpers > 0 && here > 1 &&
        Pool::instance().run(static_cast<std::uint32_t>(here), helpers, run, context, first)) {
      continue;
    }
    for (Index k = first; k < first + here; ++k) run(context, k);
  }
}

}  // namespace detail

}  // namespace espalier
