#include "espalier/core/conv.h"

#include <utility>

#include "espalier/core/detail/conv_layout.h"
#include "espalier/core/kernels/transpose.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using detail::ImageLayout;
using detail::Scratch;
using detail::VectorGroups;
using Pair = ConvGeometry::Pair;

constexpr Index longest_sum = 1280;           // (channel, tap) pairs at a time, so that their part of x stays in cache
constexpr Index least_work = Index{1} << 17;  // multiply-adds worth handing to another thread

/// Where the weights of a sum lie: element (group, out, in, tap).
struct WeightStrides {
  Index group, out, in;
};

/// One tap of the kernel, how far from the pixel's own place it reads, and in which row of the layout for row 0.
struct Tap {
  Index index, offset, row;
};

/// A set of output pixels that read the same taps: all of them, or every s-th of the gradient of a strided convolution.
struct PassSize {
  Index first_tap;
  Index down, across;  ///< taps, in row-major order
  Index row_step;      ///< rows of the layout between neighbouring output rows
  Pair result;         ///< rows and columns
  Index to;            ///< where its plane begins in a channel's scratch

  Index taps() const noexcept { return down * across; }
};

/// Sums over taps and channels for a batch of images: what conv2d and conv2d_data have in common.
template <class T>
class Correlation final {
 public:
  /// `passes` and `taps` are filled by the caller; pixels of a pass are steps of 1 in the layout.
  Correlation(const ImageLayout& layout, Index groups, Index in, Index out, const Scratch<PassSize>& passes,
              Index pass_count, const Scratch<Tap>& taps, Index tap_count, const T* weight, WeightStrides strides,
              Index images)
      : kernels_(kernels::conv<T>()),
        layout_(layout),
        groups_(groups),
        in_(in),
        out_(out),
        passes_(passes),
        pass_count_(pass_count),
        tap_count_(tap_count),
        by_group_(groups >= 8 && !layout.direct),
        room_(layout.direct ? layout.channels * layout.plane()
                            : layout.elements(by_group_ ? in : layout.channels, kernels_.lanes)),
        rows_first_(padding_met(taps, images) > 200),
        across_(out, kernels_.lanes, kernels_.most_vectors),
        by_plane_(out == 1),
        by_pixel_(!by_plane_ && prefers_pixels()),
        blocks_(by_pixel_ ? across_.count : (out + kernels::conv_rows - 1) / kernels::conv_rows),
        offsets_(in * tap_count),
        places_(count_places() * batch()),
        weights_(groups * in * tap_count * packed_width()) {
    fill_offsets(taps);
    fill_places(taps);
    pack(taps, weight, strides);
  }

  /// y [images, groups * out, plane]; several passes are joined to images of `size` with every stride[a]-th pixel.
  void run(const T* x, Index images, const T* bias, bool relu, T* y, Pair size, Pair stride) const {
    const Index plane = size[0] * size[1], y_image = groups_ * out_ * plane;
    const Index x_image = layout_.channels * layout_.size[0] * layout_.size[1];
    const Index units = (images + batch() - 1) / batch();
    const Index work =
        std::max<Index>(1, groups_ * out_ * in_ * tap_count_ * plane / (stride[0] * stride[1])) * batch();
    const Index grain = std::max(units / 16, (least_work + work - 1) / work);
    auto images_of = [&](Index unit) { return std::min(images, (unit + 1) * batch()) - unit * batch(); };
    auto prepare = [&](Index unit, Index first, Index last, T* to) {
      for (Index b = 0; b < images_of(unit); ++b)
        lay_out(layout_, x + (unit * batch() + b) * x_image, first, last, to + b * room_);
    };
    auto target = [&](Index unit) {
      return Target{bias, relu, y + unit * batch() * y_image, y_image, plane, size, stride, images_of(unit)};
    };
    if (by_group_) {  // small groups are laid out one by one, and read while they are in the first-level cache
      const Index most = units >= 8 ? 1 : std::min(groups_, 16 / units);
      const Index parts = std::clamp<Index>(work / least_work, 1, most);
      parallel_for(units * parts, parts == 1 ? grain : 1, [&](Index begin, Index end) {
        const Scratch<T> own(room_ * batch());
        std::fill_n(own.data(), room_ * batch(), T(0));
        for (Index q = begin; q < end; ++q) {
          const Index unit = q / parts, part = q % parts;
          for (Index group = groups_ * part / parts; group < groups_ * (part + 1) / parts; ++group) {
            prepare(unit, group * in_, (group + 1) * in_, own.data());
            blocks(own.data(), group, group * blocks_, (group + 1) * blocks_, target(unit));
          }
        }
      });
      return;
    }
    const Index total = groups_ * blocks_;
    if (units >= 8) {
      parallel_for(units, grain, [&](Index begin, Index end) {
        const Scratch<T> own(layout_.direct ? 0 : room_ * batch());
        if (!layout_.direct) std::fill_n(own.data(), room_ * batch(), T(0));
        for (Index unit = begin; unit < end; ++unit) {
          if (!layout_.direct) prepare(unit, 0, layout_.channels, own.data());
          blocks(layout_.direct ? x + unit * batch() * x_image : own.data(), 0, 0, total, target(unit));
        }
      });
      return;
    }
    // Few images: the threads share them, and divide the channels.
    const Index unit_room = room_ * batch();
    const Scratch<T> all(layout_.direct ? 0 : units * unit_room);
    if (!layout_.direct) {
      parallel_for(units, std::max<Index>(1, (Index{1} << 15) / unit_room), [&](Index begin, Index end) {
        std::fill_n(all.data() + begin * unit_room, (end - begin) * unit_room, T(0));
        for (Index unit = begin; unit < end; ++unit) prepare(unit, 0, layout_.channels, all.data() + unit * unit_room);
      });
    }
    const Index splits = std::clamp<Index>(work / least_work, 1, std::min(total, std::max<Index>(1, 16 / units)));
    parallel_for(units * splits, std::max<Index>(1, least_work * splits / work), [&](Index begin, Index end) {
      for (Index q = begin; q < end; ++q) {
        const Index unit = q / splits, split = q % splits;
        blocks(layout_.direct ? x + unit * batch() * x_image : all.data() + unit * unit_room, 0, total * split / splits,
               total * (split + 1) / splits, target(unit));
      }
    });
  }

 private:
  struct Target {
    const T* bias;
    bool relu;
    T* y;
    Index image, plane;  // strides
    Pair size, stride;
    Index images;
  };

  /// How often each weight would meet nothing but padding: some 200 times pay for its being packed in another order.
  /// 0 if that is less than a tenth of all.
  double padding_met(const Scratch<Tap>& taps, Index images) const {
    Index met = 0, all = 0;
    for (Index p = 0; p < pass_count_; ++p) {
      const PassSize& pass = passes_[p];
      for (Index i = 0; i < pass.result[0]; ++i) {
        const auto [first, last] = valid_taps(pass, taps, i);
        met += (pass.down - last + first) * pass.across * pass.result[1];
        all += pass.taps() * pass.result[1];
      }
    }
    return 10 * met < all ? 0 : static_cast<double>(images * met) / static_cast<double>(std::max<Index>(1, tap_count_));
  }
  /// The rows of taps [first, last) that meet the image in output row i.
  std::pair<Index, Index> valid_taps(const PassSize& pass, const Scratch<Tap>& taps, Index i) const {
    auto meets = [&](Index a) {
      const Index row = taps[pass.first_tap + a * pass.across].row + i * pass.row_step - layout_.before[0];
      return row >= 0 && row < layout_.size[0];
    };
    Index first = 0, last = pass.across > 0 ? pass.down : 0;
    while (first < last && !meets(first)) ++first;
    while (first < last && !meets(last - 1)) --last;
    return {first, last};
  }

  /// Lanes are pixels of a row, or channels: whichever are filled better. Channels cost a transposition at the end.
  bool prefers_pixels() const {
    Index pixels = 0, lanes = 0;
    for (Index p = 0; p < pass_count_; ++p) {
      pixels += passes_[p].result[0] * passes_[p].result[1];
      lanes += strip_count(passes_[p]) * kernels_.lanes;
    }
    auto ratio = [](Index a, Index b) { return static_cast<double>(a) / static_cast<double>(std::max<Index>(1, b)); };
    const Index rows = kernels::conv_rows, k = in_ * tap_count_ / pass_count_;
    const double of_strips = ratio(pixels, lanes) * ratio(out_, (out_ + rows - 1) / rows * rows);
    return of_strips < ratio(out_, across_.vectors * kernels_.lanes) * ratio(k, k + 24);
  }
  bool flat(const PassSize& pass) const { return pass.result[1] == layout_.pitch(); }
  Index strip_count(const PassSize& pass) const {
    const Index rows = flat(pass) ? 1 : pass.result[0],
                columns = pass.result[0] * pass.result[1] / std::max<Index>(rows, 1);
    return rows * ((columns + kernels_.lanes - 1) / kernels_.lanes);
  }
  /// Images that are gathered from together.
  Index batch() const {
    if (!by_pixel_ || pass_count_ > 1) return 1;
    return std::clamp<Index>(64 / std::max<Index>(1, passes_[0].result[0] * passes_[0].result[1]), 1, 64);
  }
  Index count_places() const {
    if (by_plane_) return 0;
    Index n = 0;
    for (Index p = 0; p < pass_count_; ++p)
      n += by_pixel_ ? passes_[p].result[0] * passes_[p].result[1] : strip_count(passes_[p]);
    return n;
  }
  Index packed_width() const { return by_pixel_ ? across_.vectors * kernels_.lanes : blocks_ * kernels::conv_rows; }

  void fill_offsets(const Scratch<Tap>& taps) {
    Index* to = offsets_.data();
    for (Index p = 0; p < pass_count_; ++p) {
      const PassSize& pass = passes_[p];
      each_sum(pass, [&](Index c, Index first, Index count) {
        for (Index t = first; t < first + count; ++t) *to++ = c * layout_.plane() + taps[pass.first_tap + t].offset;
      });
    }
  }
  /// The order of a sum: f(channel, first tap, taps). Where many rows meet padding, by rows of the kernel, so that what
  /// meets nothing is the beginning or the end; else by channels, as weights lie in memory.
  template <class F>
  void each_sum(const PassSize& pass, F&& f) const {
    const Index parts = rows_first_ ? pass.down : 1, count = pass.taps() / std::max<Index>(1, parts);
    for (Index part = 0; part < parts; ++part)
      for (Index c = 0; c < in_; ++c) f(c, part * count, count);
  }

  void fill_places(const Scratch<Tap>& taps) {
    if (by_plane_) return;
    const Index lanes = kernels_.lanes, all = batch();
    kernels::Strip* to = places_.data();
    for (Index p = 0; p < pass_count_; ++p) {
      const PassSize& pass = passes_[p];
      const bool run = !by_pixel_ && flat(pass);
      const Index rows = run ? 1 : pass.result[0], step = by_pixel_ ? 1 : lanes;
      const Index columns = run ? pass.result[0] * pass.result[1] : pass.result[1];
      // The last strip of a row begins early rather than ending short, unless sums are continued, pixel by pixel.
      const Index last_start = in_ * pass.taps() <= longest_sum && columns >= step ? columns - step : columns;
      for (Index b = 0; b < all; ++b) {
        for (Index i = 0; i < rows; ++i) {
          Index first = 0, last = in_ * pass.taps();
          if (rows_first_ && !run) {
            const auto valid = valid_taps(pass, taps, i);
            first = valid.first * in_ * pass.across;
            last = valid.second * in_ * pass.across;
          }
          for (Index at = 0; at < columns; at += step) {
            const Index j = std::min(at, last_start);
            *to++ = {b * room_ + i * layout_.pitch() + j, i * columns + j, std::min(step, columns - j), first, last};
          }
        }
      }
    }
  }

  /// Channels of block `block`: first, count, and the width they are packed with.
  struct Block {
    Index first, count, width;
  };
  Block block_of(Index block) const {
    if (by_pixel_)
      return {across_.first_channel(block), across_.channels_of(block), across_.vectors_of(block) * kernels_.lanes};
    const Index first = block * kernels::conv_rows;
    return {first, std::min(kernels::conv_rows, out_ - first), kernels::conv_rows};
  }
  /// Where the packed weights of a pass begin for this group and block: [group][block][k][width].
  Index packed_at(const PassSize& pass, Index group, Index block) const {
    const Index k = in_ * pass.taps();
    const Index before = by_pixel_ ? across_.first_vector(block) * kernels_.lanes : block * kernels::conv_rows;
    return groups_ * in_ * pass.first_tap * packed_width() + (group * packed_width() + before) * k;
  }

  void pack(const Scratch<Tap>& taps, const T* weight, WeightStrides s) {
    for (Index p = 0; p < pass_count_; ++p) {
      const PassSize& pass = passes_[p];
      const Tap* tap = taps.data() + pass.first_tap;
      bool in_order = true;
      for (Index t = 0; t < pass.taps(); ++t) in_order &= tap[t].index == t;
      const bool in_one = in_order && s.in == pass.taps() && !rows_first_;
      const Index total = groups_ * blocks_, work = std::max<Index>(1, in_ * pass.taps() * packed_width() / blocks_);
      parallel_for(total, std::max<Index>(1, (Index{1} << 15) / work), [&](Index begin, Index end) {
        for (Index q = begin; q < end; ++q) {
          const Block block = block_of(q % blocks_);
          T* to = weights_.data() + packed_at(pass, q / blocks_, q % blocks_);
          const T* from = weight + q / blocks_ * s.group + block.first * s.out;
          if (block.count < block.width) std::fill_n(to, in_ * pass.taps() * block.width, T(0));
          if (in_one) {
            kernels::transpose(from, block.count, in_ * pass.taps(), s.out, to, block.width);
            continue;
          }
          each_sum(pass, [&](Index c, Index first, Index count) {
            const T* of_channel = from + c * s.in;
            if (in_order && count > 3) {
              kernels::transpose(of_channel + first, block.count, count, s.out, to, block.width);
            } else {
              for (Index t = 0; t < count; ++t)
                for (Index r = 0; r < block.count; ++r)
                  to[t * block.width + r] = of_channel[r * s.out + tap[first + t].index];
            }
            to += count * block.width;
          });
        }
      });
    }
  }

  /// Blocks [begin, end) of all groups, for the images of one unit, of which `x` holds what `first_group` reads and on.
  void blocks(const T* x, Index first_group, Index begin, Index end, const Target& target) const {
    const bool joins = pass_count_ > 1;
    while (begin < end) {  // a group at a time; of a group that is cut, its part
      const Index group = begin / blocks_, first = begin % blocks_, last = std::min(blocks_, first + end - begin);
      const Block head = block_of(first), tail = block_of(last - 1);
      const Index channel = group * out_ + head.first, channels = tail.first + tail.count - head.first;
      const Scratch<T> planes(joins ? channels * target.plane : 0);
      Index strip = 0;
      for (Index p = 0; p < pass_count_; ++p) {
        const PassSize& pass = passes_[p];
        T* y = joins ? planes.data() + pass.to : target.y + channel * target.plane;
        const Index* offsets = offsets_.data() + in_ * pass.first_tap;
        const T* of_group = x + (group - first_group) * in_ * layout_.plane();
        const T* bias = target.bias ? target.bias + channel : nullptr;
        if (by_plane_)
          whole_plane(pass, of_group, offsets, group, bias, target.relu, y);
        else if (by_pixel_)
          strip += pixel_blocks(pass, of_group, offsets, group, first, last, bias, target, strip, y);
        else
          strip += strip_blocks(pass, of_group, offsets, group, first, channels, bias, target, strip, y);
      }
      if (joins) join(planes.data(), channels, target, target.y + channel * target.plane);
      begin += last - first;
    }
  }

  void whole_plane(const PassSize& pass, const T* x, const Index* offsets, Index group, const T* bias, bool relu,
                   T* y) const {
    const bool run = flat(pass);
    kernels_.plane({.x = x,
                    .pitch = layout_.pitch(),
                    .offsets = offsets,
                    .k = in_ * pass.taps(),
                    .w = weights_.data() + packed_at(pass, group, 0),
                    .bias = bias ? *bias : T(0),
                    .y = y,
                    .rows = run ? 1 : pass.result[0],
                    .columns = run ? pass.result[0] * pass.result[1] : pass.result[1],
                    .relu = relu});
  }

  Index strip_blocks(const PassSize& pass, const T* x, const Index* offsets, Index group, Index first, Index channels,
                     const T* bias, const Target& target, Index strip, T* y) const {
    const Index k = in_ * pass.taps(), count = strip_count(pass);
    const Index parts = std::max<Index>(1, (k + longest_sum - 1) / longest_sum);
    for (Index part = 0; part < parts; ++part) {
      const Index from = k * part / parts, to = k * (part + 1) / parts;
      kernels_.products({.x = x,
                         .strips = places_.data() + strip,
                         .strip_count = count,
                         .offsets = offsets,
                         .k_begin = from,
                         .k_end = to,
                         .w = weights_.data() + packed_at(pass, group, first),
                         .w_stride = k * kernels::conv_rows,
                         .channels = channels,
                         .bias = part == 0 ? bias : nullptr,
                         .y = y,
                         .y_stride = target.plane,
                         .accumulate = part > 0,
                         .relu = target.relu && part + 1 == parts});
    }
    return count;
  }

  Index pixel_blocks(const PassSize& pass, const T* x, const Index* offsets, Index group, Index first, Index last,
                     const T* bias, const Target& target, Index place, T* y) const {
    const Index pixels = pass.result[0] * pass.result[1], most = kernels_.most_vectors * kernels_.lanes;
    const Scratch<T> sums((target.images * pixels + 1) * most);
    T* const start = sums.data() + target.images * pixels * most;
    for (Index b = first; b < last; ++b) {
      const Block block = block_of(b);
      const Index at = block.first - block_of(first).first;
      std::fill_n(start, block.width, T(0));
      if (bias) std::copy_n(bias + at, block.count, start);
      kernels_.pixels({.x = x,
                       .pixels = places_.data() + place,
                       .pixel_count = target.images * pixels,
                       .offsets = offsets,
                       .w = weights_.data() + packed_at(pass, group, b),
                       .vectors = block.width / kernels_.lanes,
                       .bias = start,
                       .y = sums.data(),
                       .relu = target.relu});
      for (Index n = 0; n < target.images; ++n)
        kernels::transpose(sums.data() + n * pixels * block.width, pixels, block.count, block.width,
                           y + n * target.image + at * target.plane, target.plane);
    }
    return pixels * batch();
  }

  /// Puts the planes of the passes together again.
  void join(const T* planes, Index channels, const Target& target, T* y) const {
    const Index sy = target.stride[0], sx = target.stride[1], width = target.size[1];
    for (Index c = 0; c < channels; ++c, planes += target.plane) {
      for (Index i = 0; i < target.size[0]; ++i, y += width) {
        auto row = [&](Index b) {
          const PassSize& pass = passes_[i % sy * sx + b];
          return planes + pass.to + i / sy * pass.result[1];
        };
        if (sx == 2) {
          kernels_.join_pairs(row(0), row(1), width, y);
          continue;
        }
        for (Index b = 0; b < std::min(sx, width); ++b) {
          const T* from = row(b);
          for (Index j = b; j < width; j += sx) y[j] = *from++;
        }
      }
    }
  }

  const kernels::ConvKernels<T>& kernels_;
  ImageLayout layout_;
  Index groups_, in_, out_;  // channels of a group
  const Scratch<PassSize>& passes_;
  Index pass_count_, tap_count_;
  bool by_group_;  // the layout holds one group at a time
  Index room_;     // of an image in it
  bool rows_first_;
  VectorGroups across_;
  bool by_plane_, by_pixel_;
  Index blocks_;  // of a group
  Scratch<Index> offsets_;
  Scratch<kernels::Strip> places_;
  Scratch<T> weights_;
};

/// Taps that pixels a, a + s, a + 2 s ... of the input meet: those t with a + p - t d a multiple of s.
struct Phase {
  Index first, step, count;  // of the taps
};
Phase phase_of(const ConvGeometry& g, std::size_t axis, Index a) {
  const Index s = g.stride[axis];
  auto meets = [&](Index t) { return (a + g.before[axis] - t * g.dilation[axis]) % s == 0; };
  Phase phase{0, 1, 0};
  for (Index t = 0; t < g.kernel[axis]; ++t) {
    if (!meets(t)) continue;
    if (phase.count == 0) phase.first = t;
    if (phase.count == 1) phase.step = t - phase.first;
    ++phase.count;
  }
  return phase;
}
/// How far the pixel of g that tap t takes lies from the phase's own.
Index shift_of(const ConvGeometry& g, std::size_t axis, Index a, Index t) {
  return (a + g.before[axis] - t * g.dilation[axis]) / g.stride[axis];
}
Index pixels_of(Index size, Index a, Index stride) { return a < size ? (size - a + stride - 1) / stride : 0; }

/// A partial strip reads further than its pixels: only without one will a plain image of this pitch do. `k`: length of
/// the sums.
bool strips_are_whole(Pair result, Index pitch, Index k, Index lanes) {
  const Index row = result[1] == pitch ? result[0] * result[1] : result[1];
  return row % lanes == 0 || (row > lanes && k <= longest_sum);
}

/// The bias as the kernels read it, or null.
const Tensor* checked_bias(const Tensor* bias, const Tensor& x, Index channels, Tensor& dense) {
  if (!bias) return nullptr;
  detail::check_fits("bias", *bias, {channels}, x);
  dense = bias->contiguous();
  return &dense;
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor* bias, const ConvGeometry& g, bool relu) {
  if (const auto* packed = dynamic_cast<const PackedLinear*>(weight.packed())) return packed->conv2d(x, bias, g, relu);
  detail::check_fits("x", x, g.x_shape(), x);
  detail::check_fits("weight", weight, g.weight_shape(), x);
  Tensor dense_bias;
  bias = checked_bias(bias, x, g.out, dense_bias);
  Tensor y = Tensor::empty(g.y_shape(), x.dtype());
  const Tensor from = x.contiguous(), w = weight.contiguous();
  dispatch_floating("conv2d", x.dtype(), [&]<class T>() {
    T* target = y.write<T>("conv2d");
    if (y.size() == 0) return;
    const Index in = g.in / g.groups, out = g.out / g.groups, taps = g.kernel[0] * g.kernel[1];
    const bool whole = strips_are_whole(g.result, g.size[1], in * taps, kernels::conv<T>().lanes);
    const ImageLayout layout = detail::make_layout(g.in, g.size, g.before, g.stride, g.reach(), whole);
    const Scratch<Tap> tap(taps);
    for (Index a = 0; a < g.kernel[0]; ++a)
      for (Index b = 0; b < g.kernel[1]; ++b)
        tap[a * g.kernel[1] + b] = {a * g.kernel[1] + b, layout.at(a * g.dilation[0], b * g.dilation[1]),
                                    a * g.dilation[0]};
    const Scratch<PassSize> pass(1);
    pass[0] = {0, g.kernel[0], g.kernel[1], g.stride[0], g.result, 0};
    const Correlation<T> sums(layout, g.groups, in, out, pass, 1, tap, taps, w.data<T>(),
                              {out * in * taps, in * taps, taps}, g.batch);
    sums.run(from.data<T>(), g.batch, bias ? bias->data<T>() : nullptr, relu, target, g.result, {1, 1});
  });
  return y;
}

Tensor conv2d_data(const Tensor& gradient, const Tensor& weight, const Tensor* bias, const ConvGeometry& g) {
  detail::check_fits("g", gradient, g.y_shape(), gradient);
  detail::check_fits("weight", weight, g.weight_shape(), gradient);
  Tensor dense_bias;
  bias = checked_bias(bias, gradient, g.in, dense_bias);
  Tensor y = Tensor::empty(g.x_shape(), gradient.dtype());
  const Tensor from = gradient.contiguous(), w = weight.contiguous();
  dispatch_floating("conv2d", gradient.dtype(), [&]<class T>() {
    T* target = y.write<T>("conv2d_data");
    if (y.size() == 0) return;
    const Index in = g.in / g.groups, out = g.out / g.groups, taps = g.kernel[0] * g.kernel[1];
    // Zeros before g for the taps that reach furthest back, and how much of it is read.
    Pair before{}, needed{1, 1};
    for (std::size_t axis = 0; axis < 2; ++axis) {
      Index least = 0, most = 0;
      for (Index a = 0; a < std::min(g.stride[axis], g.size[axis]); ++a) {
        const Phase phase = phase_of(g, axis, a);
        if (phase.count == 0) continue;
        const Index last = phase.first + (phase.count - 1) * phase.step;
        least = std::min(least, shift_of(g, axis, a, last));
        most = std::max(most, pixels_of(g.size[axis], a, g.stride[axis]) + shift_of(g, axis, a, phase.first));
      }
      before[axis] = -least;
      needed[axis] = std::max<Index>(1, std::max(most, pixels_of(g.size[axis], 0, g.stride[axis])) - least);
    }
    const Pair stride = g.stride;
    const bool whole =
        stride == Pair{1, 1} && strips_are_whole(g.size, g.result[1], out * taps, kernels::conv<T>().lanes);
    const ImageLayout layout = detail::make_layout(g.out, g.result, before, {1, 1}, needed, whole);
    const Index passes = stride[0] * stride[1];
    const Scratch<PassSize> pass(passes);
    const Scratch<Tap> tap(taps);
    Index at = 0, plane = 0;
    for (Index a = 0; a < stride[0]; ++a) {
      for (Index b = 0; b < stride[1]; ++b) {
        const Phase down = phase_of(g, 0, a), across = phase_of(g, 1, b);
        PassSize& p = pass[a * stride[1] + b];
        p = {
            at,   down.count, across.count, 1, {pixels_of(g.size[0], a, stride[0]), pixels_of(g.size[1], b, stride[1])},
            plane};
        for (Index k = 0; k < down.count; ++k) {
          for (Index l = 0; l < across.count; ++l) {
            const Index t = down.first + k * down.step, u = across.first + l * across.step;
            const Index row = shift_of(g, 0, a, t) + before[0];
            tap[at++] = {t * g.kernel[1] + u, layout.at(row, shift_of(g, 1, b, u) + before[1]), row};
          }
        }
        plane += p.result[0] * p.result[1];
      }
    }
    const Correlation<T> sums(layout, g.groups, out, in, pass, passes, tap, taps, w.data<T>(),
                              {out * in * taps, taps, in * taps}, g.batch);
    sums.run(from.data<T>(), g.batch, bias ? bias->data<T>() : nullptr, false, target, g.size, stride);
  });
  return y;
}

}  // namespace espalier
