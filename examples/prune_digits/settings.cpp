#include "examples/prune_digits/settings.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>

namespace prune_digits {

Settings parse(int argc, char** argv) {
  Settings s;
  CLI::App app(
      "Trains LeNet-300-100 on handwritten digits with clipping by global norm: once dense, once pruned gradually by\n"
      "global magnitude. Compacts the pruned network, saves it, loads it again, and compares accuracy, size and "
      "speed.");
  app.set_version_flag("--version", std::string("espalier ") + espalier::version());
  app.option_defaults()->always_capture_default();
  app.add_option("--data", s.data, "Folder with MNIST or Fashion-MNIST as IDX or IDX.gz (default: the digits shipped)")
      ->type_name("DIR");
  app.add_option("--epochs", s.epochs, "Passes over the training rows (default: 100 on the digits, 20 with --data)")
      ->check(CLI::Range(1, 100000))
      ->default_str("")
      ->type_name("N");
  app.add_option("--batch-size", s.batch_size, "Rows a step")->check(CLI::Range(1, 1 << 20));
  app.add_option("--lr", s.lr, "Adam's learning rate; constant for half the steps, then falling to 0")
      ->check(CLI::PositiveNumber);
  app.add_option("--clip-norm", s.clip_norm, "Largest global norm of the gradient")->check(CLI::PositiveNumber);
  app.add_option("--sparsity", s.sparsity, "Share of the weights to prune")->check([](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    return *end == 0 && value >= 0 && value < 1 ? "" : "must be in [0, 1), got " + text;
  });
  app.add_option("--kernels", s.kernels,
                 "How compact() chooses between sparse and dense: by timing here, or by a table")
      ->check(CLI::IsMember({"measured", "fixed"}));
  app.add_option("--seed", s.seed, "Of the weights and of the order of the rows");
  app.add_option("--threads", s.threads, "0 means all processors; results do not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_option("--out", s.out, "Folder for the saved models")->type_name("DIR");
  app.add_option("--json", s.json, "Write all figures to this file")->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  if (s.epochs == 0) s.epochs = s.data.empty() ? 100 : 20;
  return s;
}

}  // namespace prune_digits
