#include "examples/temporal_order/report.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "examples/temporal_order/plot.h"

namespace temporal_order {

using espalier::grouped;
using espalier::with_decimals;

namespace {

void write_file(const std::string& option, const std::string& path, const std::string& content) {
  std::ofstream out(path);
  out << content;
  out.flush();
  if (!out)
    espalier::fail<espalier::IoError>("[", option, "] cannot write ", path, ": ",
                                      static_cast<const char*>(std::strerror(errno)));
}

std::string row_of(const std::string& seed, const std::string& arm, const std::string& outcome,
                   const std::string& updates, const std::string& error, const std::string& norm,
                   const std::string& seconds) {
  char line[160];
  std::snprintf(line, sizeof line, "%4s  %-9s  %-8s  %10s  %11s  %12s  %8s\n", seed.c_str(), arm.c_str(),
                outcome.c_str(), updates.c_str(), error.c_str(), norm.c_str(), seconds.c_str());
  return line;
}

/// JSON has no infinity.
nlohmann::ordered_json number(double value) {
  if (std::isfinite(value)) return value;
  return nullptr;
}

}  // namespace

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string as_text(const Settings& s) {
  return "temporal order, " + std::to_string(s.length) + " symbols: " + std::to_string(s.hidden) + " tanh units, " +
         s.init + " initialisation, lr " + short_number(s.lr) + ", batch " + std::to_string(s.batch) + ", " +
         (s.clip ? "clipped at norm " + short_number(*s.clip) : "not clipped") + ", at most " + grouped(s.updates) +
         " updates; solved below " + espalier::percent(solved_below) + " errors in " + grouped(s.test) +
         " fresh sequences\n";
}

std::string table_header() {
  return row_of("seed", "arm", "outcome", "updates", "errors, %", "largest norm", "seconds");
}

std::string table_row(const Run& r) {
  return row_of(std::to_string(r.seed), r.clipped ? "clipped" : "unclipped", r.outcome, grouped(r.updates),
                r.outcome == "diverged" ? "-" : with_decimals(100 * r.error, 2), short_number(r.largest_norm),
                with_decimals(r.seconds, 1));
}

std::string summary(const std::vector<Run>& runs) {
  std::string text;
  for (const bool clipped : {true, false}) {
    std::vector<double> updates;
    std::size_t all = 0;
    for (const Run& r : runs) {
      if (r.clipped != clipped) continue;
      ++all;
      if (r.solved()) updates.push_back(static_cast<double>(r.updates));
    }
    if (all == 0) continue;
    text += std::string(clipped ? "clipped: " : "unclipped: ") + std::to_string(updates.size()) + " of " +
            std::to_string(all) + " solved";
    if (!updates.empty())
      text += ", after " + grouped(std::lround(espalier::percentile(updates, 50))) + " updates in the median";
    text += "\n";
  }
  return text;
}

void write_json(const std::string& path, const std::vector<Run>& runs, const Settings& s) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["settings"] = {{"length", s.length}, {"updates", s.updates}, {"clip", s.clip ? Json(*s.clip) : Json()},
                      {"lr", s.lr},         {"hidden", s.hidden},   {"batch", s.batch},
                      {"init", s.init},     {"every", s.every},     {"test", s.test}};
  json["runs"] = Json::array();
  for (const Run& r : runs) {
    Json curve = {{"updates", Json::array()}, {"error", Json::array()}, {"largest_norm", Json::array()}};
    for (const Stretch& stretch : r.curve) {
      curve["updates"].push_back(stretch.updates);
      curve["error"].push_back(stretch.error);
      curve["largest_norm"].push_back(number(stretch.largest_norm));
      curve["clipped_share"].push_back(stretch.clipped_share);
    }
    json["runs"].push_back({{"seed", r.seed},
                            {"clipped", r.clipped},
                            {"outcome", r.outcome},
                            {"updates", r.updates},
                            {"error", number(r.error)},
                            {"largest_norm", number(r.largest_norm)},
                            {"seconds", r.seconds},
                            {"curve", curve}});
  }
  write_file("json", path, json.dump(1) + "\n");
}

void write_plot(const std::string& path, const std::vector<Run>& runs, const Settings& settings) {
  write_file("plot", path, draw(runs, settings));
}

}  // namespace temporal_order
