#include "espalier/prune/detail/layers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "espalier/core/elementwise.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/patches.h"
#include "espalier/prune/detail/lanes.h"
#include "espalier/prune/score.h"

namespace espalier::prune::detail {
namespace {

template <std::size_t n>
bool among(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
constexpr std::array<std::string_view, 3> layers = {"linear", "conv1d", "conv2d"};
constexpr std::array<std::string_view, 6> norms = {"batch_norm", "batch_norm_inference", "layer_norm",
                                                   "rms_norm",   "group_norm",           "instance_norm"};
constexpr std::array<std::string_view, 3> drops = {"dropout", "channel_dropout", "drop_path"};
constexpr std::array<std::string_view, 21> activations = {
    "relu", "tanh",  "sigmoid", "logsigmoid", "softplus",    "softsign",  "tanhshrink",
    "gelu", "silu",  "mish",    "leaky_relu", "prelu",       "elu",       "celu",
    "selu", "relu6", "clamp",   "hardtanh",   "hardsigmoid", "hardswish", "threshold"};

void add_to(Tensor& sum, const Tensor& more) {
  if (!sum.defined())
    sum = more.clone();
  else
    add_in_place(sum, more);
}
/// Windows of images [n, C, H, W] as a convolution's settings describe them. Both have height 1 for sequences.
PatchGeometry geometry_of(const Shape& kernel, const Shape& x, const Shape& y, std::span<const Index> settings) {
  PatchGeometry g{};
  g.channels = x[1];
  const bool line = settings.size() == 5;
  for (std::size_t a = 0; a < 2; ++a) {
    const bool absent = line && a == 0;
    auto setting = [&](std::size_t group) { return settings[line ? group : 2 * group + a]; };
    const int axis = static_cast<int>(a) + 2;
    g.size[a] = x[axis];
    g.result[a] = y[axis];
    g.kernel[a] = kernel[axis];
    g.stride[a] = absent ? 1 : setting(0);
    g.before[a] = absent ? 0 : setting(1);
    g.dilation[a] = absent ? 1 : setting(2);
  }
  return g;
}
Tensor as_images(const Tensor& t, bool single, bool line) {
  const Tensor batched = single ? t.unsqueeze(0) : t;
  return line ? batched.unsqueeze(2) : batched;
}

}  // namespace

LayerObserver::LayerObserver(const ParameterList& parameters, Needs needs)
    : parameters_(parameters),
      needs_(needs),
      inputs_(needs.inputs || needs.gram),
      outputs_(needs.outputs || needs.output_saliency || needs.norm),
      sums_(parameters.size()) {
  for (std::size_t i = 0; i < parameters.size(); ++i) place_.emplace(parameters[i].parameter.get(), i);
}

void LayerObserver::begin(Tape& tape) {
  tape_ = &tape;
  readings_.clear();
  reading_of_.clear();
  tape.observe(*this);
}

void LayerObserver::recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                             std::span<const Variable> outputs) {
  const std::string_view op = node.op;
  if (outputs_ && !reading_of_.empty()) follow(node, op, outputs);
  if (!among(layers, op) || node.inputs.size() < 2 || node.inputs[1] == Tape::constant) return;
  const auto place = place_.find(tape_->parameter_of(node.inputs[1]).get());
  if (place == place_.end()) return;
  const Shape& weight = inputs[1]->shape();
  const Tensor &x = inputs[0]->value(), &y = outputs[0].value();
  if (inputs_) add_inputs(sums_[place->second], weight, x, y, node.settings);
  if (!outputs_) return;
  const bool linear = op == "linear";
  // The axis of the units: the last of a linear layer, the one behind N of a convolution.
  const int axis = linear ? y.rank() - 1 : y.rank() == weight.rank() ? 1 : 0;
  reading_of_[node.first_output] = readings_.size();
  readings_.push_back({place->second, axis, outputs[0], linear && !node.settings.empty(), true});
}

void LayerObserver::follow(const RecordedOp& node, std::string_view op, std::span<const Variable> outputs) {
  if (node.inputs.empty()) return;
  const auto at = reading_of_.find(node.inputs[0]);
  if (at == reading_of_.end()) return;
  Reading& reading = readings_[at->second];
  const bool norm = among(norms, op), active = among(activations, op);
  if (norm && reading.direct && node.inputs.size() > 1 && node.inputs[1] != Tape::constant) {
    const ParameterRef scale = tape_->parameter_of(node.inputs[1]);
    const Shape& units = parameters_[reading.parameter].parameter->value().shape();
    if (scale && scale->value().rank() == 1 && scale->value().size() == units[0]) sums_[reading.parameter].norm = scale;
  }
  reading.direct = false;
  if (reading.active || !(norm || active || among(drops, op)) || !(outputs[0].shape() == reading.values.shape()))
    return;
  // A normalisation may do relu in the same pass: the last of its three settings.
  reading.active = active || (norm && node.settings.size() == 3 && node.settings[2] != 0);
  reading.values = outputs[0];
  const std::size_t index = at->second;  // the next line may move what `at` stands on
  reading_of_[node.first_output] = index;
}

void LayerObserver::add_inputs(Sums& sums, const Shape& weight, const Tensor& x, const Tensor& y,
                               std::span<const Index> settings) {
  if (weight.rank() == 2) {
    const Index columns = weight[1], rows = columns == 0 ? 0 : x.size() / columns;
    sums.rows += rows;
    add_columns(sums, x.reshape({rows, columns}).t().unsqueeze(0));
    return;
  }
  const bool line = settings.size() == 5, single = x.rank() == weight.rank() - 1;
  const Tensor images = as_images(x, single, line), results = as_images(y, single, line);
  const Index groups = settings.back(), n = images.dim(0);
  PatchGeometry g =
      geometry_of(line ? Shape{weight[0], weight[1], 1, weight[2]} : weight, images.shape(), results.shape(), settings);
  const Index columns = g.rows() / groups, windows = g.windows();
  sums.rows += n * windows;
  // A few images at a time: their patches take kh kw times the room of the images.
  const Index most = std::max<Index>(1, (Index{1} << 21) / std::max<Index>(1, g.rows() * windows));
  for (Index first = 0; first < n || first == 0; first += most) {
    g.images = std::min(most, n - first);
    const Tensor patches = unfold(images.narrow(0, first, g.images).contiguous(), {g.images, g.rows(), windows}, g);
    add_columns(sums, patches.reshape({g.images, groups, columns, windows})
                          .permute({1, 2, 0, 3})
                          .reshape({groups, columns, g.images * windows}));
  }
}

/// x: [groups, columns, rows].
void LayerObserver::add_columns(Sums& sums, const Tensor& x) {
  const Tensor exact = x.contiguous().to(DType::f64);
  if (needs_.inputs) {
    Tensor absolute = Tensor::empty({x.dim(0), x.dim(1)}, DType::f64),
           squares = Tensor::empty(absolute.shape(), DType::f64);
    double *a = absolute.write<double>("gather"), *q = squares.write<double>("gather");
    const double* all = exact.data<double>();
    const Index rows = x.dim(2);
    parallel_for(absolute.size(), std::max<Index>(1, (Index{1} << 14) / std::max<Index>(1, rows)),
                 [&](Index begin, Index end) {
                   for (Index c = begin; c < end; ++c) {
                     const double* v = all + c * rows;
                     a[c] = sum_of(rows, [v](Index k) { return std::abs(v[k]); });
                     q[c] = sum_of(rows, [v](Index k) { return v[k] * v[k]; });
                   }
                 });
    add_to(sums.absolute, absolute);
    add_to(sums.squares, squares);
  }
  if (needs_.gram) add_to(sums.gram, matmul(exact, exact.transpose(1, 2)));
}

void LayerObserver::end() {
  tape_->unobserve(*this);
  if (!needs_.outputs) return;
  for (const Reading& reading : readings_) {
    Sums& sums = sums_[reading.parameter];
    const Tensor values = reading.values.value().to(DType::f64);
    add_to(sums.output, sum_units(values, reading.axis));
    add_to(sums.zeros,
           sum_units(map_with("gather", values, [](auto v) { return v == 0   ? 1.0
                                                                    : v != v ? v
                                                                             : 0.0; }), reading.axis));
  }
  for (const Reading& reading : readings_) {
    const Index units = reading.values.shape()[reading.axis];
    sums_[reading.parameter].values += units == 0 ? 0 : reading.values.size() / units;
  }
}

std::vector<Variable> LayerObserver::outputs() const {
  std::vector<Variable> all;
  if (needs_.output_saliency)
    for (const Reading& reading : readings_) all.push_back(reading.values);
  return all;
}

void LayerObserver::add_saliency(std::span<const Variable> gradients) {
  std::vector<Tensor> batch(sums_.size());
  std::vector<Index> count(sums_.size());
  for (std::size_t r = 0; r < gradients.size(); ++r) {
    const Reading& reading = readings_[r];
    if (!gradients[r].defined()) continue;
    const Tensor h = reading.values.value().to(DType::f64), g = gradients[r].value().to(DType::f64);
    add_to(batch[reading.parameter],
           sum_units(zip_with("gather", h, g, [](auto a, auto b) { return a * b; }), reading.axis));
    const Index units = h.dim(reading.axis);
    count[reading.parameter] += units == 0 ? 0 : h.size() / units;
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (!batch[i].defined()) continue;
    const double n = static_cast<double>(std::max<Index>(1, count[i]));
    add_to(sums_[i].saliency, map_with("gather", batch[i], [n](auto v) { return std::abs(v) / n; }));
  }
}

namespace {

/// [groups, columns] -> a shape that broadcasts to the weight's.
Tensor for_weight(const Tensor& sums, const Shape& weight) {
  if (!sums.defined() || weight.rank() < 2) return {};
  const Index groups = sums.dim(0), columns = sums.dim(1);
  if (groups == 1) {
    Dims shape = weight;
    shape[0] = 1;
    return sums.reshape(shape);
  }
  return sums.reshape({groups, 1, columns})
      .broadcast_to({groups, weight[0] / groups, columns})
      .contiguous()
      .reshape(weight);
}

}  // namespace

void LayerObserver::write(Gathered& gathered, Index batches) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Sums& sums = sums_[i];
    const Shape& weight = parameters_[i].parameter->value().shape();
    Statistics& s = gathered[parameters_[i].parameter];
    s.input_sum = for_weight(sums.absolute, weight);
    s.input_squares = for_weight(sums.squares, weight);
    s.gram = sums.gram;
    s.input_rows = sums.rows;
    s.norm = needs_.norm ? sums.norm : nullptr;
    if (sums.saliency.defined()) {
      const double b = static_cast<double>(batches);
      s.output_saliency = map_with("gather", sums.saliency, [b](auto v) { return v / b; });
    }
    if (!sums.output.defined()) continue;
    const double n = static_cast<double>(sums.values);
    auto mean = [n](auto v) { return v / n; };
    s.output_mean = map_with("gather", sums.output, mean);
    s.output_zeros = map_with("gather", sums.zeros, mean);
  }
}

}  // namespace espalier::prune::detail
