// espalier-results: trains what published results are compared with, and writes the page about it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "espalier/core/parallel.h"
#include "espalier/core/version.h"
#include "results/render.h"
#include "results/rows.h"

namespace {

results::Settings parse(int argc, char** argv) {
  results::Settings s;
  std::string names;
  for (const results::Row& row : results::rows()) names += std::string("\n  ") + row.name + ": " + row.title;
  CLI::App app("Trains one row of the published results on MNIST for one seed, and writes its figures.\nRows:" + names);
  app.set_version_flag("--version", std::string("espalier ") + espalier::version());
  app.option_defaults()->always_capture_default();
  app.add_option("row", s.row, "Which")->type_name("ROW");
  app.add_option("--data", s.data, "Folder with MNIST as IDX or IDX.gz")->type_name("DIR");
  app.add_option("--out", s.out, "Folder for figures and networks; what is there is not run again")->type_name("DIR");
  app.add_option("--seed", s.seed, "Of weights, order of the rows, dropout");
  app.add_option("--threads", s.threads, "0 means all processors; results do not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--tiny", s.tiny, "A few hundred of the shipped digits, one epoch: only shows that it runs");
  app.add_flag("--render", s.render, "Print the page about what the output folder holds, instead of a run");
  app.add_flag("--choose", s.choose, "Hold the last 5,000 training rows out and measure on them, not on the test rows");
  app.add_option("--set", s.changes, "Changes a setting of the row, for trying: lr=0.1")->type_name("KEY=VALUE");
  try {
    app.parse(argc, argv);
    if (!s.changes.empty() && !s.choose) throw CLI::ValidationError("--set", "needs --choose");
    if (s.render) return s;
    if (s.row.empty()) throw CLI::RequiredError("row");
    if (s.data.empty() && !s.tiny) throw CLI::RequiredError("--data");
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  const results::Settings s = parse(argc, argv);
  try {
    if (s.threads > 0) espalier::set_threads(s.threads);
    if (s.render) {
      std::fputs(results::page_of(s).c_str(), stdout);
      return 0;
    }
    results::run_row(results::changed(results::row_named(s.row), s.changes), s);
    return 0;
  } catch (const espalier::ConfigError& error) {
    std::fprintf(stderr, "espalier-results: %s\n", error.what());
    return 2;
  } catch (const espalier::IoError& error) {
    std::fprintf(stderr, "espalier-results: %s\n", error.what());
    return 3;
  } catch (const espalier::FormatError& error) {
    std::fprintf(stderr, "espalier-results: %s\n", error.what());
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "espalier-results: %s\n", error.what());
    return 1;
  }
}
