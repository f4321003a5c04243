// espalier-golden: runs reference cases through the library and compares every result.
#include <CLI/CLI.hpp>
#include <iostream>

#include "tests/golden/runner.h"

int main(int argc, char** argv) {
  espalier::golden::Settings settings;
  CLI::App app(
      "Runs every golden case (*.safetensors) under the given directories and compares results with those stored.\n"
      "The last line is `N passed, M failed, K unsupported`. Exit code: 0, 1 if a case failed, 2 for wrong usage.",
      "espalier-golden");
  app.add_option("DIR", settings.paths, "Directories, searched recursively, or single files")->required();
  app.add_option("--filter", settings.filter, "Only cases whose name contains this");
  app.add_flag("--list-unsupported", settings.list_unsupported, "Say which cases were not run, and why");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return run_all(settings, std::cout);
  } catch (const std::exception& error) {
    std::cerr << "espalier-golden: " << error.what() << '\n';
    return 2;
  }
}
