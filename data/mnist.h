// MNIST and the sets published in its form (Fashion-MNIST, KMNIST, EMNIST).
#pragma once

#include <string>

#include "espalier/data/dataset.h"

namespace espalier::data {

struct MnistOptions {
  bool flatten = true;     ///< x [N, 784], else [N, 1, 28, 28]
  bool normalize = false;  ///< (pixel / 255 - mean) / deviation, else pixel / 255
  double mean = 0.1307;    ///< of MNIST's training part
  double deviation = 0.3081;
};

/// Images as f32, labels as i64 [N], from the files {train,t10k}-images-idx3-ubyte[.gz] and
/// {train,t10k}-labels-idx1-ubyte[.gz] of a folder; sizes other than 28 x 28 are taken as they are.
/// Errors: IoError, which names what was looked for; FormatError; ConfigError for a deviation that is not positive.
/// Source: LeCun, Bottou, Bengio, Haffner 1998; Xiao, Rasul, Vollgraf 2017.
Dataset mnist(const std::string& folder, Split split, MnistOptions options = {});

}  // namespace espalier::data
