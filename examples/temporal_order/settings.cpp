#include "examples/temporal_order/settings.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "examples/temporal_order/experiment.h"

namespace temporal_order {

Settings parse(int argc, char** argv) {
  Settings s;
  std::string clip = "1";
  CLI::App app(
      "Trains a small recurrent network on the temporal-order task, with its gradient clipped by global norm and\n"
      "without, over several seeds: how often, and how fast, is the task solved? Writes a plot.");
  app.set_version_flag("--version", std::string("espalier ") + espalier::version());
  app.option_defaults()->always_capture_default();
  app.add_option("--length", s.length, "Symbols of a sequence")->check(CLI::Range(10, 100000));
  app.add_option("--seeds", s.seeds, "Runs with clipping, and as many without")->check(CLI::Range(1, 1000));
  app.add_option("--first-seed", s.first_seed, "The others follow");
  app.add_option("--updates", s.updates, "Largest number of updates of a run")->check(CLI::Range(1, 1000000000));
  app.add_option("--clip", clip, "Largest global norm of the gradient; none: no runs with clipping")
      ->check([](const std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        return text == "none" || (!text.empty() && *end == 0 && value > 0) ? ""
                                                                           : "must be above 0, or none, got " + text;
      })
      ->type_name("C");
  app.add_option("--lr", s.lr, "Learning rate of plain gradient descent")->check(CLI::PositiveNumber);
  app.add_option("--hidden", s.hidden, "Tanh units")->check(CLI::Range(1, 10000));
  app.add_option("--batch", s.batch, "Sequences an update")->check(CLI::Range(1, 100000));
  app.add_option("--init", s.init,
                 "First weights: all N(0, 0.1^2); of these the recurrent ones orthogonal; or N(0, 0.01^2) and the\n"
                 "recurrent ones sparse, with spectral radius 0.95")
      ->check(CLI::IsMember(initialiser_names()));
  app.add_option("--every", s.every, "Updates between two looks at the errors")->check(CLI::Range(1, 1000000000));
  app.add_option("--test", s.test, "Fresh sequences that decide whether the task is solved")
      ->check(CLI::Range(1, 100000000));
  app.add_option("--plot", s.plot, "Draw the runs into this file")->type_name("SVG");
  app.add_option("--json", s.json, "Write all figures to this file")->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  s.clip = clip == "none" ? std::nullopt : std::optional(std::strtod(clip.c_str(), nullptr));
  return s;
}

}  // namespace temporal_order
