// Random networks of linear layers for property tests: a description, which rapidcheck makes and shrinks, and the
// model.
#pragma once

#include <rapidcheck.h>

#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module.h"

namespace espalier::testing {

struct NetSpec {
  struct Layer {
    int width = 1;
    bool bias = true;
    int sparsity = 0;      // percent of single weights that are masked
    int dead_rows = 0;     // percent of units whose weights are all masked
    int dead_columns = 0;  // percent of units that nobody reads
    bool bias_masked = false;
    int activation = 0;
    bool fused = false;  // the layer does its activation itself, where there is such a form
  };
  int in = 1;
  std::vector<Layer> layers;
  bool single = true;  // f32, else f64
  int batch = 1;
  std::uint64_t seed = 0;
};

inline std::ostream& operator<<(std::ostream& out, const NetSpec& s) {
  out << (s.single ? "f32" : "f64") << " batch " << s.batch << " seed " << s.seed << " in " << s.in;
  for (const auto& l : s.layers)
    out << "\n  width " << l.width << " bias " << l.bias << " masked " << l.bias_masked << " sparsity " << l.sparsity
        << " dead rows " << l.dead_rows << " columns " << l.dead_columns << " activation " << l.activation << " fused "
        << l.fused;
  return out;
}

class RandomNet final : public nn::Module {
 public:
  explicit RandomNet(const NetSpec& spec) {
    Rng rng(spec.seed);
    const DType type = spec.single ? DType::f32 : DType::f64;
    Index in = spec.in;
    for (const NetSpec::Layer& l : spec.layers) {
      const bool last = layers.size() + 1 == spec.layers.size();
      const Activation inside = l.fused && !last ? fused(l.activation) : Activation::none;
      layers.emplace_back(rng, in, l.width, nn::LinearOptions{.bias = l.bias, .activation = inside, .dtype = type});
      activations.push_back(inside.rule() ? none : l.activation);
      Mask mask(l.width * in);
      auto chance = [&](int percentage) { return rng.below(100) < percentage; };
      for (Index i = 0; i < mask.size(); ++i)
        if (chance(l.sparsity)) mask.set(i, false);
      for (Index r = 0; r < l.width; ++r)
        if (chance(l.dead_rows))
          for (Index c = 0; c < in; ++c) mask.set(r * in + c, false);
      for (Index c = 0; c < in; ++c)
        if (chance(l.dead_columns))
          for (Index r = 0; r < l.width; ++r) mask.set(r * in + c, false);
      layers.back().weight.set_mask(mask);
      if (l.bias && l.bias_masked) {
        Mask some(l.width);
        for (Index r = 0; r < l.width; ++r) some.set(r, chance(50));
        layers.back().bias.set_mask(some);
      }
      in = l.width;
    }
    sample = rng.normal({spec.batch, spec.in}, 0, 1, type);
  }
  Variable hidden(Variable x) const {
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) x = activate(activations[i], layers[i](x));
    return x;
  }
  Variable operator()(const Variable& x) const { return layers.back()(hidden(x)); }
  void members(nn::Visitor& v) override { v("layers", layers); }

  /// Largest sum of |terms| of an output: what rounding is relative to.
  double scale(const Tensor& x) const {
    const std::vector<double> h = hidden(x).value().to(DType::f64).to_vector<double>();
    const std::vector<double> w = layers.back().weight.value().to(DType::f64).to_vector<double>();
    const auto in = static_cast<std::size_t>(layers.back().weight.shape()[1]);
    double largest = 0;
    for (std::size_t row = 0; row * in < h.size(); ++row)
      for (std::size_t unit = 0; unit * in < w.size(); ++unit) {
        double sum = 1;  // biases are at most 1
        for (std::size_t c = 0; c < in; ++c) sum += std::abs(h[row * in + c] * w[unit * in + c]);
        largest = std::max(largest, sum);
      }
    return largest;
  }

  std::vector<nn::Linear> layers;
  std::vector<int> activations;
  Tensor sample;

 private:
  static constexpr int none = 8;
  static Activation fused(int which) {
    switch (which) {
      case 0:
        return Activation::relu;
      case 2:
        return Activation::tanh;
      case 3:
        return Activation::sigmoid;
      case 6:
        return Activation::gelu;
      case 7:
        return Activation::silu;
      default:
        return Activation::none;
    }
  }
  static Variable activate(int which, const Variable& x) {
    switch (which) {
      case 0:
        return relu(x);
      case 1:
        return leaky_relu(x, 0.1);
      case 2:
        return tanh(x);
      case 3:
        return sigmoid(x);
      case 4:
        return softplus(x);
      case 5:
        return 1.0 - exp(-square(x));
      case 6:
        return gelu(x);
      case 7:
        return silu(x);
      default:
        return x;
    }
  }
};

inline rc::Gen<NetSpec> any_net() {
  return rc::gen::exec([] {
    NetSpec s;
    s.in = *rc::gen::inRange(1, 41);
    const int depth = *rc::gen::inRange(1, 5);
    for (int i = 0; i < depth; ++i) {
      NetSpec::Layer l;
      l.width = *rc::gen::inRange(1, 41);
      l.bias = *rc::gen::weightedElement<bool>({{3, true}, {1, false}});
      l.sparsity = *rc::gen::element(0, 30, 60, 90, 97, 100);
      l.dead_rows = *rc::gen::element(0, 0, 30, 100);
      l.dead_columns = *rc::gen::element(0, 0, 30);
      l.bias_masked = *rc::gen::weightedElement<bool>({{1, true}, {4, false}});
      l.activation = *rc::gen::inRange(0, 9);
      l.fused = *rc::gen::arbitrary<bool>();
      s.layers.push_back(l);
    }
    s.single = *rc::gen::arbitrary<bool>();
    s.batch = *rc::gen::element(1, 3, 17);
    s.seed = *rc::gen::inRange<std::uint64_t>(0, 1000000);
    return s;
  });
}

}  // namespace espalier::testing
