#include "tests/golden/runner.h"

#include <algorithm>
#include <exception>
#include <ostream>

#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

void add(Table& table, const std::string& kind, std::vector<Row> rows) {
  for (Row& row : rows) {
    if (!table.emplace(std::pair(kind, row.op), std::move(row.run)).second)
      fail<ConfigError>("[golden] two rows for ", kind, "/", row.op);
  }
}

/// Adds what went wrong in one precision to `messages`.
void run_in(const Run& run, const Case& golden, Precision precision, std::vector<std::string>& messages) {
  Checker checker(golden, precision);
  std::string thrown;
  bool misread = false;  // the case lacks what its row reads: never the error that is due
  try {
    run(golden, precision.type, checker);
  } catch (const FormatError& error) {
    thrown = error.what();
    misread = true;
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  const std::string in = std::string(", ") + name_of(precision.type) + ": ";
  if (golden.raises && !misread) {
    if (thrown.empty()) messages.push_back("no tensor" + in + "no error was reported, but one is due");
  } else if (!thrown.empty()) {
    messages.push_back("no tensor" + in + "unexpected error: " + thrown);
    return;
  }
  for (std::string& failure : checker.failures()) messages.push_back(std::move(failure));
}

}  // namespace

Table make_table() {
  Table table;
  for (auto rows : {elementwise_rows, reduction_rows, linalg_rows, shape_rows, loss_rows, math_rows, activation_rows,
                    compare_rows, scan_rows, join_rows, index_rows, einsum_rows, conv_rows, pool_rows, norm_rows,
                    attention_rows, recurrent_rows, expression_rows})
    add(table, "ops", rows());
  add(table, "clip", clip_rows());
  add(table, "optim", optim_rows());
  add(table, "sched", sched_rows());
  add(table, "prune", prune_rows());
  add(table, "e2e", e2e_rows());
  return table;
}

Outcome run_case(const Table& table, const Case& golden) {
  const auto row = table.find({golden.kind, golden.op});
  if (row == table.end()) return {Verdict::unsupported, {"no row for " + golden.kind + "/" + golden.op}};
  Outcome outcome{Verdict::passed, {}};
  try {
    for (const Precision& precision : golden.precisions) run_in(row->second, golden, precision, outcome.messages);
  } catch (const Unsupported& missing) {
    return {Verdict::unsupported, {missing.why}};
  }
  if (!outcome.messages.empty()) outcome.verdict = Verdict::failed;
  return outcome;
}

std::vector<std::filesystem::path> find_cases(std::span<const std::string> paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::exists(path)) fail<IoError>("[golden] ", path, " does not exist");
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
      if (entry.is_regular_file() && entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

int run_all(const Settings& settings, std::ostream& out) {
  const Table table = make_table();
  const std::vector<std::filesystem::path> files = find_cases(settings.paths);
  int passed = 0, failed = 0, unsupported = 0;
  for (const std::filesystem::path& file : files) {
    // A file that cannot be read has no name of its own: the filter then looks at its path.
    std::string name = file.string();
    Outcome outcome{Verdict::failed, {}};
    try {
      const Case golden(file);
      name = golden.name;
      if (name.find(settings.filter) == std::string::npos) continue;
      outcome = run_case(table, golden);
    } catch (const std::exception& error) {
      if (name.find(settings.filter) == std::string::npos) continue;
      outcome.messages.push_back(error.what());
    }
    passed += outcome.verdict == Verdict::passed;
    failed += outcome.verdict == Verdict::failed;
    unsupported += outcome.verdict == Verdict::unsupported;
    if (outcome.verdict == Verdict::failed)
      for (const std::string& message : outcome.messages) out << "FAILED " << name << ": " << message << '\n';
    if (outcome.verdict == Verdict::unsupported && settings.list_unsupported)
      out << "unsupported " << name << ": " << outcome.messages.front() << '\n';
  }
  out << passed << " passed, " << failed << " failed, " << unsupported << " unsupported" << std::endl;
  return failed > 0 ? 1 : 0;
}

}  // namespace espalier::golden
