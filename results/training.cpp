#include "results/training.h"

#include <cstdio>
#include <fstream>
#include <vector>

#include "espalier/core/file.h"

namespace results {

using namespace espalier;

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

data::Dataset rows_of(const data::Dataset& all, Index first, Index last) {
  return {all.x.slice(0, first, last), all.y.slice(0, first, last)};
}

namespace {

/// Shipped digits, 8 x 8, each pixel as 3 x 3 with two pixels of margin: enough to run every step.
data::TrainTest small_digits() {
  const data::Dataset digits = data::digits(ESPALIER_SOURCE_DIR "/examples/data/digits.csv.gz");
  const Index n = 400;
  const std::vector<float> pixels = digits.x.to_vector<float>();
  std::vector<float> images(static_cast<std::size_t>(n * 784), -0.4F);
  for (Index i = 0; i < n; ++i)
    for (Index row = 0; row < 24; ++row)
      for (Index column = 0; column < 24; ++column)
        images[static_cast<std::size_t>(i * 784 + (row + 2) * 28 + column + 2)] =
            3 * pixels[static_cast<std::size_t>(i * 64 + row / 3 * 8 + column / 3)] - 0.4F;
  const data::Dataset all{Tensor::from(images, {n, 1, 28, 28}), digits.y.slice(0, 0, n).contiguous()};
  return {rows_of(all, 0, 300), rows_of(all, 300, n)};
}

}  // namespace

data::TrainTest load_digits(const Settings& s, bool centred) {
  const data::MnistOptions options{.flatten = false, .normalize = centred};
  data::TrainTest all = s.tiny ? small_digits()
                               : data::TrainTest{data::mnist(s.data, data::Split::train, options),
                                                 data::mnist(s.data, data::Split::test, options)};
  if (!s.choose) return all;
  const Index n = all.train.size(), kept = n - std::min<Index>(5000, n / 4);
  return {rows_of(all.train, 0, kept), rows_of(all.train, kept, n)};
}

std::string path_of(const Settings& s, const std::string& file) {
  std::filesystem::path folder(s.out);
  if (s.tiny) folder /= "tiny";
  if (s.choose) folder /= "choose";
  std::filesystem::create_directories(folder);
  return (folder / file).string();
}

void write_json(const std::string& path, const Json& json) {
  AtomicFile file("results", path);
  file.write(json.dump(2) + "\n");
  file.commit();
}

Json read_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) fail<IoError>("[results] cannot read ", path);
  try {
    return Json::parse(in);
  } catch (const nlohmann::json::exception& error) {
    fail<FormatError>("[results] ", path, " is no JSON: ", error.what());
  }
}

data::Dataset with_teacher(const data::Dataset& set, const Tensor& logits) {
  const Index n = set.size();
  const std::vector<std::int64_t> labels = set.y.to_vector<std::int64_t>();
  std::vector<float> certain(static_cast<std::size_t>(n * 10), 0.0F);
  for (Index i = 0; i < n; ++i) certain[static_cast<std::size_t>(i * 10 + labels[static_cast<std::size_t>(i)])] = 1;
  return {set.x, concatenated(std::vector<Tensor>{Tensor::from(certain, {n, 10}), logits}, 1)};
}

Count count_of(const ParameterList& parameters, bool live) {
  Count count;
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    const Index n = live ? prune::live_weights(p) : p.value().size();
    count.all += n;
    if (p.value().rank() >= 2) count.weights += n;
  }
  return count;
}

}  // namespace results
