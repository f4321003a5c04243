// The temporal-order task of Pascanu, Mikolov and Bengio 2013: a recurrent network must remember two symbols over a
// long sequence. Plain gradient descent meets walls in its error surface and is thrown far off; with the gradient's norm
// clipped it gets there. `temporal_order --help` lists the settings; docs/temporal_order.md shows what comes out.
#include <algorithm>
#include <cstdio>
#include <exception>

#include "examples/temporal_order/experiment.h"
#include "examples/temporal_order/report.h"
#include "examples/temporal_order/settings.h"

using namespace espalier;
using temporal_order::Run;
using temporal_order::Settings;
using temporal_order::Stretch;

namespace {

Run run_with_progress(const Settings& s, std::uint64_t seed, bool clipped) {
  const std::string title = "seed " + std::to_string(seed) + (clipped ? "  clipped  " : "  unclipped");
  train::Progress progress(title, s.updates);
  Index noted = 0;
  return temporal_order::train_one(s, seed, clipped, [&](const Stretch& stretch) {
    const std::string status = "errors " + with_decimals(100 * stretch.error, 1) + " %  largest norm " +
                               temporal_order::short_number(stretch.largest_norm);
    progress.update(stretch.updates, status);
    if (progress.on_terminal() || stretch.updates - noted < s.updates / 10) return;
    noted = stretch.updates;
    progress.note(title + "  update " + grouped(stretch.updates) + "  " + status);
  });
}

int run(const Settings& s) {
  std::printf("%s\n%s", as_text(s).c_str(), temporal_order::table_header().c_str());
  std::vector<Run> runs;
  const auto write_files = [&] {
    write_plot(s.plot, runs, s);
    if (!s.json.empty()) write_json(s.json, runs, s);
  };
  write_files();  // a path that cannot be written is better known now than in an hour
  for (Index k = 0; k < s.seeds; ++k)
    for (const bool clipped : {true, false}) {
      if (clipped && !s.clip) continue;
      std::fflush(stdout);
      runs.push_back(run_with_progress(s, s.first_seed + static_cast<std::uint64_t>(k), clipped));
      std::printf("%s", temporal_order::table_row(runs.back()).c_str());
      write_files();
    }
  std::printf("%s", temporal_order::summary(runs).c_str());
  std::printf("drawn: %s\n", s.plot.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = temporal_order::parse(argc, argv);
  try {
    return run(settings);
  } catch (const IoError& error) {
    std::fprintf(stderr, "temporal_order: %s\n", error.what());
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "temporal_order: %s\n", error.what());
    return 1;
  }
}
