#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace espalier::bench {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double rounded(double value, const char* format) {
  char text[40];
  std::snprintf(text, sizeof text, format, value);
  return std::strtod(text, nullptr);
}

}  // namespace

Figure microseconds(const std::string& metric) {
  return {metric, "us", [](double s) { return s * 1e6; }};
}
Figure milliseconds(const std::string& metric) {
  return {metric, "ms", [](double s) { return s * 1e3; }};
}
Figure nanoseconds_each(const std::string& metric, double parts) {
  return {metric, "ns", [parts](double s) { return s / parts * 1e9; }};
}
Figure per_second(const std::string& metric, const std::string& unit, double items) {
  return {metric, unit, [items](double s) { return items / s; }};
}
Figure gigabytes(const std::string& metric, double bytes) {
  return {metric, "GB/s", [bytes](double s) { return bytes / s / 1e9; }};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double time_block(const std::function<void()>& run, double min_seconds) {
  run();
  std::int64_t calls = 1, done = 0;
  const double start = now();
  while (true) {
    for (std::int64_t k = 0; k < calls; ++k) run();
    done += calls;
    const double elapsed = now() - start;
    if (elapsed >= min_seconds) return elapsed / static_cast<double>(done);
    const double each = elapsed / static_cast<double>(done);
    calls = std::max<std::int64_t>(1, std::min(done, static_cast<std::int64_t>((min_seconds - elapsed) / each) + 1));
  }
}

std::vector<Result> interleave(const std::vector<Workload>& workloads, int rounds, double min_seconds) {
  constexpr int warm_ups = 2;
  std::vector<Task> tasks;
  for (const Workload& workload : workloads) {
    tasks.push_back(workload.make());
    for (int k = 0; k < warm_ups; ++k) tasks.back().run();
  }
  std::vector<std::vector<double>> seconds(tasks.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t t = 0; t < tasks.size(); ++t)
      seconds[t].push_back(time_block(tasks[t].run, min_seconds > 0 ? min_seconds : tasks[t].min_seconds));

  std::vector<Result> results;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    for (const Figure& figure : tasks[t].figures) {
      Result result{workloads[t].name, figure.metric, figure.unit, {}, tasks[t].extras};
      for (double s : seconds[t]) result.samples.push_back(figure.value(s));
      results.push_back(std::move(result));
    }
  }
  return results;
}

std::string json_line(const Result& result, int threads) {
  const auto [low, high] = std::minmax_element(result.samples.begin(), result.samples.end());
  nlohmann::ordered_json line{{"workload", result.workload},
                              {"peer", "espalier"},
                              {"threads", threads},
                              {"metric", result.metric},
                              {"value", rounded(median(result.samples), "%.5g")},
                              {"unit", result.unit},
                              {"min", rounded(*low, "%.5g")},
                              {"max", rounded(*high, "%.5g")},
                              {"n", result.samples.size()}};
  for (double sample : result.samples) line["samples"].push_back(rounded(sample, "%.4g"));
  for (const auto& [key, value] : result.extras) line[key] = value;
  return line.dump();
}

}  // namespace espalier::bench
