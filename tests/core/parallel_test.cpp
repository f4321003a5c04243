#include "espalier/core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace espalier {
namespace {

/// Sets the process-wide count for one test.
class Threads {
 public:
  explicit Threads(int n) : before_(threads()) { set_threads(n); }
  ~Threads() { set_threads(before_); }

 private:
  int before_;
};

TEST(Parallel, VisitsEachIndexOnceInChunksOfTheGrain) {
  for (const int count : {1, 2, 4}) {
    const Threads use(count);
    for (const Index n : {Index{0}, Index{1}, Index{2}, Index{7}, Index{48}, Index{49}, Index{1000}}) {
      for (const Index grain : {Index{1}, Index{3}, Index{7}, Index{1000}, Index{1} << 62}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
        std::atomic<bool> aligned = true;
        parallel_for(n, grain, [&](Index begin, Index end) {
          if (begin % grain != 0 || (end != n && end - begin != grain) || begin >= end) aligned = false;
          for (Index i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        EXPECT_TRUE(aligned) << n << ' ' << grain;
        for (auto& v : visits) EXPECT_EQ(v, 1);
      }
    }
  }
}

TEST(Parallel, NegativeLengthIsNoWork) {
  parallel_for(-5, 1, [](Index, Index) { FAIL(); });
  EXPECT_EQ((parallel_reduce<int>(
                -5, 1, [](Index, Index) { return 1; }, std::plus<>())),
            0);
}

TEST(Parallel, AnotherThreadHelpsIfItIsFree) {
  const Threads use(2);
  // Two chunks that wait for each other can only end if two threads run them.
  std::atomic<int> arrived = 0;
  parallel_for(2, 1, [&](Index, Index) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
}

TEST(Parallel, LimitsNestAndOnlyLower) {
  const Threads use(4);
  EXPECT_EQ(threads(), 4);
  {
    const ThreadLimit two(2);
    EXPECT_EQ(threads(), 2);
    {
      const ThreadLimit eight(8);
      EXPECT_EQ(threads(), 2);
      const ThreadLimit one(1);
      EXPECT_EQ(threads(), 1);
    }
    EXPECT_EQ(threads(), 2);
    int elsewhere = 0;
    std::thread([&] { elsewhere = threads(); }).join();
    EXPECT_EQ(elsewhere, 4) << "a limit belongs to its thread";
  }
  EXPECT_EQ(threads(), 4);
}

TEST(Parallel, CountsBelowOneAreErrors) {
  const int before = threads();
  EXPECT_THROW(set_threads(0), ConfigError);
  EXPECT_THROW(set_threads(-3), ConfigError);
  EXPECT_THROW(ThreadLimit(0), ConfigError);
  EXPECT_EQ(threads(), before);
}

TEST(Parallel, AThousandThreadsAreAllowed) {
  const Threads use(1000);
  std::atomic<Index> sum = 0;
  parallel_for(64, 1, [&](Index begin, Index) { sum += begin; });
  EXPECT_EQ(sum, 63 * 64 / 2);
}

TEST(Parallel, RethrowsTheFirstChunksException) {
  for (const int count : {1, 2, 4}) {
    const Threads use(count);
    for (int round = 0; round < 50; ++round) {
      std::string text;
      try {
        parallel_for(100, 1, [](Index begin, Index) {
          if (begin >= 10) throw std::runtime_error(std::to_string(begin));
        });
      } catch (const std::runtime_error& error) {
        text = error.what();
      }
      EXPECT_EQ(text, "10");
    }
    std::atomic<int> after = 0;
    parallel_for(100, 1, [&](Index, Index) { ++after; });
    EXPECT_EQ(after, 100) << "still usable";
  }
}

TEST(Parallel, NestedCallsRun) {
  const Threads use(4);
  std::atomic<Index> sum = 0;
  parallel_for(10, 1, [&](Index, Index) {
    EXPECT_EQ(threads(), 1);
    parallel_for(10, 3, [&](Index begin, Index end) { sum += end - begin; });
  });
  EXPECT_EQ(sum, 100);
  EXPECT_EQ(threads(), 4);
}

TEST(Parallel, ManyCallersAtOnce) {
  const Threads use(3);
  std::vector<std::thread> callers;
  std::atomic<Index> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        std::atomic<Index> sum = 0;
        parallel_for(100, 7, [&](Index begin, Index end) {
          for (Index i = begin; i < end; ++i) sum += i;
        });
        if (sum != 99 * 100 / 2) ++wrong;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Parallel, HelpersWakeAgainAfterAPause) {
  const Threads use(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(4));
    std::atomic<int> arrived = 0;
    parallel_for(2, 1, [&](Index, Index) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
  }
}

TEST(Parallel, ReductionHasTheSameBytesAtAnyThreadCount) {
  std::vector<float> values(10007);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i)) * 1e3f;
  const auto sum = [&](Index grain) {
    return parallel_reduce<float>(
        static_cast<Index>(values.size()), grain,
        [&](Index begin, Index end) { return std::accumulate(values.begin() + begin, values.begin() + end, 0.0f); },
        std::plus<>());
  };
  for (const Index grain : {1, 10, 100, 1000, 100000}) {
    std::set<std::uint32_t> bits;
    for (const int count : {1, 2, 4}) {
      const Threads use(count);
      for (int round = 0; round < 20; ++round) {
        const float s = sum(grain);
        std::uint32_t b;
        std::memcpy(&b, &s, sizeof b);
        bits.insert(b);
      }
    }
    EXPECT_EQ(bits.size(), 1U) << grain;
  }
}

TEST(Parallel, ReductionCombinesInChunkOrder) {
  const Threads use(4);
  for (const Index n : {1, 2, 3, 7, 31, 32, 33, 100}) {
    const auto text = parallel_reduce<std::string>(
        n, 1, [](Index begin, Index) { return std::to_string(begin) + ","; },
        [](const std::string& a, const std::string& b) { return a + b; });
    std::string expected;
    for (Index i = 0; i < n; ++i) expected += std::to_string(i) + ",";
    EXPECT_EQ(text, expected);
  }
}

}  // namespace
}  // namespace espalier
