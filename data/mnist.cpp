#include "espalier/data/mnist.h"

#include <array>
#include <filesystem>

#include "espalier/core/file.h"
#include "espalier/core/parallel.h"
#include "espalier/data/idx.h"

namespace espalier::data {
namespace {

std::string find(const std::string& folder, const char* name) {
  std::error_code unreadable;
  for (const char* ending : {"", ".gz"}) {
    const std::filesystem::path path = std::filesystem::path(folder) / (std::string(name) + ending);
    if (std::filesystem::is_regular_file(path, unreadable)) return path.string();
  }
  const bool exists = std::filesystem::is_directory(folder, unreadable);
  fail<IoError>("[mnist] no ", name, " in ", in_quotes(folder), exists ? "" : ", which is no folder", "; looked for ",
                name, " and ", name,
                ".gz. Hint: the four files are published at yann.lecun.com/exdb/mnist and its mirrors");
}

}  // namespace

Dataset mnist(const std::string& folder, Split split, MnistOptions options) {
  if (!(options.deviation > 0)) fail<ConfigError>("[mnist] deviation must be positive, got ", options.deviation);
  const bool training = split == Split::train;
  const std::string image_path = find(folder, training ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte");
  const std::string label_path = find(folder, training ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte");
  const Tensor images = read_idx(image_path);
  const Tensor labels = read_idx(label_path);
  if (images.rank() != 3 || images.dtype() != DType::u8)
    fail<FormatError>("[mnist] ", in_quotes(image_path), " holds ", images.dtype(), " ", images.shape(),
                      ", not u8 [N, 28, 28]");
  if (labels.rank() != 1 || labels.dtype() != DType::u8)
    fail<FormatError>("[mnist] ", in_quotes(label_path), " holds ", labels.dtype(), " ", labels.shape(),
                      ", not u8 [N]");
  if (labels.dim(0) != images.dim(0))
    fail<FormatError>("[mnist] ", images.dim(0), " images in ", in_quotes(image_path), ", but ", labels.dim(0),
                      " labels in ", in_quotes(label_path));

  std::array<float, 256> level;
  for (std::size_t pixel = 0; pixel < level.size(); ++pixel) {
    const double unit = static_cast<double>(pixel) / 255;
    level[pixel] = static_cast<float>(options.normalize ? (unit - options.mean) / options.deviation : unit);
  }
  const Index n = images.dim(0), height = images.dim(1), width = images.dim(2);
  Tensor x = Tensor::empty(options.flatten ? Shape{n, height * width} : Shape{n, 1, height, width});
  const std::uint8_t* from = images.data<std::uint8_t>();
  float* to = x.write<float>("mnist");
  parallel_for(x.size(), Index{1} << 16, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) to[i] = level[from[i]];
  });
  return {x, labels.to(DType::i64)};
}

}  // namespace espalier::data
