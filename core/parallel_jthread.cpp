// Helpers as plain std::jthread, for builds under ThreadSanitizer, which cannot see through oneTBB's synchronisation.
#include <array>
#include <memory>
#include <mutex>
#include <semaphore>
#include <stop_token>
#include <thread>

#include "espalier/core/detail/parallel_backend.h"

namespace espalier::detail {

namespace {

class Crew {
 public:
  ~Crew() {
    for (auto& worker : workers_) {
      if (!worker) continue;
      worker->thread.request_stop();
      worker->wake.release();
    }
  }

  void start(int k, void (*help)(int)) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Worker>& worker = workers_[static_cast<std::size_t>(k)];
    if (!worker) worker = std::make_unique<Worker>(k, help);
    worker->wake.release();
  }

 private:
  struct Worker {
    Worker(int k, void (*help)(int))
        : thread([this, k, help](std::stop_token stop) {
            for (wake.acquire(); !stop.stop_requested(); wake.acquire()) help(k);
          }) {}
    std::counting_semaphore<> wake{0};
    std::jthread thread;  // last: it uses what stands above
  };

  std::mutex mutex_;
  std::array<std::unique_ptr<Worker>, max_helpers> workers_;
};

}  // namespace

int processors() noexcept {
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

void prepare_helpers(int) {}

void start_helper(int k, void (*help)(int k)) {
  static Crew crew;
  crew.start(k, help);
}

}  // namespace espalier::detail
