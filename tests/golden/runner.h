// The table of what can be run, and the run of one case. A new op is one row in the file of its kind.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/golden/case_file.h"

namespace espalier::golden {

/// Runs a case in one precision through the public API and hands the results to the checker. May throw Unsupported.
using Run = std::function<void(const Case&, DType, Checker&)>;

struct Row {
  std::string op;
  Run run;
};

/// (kind, op) -> how to run it.
using Table = std::map<std::pair<std::string, std::string>, Run>;
/// Every row of every kind.
Table make_table();

enum class Verdict { passed, failed, unsupported };
struct Outcome {
  Verdict verdict;
  std::vector<std::string> messages;  ///< failures, or why it is unsupported
};
/// Passes only if every precision does. What a run throws is a failure, unless the case `raises`.
Outcome run_case(const Table& table, const Case& golden);

/// All *.safetensors files under these paths (a path may also be a file), sorted. Errors: IoError for a missing path.
std::vector<std::filesystem::path> find_cases(std::span<const std::string> paths);

struct Settings {
  std::vector<std::string> paths;
  std::string filter;  ///< only cases whose name holds this
  bool list_unsupported = false;
};
/// Runs everything, prints as it goes and ends with the line of counts. Returns the exit code.
int run_all(const Settings& settings, std::ostream& out);

}  // namespace espalier::golden
