#include "espalier/autograd/ops/attention.h"

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/attention.h"
#include "espalier/core/dropout.h"
#include "espalier/core/elementwise.h"

namespace espalier {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

Shape leading(const Shape& shape) { return Shape(shape.span().first(static_cast<std::size_t>(shape.rank() - 2))); }
Shape with(Shape shape, Index rows, Index columns) {
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

/// Leading axes that q, k and v have in common. Errors: ShapeError.
Shape check(const char* op, const Variable& q, const Variable& k, const Variable& v, const Variable& mask) {
  check_same_dtype(op, q.value(), k.value());
  check_same_dtype(op, q.value(), v.value());
  if (q.rank() < 2 || k.rank() < 2 || v.rank() < 2) [[unlikely]]
    fail<ShapeError>("[", op, "] queries ", q.shape(), ", keys ", k.shape(), " and values ", v.shape(),
                     " must be [..., length, width]");
  if (q.shape()[-1] != k.shape()[-1]) [[unlikely]]
    fail<ShapeError>("[", op, "] queries ", q.shape(), " and keys ", k.shape(), " must be of one width, the last axis");
  if (k.shape()[-2] != v.shape()[-2]) [[unlikely]]
    fail<ShapeError>("[", op, "] ", k.shape()[-2], " keys ", k.shape(), " and ", v.shape()[-2], " values ", v.shape());
  const Shape lead =
      broadcast_shapes(op, broadcast_shapes(op, leading(q.shape()), leading(k.shape())), leading(v.shape()));
  if (!mask.defined()) return lead;
  if (mask.dtype() != DType::boolean) check_same_dtype(op, q.value(), mask.value());
  const Shape scores = with(lead, q.shape()[-2], k.shape()[-2]);
  bool fits = mask.rank() <= scores.rank();
  for (int axis = 1; fits && axis <= mask.rank(); ++axis)
    fits = mask.shape()[-axis] == 1 || mask.shape()[-axis] == scores[-axis];
  if (!fits) [[unlikely]]
    fail<ShapeError>("[", op, "] mask ", mask.shape(), " does not broadcast to the scores ", scores,
                     ". Hint: a mask of keys [N, S] is reshape({N, 1, 1, S})");
  return lead;
}

/// Dropout takes its part of the generator here: `lead` are the leading axes of the scores.
AttentionView view_of(const char* op, const Shape& lead, const Variable& q, const Variable& k, const Variable& mask,
                      const AttentionOptions& options) {
  const double width = static_cast<double>(std::max<Index>(1, q.shape()[-1]));
  AttentionView view{mask.value(), options.causal, options.causal_offset, options.scale.value_or(1 / std::sqrt(width))};
  if (!(options.dropout >= 0 && options.dropout <= 1)) [[unlikely]]
    fail<ConfigError>("[", op, "] dropout must be in [0, 1], got ", options.dropout);
  if (options.dropout == 0) return view;
  if (!options.rng) [[unlikely]]
    fail<ConfigError>("[", op, "] dropout ", options.dropout, " needs a generator. Hint: set AttentionOptions::rng");
  view.dropout = options.dropout;
  view.random = *options.rng;
  auto [key, stream, counter] = options.rng->state();
  const Index words = count(lead) * q.shape()[-2] * key_words(k.shape()[-2]);
  counter += static_cast<std::uint64_t>(words) * blocks_per_bit_word;
  options.rng->set_state({key, stream, counter});
  return view;
}

// --- the path that stores the scores --------------------------------------------------------------------------------

/// What is added to the scores for what is not seen, and of each query whether it sees anything (1 or 0).
struct Hidden {
  Tensor added, sees;
};
Hidden hidden(const AttentionView& view, Index queries, Index keys, DType type) {
  Tensor added = Tensor::zeros({queries, keys}, type);
  if (view.causal)
    for (Index i = 0; i < queries; ++i) {
      const Index from = std::clamp<Index>(i + view.offset + 1, 0, keys);
      added.select(0, i).narrow(0, from, keys - from).fill(-infinity);
    }
  if (view.mask.defined()) {
    const Tensor of_mask =
        view.mask.dtype() == DType::boolean
            ? map_with("mask", view.mask.to(type),
                       [](auto keep) { return static_cast<decltype(keep)>(keep != 0 ? 0 : -infinity); })
            : view.mask;
    added = zip_with("mask", of_mask, added, [](auto a, auto b) { return static_cast<decltype(a)>(a + b); });
  }
  Shape shape = added.shape();
  shape[-1] = 1;
  Tensor sees = Tensor::zeros(shape, type);
  const Index rows = sees.size();
  dispatch_floating("mask", type, [&]<class T>() {
    T *score = added.write<T>("mask"), *any = sees.write<T>("mask");
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < keys; ++c)
        if (score[r * keys + c] != -infinity) any[r] = T(1);
      if (any[r] == T(0)) std::fill_n(score + r * keys, keys, T(0));  // softmax of nothing would be NaN
    }
  });
  return {std::move(added), std::move(sees)};
}

double largest_finite(DType type) {
  return type == DType::f32 ? static_cast<double>(std::numeric_limits<float>::max())
                            : std::numeric_limits<double>::max();
}

/// 1 / (1 - dropout) where a probability is kept, else 0: the numbers that the tiles draw. Undefined without dropout.
Tensor kept(const AttentionView& view, Shape shape, DType type) {
  if (view.dropout == 0) return {};
  const Index keys = shape[-1];
  shape[-1] = 64 * key_words(keys);
  Rng random = view.random;
  const Tensor bits = random_bits(random, count(shape), 1 - view.dropout);
  return keep_where(Tensor::ones(shape, type), bits, view.dropout < 1 ? 1 / (1 - view.dropout) : 0).narrow(-1, 0, keys);
}

/// softmax(scale q k^T + mask), all of it, in differentiable ops.
Variable weights_of(const Variable& q, const Variable& k, const Variable& mask, const AttentionView& view) {
  Variable scores = affine(matmul(q, transpose(k, -2, -1)), view.scale, 0);
  if (!view.causal && !mask.defined()) return softmax(scores, -1);
  const Index queries = q.shape()[-2], keys = k.shape()[-2];
  const Hidden all = hidden(view, queries, keys, q.dtype());
  if (!mask.recorded()) return mul(softmax(add(scores, all.added), -1), all.sees);
  AttentionView without = view;
  without.mask = {};
  const Variable finite = clamp(mask, -largest_finite(q.dtype()), infinity);  // or a row may become NaN
  scores = add(add(scores, finite), hidden(without, queries, keys, q.dtype()).added);
  return mul(softmax(scores, -1), all.sees);
}

/// Gradients of q, k, v and the mask in differentiable ops. Dao et al. 2022, appendix B.2.
std::array<Variable, 4> composed(const Variable& g, const Variable& q, const Variable& k, const Variable& v,
                                 const Variable& mask, const AttentionView& view, bool of_mask) {
  const Variable p = weights_of(q, k, mask, view);
  Variable used = p, dp = matmul(g, transpose(v, -2, -1));
  if (const Tensor keep = kept(view, p.shape(), p.dtype()); keep.defined()) {
    used = mul(p, keep);
    dp = mul(dp, keep);
  }
  const Variable of_scores = mul(p, sub(dp, sum(mul(p, dp), {-1}, true))), ds = affine(of_scores, view.scale, 0);
  return gradients(matmul(ds, k), matmul(transpose(ds, -2, -1), q), matmul(transpose(used, -2, -1), g),
                   of_mask ? sum_to(of_scores, mask.shape()) : no_gradient());
}

}  // namespace

AttentionResult attention_with_weights(const Variable& q, const Variable& k, const Variable& v, const Variable& mask,
                                       AttentionOptions options) {
  constexpr const char* op = "attention_with_weights";
  const AttentionView view = view_of(op, check(op, q, k, v, mask), q, k, mask, options);
  Variable weights = weights_of(q, k, mask, view);
  if (const Tensor keep = kept(view, weights.shape(), weights.dtype()); keep.defined()) weights = mul(weights, keep);
  return {matmul(weights, v), weights};
}

Variable scaled_dot_product_attention(const Variable& q, const Variable& k, const Variable& v, const Variable& mask,
                                      AttentionOptions options) {
  constexpr const char* op = "scaled_dot_product_attention";
  const Shape lead = check(op, q, k, v, mask);
  auto spread = [&](const Variable& x) { return broadcast_to(x, with(lead, x.shape()[-2], x.shape()[-1])); };
  const Variable queries = spread(q), keys = spread(k), values = spread(v);
  const AttentionView view = view_of(op, lead, q, k, mask, options);
  Tensor y = empty_in_order_of(queries.value(), v.shape()[-1]);
  Tensor softmax = attention_forward(queries.value(), keys.value(), values.value(), view, y);
  if (!recording(queries, keys, values, mask)) return y;
  return record(
      op, y, {&queries, &keys, &values, &mask},
      [=, q = Saved(queries), k = Saved(keys), v = Saved(values), m = Saved(mask), y = Saved::output(y),
       softmax = std::move(softmax)](const Variable& g, Wants wants) {
        const Variable &qs = q.get(), &ks = k.get(), &vs = v.get(), &seen = m.get();
        if (wants[3] || recording(g, qs, ks, vs, seen)) return composed(g, qs, ks, vs, seen, view, wants[3]);
        auto room = [](bool wanted, const Tensor& like) {
          return wanted ? empty_in_order_of(like, like.shape()[-1]) : Tensor();
        };
        AttentionGradients out{room(wants[0], qs.value()), room(wants[1], ks.value()), room(wants[2], vs.value())};
        attention_backward(g.value(), qs.value(), ks.value(), vs.value(), view, y.value(), softmax, out);
        return gradients(std::move(out.q), std::move(out.k), std::move(out.v), no_gradient());
      },
      settings(setting_of(view.scale), view.causal ? 1 : 0, view.offset));
}

namespace {

/// [..., T, 3 H d] as [..., T, 3, H, d]
Shape apart(const Shape& joined, Index heads) {
  Shape shape(joined.span().first(static_cast<std::size_t>(joined.rank() - 1)));
  shape.push_back(3);
  shape.push_back(heads);
  shape.push_back(joined[-1] / (3 * heads));
  return shape;
}
/// Part 0, 1 or 2 of x [..., T, 3 H d] as [..., H, T, d]: a view.
Tensor part_of(const Tensor& x, Index heads, Index part) {
  return x.reshape(apart(x.shape(), heads)).select(-3, part).transpose(-3, -2);
}
/// The same in differentiable ops.
Variable part_of(const Variable& x, Index heads, Index part) {
  return transpose(select(reshape(x, apart(x.shape(), heads)), -3, part), -3, -2);
}

}  // namespace

Variable self_attention(const Variable& x, Index heads, const Variable& mask, AttentionOptions options) {
  constexpr const char* op = "self_attention";
  if (x.rank() < 2 || heads < 1 || x.shape()[-1] % (3 * heads) != 0) [[unlikely]]
    fail<ShapeError>("[", op, "] the last axis of x ", x.shape(), " does not hold queries, keys and values of ", heads,
                     " heads of one width: it must be a multiple of ", 3 * heads);
  auto joined = [heads](const Variable& y) {  // [..., H, T, d] -> [..., T, H d]
    Shape shape = y.shape();
    const Index width = heads * shape[-1];
    shape.erase(shape.rank() - 1);
    shape[-2] = shape[-1];
    shape[-1] = width;
    return reshape(transpose(y, -3, -2), shape);
  };
  const Tensor dense = x.value().contiguous();
  const Tensor q = part_of(dense, heads, 0), k = part_of(dense, heads, 1), v = part_of(dense, heads, 2);
  const AttentionView view = view_of(op, check(op, q, k, v, mask), q, k, mask, options);
  Tensor y = empty_in_order_of(q, v.shape()[-1]);
  Tensor softmax = attention_forward(q, k, v, view, y);
  Tensor out = joined(y).value();
  if (!recording(x, mask)) return out;
  return record(
      op, out, {&x, &mask},
      [=, x = Saved(x), m = Saved(mask), out = Saved::output(out), softmax = std::move(softmax)](const Variable& g,
                                                                                                 Wants wants) {
        const Variable &qkv = x.get(), &seen = m.get();
        auto split = [heads](const auto& of) {  // joined() back
          Shape shape = of.shape();
          shape[-1] = heads;
          shape.push_back(of.shape()[-1] / heads);
          return shape;
        };
        if (wants[1] || recording(g, qkv, seen)) {
          const std::array<Variable, 4> parts =
              composed(transpose(reshape(g, split(g)), -3, -2), part_of(qkv, heads, 0), part_of(qkv, heads, 1),
                       part_of(qkv, heads, 2), seen, view, wants[1]);
          auto of_tokens = [&](std::size_t part) { return transpose(parts[part], -3, -2); };
          const Variable dx = stack({of_tokens(0), of_tokens(1), of_tokens(2)}, -3);
          return gradients(reshape(dx, qkv.shape()), parts[3]);
        }
        Tensor dx = Tensor::empty(qkv.shape(), qkv.dtype());
        const Tensor in = qkv.value().contiguous(), result = out.value();
        AttentionGradients to{part_of(dx, heads, 0), part_of(dx, heads, 1), part_of(dx, heads, 2)};
        attention_backward(g.value().reshape(split(g)).transpose(-3, -2), part_of(in, heads, 0), part_of(in, heads, 1),
                           part_of(in, heads, 2), view, result.reshape(split(result)).transpose(-3, -2), softmax, to);
        return gradients(std::move(dx), no_gradient());
      },
      settings(heads, setting_of(view.scale), view.causal ? 1 : 0, view.offset));
}

}  // namespace espalier
