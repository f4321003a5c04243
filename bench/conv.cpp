#include <memory>

#include "bench/workloads.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/core/conv.h"
#include "espalier/core/rng.h"

namespace espalier::bench {
namespace {

/// Square images and kernels.
struct Layer {
  const char* name;
  Index batch, in, size, out, kernel, stride, padding;
};
/// The layers of LeNet-5, of a six-layer network and of ResNet-20.
constexpr Layer layers[] = {
    {"lenet_c1", 64, 1, 28, 20, 5, 1, 0},   {"lenet_c2", 64, 20, 12, 50, 5, 1, 0},
    {"cnn6_c1", 64, 3, 32, 32, 3, 1, 1},    {"cnn6_c2", 64, 32, 32, 32, 3, 1, 1},
    {"cnn6_c3", 64, 32, 16, 64, 3, 1, 1},   {"cnn6_c4", 64, 64, 16, 64, 3, 1, 1},
    {"cnn6_c5", 64, 64, 8, 128, 3, 1, 1},   {"cnn6_c6", 64, 128, 8, 128, 3, 1, 1},
    {"rn20_c1", 32, 3, 32, 16, 3, 1, 1},    {"rn20_16", 32, 16, 32, 16, 3, 1, 1},
    {"rn20_16s2", 32, 16, 32, 32, 3, 2, 1}, {"rn20_32", 32, 32, 16, 32, 3, 1, 1},
    {"rn20_32s2", 32, 32, 16, 64, 3, 2, 1}, {"rn20_64", 32, 64, 8, 64, 3, 1, 1},
};

struct Data {
  explicit Data(const Layer& l) {
    Rng rng(0);
    const Index result = (l.size + 2 * l.padding - l.kernel) / l.stride + 1;
    geometry = {l.batch,
                1,
                l.in,
                l.out,
                {l.size, l.size},
                {l.kernel, l.kernel},
                {result, result},
                {l.stride, l.stride},
                {1, 1},
                {l.padding, l.padding}};
    options = {.stride = l.stride, .padding = l.padding};
    x = randn(rng, geometry.x_shape());
    w = (Variable(randn(rng, geometry.weight_shape()))).value();
    g = randn(rng, geometry.y_shape());
    work = 2.0 * static_cast<double>(g.size() * l.in * l.kernel * l.kernel);
  }
  ConvGeometry geometry;
  Conv2dOptions options;
  Tensor x, w, g;
  double work;
};

Task task(const Layer& layer, const char* metric, double passes, void (*run)(const Data&)) {
  const auto data = std::make_shared<Data>(layer);
  Task t;
  t.run = [data, run] { run(*data); };
  const double work = passes * data->work;
  t.figures = {{metric, "GFLOP/s", [work](double s) { return work / s / 1e9; }}};
  t.min_seconds = 0.04;
  return t;
}

void forward(const Data& d) { keep(conv2d(Variable(d.x), Variable(d.w), {}, d.options).value().data<float>()); }
void data_gradient(const Data& d) { keep(conv2d_data(d.g, d.w, nullptr, d.geometry).data<float>()); }
void weight_gradient(const Data& d) { keep(conv2d_weight(d.x, d.g, d.geometry).data<float>()); }
void both(const Data& d) {
  Tape tape;
  const Variable x = tape.watch(d.x), w = tape.watch(d.w);
  const Variable y = conv2d(x, w, {}, d.options), g = d.g;
  const std::vector<Variable> leaves = {x, w};
  keep(tape.gradient({&y, 1}, {&g, 1}, leaves)[0].value().data<float>());
}

}  // namespace

std::vector<Workload> conv_workloads() {
  std::vector<Workload> rows;
  for (const Layer& layer : layers) {
    const std::string name = std::string("conv_") + layer.name;
    rows.push_back({"conv", name, [&layer] { return task(layer, "fwd", 1, forward); }});
    rows.push_back({"conv", name, [&layer] { return task(layer, "bwd_data", 1, data_gradient); }});
    rows.push_back({"conv", name, [&layer] { return task(layer, "bwd_weights", 1, weight_gradient); }});
    rows.push_back({"conv", name, [&layer] { return task(layer, "fwdbwd", 3, both); }});
  }
  return rows;
}

}  // namespace espalier::bench
