// espalier-bench: times the workloads that the peers are timed on, and prints one JSON line for each figure.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <set>

#include "bench/compare.h"
#include "bench/workloads.h"
#include "espalier/core/parallel.h"

namespace {

using namespace espalier;

const std::vector<std::string> groups = {"train", "infer", "optim", "kernels", "ops", "conv", "sparse"};

/// Selects `wanted`: a workload, a group or all. Returns nothing if there is no such name.
std::vector<bench::Workload> select(const std::vector<bench::Workload>& table, const std::string& wanted) {
  std::vector<bench::Workload> chosen;
  for (const bench::Workload& workload : table)
    if (wanted == "all" || wanted == workload.group || wanted == workload.name) chosen.push_back(workload);
  return chosen;
}

std::vector<bench::Workload> make_table() {
  std::vector<bench::Workload> table;
  for (auto part : {bench::train_workloads, bench::infer_workloads, bench::optim_workloads, bench::kernel_workloads,
                    bench::op_workloads, bench::conv_workloads, bench::sparse_workloads}) {
    std::vector<bench::Workload> rows = part();
    table.insert(table.end(), rows.begin(), rows.end());
  }
  return table;
}

void list(const std::vector<bench::Workload>& table, std::ostream& out) {
  out << "all";
  for (const std::string& group : groups) {
    out << '\n' << group << ':';
    std::set<std::string> seen;
    for (const bench::Workload& workload : table)
      if (workload.group == group && seen.insert(workload.name).second) out << ' ' << workload.name;
    if (seen.empty()) out << " (no workloads yet)";
  }
  out << '\n';
}

struct Settings {
  std::string workload = "all", json, peer;
  int threads = 1, rounds = 7;
  double min_seconds = 0;
  bool list = false;
};

int run(const Settings& settings) {
  const std::vector<bench::Workload> table = make_table();
  if (settings.list) {
    list(table, std::cout);
    return 0;
  }
  const std::vector<bench::Workload> chosen = select(table, settings.workload);
  const bool is_group = std::find(groups.begin(), groups.end(), settings.workload) != groups.end();
  if (chosen.empty() && !is_group) {
    std::cerr << "espalier-bench: no workload " << settings.workload << "; known are\n";
    list(table, std::cerr);
    return 2;
  }
  std::vector<bench::PeerFigure> peer;
  if (!settings.peer.empty()) peer = bench::read_peer(settings.peer);
  std::ofstream file;
  if (!settings.json.empty()) {
    file.open(settings.json, std::ios::trunc);
    if (!file) fail<IoError>("[bench] cannot write ", settings.json);
  }
  if (chosen.empty()) std::cerr << "espalier-bench: the group " << settings.workload << " has no workloads yet\n";

  // A group at a time: its members are timed round by round, and groups do not hold memory together.
  set_threads(settings.threads);
  std::vector<bench::Result> all;
  for (const std::string& group : groups) {
    std::vector<bench::Workload> members;
    for (const bench::Workload& workload : chosen)
      if (workload.group == group) members.push_back(workload);
    for (bench::Result& result : bench::interleave(members, settings.rounds, settings.min_seconds)) {
      const std::string line = bench::json_line(result, settings.threads);
      std::cout << line << std::endl;
      if (file.is_open()) file << line << '\n';
      all.push_back(std::move(result));
    }
  }
  if (file.is_open() && !file.flush()) fail<IoError>("[bench] writing to ", settings.json, " failed");
  bench::print_sparse_grid(all, std::cerr);
  if (!settings.peer.empty()) bench::print_comparison(all, peer, settings.threads, std::cerr);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Times workloads and prints one JSON line per figure (value is the median of the rounds).",
               "espalier-bench");
  app.add_option("--workload", settings.workload,
                 "A workload, a group (train, infer, optim, kernels, ops, conv, sparse) or all")
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "Threads to use")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--rounds", settings.rounds, "Interleaved rounds")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--json", settings.json, "Write the lines to this file too");
  app.add_option("--min-time", settings.min_seconds, "Seconds of one block of calls; 0: each workload's own")
      ->check(CLI::Range(0.0, 60.0));
  app.add_option("--peer", settings.peer, "JSON lines of a peer: print a table of ratios to standard error");
  app.add_flag("--list", settings.list, "List the workloads");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return run(settings);
  } catch (const std::exception& error) {
    std::cerr << "espalier-bench: " << error.what() << '\n';
    return 2;
  }
}
