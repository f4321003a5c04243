#include <cmath>
#include <limits>

#include "espalier/autograd/ops/attention.h"
#include "espalier/core/dropout.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// What is added to the score of query i and key j: -infinity hides it.
using Added = std::function<double(Index head, Index i, Index j)>;

constexpr double hidden = -std::numeric_limits<double>::infinity();

/// The plain loops, of q [H, L, d], k [H, S, d], v [H, S, e]; the probabilities instead of the output if `weights`.
Array attention(const Array& q, const Array& k, const Array& v, const Added& added, bool weights = false) {
  const int r = q.shape.rank();
  const Index L = q.shape[-2], S = k.shape[-2], d = q.shape[-1], e = v.shape[-1];
  Index heads = 1;
  Shape shape = q.shape;
  for (int axis = 0; axis + 2 < r; ++axis) heads *= q.shape[axis];
  shape[-1] = weights ? S : e;
  Array y(shape);
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < L; ++i) {
      std::vector<double> p(static_cast<std::size_t>(S));
      double most = hidden, total = 0;
      for (Index j = 0; j < S; ++j) {
        double s = 0;
        for (Index c = 0; c < d; ++c) s += q[(h * L + i) * d + c] * k[(h * S + j) * d + c];
        p[static_cast<std::size_t>(j)] = s / std::sqrt(static_cast<double>(d)) + added(h, i, j);
        most = std::max(most, p[static_cast<std::size_t>(j)]);
      }
      for (double& x : p) total += x = most == hidden ? 0 : std::exp(x - most);
      for (Index j = 0; j < S; ++j) {
        const double share = total == 0 ? 0 : p[static_cast<std::size_t>(j)] / total;
        if (weights)
          y[(h * L + i) * S + j] = share;
        else
          for (Index c = 0; c < e; ++c) y[(h * L + i) * e + c] += share * v[(h * S + j) * e + c];
      }
    }
  return y;
}

auto by(Added added) {
  return [=](std::span<const Array> in) { return attention(in[0], in[1], in[2], added); };
}
double all_seen(Index, Index, Index) { return 0; }
double causal(Index, Index i, Index j) { return j <= i ? 0 : hidden; }
double causal_by_2(Index, Index i, Index j) { return j <= i - 2 ? 0 : hidden; }
double some(Index, Index i, Index j) { return (i * 3 + j * 5) % 4 != 0 && i % 5 != 3 ? 0 : hidden; }
double slope(Index h, Index i, Index j) { return 0.1 * static_cast<double>((i - j) * (h % 3)); }

/// A mask of all heads, [L, S].
Variable seen_by(std::span<const Variable> v, const Added& added) {
  const Index L = v[0].shape()[-2], S = v[1].shape()[-2];
  std::vector<bool> keep;
  for (Index i = 0; i < L; ++i)
    for (Index j = 0; j < S; ++j) keep.push_back(added(0, i, j) != hidden);
  return Tensor::from(keep, {L, S});
}
/// A mask of each head, [H, L, S], to be added.
Variable added_to(std::span<const Variable> v, const Added& added) {
  const Index H = v[0].shape()[0], L = v[0].shape()[-2], S = v[1].shape()[-2];
  std::vector<double> values;
  for (Index h = 0; h < H; ++h)
    for (Index i = 0; i < L; ++i)
      for (Index j = 0; j < S; ++j) values.push_back(added(h, i, j));
  return Tensor::from(values, {H, L, S}).to(v[0].dtype());
}

/// A dropout whose generator begins anew with every use, and what it keeps: a word of 64 keys after the other.
constexpr double dropped = 0.3;
template <class F>
Variable with_dropout(const F& f) {
  Rng rng(5);
  return f(AttentionOptions{.causal = true, .dropout = dropped, .rng = &rng});
}
Array dropout_reference(std::span<const Array> in) {
  const Array &q = in[0], &k = in[1], &v = in[2];
  Array p = attention(q, k, v, causal, true);
  const Index S = k.shape[-2], L = q.shape[-2], e = v.shape[-1], words = (S + 63) / 64;
  Shape shape = q.shape;
  shape[-1] = e;
  Array y(shape);
  if (S == 0) return y;
  Rng rng(5);
  const std::vector<std::int64_t> bits =
      random_bits(rng, p.size() / S * words * 64, 1 - dropped).to_vector<std::int64_t>();
  for (Index i = 0; i < p.size(); ++i) {
    const Index row = i / S, j = i % S;
    const auto word = static_cast<std::uint64_t>(bits[static_cast<std::size_t>(row * words + j / 64)]);
    if ((word >> (j % 64) & 1) == 0) continue;
    for (Index c = 0; c < e; ++c) y[row * e + c] += p[i] / (1 - dropped) * v[(row / L * S + j) * e + c];
  }
  return y;
}

/// q, k, v of `rank` axes.
auto heads(int rank) {
  return [=](Lengths& draw) {
    Shape lead;
    for (int axis = 0; axis + 2 < rank; ++axis) lead.push_back(std::min<Index>(draw.length(), 4));
    const Index L = draw.length(), S = draw.length(), d = draw.positive(), e = draw.positive();
    auto with = [&](Index rows, Index columns) {
      Shape s = lead;
      s.push_back(rows);
      s.push_back(columns);
      return s;
    };
    return std::vector<Shape>{with(L, d), with(S, d), with(S, e)};
  };
}

/// x [N, T, 3 H d] split in three and run by the loops.
Array self_reference(std::span<const Array> in, Index H, const Added& added) {
  const Array& x = in[0];
  const Index N = x.shape[0], T = x.shape[1], C = x.shape[2] / 3, d = C / H;
  std::array<Array, 3> parts;
  for (Index part = 0; part < 3; ++part) {
    Array& a = parts[static_cast<std::size_t>(part)] = Array({N, H, T, d});
    for (Index i = 0; i < a.size(); ++i) {
      const Index c = i % d, t = i / d % T, h = i / (d * T) % H, n = i / (d * T * H);
      a[i] = x[(n * T + t) * 3 * C + part * C + h * d + c];
    }
  }
  const Array y = attention(parts[0], parts[1], parts[2], added);
  Array joined({N, T, C});
  for (Index i = 0; i < y.size(); ++i) {
    const Index c = i % d, t = i / d % T, h = i / (d * T) % H, n = i / (d * T * H);
    joined[(n * T + t) * C + h * d + c] = y[i];
  }
  return joined;
}
auto self(Index H, Added added) {
  return [=](std::span<const Array> in) { return self_reference(in, H, added); };
}
auto projected(Index H) {
  return [H](Lengths& draw) {
    return std::vector<Shape>{
        {std::min<Index>(draw.length(), 3), draw.length(), 3 * H * std::min<Index>(draw.positive(), 9)}};
  };
}

}  // namespace

std::vector<OpCase> attention_cases() {
  return {
      {"scaled_dot_product_attention", VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2])), by(all_seen),
       heads(3)},
      {"scaled_dot_product_attention: causal",
       VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2], {}, {.causal = true})), by(causal), heads(4)},
      {"scaled_dot_product_attention: one head, causal, shifted",
       VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2], {}, {.causal = true, .causal_offset = -2})),
       by(causal_by_2), heads(2)},
      {"scaled_dot_product_attention: mask", VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2], seen_by(v, some))),
       by(some), heads(3)},
      {"scaled_dot_product_attention: added mask",
       VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2], added_to(v, slope))), by(slope), heads(3)},
      {"scaled_dot_product_attention: one head of keys", VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2])),
       [](std::span<const Array> in) {
         Array k({in[0].shape[0], in[1].shape[0], in[1].shape[1]}), v({in[0].shape[0], in[2].shape[0], in[2].shape[1]});
         for (Index i = 0; i < k.size(); ++i) k[i] = in[1][i % in[1].size()];
         for (Index i = 0; i < v.size(); ++i) v[i] = in[2][i % in[2].size()];
         return attention(in[0], k, v, all_seen);
       },
       [](Lengths& draw) {
         const Index d = draw.positive(), S = draw.length();
         return std::vector<Shape>{{draw.length(), draw.length(), d}, {S, d}, {S, draw.positive()}};
       }},
      {"scaled_dot_product_attention: learned mask", VARIABLE(scaled_dot_product_attention(v[0], v[1], v[2], v[3])),
       [](std::span<const Array> in) {
         const Array& m = in[3];
         return attention(in[0], in[1], in[2], [&m](Index, Index i, Index j) { return m[i * m.shape[1] + j]; });
       },
       [](Lengths& draw) {
         std::vector<Shape> shapes = heads(3)(draw);
         shapes.push_back({shapes[0][1], shapes[1][1]});
         return shapes;
       }},
      {"attention_with_weights: output",
       VARIABLE(attention_with_weights(v[0], v[1], v[2], seen_by(v, some), {.causal = true}).output),
       by([](Index h, Index i, Index j) { return some(h, i, j) + causal(h, i, j); }), heads(4)},
      {"attention_with_weights: weights", VARIABLE(attention_with_weights(v[0], v[1], v[1]).weights),
       [](std::span<const Array> in) { return attention(in[0], in[1], in[1], all_seen, true); },
       [](Lengths& draw) {
         std::vector<Shape> shapes = heads(3)(draw);
         shapes.pop_back();
         return shapes;
       }},
      {"scaled_dot_product_attention: dropout", VARIABLE(with_dropout([&](const AttentionOptions& options) {
         return scaled_dot_product_attention(v[0], v[1], v[2], {}, options);
       })),
       dropout_reference, heads(4)},
      {"attention_with_weights: dropout", VARIABLE(with_dropout([&](const AttentionOptions& options) {
         return attention_with_weights(v[0], v[1], v[2], {}, options).output;
       })),
       dropout_reference, heads(3)},
      {"self_attention", VARIABLE(self_attention(v[0], 2)), self(2, all_seen), projected(2)},
      {"self_attention: learned mask", VARIABLE(self_attention(v[0], 2, v[1])),
       [](std::span<const Array> in) {
         return self_reference(in, 2, [&in](Index, Index i, Index j) { return in[1][i * in[1].shape[1] + j]; });
       },
       [](Lengths& draw) {
         std::vector<Shape> shapes = projected(2)(draw);
         shapes.push_back({shapes[0][1], shapes[0][1]});
         return shapes;
       }},
      {"self_attention: causal", VARIABLE(self_attention(v[0], 3, {}, {.causal = true})), self(3, causal),
       projected(3)},
  };
}

}  // namespace espalier::testing
