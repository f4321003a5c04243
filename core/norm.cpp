#include "espalier/core/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/norm.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using kernels::ColumnMaps;
using kernels::Columns;
using kernels::ColumnTerms;
using kernels::GradientTerms;
using kernels::Moments;
using kernels::PassedSums;
using kernels::RowStatistics;
using kernels::Runs;
using kernels::ScaleShift;

constexpr Index grain_elements = Index{1} << 14;  // what a thread takes at a time

/// How many pieces of `elements` each make a chunk of work.
Index pieces(Index elements) { return std::max<Index>(1, grain_elements / std::max<Index>(1, elements)); }

void check_types(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (weight.defined()) check_same_dtype(op, x, weight);
  if (bias.defined()) check_same_dtype(op, x, bias);
}

/// Pointer to the values, or null of an undefined tensor.
template <class T>
const T* values_of(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}
Tensor dense(const Tensor& t) { return t.defined() ? t.contiguous() : t; }

Tensor make_statistics(Index groups) { return Tensor::zeros({groups, 2}, DType::f64); }
RowStatistics* write_statistics(const char* op, Tensor& t) {
  return reinterpret_cast<RowStatistics*>(t.write<double>(op));
}
const RowStatistics* read_statistics(const Tensor& t) {
  return reinterpret_cast<const RowStatistics*>(t.data<double>());
}

}  // namespace

NormForward normalize_rows(const char* op, const Tensor& given, Index n, const Tensor& given_weight,
                           const Tensor& given_bias, double eps, bool centered) {
  check_types(op, given, given_weight, given_bias);
  const Tensor x = given.contiguous(), weight = dense(given_weight), bias = dense(given_bias);
  const Index rows = n == 0 ? 0 : x.size() / n;
  NormForward result{Tensor::empty(x.shape(), x.dtype()), make_statistics(rows)};
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const T *from = x.data<T>(), *w = values_of<T>(weight), *b = values_of<T>(bias);
    T* y = result.y.write<T>(op);
    RowStatistics* statistics = write_statistics(op, result.statistics);
    const auto kernel = kernels::norm<T>().rows;
    parallel_for(rows, pieces(n), [&](Index begin, Index end) {
      kernel(from + begin * n, w, b, y + begin * n, end - begin, n, eps, centered, statistics + begin);
    });
  });
  return result;
}

NormBackward normalize_rows_backward(const char* op, const Tensor& given_g, const Tensor& given_x, Index n,
                                     const Tensor& given_weight, const Tensor& statistics, bool centered,
                                     NormWants wants) {
  check_same_dtype(op, given_g, given_x);
  const Tensor g = given_g.contiguous(), x = given_x.contiguous(), weight = dense(given_weight);
  const Index rows = n == 0 ? 0 : x.size() / n;
  // Sums down the rows: of a chunk in T, then of the chunks.
  const Index chunk = std::clamp<Index>(pieces(n), 8, 64), chunks = detail::chunk_count(rows, chunk);
  const Index sums = (wants.weight ? 1 : 0) + (wants.bias ? 1 : 0), width = sums * n;
  NormBackward result;
  if (wants.x) result.x = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    Tensor partial = Tensor::zeros({chunks, width}, x.dtype());
    T* part = partial.write<T>(op);
    T* dx = wants.x ? result.x.write<T>(op) : nullptr;
    const T *from_g = g.data<T>(), *from_x = x.data<T>(), *w = values_of<T>(weight);
    const RowStatistics* found = read_statistics(statistics);
    const auto kernel = kernels::norm<T>().rows_backward;
    parallel_for(rows, chunk, [&](Index begin, Index end) {
      T* own = part + begin / chunk * width;
      kernel(from_g + begin * n, from_x + begin * n, w, found + begin, end - begin, n, centered,
             dx ? dx + begin * n : nullptr, wants.weight ? own : nullptr, wants.bias ? own + (sums - 1) * n : nullptr);
    });
    auto total = [&](Tensor& into, Index at) {
      into = Tensor::empty({n}, x.dtype());
      T* out = into.write<T>(op);
      kernels::reduce<T>().add_rows(part + at * n, chunks, n, width, out);
    };
    if (wants.weight) total(result.weight, 0);
    if (wants.bias) total(result.bias, sums - 1);
  });
  return result;
}

namespace {

/// x [N, C, ...] as the planes [N][C][length] it consists of.
struct Planes {
  Planes(const Shape& shape) : images(shape[0]), channels(shape[1]), length(1) {
    for (int axis = 2; axis < shape.rank(); ++axis) length *= shape[axis];
  }
  Index images, channels, length;

  Index start(Index image, Index channel) const { return (image * channels + channel) * length; }
  /// A channel of neighbouring images.
  Runs channel(Index n) const { return {n, channels * length, length}; }
};

/// Some images of some neighbouring channels: what a kernel takes at a time.
struct Piece {
  Index channel, channels, image, images;
  Index part;  // which of its channels' pieces
};
/// How x is cut in pieces: by units of `width` channels and `parts` runs of `images` images.
struct Cut {
  Index channels, width, units, all_images, images, parts;
  Index size;  // elements of a whole piece
  Piece piece(Index unit, Index part) const {
    const Index channel = unit * width, image = part * images;
    return {channel, std::min(width, channels - channel), image, std::min(images, all_images - image), part};
  }
};

/// Calls first(piece) on every piece of x, then between(channel), then second(piece). A unit of a single piece stays in
/// the cache from first to second.
template <class First, class Between, class Second>
void for_pieces(const Cut& cut, First first, Between between, Second second) {
  auto on_channels = [&](Index unit) {
    const Piece whole = cut.piece(unit, 0);
    for (Index c = whole.channel; c < whole.channel + whole.channels; ++c) between(c);
  };
  const Index grain = pieces(cut.size);
  if (cut.parts == 1) {
    parallel_for(cut.units, grain, [&](Index begin, Index end) {
      for (Index unit = begin; unit < end; ++unit) {
        first(cut.piece(unit, 0));
        on_channels(unit);
        second(cut.piece(unit, 0));
      }
    });
    return;
  }
  auto on_pieces = [&](auto& body) {
    parallel_for(cut.units * cut.parts, grain, [&](Index begin, Index end) {
      for (Index job = begin; job < end; ++job) body(cut.piece(job / cut.parts, job % cut.parts));
    });
  };
  on_pieces(first);
  for (Index unit = 0; unit < cut.units; ++unit) on_channels(unit);
  on_pieces(second);
}

/// (x - mean) rstd weight[c] + bias[c] as the kernels take it: what rounding takes from the mean goes to the offset.
template <class T>
struct Affine {
  const T *weight, *bias;
  bool relu;
  double factor(Index c) const { return weight ? static_cast<double>(weight[c]) : 1.0; }
  ScaleShift<T> operator()(const RowStatistics& s, Index c) const {
    const T shift = static_cast<T>(s.mean);
    const double scale = s.rstd * factor(c), constant = bias ? static_cast<double>(bias[c]) : 0.0;
    return {shift, static_cast<T>(scale), static_cast<T>(constant - scale * (s.mean - static_cast<double>(shift))),
            relu};
  }
};

/// The same with the mean for the shift.
template <class T>
PassedSums about_mean(const PassedSums& sums, const RowStatistics& s, const ScaleShift<T>& map) {
  return {sums.g, sums.gx - sums.g * (s.mean - static_cast<double>(map.shift))};
}
/// dx = a g - slope (x - mean) - constant.
template <class T>
GradientTerms<T> gradient_terms(const RowStatistics& s, const ScaleShift<T>& map, double a, double slope,
                                double constant) {
  return {static_cast<T>(a), static_cast<T>(-slope),
          static_cast<T>(slope * (s.mean - static_cast<double>(map.shift)) - constant)};
}

/// Pieces of one channel, whose images are runs of neighbouring elements. maps(c) and terms(c) give a channel's.
template <class T>
struct PlaneLoops {
  explicit PlaneLoops(const Planes& planes) : p(planes) {}
  /// With few channels, images are cut in parts, so that threads have something to share.
  Cut cut() const {
    const Index wanted = p.channels >= 8 ? 1 : detail::chunk_count(8, std::max<Index>(1, p.channels));
    const Index useful = std::max<Index>(1, p.images * p.length / grain_elements);
    const Index images =
        std::max<Index>(1, detail::chunk_count(p.images, std::min({wanted, useful, std::max<Index>(1, p.images)})));
    return {p.channels,       1,      p.channels,
            p.images,         images, std::max<Index>(1, detail::chunk_count(p.images, images)),
            images * p.length};
  }
  void moments(const T* x, const Piece& q, Moments* found) const {
    *found = kernels::norm<T>().moments(x + start(q), p.channel(q.images));
  }
  template <class Maps>
  void scale_shift(const T* x, T* y, const Piece& q, const Maps& maps) const {
    kernels::norm<T>().scale_shift(x + start(q), y + start(q), p.channel(q.images), maps(q.channel));
  }
  template <class Maps>
  void gradient_sums(const T* g, const T* x, const Piece& q, const Maps& maps, PassedSums* sums) const {
    *sums = kernels::norm<T>().gradient_sums(g + start(q), x + start(q), p.channel(q.images), maps(q.channel));
  }
  template <class Maps, class TermsOf>
  void gradient(const T* g, const T* x, T* dx, const Piece& q, const Maps& maps, const TermsOf& terms) const {
    kernels::norm<T>().gradient(g + start(q), x + start(q), dx + start(q), p.channel(q.images), maps(q.channel),
                                terms(q.channel));
  }

  Index start(const Piece& q) const { return p.start(q.image, q.channel); }
  Planes p;
};

/// The same where images are of one element: pieces of several columns of the matrix x [images, channels].
template <class T>
struct ColumnLoops {
  explicit ColumnLoops(const Planes& planes) : p(planes) {}
  Cut cut() const {
    constexpr Index rows = 1024;  // so many that putting parts together costs little beside them
    const Index width = std::min(Columns::most, p.channels), images = std::min(rows, p.images);
    return {p.channels,    width,  detail::chunk_count(p.channels, width),
            p.images,      images, detail::chunk_count(p.images, images),
            images * width};
  }
  void moments(const T* x, const Piece& q, Moments* found) const {
    kernels::norm<T>().column_moments(x + start(q), columns(q), found);
  }
  template <class Maps>
  void scale_shift(const T* x, T* y, const Piece& q, const Maps& maps) const {
    kernels::norm<T>().column_scale_shift(x + start(q), y + start(q), columns(q), gather(q, maps));
  }
  template <class Maps>
  void gradient_sums(const T* g, const T* x, const Piece& q, const Maps& maps, PassedSums* sums) const {
    kernels::norm<T>().column_gradient_sums(g + start(q), x + start(q), columns(q), gather(q, maps), sums);
  }
  template <class Maps, class TermsOf>
  void gradient(const T* g, const T* x, T* dx, const Piece& q, const Maps& maps, const TermsOf& terms) const {
    ColumnTerms<T> all;
    for (Index c = 0; c < q.channels; ++c) {
      const GradientTerms<T> one = terms(q.channel + c);
      all.of_g[c] = one.of_g;
      all.of_x[c] = one.of_x;
      all.rest[c] = one.rest;
    }
    kernels::norm<T>().column_gradient(g + start(q), x + start(q), dx + start(q), columns(q), gather(q, maps), all);
  }

  Index start(const Piece& q) const { return p.start(q.image, q.channel); }
  Columns columns(const Piece& q) const { return {q.images, p.channels, q.channels}; }
  template <class Maps>
  ColumnMaps<T> gather(const Piece& q, const Maps& maps) const {
    ColumnMaps<T> all;
    for (Index c = 0; c < q.channels; ++c) {
      const ScaleShift<T> one = maps(q.channel + c);
      all.shift[c] = one.shift;
      all.factor[c] = one.factor;
      all.offset[c] = one.offset;
      all.relu = one.relu;
    }
    return all;
  }
  Planes p;
};

template <class T, class Loops>
void forward_batch(const Loops& loops, const T* x, T* y, double eps, const Affine<T>& affine,
                   const RowStatistics* statistics, RowStatistics* to_find) {
  const bool fixed = to_find == nullptr;
  const Cut cut = loops.cut();
  std::vector<Moments> found(static_cast<std::size_t>(fixed ? 0 : cut.channels * cut.parts));
  for_pieces(
      cut,
      [&](const Piece& q) {
        if (!fixed) loops.moments(x, q, found.data() + q.part * cut.channels + q.channel);
      },
      [&](Index c) {
        if (fixed) return;
        Moments all;
        for (Index k = 0; k < cut.parts; ++k) all = merge(all, found[static_cast<std::size_t>(k * cut.channels + c)]);
        to_find[c] = {all.mean, all.count > 0 ? 1 / std::sqrt(all.variance() + eps) : 0};
      },
      [&](const Piece& q) { loops.scale_shift(x, y, q, [&](Index c) { return affine(statistics[c], c); }); });
}

template <class T>
void forward_group(const T* x, T* y, const Planes& p, const NormChannels& how, const Affine<T>& affine,
                   RowStatistics* statistics) {
  const Index together = p.channels / std::max<Index>(1, how.groups), n = together * p.length;
  parallel_for(p.images * how.groups, pieces(n), [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k) {
      const Moments m = kernels::norm<T>().moments(x + k * n, {1, n, n});
      statistics[k] = {m.mean, m.count > 0 ? 1 / std::sqrt(m.variance() + how.eps) : 0};
      for (Index c = 0; c < together; ++c)
        kernels::norm<T>().scale_shift(x + k * n + c * p.length, y + k * n + c * p.length, {1, 0, p.length},
                                       affine(statistics[k], k % how.groups * together + c));
    }
  });
}

template <class T, class Loops>
void backward_batch(const Loops& loops, const T* g, const T* x, T* dx, T* dweight, T* dbias, bool fixed,
                    const Affine<T>& affine, const RowStatistics* statistics) {
  const Cut cut = loops.cut();
  std::vector<PassedSums> found(static_cast<std::size_t>(cut.channels * cut.parts));
  std::vector<PassedSums> total(static_cast<std::size_t>(cut.channels));
  const double share = 1 / static_cast<double>(loops.p.images * loops.p.length);
  const bool sums_needed = !fixed || dweight || dbias;
  auto map = [&](Index c) { return affine(statistics[c], c); };
  for_pieces(
      cut,
      [&](const Piece& q) {
        if (sums_needed) loops.gradient_sums(g, x, q, map, found.data() + q.part * cut.channels + q.channel);
      },
      [&](Index c) {
        PassedSums& all = total[static_cast<std::size_t>(c)];
        for (Index k = 0; k < cut.parts; ++k) {
          const PassedSums& one = found[static_cast<std::size_t>(k * cut.channels + c)];
          all = {all.g + one.g, all.gx + one.gx};
        }
        all = about_mean(all, statistics[c], map(c));
        if (dweight) dweight[c] = static_cast<T>(all.gx * statistics[c].rstd);
        if (dbias) dbias[c] = static_cast<T>(all.g);
      },
      [&](const Piece& q) {
        if (!dx) return;
        if (fixed && !affine.relu) {  // x has no part in it, be it infinite
          loops.scale_shift(g, dx, q, [&](Index c) {
            return ScaleShift<T>{0, static_cast<T>(statistics[c].rstd * affine.factor(c)), 0, false};
          });
          return;
        }
        loops.gradient(g, x, dx, q, map, [&](Index c) {
          const RowStatistics& s = statistics[c];
          const PassedSums all = fixed ? PassedSums() : total[static_cast<std::size_t>(c)];
          const double a = s.rstd * affine.factor(c);
          return gradient_terms(s, map(c), a, a * all.gx * s.rstd * s.rstd * share, a * all.g * share);
        });
      });
}

template <class T>
void backward_group(const T* g, const T* x, T* dx, T* dweight, T* dbias, const Planes& p, const NormChannels& how,
                    const Affine<T>& affine, const RowStatistics* statistics) {
  const Index together = p.channels / std::max<Index>(1, how.groups), n = together * p.length;
  std::vector<PassedSums> found(static_cast<std::size_t>(p.images * p.channels));
  parallel_for(p.images * how.groups, pieces(n), [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k) {
      const RowStatistics& s = statistics[k];
      const Index first = k % how.groups * together;  // channel
      double of_g = 0, of_gx = 0;
      for (Index c = 0; c < together; ++c) {
        const Index at = k * n + c * p.length;
        PassedSums& one = found[static_cast<std::size_t>(k * together + c)];
        const ScaleShift<T> map = affine(s, first + c);
        one = about_mean(kernels::norm<T>().gradient_sums(g + at, x + at, {1, 0, p.length}, map), s, map);
        of_g += one.g * affine.factor(first + c);
        of_gx += one.gx * affine.factor(first + c);
        one.gx *= s.rstd;
      }
      if (!dx) continue;
      const double share = s.rstd / static_cast<double>(n);
      for (Index c = 0; c < together; ++c) {
        const Index at = k * n + c * p.length;
        // Here rstd (weight g - mean(weight g) - xhat mean(weight g xhat)): the weight belongs to g alone.
        const ScaleShift<T> map = affine(s, first + c);
        kernels::norm<T>().gradient(
            g + at, x + at, dx + at, {1, 0, p.length}, map,
            gradient_terms(s, map, s.rstd * affine.factor(first + c), of_gx * share * s.rstd * s.rstd, of_g * share));
      }
    }
  });
  if (!dweight && !dbias) return;
  for (Index c = 0; c < p.channels; ++c) {
    PassedSums all;
    for (Index image = 0; image < p.images; ++image) {
      const PassedSums& one = found[static_cast<std::size_t>(image * p.channels + c)];
      all = {all.g + one.g, all.gx + one.gx};
    }
    if (dweight) dweight[c] = static_cast<T>(all.gx);
    if (dbias) dbias[c] = static_cast<T>(all.g);
  }
}

/// f(loops)
template <class T, class F>
void with_loops(const Planes& p, const F& f) {
  if (p.length == 1)
    f(ColumnLoops<T>(p));
  else
    f(PlaneLoops<T>(p));
}

}  // namespace

NormForward normalize_channels(const char* op, const Tensor& given, const NormChannels& how, const Tensor& given_weight,
                               const Tensor& given_bias, const Tensor& given_statistics) {
  check_types(op, given, given_weight, given_bias);
  const Tensor x = given.contiguous(), weight = dense(given_weight), bias = dense(given_bias);
  const Planes p(x.shape());
  const bool fixed = how.over == NormOver::fixed;
  NormForward result{Tensor::empty(x.shape(), x.dtype()), given_statistics};
  if (!fixed) result.statistics = make_statistics(how.over == NormOver::group ? p.images * how.groups : p.channels);
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const Affine<T> affine{values_of<T>(weight), values_of<T>(bias), how.relu};
    T* y = result.y.write<T>(op);
    if (x.size() == 0) return;
    RowStatistics* to_find = fixed ? nullptr : write_statistics(op, result.statistics);
    if (how.over == NormOver::group)
      forward_group<T>(x.data<T>(), y, p, how, affine, to_find);
    else
      with_loops<T>(p, [&](const auto& loops) {
        forward_batch(loops, x.data<T>(), y, how.eps, affine, read_statistics(result.statistics), to_find);
      });
  });
  return result;
}

NormBackward normalize_channels_backward(const char* op, const Tensor& given_g, const Tensor& given_x,
                                         const NormChannels& how, const Tensor& given_weight, const Tensor& given_bias,
                                         const Tensor& statistics, NormWants wants) {
  check_same_dtype(op, given_g, given_x);
  const Tensor g = given_g.contiguous(), x = given_x.contiguous(), weight = dense(given_weight),
               bias = dense(given_bias);
  const Planes p(x.shape());
  NormBackward result;
  if (wants.x) result.x = Tensor::empty(x.shape(), x.dtype());
  if (wants.weight) result.weight = Tensor::zeros({p.channels}, x.dtype());
  if (wants.bias) result.bias = Tensor::zeros({p.channels}, x.dtype());
  if (x.size() == 0) return result;
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const Affine<T> affine{values_of<T>(weight), values_of<T>(bias), how.relu};
    T* dx = wants.x ? result.x.write<T>(op) : nullptr;
    T* dweight = wants.weight ? result.weight.write<T>(op) : nullptr;
    T* dbias = wants.bias ? result.bias.write<T>(op) : nullptr;
    const RowStatistics* found = read_statistics(statistics);
    if (how.over == NormOver::group)
      backward_group<T>(g.data<T>(), x.data<T>(), dx, dweight, dbias, p, how, affine, found);
    else
      with_loops<T>(p, [&](const auto& loops) {
        backward_batch(loops, g.data<T>(), x.data<T>(), dx, dweight, dbias, how.over == NormOver::fixed, affine, found);
      });
  });
  return result;
}

}  // namespace espalier
