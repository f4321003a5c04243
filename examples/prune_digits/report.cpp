#include "examples/prune_digits/report.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace prune_digits {

using espalier::grouped;
using espalier::with_decimals;

namespace {
std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", value);
  return text;
}
}  // namespace

std::string as_text(const Report& r, const Settings& settings) {
  espalier::Table table({"", "dense", "masked", "deployed"});
  auto row = [&](const std::string& name, auto cell) {
    table.add({name, cell(r.dense), cell(r.masked), cell(r.deployed)});
  };
  row("test accuracy, %", [](const Figures& f) { return with_decimals(100 * f.accuracy, 2); });
  row("weights and biases", [](const Figures& f) { return grouped(f.weights); });
  row("bytes on disk", [](const Figures& f) { return grouped(static_cast<long long>(f.bytes)); });
  row("latency, batch 1, us", [](const Figures& f) { return with_decimals(f.latency_1, 1); });
  row("latency, batch 64, us", [](const Figures& f) { return with_decimals(f.latency_64, 1); });
  table.add({});
  for (std::size_t i = 0; i < r.layers.size(); ++i) {
    row(r.layers[i] + " shape", [i](const Figures& f) { return f.shapes[i]; });
    row(r.layers[i] + " kernel, batch 1 | 64", [i](const Figures& f) {
      return f.kernel_1[i] == f.kernel_64[i] ? f.kernel_1[i] : f.kernel_1[i] + " | " + f.kernel_64[i];
    });
  }
  return table.to_string() + "\nclipping at norm " + with_decimals(settings.clip_norm, 2) + ": " +
         with_decimals(100 * r.clip.clipped_share, 1) + " % of " + grouped(r.clip.steps) +
         " steps clipped; norm before clipping p50 " + with_decimals(r.clip.norm_p50, 3) + ", p90 " +
         with_decimals(r.clip.norm_p90, 3) + ", p99 " + with_decimals(r.clip.norm_p99, 3) + "\nsparsity " +
         with_decimals(100 * r.sparsity, 2) + " %; the loaded network differs from the masked one by at most " +
         scientific(r.largest_difference) + " in a logit\n";
}

void write_json(const std::string& path, const Report& r, const Settings& s) {
  using Json = nlohmann::ordered_json;
  auto figures = [](const Figures& f) {
    return Json{{"accuracy", f.accuracy},
                {"weights", f.weights},
                {"bytes", f.bytes},
                {"latency_us", {{"1", f.latency_1}, {"64", f.latency_64}}}};
  };
  Json json{{"dense", figures(r.dense)}, {"masked", figures(r.masked)}, {"deployed", figures(r.deployed)}};
  Json& kernels = json["deployed"]["kernels"] = Json::object();
  for (std::size_t i = 0; i < r.layers.size(); ++i)
    kernels[r.layers[i]] = {
        {"shape", r.deployed.shapes[i]}, {"1", r.deployed.kernel_1[i]}, {"64", r.deployed.kernel_64[i]}};
  json["clip"] = {{"steps", r.clip.steps},
                  {"clipped_share", r.clip.clipped_share},
                  {"norm_p50", r.clip.norm_p50},
                  {"norm_p90", r.clip.norm_p90},
                  {"norm_p99", r.clip.norm_p99}};
  json["settings"] = {{"data", s.data},       {"epochs", s.epochs},       {"batch_size", s.batch_size},
                      {"lr", s.lr},           {"clip_norm", s.clip_norm}, {"sparsity", s.sparsity},
                      {"kernels", s.kernels}, {"seed", s.seed},           {"threads", espalier::threads()}};
  std::ofstream out(path);
  out << json.dump(2) << "\n";
  out.flush();
  if (!out)
    espalier::fail<espalier::IoError>("[json] cannot write ", path, ": ",
                                      static_cast<const char*>(std::strerror(errno)));
}

}  // namespace prune_digits
