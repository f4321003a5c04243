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

using kernels::Moments;
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

/// With few channels, images are cut in parts, so that threads have something to share.
struct Parts {
  Parts(const Planes& p) {
    const Index wanted = p.channels >= 8 ? 1 : detail::chunk_count(8, std::max<Index>(1, p.channels));
    const Index useful = std::max<Index>(1, p.images * p.length / grain_elements);
    images = detail::chunk_count(p.images, std::min({wanted, useful, std::max<Index>(1, p.images)}));
    images = std::max<Index>(1, images);
    count = std::max<Index>(1, detail::chunk_count(p.images, images));
  }
  Index images, count;
};

/// Calls first(channel, image, images, slot) on every part of every channel, then between(channel), then second(...).
/// A channel of a single part stays in the cache from first to second.
template <class First, class Between, class Second>
void for_channels(const Planes& p, const Parts& parts, First first, Between between, Second second) {
  auto on_part = [&](Index job, auto& body) {
    const Index channel = job / parts.count, image = job % parts.count * parts.images;
    body(channel, image, std::min(parts.images, p.images - image), job);
  };
  const Index jobs = p.channels * parts.count, grain = pieces(parts.images * p.length);
  if (parts.count == 1) {
    parallel_for(jobs, grain, [&](Index begin, Index end) {
      for (Index job = begin; job < end; ++job) {
        on_part(job, first);
        between(job);
        on_part(job, second);
      }
    });
    return;
  }
  parallel_for(jobs, grain, [&](Index begin, Index end) {
    for (Index job = begin; job < end; ++job) on_part(job, first);
  });
  for (Index channel = 0; channel < p.channels; ++channel) between(channel);
  parallel_for(jobs, grain, [&](Index begin, Index end) {
    for (Index job = begin; job < end; ++job) on_part(job, second);
  });
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

/// Sums of g and g (x - mean), f64.
struct Sums {
  double g = 0, gx = 0;
};
template <class T>
Sums gradient_sums(const T* g, const T* x, Runs runs, const RowStatistics& s, const ScaleShift<T>& map) {
  double sums[2];
  kernels::norm<T>().gradient_sums(g, x, runs, map, sums);
  return {sums[0], sums[1] - sums[0] * (s.mean - static_cast<double>(map.shift))};
}
/// dx = a (g - mean_g - (x - mean) slope).
template <class T>
void gradient(const T* g, const T* x, T* dx, Runs runs, const RowStatistics& s, const ScaleShift<T>& map, double a,
              double mean_g, double slope) {
  const double rest = mean_g - slope * (s.mean - static_cast<double>(map.shift));
  kernels::norm<T>().gradient(g, x, dx, runs, map, static_cast<T>(a), static_cast<T>(-a * slope),
                              static_cast<T>(-a * rest));
}

template <class T>
void forward_batch(const T* x, T* y, const Planes& p, double eps, const Affine<T>& affine,
                   const RowStatistics* statistics, RowStatistics* to_find) {
  const bool fixed = to_find == nullptr;
  const Parts parts(p);
  std::vector<Moments> found(static_cast<std::size_t>(p.channels * parts.count));
  for_channels(
      p, parts,
      [&](Index c, Index image, Index images, Index slot) {
        if (!fixed)
          found[static_cast<std::size_t>(slot)] = kernels::norm<T>().moments(x + p.start(image, c), p.channel(images));
      },
      [&](Index c) {
        if (fixed) return;
        Moments all;
        for (Index k = 0; k < parts.count; ++k) all = merge(all, found[static_cast<std::size_t>(c * parts.count + k)]);
        to_find[c] = {all.mean, all.count > 0 ? 1 / std::sqrt(all.variance() + eps) : 0};
      },
      [&](Index c, Index image, Index images, Index) {
        kernels::norm<T>().scale_shift(x + p.start(image, c), y + p.start(image, c), p.channel(images),
                                       affine(statistics[c], c));
      });
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

template <class T>
void backward_batch(const T* g, const T* x, T* dx, T* dweight, T* dbias, const Planes& p, bool fixed,
                    const Affine<T>& affine, const RowStatistics* statistics) {
  const Parts parts(p);
  std::vector<Sums> found(static_cast<std::size_t>(p.channels * parts.count));
  std::vector<Sums> total(static_cast<std::size_t>(p.channels));
  const double share = 1 / static_cast<double>(p.images * p.length);
  const bool sums_needed = !fixed || dweight || dbias;
  for_channels(
      p, parts,
      [&](Index c, Index image, Index images, Index slot) {
        if (sums_needed)
          found[static_cast<std::size_t>(slot)] = gradient_sums(
              g + p.start(image, c), x + p.start(image, c), p.channel(images), statistics[c], affine(statistics[c], c));
      },
      [&](Index c) {
        Sums& all = total[static_cast<std::size_t>(c)];
        for (Index k = 0; k < parts.count; ++k) {
          const Sums& one = found[static_cast<std::size_t>(c * parts.count + k)];
          all = {all.g + one.g, all.gx + one.gx};
        }
        if (dweight) dweight[c] = static_cast<T>(all.gx * statistics[c].rstd);
        if (dbias) dbias[c] = static_cast<T>(all.g);
      },
      [&](Index c, Index image, Index images, Index) {
        if (!dx) return;
        const RowStatistics& s = statistics[c];
        const Sums& all = total[static_cast<std::size_t>(c)];
        const Index at = p.start(image, c);
        gradient(g + at, x + at, dx + at, p.channel(images), s, affine(s, c), s.rstd * affine.factor(c),
                 fixed ? 0 : all.g * share, fixed ? 0 : all.gx * s.rstd * s.rstd * share);
      });
}

template <class T>
void backward_group(const T* g, const T* x, T* dx, T* dweight, T* dbias, const Planes& p, const NormChannels& how,
                    const Affine<T>& affine, const RowStatistics* statistics) {
  const Index together = p.channels / std::max<Index>(1, how.groups), n = together * p.length;
  std::vector<Sums> found(static_cast<std::size_t>(p.images * p.channels));
  parallel_for(p.images * how.groups, pieces(n), [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k) {
      const RowStatistics& s = statistics[k];
      const Index first = k % how.groups * together;  // channel
      double of_g = 0, of_gx = 0;
      for (Index c = 0; c < together; ++c) {
        const Index at = k * n + c * p.length;
        Sums& one = found[static_cast<std::size_t>(k * together + c)];
        one = gradient_sums(g + at, x + at, {1, 0, p.length}, s, affine(s, first + c));
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
        const double slope = of_gx * share * s.rstd * s.rstd, off = s.mean - static_cast<double>(map.shift);
        kernels::norm<T>().gradient(g + at, x + at, dx + at, {1, 0, p.length}, map,
                                    static_cast<T>(s.rstd * affine.factor(first + c)), static_cast<T>(-slope),
                                    static_cast<T>(slope * off - of_g * share));
      }
    }
  });
  if (!dweight && !dbias) return;
  for (Index c = 0; c < p.channels; ++c) {
    Sums all;
    for (Index image = 0; image < p.images; ++image) {
      const Sums& one = found[static_cast<std::size_t>(image * p.channels + c)];
      all = {all.g + one.g, all.gx + one.gx};
    }
    if (dweight) dweight[c] = static_cast<T>(all.gx);
    if (dbias) dbias[c] = static_cast<T>(all.g);
  }
}

/// [N, C] by batch: as [1, C, N], where each channel is one run.
bool goes_transposed(const Tensor& x, const NormChannels& how) { return x.rank() == 2 && how.over != NormOver::group; }
Tensor columns_as_planes(const Tensor& x) { return x.t().contiguous().unsqueeze(0); }
Tensor planes_as_columns(const Tensor& x) { return x.defined() ? x.squeeze(0).t().contiguous() : x; }

}  // namespace

NormForward normalize_channels(const char* op, const Tensor& given, const NormChannels& how, const Tensor& given_weight,
                               const Tensor& given_bias, const Tensor& given_statistics) {
  check_types(op, given, given_weight, given_bias);
  if (goes_transposed(given, how)) {
    NormForward result =
        normalize_channels(op, columns_as_planes(given), how, given_weight, given_bias, given_statistics);
    return {planes_as_columns(result.y), std::move(result.statistics)};
  }
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
      forward_batch<T>(x.data<T>(), y, p, how.eps, affine, read_statistics(result.statistics), to_find);
  });
  return result;
}

NormBackward normalize_channels_backward(const char* op, const Tensor& given_g, const Tensor& given_x,
                                         const NormChannels& how, const Tensor& given_weight, const Tensor& given_bias,
                                         const Tensor& statistics, NormWants wants) {
  check_same_dtype(op, given_g, given_x);
  if (goes_transposed(given_x, how)) {
    NormBackward result = normalize_channels_backward(op, columns_as_planes(given_g), columns_as_planes(given_x), how,
                                                      given_weight, given_bias, statistics, wants);
    result.x = planes_as_columns(result.x);
    return result;
  }
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
      backward_batch<T>(g.data<T>(), x.data<T>(), dx, dweight, dbias, p, how.over == NormOver::fixed, affine, found);
  });
  return result;
}

}  // namespace espalier
