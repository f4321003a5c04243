#include "espalier/autograd/macs.h"

#include <algorithm>
#include <map>
#include <vector>

#include "espalier/core/packed.h"

namespace espalier {
namespace {

using Shapes = std::vector<Shape>;
using MacRule = double (*)(const Shapes& in, const Shapes& out);

double size(const Shape& s) { return static_cast<double>(espalier::count(s)); }
/// Length of an axis counted from the back: 1 is the last.
double from_back(const Shape& s, int place) { return s.rank() < place ? 1 : static_cast<double>(s[s.rank() - place]); }
/// Weights that one output, or one input, of a weight [units, ...] meets.
double per_unit(const Shape& weight) { return size(weight) / std::max(1.0, from_back(weight, weight.rank())); }

double of_linear(const Shapes& in, const Shapes& out) { return size(out[0]) * from_back(in[1], 1); }
double of_matmul(const Shapes& in, const Shapes& out) { return size(out[0]) * from_back(in[0], 1); }
double of_conv(const Shapes& in, const Shapes& out) { return size(out[0]) * per_unit(in[1]); }
double of_conv_transpose(const Shapes& in, const Shapes&) { return size(in[0]) * per_unit(in[1]); }
/// q [..., T, d], k [..., S, d], v [..., S, e]: T S d for the weights, T S e for their sum.
double of_attention(const Shapes& in, const Shapes&) {
  return size(in[0]) / std::max(1.0, from_back(in[0], 1)) * from_back(in[1], 2) *
         (from_back(in[0], 1) + from_back(in[2], 1));
}
/// qkv [N, T, 3 d].
double of_self_attention(const Shapes& in, const Shapes&) { return size(in[0]) / 3 * from_back(in[0], 2) * 2; }
/// x [T, N, in] with the axes of time and batch in any order, states [N, hidden], weights [gates, in] and
/// [gates, hidden]: each row of x, and each state, meets its weight once.
double of_recurrent(const Shapes& in, const Shapes&) {
  double weights = 0;
  int taken = 0;
  for (std::size_t k = in.size(); k-- > 1 && taken < 2;)  // the last two matrices; vectors behind them are biases
    if (in[k].rank() == 2) {
      weights += size(in[k]);
      ++taken;
    }
  return size(in[0]) / std::max(1.0, from_back(in[0], 1)) * weights;
}

/// Multiply-adds of an op, from the shapes of its inputs and outputs. Those not here have none worth counting, or are
/// made of these.
MacRule mac_rule(std::string_view op) {
  static const std::map<std::string_view, MacRule> rules = {
      {"linear", of_linear},
      {"matmul", of_matmul},
      {"conv1d", of_conv},
      {"conv2d", of_conv},
      {"conv_transpose1d", of_conv_transpose},
      {"conv_transpose2d", of_conv_transpose},
      {"scaled_dot_product_attention", of_attention},
      {"self_attention", of_self_attention},
      {"rnn", of_recurrent},
      {"lstm", of_recurrent},
      {"gru", of_recurrent},
  };
  const auto at = rules.find(op);
  return at == rules.end() ? nullptr : at->second;
}

}  // namespace

std::optional<double> multiply_adds(std::string_view op, std::span<const Variable* const> inputs,
                                    std::span<const Variable> outputs) {
  const MacRule rule = mac_rule(op);
  if (!rule) return std::nullopt;
  Shapes in, out;
  for (const Variable* v : inputs) in.push_back(v->defined() ? v->shape() : Shape{});
  for (const Variable& v : outputs) out.push_back(v.shape());
  return rule(in, out);
}

Index live_weights(const ParameterState& p) {
  if (p.mask().defined()) return p.mask().live();
  const Packed* packed = p.value().packed();
  return packed ? packed->live() : p.value().size();
}

double live_share(const ParameterState& p) {
  const Index all = p.value().size();
  return all > 0 ? static_cast<double>(live_weights(p)) / static_cast<double>(all) : 1;
}

}  // namespace espalier
