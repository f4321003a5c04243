// Random networks of layers of every kind for property tests: a description, which rapidcheck makes and shrinks, and the
// model, with random masks and running statistics.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/upsample.h"

namespace espalier::testing {

struct DeepSpec {
  struct Step {
    int kind = 0, width = 1, detail = 0;
  };
  std::vector<Step> images, sequence, vectors;  // behind each other; any may be empty
  bool from_image = true, single = false;
  int dead_rows = 0, dead_columns = 0, sparsity = 0, masked_biases = 0;  // percent
  std::uint64_t seed = 0;
};

inline std::ostream& operator<<(std::ostream& out, const DeepSpec& s) {
  out << (s.single ? "f32" : "f64") << (s.from_image ? " image" : " sequence") << " rows " << s.dead_rows << " columns "
      << s.dead_columns << " sparsity " << s.sparsity << " biases " << s.masked_biases << " seed " << s.seed;
  for (const auto& [name, list] : {std::pair{"\n images", &s.images}, std::pair{"\n sequence", &s.sequence},
                                   std::pair{"\n vectors", &s.vectors}}) {
    out << name;
    for (const auto& step : *list) out << " {" << step.kind << ", " << step.width << ", " << step.detail << "}";
  }
  return out;
}

/// cat of two branches along axis 1.
class Both final : public nn::Module {
 public:
  Both(nn::Sequential left, nn::Sequential right, int axis) : a(std::move(left)), b(std::move(right)), axis_(axis) {}
  Variable operator()(const Variable& x) const { return cat({a(x), b(x)}, axis_); }
  void members(nn::Visitor& v) override { v("a", a)("b", b); }
  nn::Sequential a, b;

 private:
  int axis_;
};

/// x [N, C, H, W] times a gate [N, C].
class Gated final : public nn::Module {
 public:
  explicit Gated(nn::Sequential g) : gate(std::move(g)) {}
  Variable operator()(const Variable& x) const { return x * reshape(gate(x), {x.dim(0), -1, 1, 1}); }
  void members(nn::Visitor& v) override { v("gate", gate); }
  nn::Sequential gate;
};

/// One layer used twice.
class Twice final : public nn::Module {
 public:
  explicit Twice(nn::Linear l) : layer(std::move(l)) {}
  Variable operator()(const Variable& x) const { return layer(relu(layer(x))); }
  void members(nn::Visitor& v) override { v("layer", layer); }
  nn::Linear layer;
};

/// A recurrent layer without its states.
template <class Layer>
class OutputOf final : public nn::Module {
 public:
  explicit OutputOf(Layer l) : layer(std::move(l)) {}
  Variable operator()(const Variable& x) const { return layer(x).output; }
  void members(nn::Visitor& v) override { v("layer", layer); }
  Layer layer;
};

class DeepNet final : public nn::Module {
 public:
  explicit DeepNet(const DeepSpec& s) : rng_(s.seed), type_(s.single ? DType::f32 : DType::f64) {
    width_ = 2;
    if (s.from_image) {
      size_ = 8;
      for (const auto& step : s.images) image(step);
      leave_image(s);
    }
    if (!s.from_image || sequence_) {
      for (const auto& step : s.sequence) sequence(step);
      net.push_back([](const Variable& x) { return mean(x, {1}); });
    }
    for (const auto& step : s.vectors) vector(step);
    net.push_back(nn::Linear(rng_, width_, 3, {.dtype = type_}));
    for (const NamedParameter& p : net.parameters()) mask(*p.parameter, s);
    for (const NamedBuffer& b : net.buffers())
      if (is_floating(b.buffer->value().dtype()))
        b.buffer->set(rng_.uniform(b.buffer->value().shape(), b.name.ends_with("mean") ? -1 : 0.5, 1.5, type_));
  }
  Variable operator()(const Variable& x) const { return net(x); }
  void members(nn::Visitor& v) override { v("net", net); }
  static Tensor sample(const DeepSpec& s, Index batch, std::uint64_t seed) {
    Rng rng(seed);
    const DType type = s.single ? DType::f32 : DType::f64;
    return s.from_image ? rng.normal({batch, 2, 8, 8}, 0, 1, type) : rng.normal({batch, 4 + batch, 2}, 0, 1, type);
  }
  nn::Sequential net;

 private:
  template <class F>
  static void push(nn::Sequential& to, int which, F extra) {
    switch (which % 5) {
      case 0:
        return to.push_back([](const Variable& x) { return relu(x); });
      case 1:
        return to.push_back([](const Variable& x) { return tanh(x); });
      case 2:
        return to.push_back([](const Variable& x) { return sigmoid(x); });
      case 3:
        return to.push_back([](const Variable& x) { return leaky_relu(x, 0.1); });
      default:
        return extra();
    }
  }
  void image(const DeepSpec::Step& step) {
    const int d = step.detail;
    const Index w = step.width;
    const auto conv = [&](Index in, Index out, bool keeps) {
      const Index k = size_ >= 3 && (keeps || d % 3 > 0) ? 3 : 1;
      return nn::Conv2d(rng_, in, out, k, {.padding = keeps || d % 2 ? k / 2 : 0, .bias = d % 4 != 0, .dtype = type_});
    };
    switch (step.kind % 14) {
      case 0: {
        nn::Conv2d c = conv(width_, w, false);
        if (c.weight.value().dim(-1) == 3 && d % 2 == 0) size_ -= 2;
        net.push_back(std::move(c));
        width_ = w;
        break;
      }
      case 1:
        net.push_back(nn::BatchNorm2d(width_, {.affine = d % 5 > 0, .relu = d % 2 == 0, .dtype = type_}));
        break;
      case 2:
        push(net, d, [&] { net.push_back(nn::PRelu(d % 2 ? width_ : 1, {.dtype = type_})); });
        break;
      case 3:
        if (size_ < 4) break;
        if (d % 2)
          net.push_back(nn::MaxPool2d(2));
        else
          net.push_back(nn::AvgPool2d(2, {.padding = d % 4 ? 1 : 0}));
        size_ = d % 2 || d % 4 == 0 ? size_ / 2 : size_ / 2 + 1;
        break;
      case 4: {
        nn::Sequential body(conv(width_, w, true), nn::BatchNorm2d(w, {.dtype = type_}), tanh, conv(w, width_, true));
        net.push_back(nn::Residual<nn::Sequential>(std::move(body)));
        break;
      }
      case 5:
        net.push_back(Both(nn::Sequential(conv(width_, w, true), relu), nn::Sequential(conv(width_, 2, true)), 1));
        width_ = w + 2;
        break;
      case 6: {
        const Index times = 1 + d % 2;
        net.push_back(nn::Conv2d(rng_, width_, times * width_, 1, {.groups = width_, .dtype = type_}));
        width_ *= times;
        break;
      }
      case 7:
        if (size_ > 8) break;
        net.push_back(nn::ConvTranspose2d(rng_, width_, w, 2, {.stride = 2, .bias = d % 2 > 0, .dtype = type_}));
        width_ = w;
        size_ *= 2;
        break;
      case 8:
        if (width_ % 2 == 0 && d % 2)
          net.push_back(nn::GroupNorm(width_ / 2, width_, {.dtype = type_}));
        else if (size_ > 1)
          net.push_back(nn::InstanceNorm2d(width_, {.affine = true, .dtype = type_}));
        break;
      case 9:
        if (width_ % 2) break;
        net.push_back([](const Variable& x) {
          const std::vector<Variable> halves = chunk(x, 2, 1);
          return halves[0] * sigmoid(halves[1]);
        });
        width_ /= 2;
        break;
      case 10:
        if (size_ < 3 || size_ > 12) break;
        if (d % 2)
          net.push_back([](const Variable& x) { return pad(x, {1, 0, 0, 1}, PadMode::reflect); });
        else
          net.push_back([](const Variable& x) { return pad(x, {1, 0, 0, 1}, PadMode::constant, 0.5); });
        size_ += 1;
        break;
      case 11:
        if (size_ > 6) break;
        net.push_back(nn::Upsample(2, d % 2 ? Interpolation::linear : Interpolation::nearest));
        size_ *= 2;
        break;
      case 12: {  // a channel is multiplied by what all of them say
        nn::Sequential gate(
            [](const Variable& x) {
              return mean(x, {2, 3});
            },
            nn::Linear(rng_, width_, w, {.activation = Activation::relu, .dtype = type_}),
            nn::Linear(rng_, w, width_, {.activation = Activation::sigmoid, .dtype = type_}));
        net.push_back(Gated(std::move(gate)));
        break;
      }
      default:  // channels last and back, and two of them exchanged
        net.push_back([](const Variable& x) {
          return flip(permute(softsign(permute(x, {0, 2, 3, 1})), {0, 3, 1, 2}), {1});
        });
    }
  }
  void leave_image(const DeepSpec& s) {
    sequence_ = !s.sequence.empty();
    if (sequence_) {  // pixels behind each other
      net.push_back([](const Variable& x) { return transpose(flatten(x, 2), 1, 2); });
    } else if (s.seed % 2) {
      net.push_back([](const Variable& x) { return mean(x, {2, 3}); });
    } else {
      net.push_back([](const Variable& x) { return flatten(adaptive_max_pool2d(x, 2), 1); });
      width_ *= 4;
    }
  }
  void sequence(const DeepSpec::Step& step) {
    const int d = step.detail;
    const Index w = step.width;
    const nn::RecurrentOptions recurrent{
        .num_layers = 1 + d % 2, .bias = d % 5 > 0, .batch_first = true, .bidirectional = d % 3 == 0, .dtype = type_};
    switch (step.kind % 6) {
      case 0:
        net.push_back(OutputOf(nn::Lstm(rng_, width_, w, recurrent)));
        width_ = recurrent.bidirectional ? 2 * w : w;
        break;
      case 1:
        net.push_back(OutputOf(nn::Gru(rng_, width_, w, recurrent)));
        width_ = recurrent.bidirectional ? 2 * w : w;
        break;
      case 2:
        net.push_back(OutputOf(nn::Rnn(rng_, width_, w, recurrent, d % 2 ? Nonlinearity::relu : Nonlinearity::tanh)));
        width_ = recurrent.bidirectional ? 2 * w : w;
        break;
      case 3: {
        nn::MultiheadAttention attention(rng_, width_, width_ % 2 ? 1 : d % 2 ? 2 : width_ / 2, {.dtype = type_});
        if (d % 3)
          net.push_back(nn::Residual<nn::MultiheadAttention>(std::move(attention)));
        else
          net.push_back(std::move(attention));
        break;
      }
      case 4:
        net.push_back(nn::LayerNorm(width_, {.dtype = type_}));
        break;
      default:
        net.push_back(nn::Linear(rng_, width_, w, {.activation = Activation::gelu, .dtype = type_}));
        width_ = w;
    }
  }
  void vector(const DeepSpec::Step& step) {
    const int d = step.detail;
    const Index w = step.width;
    const auto linear = [&](Index in, Index out, Activation activation = Activation::none) {
      return nn::Linear(rng_, in, out, {.bias = d % 4 != 0, .activation = activation, .dtype = type_});
    };
    switch (step.kind % 7) {
      case 0:
        net.push_back(linear(width_, w, d % 2 ? Activation::relu : Activation::silu));
        width_ = w;
        break;
      case 1:
        net.push_back(nn::BatchNorm1d(width_, {.relu = d % 2 == 0, .dtype = type_}));
        break;
      case 2:
        push(net, d, [&] { net.push_back(nn::PRelu(width_, {.dtype = type_})); });
        break;
      case 3:
        net.push_back(nn::Residual<nn::Sequential>(nn::Sequential(linear(width_, w), tanh, linear(w, width_))));
        break;
      case 4:
        net.push_back(Both(nn::Sequential(linear(width_, w)), nn::Sequential(tanh), 1));
        width_ += w;
        break;
      case 5:
        net.push_back(Twice(linear(width_, width_)));
        break;
      default:
        if (width_ % 2) break;
        net.push_back([](const Variable& x) {
          const std::vector<Variable> halves = split(x, x.dim(1) / 2, 1);
          return maximum(halves[0], halves[1]);
        });
        width_ /= 2;
    }
  }
  void mask(ParameterState& p, const DeepSpec& s) {
    auto chance = [&](int percentage) { return static_cast<int>(rng_.below(100)) < percentage; };
    const Shape shape = p.value().shape();
    Mask mask(p.value().size());
    const Index rows = shape[0], each = mask.size() / std::max<Index>(1, rows);
    if (shape.rank() < 2) {
      for (Index r = 0; r < rows; ++r)
        if (chance(s.masked_biases)) mask.set(r, false);
      return p.set_mask(mask);
    }
    const Index columns = shape[1], taps = each / std::max<Index>(1, columns);
    for (Index i = 0; i < mask.size(); ++i)
      if (chance(s.sparsity)) mask.set(i, false);
    for (Index r = 0; r < rows; ++r)
      if (chance(s.dead_rows))
        for (Index i = 0; i < each; ++i) mask.set(r * each + i, false);
    for (Index c = 0; c < columns; ++c)
      if (chance(s.dead_columns))
        for (Index i = 0; i < mask.size(); ++i)
          if (i / taps % columns == c) mask.set(i, false);
    p.set_mask(mask);
  }

  Rng rng_;
  DType type_;
  Index width_ = 0, size_ = 0;
  bool sequence_ = false;
};

inline rc::Gen<DeepSpec> any_deep_net() {
  return rc::gen::exec([] {
    DeepSpec s;
    const auto steps = [](int most) {
      std::vector<DeepSpec::Step> list(static_cast<std::size_t>(*rc::gen::inRange(0, most + 1)));
      for (auto& step : list) step = {*rc::gen::inRange(0, 420), *rc::gen::inRange(1, 9), *rc::gen::inRange(0, 60)};
      return list;
    };
    s.from_image = *rc::gen::weightedElement<bool>({{3, true}, {1, false}});
    s.images = steps(6);
    s.sequence = steps(3);
    if (s.from_image && *rc::gen::arbitrary<bool>()) s.sequence.clear();
    s.vectors = steps(4);
    s.single = *rc::gen::weightedElement<bool>({{1, true}, {3, false}});
    s.dead_rows = *rc::gen::element(0, 30, 60, 100);
    s.dead_columns = *rc::gen::element(0, 0, 30, 60);
    s.sparsity = *rc::gen::element(0, 30, 90);
    s.masked_biases = *rc::gen::element(0, 50, 100);
    s.seed = *rc::gen::inRange<std::uint64_t>(0, 1000000);
    return s;
  });
}

}  // namespace espalier::testing
