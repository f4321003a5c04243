// The main job: handwritten digits, LeNet-300-100, clipped and pruned to 90 % while it trains, then made really smaller
// and really faster. `prune_digits --help` lists the settings; on the shipped digits a run takes a few seconds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>

#include "examples/prune_digits/report.h"
#include "examples/prune_digits/settings.h"

using namespace espalier;
using prune_digits::ClipFigures;
using prune_digits::Figures;
using prune_digits::Report;
using prune_digits::Settings;

namespace {

/// in-300-100-10 with ReLU (LeCun, Bottou, Bengio, Haffner 1998).
class LeNet300 final : public nn::Module {
 public:
  LeNet300(Rng& rng, Index in) : fc1(rng, in, 300), fc2(rng, 300, 100), fc3(rng, 100, 10) {}
  Variable operator()(const Variable& x) const { return fc3(relu(fc2(relu(fc1(x))))); }
  void members(nn::Visitor& v) override { v("fc1", fc1)("fc2", fc2)("fc3", fc3); }

  nn::Linear fc1, fc2, fc3;
};

data::TrainTest load_data(const Settings& s) {
  if (s.data.empty()) return data::split_digits(data::digits(ESPALIER_SOURCE_DIR "/examples/data/digits.csv.gz"));
  return {data::mnist(s.data, data::Split::train), data::mnist(s.data, data::Split::test)};
}

/// Trains a fresh network; with a sparsity above 0, prunes it gradually on the way.
LeNet300 train_network(const char* title, const data::TrainTest& data, const Settings& s, double sparsity,
                       ClipFigures& clip) {
  Rng rng(s.seed);
  LeNet300 model(rng, data.train.x.dim(1));
  data::Loader loader(data.train, s.batch_size, rng.split());
  const Index steps = s.epochs * loader.batches();

  auto falling_lr = [=](std::int64_t step) {
    return s.lr * std::min(1.0, 2.0 * static_cast<double>(steps - step) / static_cast<double>(steps));
  };
  optim::Optimizer optimizer(model.parameters(),
                             optim::chain(optim::clip_by_global_norm(s.clip_norm), optim::adam({.lr = falling_lr})));
  prune::Pruner pruner(model.parameters(), {.score = prune::magnitude(),
                                            .scope = prune::Scope::global,
                                            .schedule = prune::cubic({.final_sparsity = sparsity,
                                                                      .begin = steps / 10,
                                                                      .end = std::max(steps / 10 + 1, steps * 6 / 10),
                                                                      .every = std::max<Index>(1, steps / 200)})});
  if (sparsity > 0) optimizer.attach(pruner);

  std::vector<double> norms;
  Index clipped = 0;
  train::Progress progress(title, steps);
  train::fit(model, optimizer, loader,
             [](const LeNet300& m, const Tensor& x, const Tensor& y) { return nn::cross_entropy(m(x), y); },
             {.epochs = s.epochs,
              .on_step =
                  [&](const train::StepInfo& info) {
                    const optim::ClipRecord& record = info.report.clips().front();
                    norms.push_back(record.norm_before);
                    clipped += record.clipped;
                    progress.update(info.step, "loss " + with_decimals(info.loss, 4) + "  norm " +
                                                   with_decimals(record.norm_before, 2) + "  sparsity " +
                                                   with_decimals(100 * pruner.sparsity(), 1) + " %");
                  },
              .on_epoch =
                  [&](const train::EpochInfo& info) {
                    const Index every = std::max<Index>(1, s.epochs / 5);
                    if (progress.on_terminal() || (info.epoch + 1) % every != 0) return;
                    progress.note(std::string(title) + "  epoch " + std::to_string(info.epoch + 1) + " of " +
                                  std::to_string(s.epochs) + "  loss " + with_decimals(info.mean_loss, 4) +
                                  "  sparsity " + with_decimals(100 * pruner.sparsity(), 1) + " %");
                  }});
  clip = {steps, static_cast<double>(clipped) / static_cast<double>(steps), percentile(norms, 50),
          percentile(norms, 90), percentile(norms, 99)};
  return model;
}

Figures figures_of(const LeNet300& model, const data::Dataset& test, const std::string& file) {
  io::save(file, model);
  Figures f;
  f.accuracy = train::accuracy(model(test.x).value(), test.y);
  f.bytes = std::filesystem::file_size(file);
  for (const NamedParameter& named : model.parameters()) {
    const ParameterState& p = *named.parameter;
    const Packed* packed = p.value().packed();
    f.weights += packed ? packed->live() : p.mask().defined() ? p.mask().live() : p.value().size();
    if (p.value().rank() < 2) continue;
    f.shapes.push_back(join(p.value().shape()));
    f.kernel_1.push_back(packed ? packed->kernel(1) : "dense");
    f.kernel_64.push_back(packed ? packed->kernel(64) : "dense");
  }
  return f;
}

/// Times the three networks in turn, so that a slow moment of the machine hits all alike.
void measure_latencies(const LeNet300& dense, const LeNet300& masked, const LeNet300& deployed, const Tensor& x,
                       Report& r) {
  for (Index batch : {Index{1}, Index{64}}) {
    const Tensor rows = x.slice(0, 0, batch).contiguous();
    const std::vector<std::function<void()>> calls{[&] { dense(rows); }, [&] { masked(rows); },
                                                   [&] { deployed(rows); }};
    const std::vector<double> us = train::median_latencies(calls, 21);
    Figures* const all[] = {&r.dense, &r.masked, &r.deployed};
    for (std::size_t i = 0; i < 3; ++i) (batch == 1 ? all[i]->latency_1 : all[i]->latency_64) = us[i];
  }
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const std::vector<float> x = a.to_vector<float>(), y = b.to_vector<float>();
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
  return largest;
}

int run(const Settings& s) {
  if (s.threads > 0) set_threads(s.threads);
  const data::TrainTest data = load_data(s);
  std::printf("LeNet-300-100 on %s: %lld training and %lld test rows of %lld pixels\n",
              s.data.empty() ? "the UCI optical digits" : s.data.c_str(), static_cast<long long>(data.train.size()),
              static_cast<long long>(data.test.size()), static_cast<long long>(data.train.x.dim(1)));
  std::printf("epochs %lld, batch %lld, Adam lr %g, clip norm %g, sparsity %g, kernels %s, seed %llu, threads %d\n\n",
              static_cast<long long>(s.epochs), static_cast<long long>(s.batch_size), s.lr, s.clip_norm, s.sparsity,
              s.kernels.c_str(), static_cast<unsigned long long>(s.seed), threads());
  std::fflush(stdout);

  Report report;
  ClipFigures of_dense;
  const LeNet300 dense = train_network("dense ", data, s, 0, of_dense);
  const LeNet300 masked = train_network("pruned", data, s, s.sparsity, report.clip);
  const Tensor sample = data.test.x.slice(0, 0, 64).contiguous();
  const LeNet300 deployed = prune::compact(
      masked, sample, {.kernels = s.kernels == "fixed" ? prune::Kernels::fixed : prune::Kernels::measured});

  std::filesystem::create_directories(s.out);
  auto file = [&](const char* name) { return (std::filesystem::path(s.out) / name).string(); };
  report.dense = figures_of(dense, data.test, file("dense.safetensors"));
  report.masked = figures_of(masked, data.test, file("masked.safetensors"));
  report.deployed = figures_of(deployed, data.test, file("deployed.safetensors"));
  for (const NamedParameter& named : masked.parameters())
    if (named.parameter->value().rank() > 1) report.layers.push_back(named.name.substr(0, named.name.rfind('.')));
  report.sparsity = prune::sparsity(masked.parameters());

  Rng rng(0);
  LeNet300 loaded(rng, data.train.x.dim(1));
  io::load(file("deployed.safetensors"), loaded);
  const Tensor from_file = loaded(data.test.x).value();
  if (!equal(from_file, deployed(data.test.x).value()))
    fail<FormatError>("[prune_digits] the network loaded from ", file("deployed.safetensors"), " gives other outputs");
  report.largest_difference = largest_difference(from_file, masked(data.test.x).value());

  measure_latencies(dense, masked, deployed, data.test.x, report);
  std::printf("%s\nsaved: %s, masked.safetensors, deployed.safetensors\n", as_text(report, s).c_str(),
              file("dense.safetensors").c_str());
  if (!s.json.empty()) write_json(s.json, report, s);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = prune_digits::parse(argc, argv);
  try {
    return run(settings);
  } catch (const NonFiniteError& error) {
    std::fprintf(stderr, "prune_digits: %s\n", error.what());
    return 4;
  } catch (const IoError& error) {
    std::fprintf(stderr, "prune_digits: %s\n", error.what());
    return 3;
  } catch (const FormatError& error) {
    std::fprintf(stderr, "prune_digits: %s\n", error.what());
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "prune_digits: %s\n", error.what());
    return 1;
  }
}
