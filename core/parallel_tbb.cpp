// Helpers from oneTBB: the only file that includes it.
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/task_arena.h>

#include <memory>
#include <mutex>
#include <vector>

#include "espalier/core/detail/parallel_backend.h"

namespace espalier::detail {

namespace {

struct Arenas {
  std::mutex mutex;
  int helpers = 0;
  std::unique_ptr<tbb::global_control> allowance;
  std::vector<std::unique_ptr<tbb::task_arena>> all;  // one for each time the number grew; the last is in use
};

// Never destroyed: helpers may still linger when the process ends.
Arenas& arenas() {
  static Arenas* instance = new Arenas;
  return *instance;
}

}  // namespace

int processors() noexcept { return tbb::info::default_concurrency(); }

void prepare_helpers(int helpers) {
  Arenas& a = arenas();
  const std::lock_guard lock(a.mutex);
  if (helpers <= a.helpers) return;
  a.helpers = helpers;
  // oneTBB keeps to the smallest allowance alive, so the old one must go; without any it allows processors() threads.
  a.allowance.reset();
  if (helpers + 1 > processors()) {
    a.allowance = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                        static_cast<std::size_t>(helpers + 1));
  }
  a.all.push_back(std::make_unique<tbb::task_arena>(helpers + 1, 1));
}

void start_helper(int k, void (*help)(int k)) {
  Arenas& a = arenas();
  const std::lock_guard lock(a.mutex);
  a.all.back()->enqueue([k, help] { help(k); });
}

}  // namespace espalier::detail
