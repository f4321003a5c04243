#include "espalier/core/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "espalier/core/detail/scratch.h"
#include "espalier/core/dropout.h"
#include "espalier/core/kernels/attention.h"
#include "espalier/core/kernels/dropout.h"
#include "espalier/core/kernels/gemm.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/kernels/transpose.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using kernels::Operand;
using kernels::ScoreTile;
using kernels::SoftmaxRow;

constexpr Index query_tile = 48;  // a multiple of the row blocks of the products
constexpr Index key_tile = 512;
constexpr Index few_queries = 8;  // up to here packing keys costs more than it gains
constexpr Index few_heads = 8;    // below, the queries of a head are shared out too

/// Row length that keeps neighbouring rows out of the same cache sets.
Index padded(Index n) { return (n + 15) / 16 * 16 + 16; }

/// What is common to all heads.
struct Sizes {
  Sizes(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view)
      : queries(q.shape()[-2]),
        keys(k.shape()[-2]),
        depth(q.shape()[-1]),
        width(v.shape()[-1]),
        causal(view.causal),
        offset(view.offset),
        tiles(detail::chunk_count(queries, query_tile)),
        stride(padded(std::min(keys, key_tile))) {
    for (int axis = 0; axis + 2 < q.rank(); ++axis) heads *= q.shape()[axis];
    groups = heads >= few_heads || heads == 0 ? 1 : std::min(tiles, detail::chunk_count(few_heads, heads));
    groups = std::max<Index>(1, groups);
  }
  /// Keys that query i sees: those before.
  Index visible(Index i) const { return causal ? std::clamp<Index>(i + offset + 1, 0, keys) : keys; }
  /// As ScoreTile takes it: of the first query of a tile, from key `first` on.
  Index visible_from(Index i, Index first) const {
    return causal ? i + offset + 1 - first : std::numeric_limits<Index>::max() / 2;
  }
  Index key_tiles() const { return std::max<Index>(1, detail::chunk_count(keys, key_tile)); }

  Index heads = 1, queries, keys, depth, width;
  bool causal;
  Index offset;
  Index tiles;   // of queries
  Index stride;  // of a row of scores
  Index groups;  // parts that the queries of one head are cut in
};

/// Elements between the first one of `t` and the one of this head (the leading axes, counted row by row).
Index head_offset(const Tensor& t, Index head) {
  Index offset = 0;
  for (int axis = t.rank() - 2; axis-- > 0;) {
    offset += head % t.shape()[axis] * t.strides()[axis];
    head /= t.shape()[axis];
  }
  return offset;
}

bool is_readable(const Tensor& t) {
  const Index rows = t.shape()[-2], columns = t.shape()[-1];
  return (columns <= 1 || t.strides()[-1] == 1) && (rows <= 1 || t.strides()[-2] >= columns);
}
Tensor readable(const Tensor& t) { return is_readable(t) ? t : t.contiguous(); }

/// The matrix of one head.
template <class T>
Operand<T> operand(const Tensor& t, const T* first, Index head) {
  return {first + head_offset(t, head), std::max(t.strides()[-2], std::max<Index>(1, t.shape()[-1])), false};
}
template <class T>
Operand<T> rows_from(Operand<T> m, Index row) {
  m.data += row * m.stride;
  return m;
}

/// All scratch of one job, handed out piece by piece.
template <class T>
class Arena {
 public:
  explicit Arena(Index elements) : values_(elements), next_(values_.data()) {}
  T* take(Index elements) { return std::exchange(next_, next_ + elements); }

 private:
  detail::Scratch<T> values_;
  T* next_;
};

/// A matrix [keys, depth] transposed tile by tile, so that products with it need no packing; or where it lies.
template <class T>
class Transposed {
 public:
  static Index elements(const Sizes& s, Index depth) { return s.key_tiles() * depth * s.stride; }
  Transposed(const Sizes& s, Operand<T> m, Index depth, Index wanted, T* buffer) : m_(m), tile_(depth * s.stride) {
    if (!buffer) return;
    stride_ = s.stride;
    packed_ = buffer;
    for (Index j = 0; j < wanted; j += key_tile)
      kernels::transpose(m.data + j * m.stride, std::min(key_tile, wanted - j), depth, m.stride,
                         buffer + j / key_tile * tile_, stride_);
  }
  /// [depth, keys of the tile that begins at j]
  Operand<T> from(Index j) const {
    if (packed_) return {packed_ + j / key_tile * tile_, stride_, false};
    return {m_.data + j * m_.stride, m_.stride, true};
  }

 private:
  Operand<T> m_;
  Index tile_, stride_ = 0;
  const T* packed_ = nullptr;
};

/// Rows side by side, for products that walk down its columns; or where it lies.
template <class T>
Operand<T> packed_rows(Operand<T> m, Index rows, Index columns, T* buffer) {
  if (!buffer || columns == 0) return m;
  for (Index r = 0; r < rows; ++r) std::copy_n(m.data + r * m.stride, columns, buffer + r * columns);
  return {buffer, columns, false};
}
/// Worth it only where rows are far apart.
template <class T>
bool lies_apart(const Operand<T>& m, Index columns) {
  return m.stride > columns;
}

/// The mask of a tile, as a matrix that is added.
template <class T>
class Mask {
 public:
  Mask(const Tensor& mask, const Sizes& s) : mask_(mask) {
    if (!mask.defined()) return;
    down_ = mask.strides()[-2];
    across_ = mask.strides()[-1];
    if (mask.dtype() == DType::boolean)
      keeps_ = mask.data<bool>();
    else
      adds_ = mask.data<T>();
    direct_ = adds_ && (across_ == 1 || s.keys == 1);
  }
  Index elements(const Sizes& s) const { return mask_.defined() && !direct_ ? query_tile * s.stride : 0; }
  /// Sets the mask of the tile; `buffer` has room for elements().
  void put(ScoreTile<T>& tile, Index head, Index i, Index j, T* buffer) const {
    if (!mask_.defined()) return;
    const Index first = head_offset(mask_, head) + i * down_ + j * across_;
    if (direct_) {
      tile.mask = adds_ + first;
      tile.mask_stride = down_;
      return;
    }
    for (Index r = 0; r < tile.rows; ++r)
      for (Index c = 0; c < tile.columns; ++c) {
        const Index at = first + r * down_ + c * across_;
        buffer[r * tile.stride + c] = adds_ ? adds_[at] : keeps_[at] ? T(0) : -std::numeric_limits<T>::infinity();
      }
    tile.mask = buffer;
    tile.mask_stride = tile.stride;
  }

 private:
  Tensor mask_;
  Index down_ = 0, across_ = 0;
  const bool* keeps_ = nullptr;
  const T* adds_ = nullptr;
  bool direct_ = false;
};

/// Which probabilities dropout keeps: found for a tile whenever it is asked for, stored nowhere.
class Kept {
 public:
  Kept(const AttentionView& view, const Sizes& s)
      : s_(s),
        threshold_(keep_threshold(1 - view.dropout)),
        factor_(view.dropout < 1 ? 1 / (1 - view.dropout) : 0),
        random_(view.random.state()),
        active_(view.dropout > 0) {}
  bool active() const { return active_; }
  /// to = from where kept, times 1 / (1 - p), of the tile of query i and key j; `to` may be `from`.
  template <class T>
  void apply(const T* from, T* to, Index head, Index i, Index j, Index rows, Index columns) const {
    if (!active_) return;
    const auto [key, stream, counter] = random_;
    std::array<std::uint64_t, key_tile / 64> bits;
    for (Index r = 0; r < rows; ++r) {
      const Index word = (head * s_.queries + i + r) * key_words(s_.keys) + j / 64;
      const kernels::RandomPlace place{key, stream,
                                       counter + static_cast<std::uint64_t>(word) * kernels::blocks_per_word};
      kernels::dropout().keep_bits(place, threshold_, bits.data(), key_words(columns));
      kernels::dropout().keep(from + r * s_.stride, bits.data(), static_cast<T>(factor_), to + r * s_.stride, columns);
    }
  }

 private:
  const Sizes& s_;
  std::uint64_t threshold_;
  double factor_;
  Rng::State random_;
  bool active_;
};

/// body(head, first tile, last tile) for every part of every head.
template <class Body>
void for_heads(const Sizes& s, const Body& body) {
  const Index each = std::max<Index>(1, detail::chunk_count(s.tiles, s.groups));
  const double work = static_cast<double>(s.queries) * static_cast<double>(s.keys) *
                      static_cast<double>(s.depth + s.width + 8) / static_cast<double>(s.groups);
  const Index grain = std::max<Index>(1, static_cast<Index>(1e5 / std::max(1.0, work)));
  parallel_for(s.heads * s.groups, grain, [&](Index begin, Index end) {
    for (Index job = begin; job < end; ++job) {
      const Index first = job % s.groups * each;
      body(job / s.groups, std::min(s.tiles, first), std::min(s.tiles, first + each));
    }
  });
}

template <class T>
void zero_rows(T* x, Index rows, Index columns, Index stride) {
  for (Index r = 0; r < rows; ++r) std::fill_n(x + r * stride, columns, T(0));
}

template <class T>
void forward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view, Tensor& y, Tensor& softmax) {
  const Sizes s(q, k, v, view);
  const Mask<T> mask(view.mask, s);
  const Kept kept(view, s);
  const T *q_data = q.data<T>(), *k_data = k.data<T>(), *v_data = v.data<T>();
  T* y_data = y.write<T>("attention");
  SoftmaxRow<T>* found = reinterpret_cast<SoftmaxRow<T>*>(softmax.write<T>("attention"));
  const auto& kernel = kernels::attention<T>();
  const bool packs = s.queries > few_queries;
  for_heads(s, [&](Index head, Index first, Index last) {
    if (first == last) return;
    const Operand<T> queries = operand(q, q_data, head), values = operand(v, v_data, head);
    const Operand<T> out = operand<T>(y, y_data, head);
    T* const result = const_cast<T*>(out.data);  // of y_data
    const Index seen = s.visible(std::min(s.queries, last * query_tile) - 1);
    const bool packs_values = packs && lies_apart(values, s.width);
    Arena<T> scratch(query_tile * s.stride + mask.elements(s) + (packs ? Transposed<T>::elements(s, s.depth) : 0) +
                     (packs_values ? s.keys * s.width : 0));
    T* const scores = scratch.take(query_tile * s.stride);
    T* const added = scratch.take(mask.elements(s));
    const Transposed<T> keys(s, operand(k, k_data, head), s.depth, seen,
                             packs ? scratch.take(Transposed<T>::elements(s, s.depth)) : nullptr);
    const Operand<T> right =
        packed_rows(values, seen, s.width, packs_values ? scratch.take(s.keys * s.width) : nullptr);
    for (Index tile = first; tile < last; ++tile) {
      const Index i = tile * query_tile, rows = std::min(query_tile, s.queries - i), end = s.visible(i + rows - 1);
      T* const into = result + i * out.stride;
      std::array<T, query_tile> largest, rescale;
      std::array<double, query_tile> sum{};
      largest.fill(-std::numeric_limits<T>::infinity());
      if (end == 0) zero_rows(into, rows, s.width, out.stride);
      for (Index j = 0; j < end; j += key_tile) {
        const Index columns = std::min(key_tile, end - j);
        kernels::gemm<T>(rows, columns, s.depth, static_cast<T>(view.scale), rows_from(queries, i), keys.from(j), T(0),
                         scores, s.stride);
        ScoreTile<T> t{scores, rows, columns, s.stride, s.visible_from(i, j), nullptr, 0};
        mask.put(t, head, i, j, added);
        kernel.softmax(t, largest.data(), sum.data(), rescale.data());
        kept.apply(scores, scores, head, i, j, rows, columns);
        if (j > 0) kernel.scale_rows(into, rows, s.width, out.stride, rescale.data());
        kernels::gemm<T>(rows, s.width, columns, T(1), {scores, s.stride}, rows_from(right, j), j > 0 ? T(1) : T(0),
                         into, out.stride);
      }
      for (Index r = 0; r < rows; ++r) {
        const std::size_t at = static_cast<std::size_t>(r);
        rescale[at] = sum[at] == 0 ? T(0) : static_cast<T>(1 / sum[at]);
        found[head * s.queries + i + r] = {sum[at] == 0 ? T(0) : largest[at], rescale[at]};
      }
      kernel.scale_rows(into, rows, s.width, out.stride, rescale.data());
    }
  });
}

/// Where the gradient of one input goes: strided rows of each head; null: not wanted.
template <class T>
struct Target {
  Target(const char* op, Tensor& t) : tensor(t), data(t.defined() ? t.write<T>(op) : nullptr) {}
  T* rows(Index head, Index row) const {
    return data ? data + head_offset(tensor, head) + row * tensor.strides()[-2] : nullptr;
  }
  Index stride() const {
    return tensor.defined() ? std::max(tensor.strides()[-2], std::max<Index>(1, tensor.shape()[-1])) : 1;
  }
  Tensor& tensor;
  T* data;
};

template <class T>
void backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view,
              const Tensor& y, const Tensor& softmax, AttentionGradients& out) {
  const Sizes s(q, k, v, view);
  const Mask<T> mask(view.mask, s);
  const Kept kept(view, s);
  const T *g_data = g.data<T>(), *q_data = q.data<T>(), *k_data = k.data<T>(), *v_data = v.data<T>(),
          *y_data = y.data<T>();
  const SoftmaxRow<T>* found = reinterpret_cast<const SoftmaxRow<T>*>(softmax.data<T>());
  const auto& kernel = kernels::attention<T>();
  const bool packs = s.queries > few_queries, scores_wanted = out.q.defined() || out.k.defined();
  const Target<T> dq("attention", out.q);
  // Where several jobs share a head, each sums up its own gradients of the keys and values.
  Tensor k_parts, v_parts;
  if (s.groups > 1) {
    if (out.k.defined()) k_parts = Tensor::empty({s.heads * s.groups, s.keys, s.depth}, k.dtype());
    if (out.v.defined()) v_parts = Tensor::empty({s.heads * s.groups, s.keys, s.width}, k.dtype());
  }
  const Target<T> dk("attention", s.groups > 1 ? k_parts : out.k), dv("attention", s.groups > 1 ? v_parts : out.v);
  const Index each = std::max<Index>(1, detail::chunk_count(s.tiles, s.groups));

  for_heads(s, [&](Index head, Index first, Index last) {
    const Index slot = s.groups > 1 ? head * s.groups + first / each : head;
    if (s.groups > 1 && first == last) return;  // its part is never read
    const Operand<T> queries = operand(q, q_data, head), values = operand(v, v_data, head),
                     arriving = operand(g, g_data, head), result = operand(y, y_data, head),
                     lying = operand(k, k_data, head);
    const Index seen = last > first ? s.visible(std::min(s.queries, last * query_tile) - 1) : 0;
    if (dk.data) zero_rows(dk.rows(slot, seen), s.keys - seen, s.depth, dk.stride());
    if (dv.data) zero_rows(dv.rows(slot, seen), s.keys - seen, s.width, dv.stride());
    const bool packs_keys = packs && dq.data && lies_apart(lying, s.depth);
    const Index tile_size = query_tile * s.stride, k_size = packs ? Transposed<T>::elements(s, s.depth) : 0,
                v_size = packs && scores_wanted ? Transposed<T>::elements(s, s.width) : 0;
    Arena<T> scratch(2 * tile_size + mask.elements(s) + k_size + v_size + (packs_keys ? s.keys * s.depth : 0));
    T *const p = scratch.take(tile_size), *const ds = scratch.take(tile_size);
    T* const added = scratch.take(mask.elements(s));
    const Transposed<T> keys(s, lying, s.depth, seen, packs ? scratch.take(k_size) : nullptr);
    const Transposed<T> across(s, values, s.width, scores_wanted ? seen : 0,
                               v_size > 0 ? scratch.take(v_size) : nullptr);
    const Operand<T> down = packed_rows(lying, seen, s.depth, packs_keys ? scratch.take(s.keys * s.depth) : nullptr);
    // From the last tile, which sees most keys: what it writes, the others add to.
    for (Index tile = last; tile-- > first;) {
      const Index i = tile * query_tile, rows = std::min(query_tile, s.queries - i), end = s.visible(i + rows - 1);
      const T already = tile + 1 == last ? T(0) : T(1);
      const SoftmaxRow<T>* const row_softmax = found + head * s.queries + i;
      const Operand<T> g_rows = rows_from(arriving, i), q_rows = rows_from(queries, i);
      std::array<T, query_tile> mean;
      for (Index r = 0; r < rows; ++r)
        mean[static_cast<std::size_t>(r)] = static_cast<T>(
            kernels::reduce<T>().dot(rows_from(arriving, i + r).data, rows_from(result, i + r).data, s.width));
      if (end == 0 && dq.data) zero_rows(dq.rows(head, i), rows, s.depth, dq.stride());
      for (Index j = 0; j < end; j += key_tile) {
        const Index columns = std::min(key_tile, end - j);
        kernels::gemm<T>(rows, columns, s.depth, static_cast<T>(view.scale), q_rows, keys.from(j), T(0), p, s.stride);
        ScoreTile<T> t{p, rows, columns, s.stride, s.visible_from(i, j), nullptr, 0};
        mask.put(t, head, i, j, added);
        kernel.probabilities(t, row_softmax);
        kept.apply(p, ds, head, i, j, rows, columns);  // ds is free until the product below
        if (dv.data)
          kernels::gemm<T>(columns, s.width, rows, T(1), {kept.active() ? ds : p, s.stride, true}, g_rows, already,
                           dv.rows(slot, j), dv.stride());
        if (!scores_wanted) continue;
        kernels::gemm<T>(rows, columns, s.width, T(1), g_rows, across.from(j), T(0), ds, s.stride);
        kept.apply(ds, ds, head, i, j, rows, columns);
        kernel.gradient(p, ds, rows, columns, s.stride, mean.data(), static_cast<T>(view.scale));
        if (dq.data)
          kernels::gemm<T>(rows, s.depth, columns, T(1), {ds, s.stride}, rows_from(down, j), j > 0 ? T(1) : T(0),
                           dq.rows(head, i), dq.stride());
        if (dk.data)
          kernels::gemm<T>(columns, s.depth, rows, T(1), {ds, s.stride, true}, q_rows, already, dk.rows(slot, j),
                           dk.stride());
      }
    }
  });
  if (s.groups == 1) return;
  // The parts of a head, in order.
  auto add_parts = [&](const Target<T>& from, Tensor& tensor, Index columns) {
    if (!tensor.defined()) return;
    const Target<T> to("attention", tensor);
    const Index used = detail::chunk_count(s.tiles, each);
    parallel_for(s.heads * s.keys, std::max<Index>(1, 4096 / std::max<Index>(1, columns * used)),
                 [&](Index begin, Index end) {
                   for (Index at = begin; at < end; ++at) {
                     const Index head = at / s.keys, row = at % s.keys;
                     T* sum = to.rows(head, row);
                     std::copy_n(from.rows(head * s.groups, row), columns, sum);
                     for (Index part = 1; part < used; ++part) {
                       const T* more = from.rows(head * s.groups + part, row);
                       for (Index c = 0; c < columns; ++c) sum[c] += more[c];
                     }
                   }
                 });
  };
  add_parts(dk, out.k, s.depth);
  add_parts(dv, out.v, s.width);
}

/// The mask as it meets the scores of every head, without a copy.
AttentionView spread(const AttentionView& view, const Tensor& q, const Tensor& k) {
  AttentionView result = view;
  if (!view.mask.defined()) return result;
  Shape shape = q.shape();
  shape[-1] = k.shape()[-2];
  result.mask = view.mask.broadcast_to(shape);
  return result;
}

}  // namespace

Tensor attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view, Tensor& y) {
  Shape shape = q.shape();
  shape[-1] = 2;
  Tensor softmax = Tensor::empty(shape, q.dtype());
  dispatch_floating("attention", q.dtype(), [&]<class T>() {
    if (softmax.size() > 0) forward<T>(readable(q), readable(k), readable(v), spread(view, q, k), y, softmax);
  });
  return softmax;
}

void attention_backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view,
                        const Tensor& y, const Tensor& softmax, AttentionGradients& out) {
  dispatch_floating("attention", q.dtype(), [&]<class T>() {
    backward<T>(readable(g), readable(q), readable(k), readable(v), spread(view, q, k), readable(y), softmax, out);
  });
}

Tensor empty_in_order_of(const Tensor& like, Index last) {
  Dims order;
  for (int axis = 0; axis + 1 < like.rank(); ++axis) order.push_back(axis);
  std::stable_sort(const_cast<Index*>(order.begin()), const_cast<Index*>(order.end()), [&](Index a, Index b) {
    return like.strides()[static_cast<int>(a)] > like.strides()[static_cast<int>(b)];
  });
  order.push_back(like.rank() - 1);
  Shape shape;
  Dims back = order;
  for (int k = 0; k < order.rank(); ++k) {
    shape.push_back(like.shape()[static_cast<int>(order[k])]);
    back[static_cast<int>(order[k])] = k;
  }
  shape[-1] = last;
  return Tensor::empty(shape, like.dtype()).permute(back);
}

}  // namespace espalier
