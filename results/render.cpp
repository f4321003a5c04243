#include "results/render.h"

#include <cmath>
#include <vector>

#include "results/training.h"

namespace results {

using namespace espalier;

namespace {

struct Figures {
  std::vector<double> values;
  double mean() const {
    double sum = 0;
    for (double v : values) sum += v;
    return sum / static_cast<double>(values.size());
  }
  /// By n - 1; 0 for one value.
  double deviation() const {
    if (values.size() < 2) return 0;
    double sum = 0;
    for (double v : values) sum += (v - mean()) * (v - mean());
    return std::sqrt(sum / static_cast<double>(values.size() - 1));
  }
  std::string text(int decimals) const {
    return with_decimals(mean(), decimals) + " ± " + with_decimals(deviation(), decimals);
  }
};

/// The figure of every run. at: a member, or a path of members ("/counts/all").
Figures figures(const std::vector<Json>& runs, const std::string& at) {
  Figures f;
  for (const Json& run : runs) f.values.push_back(run.at(Json::json_pointer(at)).get<double>());
  return f;
}

std::vector<Json> runs_of(const Settings& s, const std::string& stem) {
  std::vector<Json> runs;
  for (int seed = 1; seed <= 99; ++seed)
    if (const std::string path = path_of(s, stem + "-" + std::to_string(seed) + ".json"); std::filesystem::exists(path))
      runs.push_back(read_json(path));
  return runs;
}

/// "met", or by how much not.
std::string verdict(double measured, double bar, int decimals, const char* unit) {
  const double over = measured - bar;
  if (over <= 1e-9) return "met";
  return "**missed by " + with_decimals(over, decimals) + unit + "**";
}
void join_to(std::string& text, const std::string& part) { text += (text.empty() ? "" : "; ") + part; }

struct Line {
  std::string measured, dense, verdict;
};

const Json& round_of(const Json& rounds, Index round) {
  for (const Json& row : rounds)
    if (row.at("round").get<Index>() == round) return row;
  fail<FormatError>("[results] the lottery's file has no round ", round);
}
Figures of_round(const std::vector<Json>& runs, const char* list, const char* which, const char* what) {
  Figures f;
  for (const Json& run : runs)
    f.values.push_back(round_of(run.at(list), which ? run.at(which).get<Index>() : Index{0}).at(what).get<double>());
  return f;
}

Line lottery_line(const std::vector<Json>& runs) {
  const Figures stop_dense = of_round(runs, "rounds", nullptr, "early_stop"),
                stop_21 = of_round(runs, "rounds", "round_21", "early_stop"),
                dense = of_round(runs, "rounds", nullptr, "error_at_stop"),
                small = of_round(runs, "rounds", "round_3_6", "error_at_stop"),
                random = of_round(runs, "random", "round_3_6", "error_at_stop");
  const double ratio = stop_21.mean() / stop_dense.mean(), spread = std::max(small.deviation(), random.deviation());
  Line line;
  line.dense = dense.text(2) + " %, early stop at " + stop_dense.text(0);
  line.measured = "21 % left: early stop at " + stop_21.text(0) + " (" + with_decimals(ratio, 2) +
                  " of dense); 3.6 % left: " + small.text(2) + " %; the same masks drawn anew: " + random.text(2) +
                  " %";
  line.verdict = "early stop " + verdict(ratio, 0.75, 2, "") + "; accuracy " +
                 verdict(small.mean(), dense.mean() + 0.2, 2, " points") + "; drawn anew " +
                 (random.mean() - small.mean() > 2 * spread && random.mean() > small.mean()
                      ? "worse by " + with_decimals(random.mean() - small.mean(), 2) + " points: met"
                      : "**not clearly worse**");
  return line;
}

Line error_line(const Row& row, const std::vector<Json>& runs) {
  const Figures error = figures(runs, "/error");
  Line line;
  line.measured = error.text(2) + " %";
  line.dense = "-";
  if (runs.front().contains("dense_error")) {
    const Figures dense = figures(runs, "/dense_error");
    line.dense = dense.text(2) + " %";
    if (!std::isnan(row.over_dense))
      join_to(line.verdict, "against dense " + verdict(error.mean(), dense.mean() + row.over_dense, 2, " points"));
  }
  if (!std::isnan(row.most_error))
    join_to(line.verdict, "error " + verdict(error.mean(), row.most_error, 2, " points"));
  if (row.kind == Kind::structured) {
    const Figures speedup = figures(runs, "/speedup");
    line.measured += ", " + speedup.text(2) + "x faster";
    join_to(line.verdict, "speed " + verdict(1.8, speedup.mean(), 2, "x"));
  }
  return line;
}

/// What is left of a pruned network, in words.
std::string left_text(const Row& row, const Json& run) {
  if (!run.contains("counts")) return "";
  const Json& c = run.at("counts");
  if (row.kind == Kind::structured) {
    std::string text = "Units: ";
    for (const auto& [name, sizes] : run.at("units").items())
      text += (text.back() == ' ' ? "" : ", ") + name + " " + std::to_string(sizes[0].get<Index>()) + " -> " +
              std::to_string(sizes[1].get<Index>());
    return text + "; weights and biases " + grouped(c.at("dense_all").get<Index>()) + " -> " +
           grouped(c.at("all").get<Index>()) + "; batch 64 takes " +
           with_decimals(run.at("milliseconds")[0].get<double>(), 3) + " -> " +
           with_decimals(run.at("milliseconds")[1].get<double>(), 3) + " ms (seed " +
           std::to_string(run.at("seed").get<Index>()) + ", the two in turn, median).";
  }
  const double factor = c.at("weights").get<double>() / c.at("weights_live").get<double>();
  std::string text = "Left: " + grouped(c.at("weights_live").get<Index>()) + " of " +
                     grouped(c.at("weights").get<Index>()) + " weights, " + with_decimals(factor, 1) + "x fewer";
  if (run.contains("stored")) {
    const auto stored = run.at("stored").get<Index>();
    text += "; with biases, once compact() has cut dead units, " + grouped(stored) + " of " +
            grouped(c.at("all").get<Index>()) + " numbers, " +
            with_decimals(c.at("all").get<double>() / static_cast<double>(stored), 1) + "x fewer";
  }
  text += " (seed " + std::to_string(run.at("seed").get<Index>()) + "). By layer:";
  for (const auto& [name, share] : c.at("left_of_layer").items())
    text += " " + name + " " + percent(share.get<double>());
  return text + ".";
}

std::string recipe_text(const Recipe& r) {
  std::string text = std::to_string(r.epochs) + " epochs of batches of " + std::to_string(r.batch) +
                     (r.method == Method::adamw ? ", AdamW" : ", SGD with Nesterov momentum 0.9") + ", rate " +
                     with_decimals(r.lr, 3) + " along half a cosine to 0, decay of weights " +
                     with_decimals(r.weight_decay, 5);
  if (r.drop_input > 0 || r.drop_hidden > 0)
    text += ", dropout of " + percent(r.drop_input) + " of inputs and " + percent(r.drop_hidden) + " of hidden units";
  return text;
}

/// What happens to the weights, in words.
std::string way_text(const Row& row) {
  switch (row.kind) {
    case Kind::retrain: {
      const std::string rate = " epochs at the constant rate " + with_decimals(row.recipe.lr, 3);
      std::string text = "- Pruning: from the dense network of the seed, by magnitude, gradually (cubic schedule), " +
                         std::to_string(row.prune_epochs) + rate;
      if (row.prune_further_epochs > 0)
        text += " to 7 % left and " + std::to_string(row.prune_further_epochs) + " more to the end; all layers compete";
      else
        text += row.left_of_layer.empty() ? "; all layers compete" : "; each layer to the share that the paper keeps";
      return text + ".\n";
    }
    case Kind::snip:
      return "- Pruning: before training, by the sensitivities of one batch of 100; all layers compete.\n";
    default:
      return "";
  }
}
std::string teacher_text(const Row& row) {
  if (row.alpha == 0) return "";
  return "- Loss: " + with_decimals(1 - row.alpha, 1) + " of cross-entropy and " + with_decimals(row.alpha, 1) +
         " of distillation from the dense network of the seed at temperature " + with_decimals(row.temperature, 0) +
         " (Hinton et al. 2015), in pruning and retraining alike.\n";
}

std::string seeds_of(const std::vector<Json>& runs) {
  std::string text;
  for (const Json& run : runs) text += (text.empty() ? "" : ", ") + std::to_string(run.at("seed").get<Index>());
  return text;
}

std::string lottery_rounds(const std::vector<Json>& runs) {
  Table table({"round", "left", "early stop", "test error there, %", "at the end, %"});
  for (std::size_t i = 0; i < runs.front().at("rounds").size(); ++i) {
    Figures stop, error, end;
    for (const Json& run : runs) {
      const Json& row = run.at("rounds")[i];
      stop.values.push_back(row.at("early_stop").get<double>());
      error.values.push_back(row.at("error_at_stop").get<double>());
      end.values.push_back(row.at("error_at_end").get<double>());
    }
    table.add({std::to_string(i), percent(runs.front().at("rounds")[i].at("left").get<double>()), stop.text(0),
               error.text(2), end.text(2)});
  }
  return "```\n" + table.to_string() + "```\n";
}

}  // namespace

std::string page_of(const Settings& s) {
  std::string page =
      "# Published results, measured again\n\n"
      "What papers report of pruned LeNets on MNIST, trained by this library from nothing. `./dev results` makes every "
      "figure\n"
      "here and this page; `./dev results ROW` one row. Runs go on where they were stopped.\n\n"
      "- Data: MNIST's 60,000 training images, pixels normalised, no augmentation. Error is that of the 10,000 test "
      "images after\n"
      "  the last epoch. Settings of LeNet-300-100 and of SNIP were chosen with the last 5,000 training images held "
      "out\n"
      "  (`--choose`) and a seed that is not among those shown, and then the networks were trained on all 60,000; the "
      "other\n"
      "  rows of LeNet-5 took them over. What was tried besides, and where test images were looked at, stands with "
      "each row.\n"
      "- Figures are mean ± standard deviation over the seeds named (one dense network a seed, shared by the rows). A "
      "bar is\n"
      "  held against the mean. One CPU thread a run. Minutes are wall-clock of a seed, with the dense network where "
      "the row\n"
      "  was the first to need it, on a machine that others used at the same time: an upper bound.\n"
      "- The dense networks are trained for fewer epochs than pruning and retraining take together, and not trained "
      "on: the\n"
      "  pruned ones start from them, as in the papers.\n\n"
      "| what | published | bar | dense | measured | verdict | seeds | minutes |\n|---|---|---|---|---|---|---|---|\n";
  std::string details;
  for (const Row& row : rows()) {
    const std::vector<Json> runs = runs_of(s, row.name);
    const std::string what = std::string("[") + row.title + "](#" + row.name + ")";
    details += std::string("\n## ") + row.name + "\n\n" + row.title + ". `espalier-results " + row.name +
               " --data DIR --seed S`\n\n";
    if (*row.how) details += std::string(row.how) + "\n\n";
    details += way_text(row) + teacher_text(row);
    if (row.kind != Kind::lottery)
      details += std::string(row.kind == Kind::retrain ? "- Retraining: " : "- Training: ") + recipe_text(row.recipe) +
                 (row.centred ? "" : "; pixels from 0 to 1") + ".\n";
    if (row.recipe.why && *row.recipe.why) details += std::string("- Why: ") + row.recipe.why + "\n";
    if (*row.tried) details += std::string("- Tried: ") + row.tried + "\n";
    if (runs.empty()) {
      page += "| " + what + " | " + row.published + " | " + row.bar + " | | not measured yet | | | |\n";
      continue;
    }
    const Line line = row.kind == Kind::lottery ? lottery_line(runs) : error_line(row, runs);
    page += "| " + what + " | " + row.published + " | " + row.bar + " | " + line.dense + " | " + line.measured + " | " +
            line.verdict + " | " + seeds_of(runs) + " | " + with_decimals(figures(runs, "/minutes").mean(), 1) + " |\n";
    if (row.kind == Kind::lottery)
      details += "\n" + lottery_rounds(runs);
    else
      details += "- " + left_text(row, runs.front()) + "\n";
  }
  page += "\n## Dense networks\n\n";
  for (Network network : {Network::lenet300, Network::lenet5}) {
    const std::vector<Json> runs = runs_of(s, std::string("dense-") + name_of(network));
    page += std::string("- ") + name_of(network) + ": " + recipe_text(dense_recipe(network)) + ". " +
            "Why so long: " + dense_recipe(network).why + ".";
    if (!runs.empty())
      page += " Error " + figures(runs, "/error").text(2) + " % (seeds " + seeds_of(runs) + "), " +
              with_decimals(figures(runs, "/minutes").mean(), 1) + " minutes.";
    page += "\n";
  }
  return page + details;
}

}  // namespace results
