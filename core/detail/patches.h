// The patches of a convolution, panel by panel: images are laid out with their border once, the patches of a few pixels
// at a time. What multiplies them is the caller's.
#pragma once

#include <span>

#include "espalier/core/detail/conv_layout.h"
#include "espalier/core/kernels/sparse.h"
#include "espalier/core/parallel.h"

namespace espalier::detail {

/// Pixels of a panel that stand side by side in one row of one image.
struct PixelRun {
  Index image, pixel;  ///< of the output
  Index from;          ///< in the laid out images
  Index first, count;  ///< in the panel
};

/// Some pixels of the output and the laid out images that they read.
template <class T>
struct PixelPart {
  const T* images;
  Index first_image;
  Index begin, end;  ///< pixels, counted from the first of these images
};

template <class T>
class Patches final {
 public:
  /// Panels [rows, pixels] that stand as `w` [out, channels * taps] wants them: column c is row panel_row(w, c). Both
  /// must outlive this. Groups 1; the output is not empty.
  Patches(const kernels::SparseMatrix<T>& w, const ConvGeometry& g)
      : w_(w),
        g_(g),
        layout_(make_layout(g.in, g.size, g.before, g.stride, g.reach(), false)),
        room_(layout_.elements(g.in, kernels_.lanes)),
        plane_(g.result[0] * g.result[1]),
        each_(std::max<Index>(1, 256 / plane_)),
        units_(chunk_count(g.batch, each_)) {}

  /// How many parts the pixels come in, by shapes alone.
  Index parts() const { return by_images() ? units_ : chunk_count(g_.batch * plane_, longest()); }

  /// Calls work(k, part) for all parts, in order for each k of [0, chunks), chunks <= parts(); the k at the same time.
  template <class Work>
  void share_out(const T* x, Index chunks, const Work& work) const {
    const Index image = g_.in * g_.size[0] * g_.size[1], total = parts();
    const auto first_part = [&](Index k) { return total * k / chunks; };
    if (by_images()) {  // a thread takes whole images
      parallel_for(chunks, 1, [&](Index begin, Index end) {
        const Scratch<T> laid_out(room_ * each_);
        for (Index k = begin; k < end; ++k)
          for (Index unit = first_part(k); unit < first_part(k + 1); ++unit) {
            const Index first = unit * each_, images = std::min(each_, g_.batch - first);
            prepare(x + first * image, images, laid_out.data());
            work(k, PixelPart<T>{laid_out.data(), first, 0, images * plane_});
          }
      });
      return;
    }
    const Scratch<T> laid_out(room_ * g_.batch);
    parallel_for(g_.batch, std::max<Index>(1, (Index{1} << 15) / room_), [&](Index begin, Index end) {
      prepare(x + begin * image, end - begin, laid_out.data() + begin * room_);
    });
    parallel_for(chunks, 1, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k)
        work(k, PixelPart<T>{laid_out.data(), 0, first_part(k) * longest(),
                             std::min(g_.batch * plane_, first_part(k + 1) * longest())});
    });
  }

  /// Pixels of the longest panel.
  Index longest() const { return kernels::panel_length<T>(g_.batch * plane_); }

  /// Calls visit(panel, length, runs) for each panel of the part; zeros behind its last pixel.
  template <class Visit>
  void each_panel(const PixelPart<T>& part, const Visit& visit) const {
    const Index most = kernels::panel_length<T>(part.end - part.begin);
    const Scratch<T> panel(w_.panel_rows() * most);
    const Scratch<PixelRun> runs(most);
    for (Index at = part.begin; at < part.end; at += most) {
      const Index pixels = std::min(most, part.end - at), length = kernels::panel_length<T>(pixels);
      const std::span<const PixelRun> found(runs.data(), find_runs(part, at, at + pixels, runs.data()));
      kernels::clear_padding(w_, panel.data(), length);
      for (const PixelRun& run : found) lay_out_patches(part.images, run, panel.data(), length);
      if (pixels < length)
        for (Index row = 0; row < w_.panel_rows(); ++row)
          std::fill_n(panel.data() + row * length + pixels, length - pixels, T(0));
      visit(panel.data(), length, found);
    }
  }

  /// Channels [first, first + channels) of the output's pixels in these runs, from or to rows `length` long.
  void gather(const T* y, std::span<const PixelRun> runs, Index first, Index channels, T* rows, Index length) const {
    for (const PixelRun& run : runs)
      kernels_.copy_rows(y + at(run, first), channels, run.count, plane_, rows + run.first, length);
  }
  void scatter(const T* rows, Index length, std::span<const PixelRun> runs, Index first, Index channels, T* y) const {
    for (const PixelRun& run : runs)
      kernels_.copy_rows(rows + run.first, channels, run.count, length, y + at(run, first), plane_);
  }

 private:
  bool by_images() const { return units_ >= 8; }
  Index at(const PixelRun& run, Index channel) const { return (run.image * g_.out + channel) * plane_ + run.pixel; }

  void prepare(const T* x, Index images, T* to) const {
    std::fill_n(to, images * room_, T(0));
    for (Index n = 0; n < images; ++n)
      lay_out(layout_, x + n * g_.in * g_.size[0] * g_.size[1], 0, g_.in, to + n * room_);
  }
  std::size_t find_runs(const PixelPart<T>& part, Index begin, Index end, PixelRun* runs) const {
    const Index width = g_.result[1];
    std::size_t n = 0;
    for (Index at = begin; at < end; ++n) {
      const Index image = at / plane_, pixel = at % plane_, column = pixel % width;
      const Index count = std::min(end - at, width - column);
      runs[n] = {part.first_image + image, pixel, image * room_ + pixel / width * layout_.pitch() + column, at - begin,
                 count};
      at += count;
    }
    return n;
  }
  /// A tap of all channels at a time: their rows in the panel stand `taps` apart, but for what lies between blocks.
  void lay_out_patches(const T* images, const PixelRun& run, T* panel, Index length) const {
    const Index taps = g_.kernel[0] * g_.kernel[1];
    for (Index tap = 0; tap < taps; ++tap) {
      const T* from =
          images + run.from + layout_.at(tap / g_.kernel[1] * g_.dilation[0], tap % g_.kernel[1] * g_.dilation[1]);
      for (Index c = 0; c < g_.in;) {
        const Index column = c * taps + tap, block_end = (column / w_.width + 1) * w_.width;
        const Index next = std::min(g_.in, c + (block_end - column - 1) / taps + 1);
        kernels_.copy_rows(from + c * layout_.plane(), next - c, run.count, layout_.plane(),
                           panel + kernels::panel_row(w_, column) * length + run.first, taps * length);
        c = next;
      }
    }
  }

  const kernels::SparseMatrix<T>& w_;
  const ConvGeometry& g_;
  const kernels::ConvKernels<T>& kernels_ = kernels::conv<T>();
  ImageLayout layout_;
  Index room_;          // of a laid out image
  Index plane_;         // of the output
  Index each_, units_;  // images of a unit
};

}  // namespace espalier::detail
