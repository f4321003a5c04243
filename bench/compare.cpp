#include "bench/compare.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "espalier/core/error.h"

namespace espalier::bench {
namespace {

/// Times are better small; rates are better large.
bool is_time(const std::string& unit) { return unit == "ns" || unit == "us" || unit == "ms" || unit == "s"; }

}  // namespace

std::vector<PeerFigure> read_peer(const std::string& file) {
  std::ifstream in(file);
  if (!in) fail<IoError>("[bench] cannot read ", file);
  std::vector<PeerFigure> figures;
  std::string text;
  while (std::getline(in, text)) {
    const nlohmann::json line = nlohmann::json::parse(text, nullptr, false);
    if (!line.is_object()) continue;
    try {
      figures.push_back({line.at("workload").get<std::string>(), line.at("peer").get<std::string>(),
                         line.at("metric").get<std::string>(), line.at("unit").get<std::string>(),
                         line.at("threads").get<int>(), line.at("value").get<double>()});
    } catch (const nlohmann::json::exception& error) {
      fail<FormatError>("[bench] ", file, ": ", error.what(), " in the line ", text);
    }
  }
  if (figures.empty()) fail<FormatError>("[bench] ", file, " holds no line of figures");
  return figures;
}

void print_comparison(const std::vector<Result>& results, const std::vector<PeerFigure>& peer, int threads,
                      std::ostream& out) {
  char line[200];
  const auto row = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    out << line << '\n';
  };
  bool any = false;
  for (const Result& result : results) {
    for (const PeerFigure& other : peer) {
      if (other.workload != result.workload || other.metric != result.metric || other.threads != threads) continue;
      if (!any)
        row("%-24s %-16s %10s %10s %-9s %-18s %7s", "workload", "metric", "espalier", "peer", "unit", "peer's name",
            "ratio");
      any = true;
      const double ours = median(result.samples), ratio = ours / other.value;
      const bool ahead = is_time(result.unit) ? ratio < 1 : ratio > 1;
      const double times = ratio > 1 ? ratio : 1 / ratio;
      row("%-24s %-16s %10.4g %10.4g %-9s %-18s %7.3f  %.2fx %s", result.workload.c_str(), result.metric.c_str(), ours,
          other.value, result.unit.c_str(), other.peer.c_str(), ratio, times, ahead ? "faster" : "slower");
    }
  }
  if (!any) out << "The peer's file has none of these workloads at " << threads << " thread(s).\n";
}

}  // namespace espalier::bench
