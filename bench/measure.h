// How things are timed here, and how a figure is written: the method and the JSON lines of common.py of the peer
// scripts, so that both sides of a comparison mean the same.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace espalier::bench {

/// How one timing becomes a figure: `value` is called with the seconds of one call of Task::run.
struct Figure {
  std::string metric, unit;
  std::function<double(double seconds)> value;
};
/// seconds -> "us", "ms" or "ns"
Figure microseconds(const std::string& metric);
Figure milliseconds(const std::string& metric);
/// Nanoseconds for each of `parts` equal parts of the call.
Figure nanoseconds_each(const std::string& metric, double parts);
/// `items` a second.
Figure per_second(const std::string& metric, const std::string& unit, double items);
/// Bytes moved a second, in 10^9.
Figure gigabytes(const std::string& metric, double bytes);

/// Something to be timed; owns what it needs.
struct Task {
  std::function<void()> run;
  std::vector<Figure> figures;
  double min_seconds = 0.25;                           ///< length of one block of calls
  std::vector<std::pair<std::string, double>> extras;  ///< further fields of its lines
};

/// A row of the table of workloads. Several rows may share a name: the metrics of one workload.
struct Workload {
  std::string group, name;
  std::function<Task()> make;
};

struct Result {
  std::string workload, metric, unit;
  std::vector<double> samples;  ///< one a round
  std::vector<std::pair<std::string, double>> extras;
};
double median(std::vector<double> values);

/// Seconds per call: calls for at least `min_seconds`, after one call that refills the caches.
double time_block(const std::function<void()>& run, double min_seconds);

/// Warms every task up, then times all of them round by round, so that slow drifts of the machine hit all alike.
/// `min_seconds` replaces the tasks' own unless it is 0.
std::vector<Result> interleave(const std::vector<Workload>& workloads, int rounds, double min_seconds = 0);

/// {"workload", "peer", "threads", "metric", "value", "unit", "min", "max", "n", "samples", ...}: value is the median.
std::string json_line(const Result& result, int threads);

}  // namespace espalier::bench
