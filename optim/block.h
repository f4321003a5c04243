// Block: what a transform works on, at most 4,096 elements of one parameter, in the L1 cache.
//
// The gradient is read where it lies, with a factor and the mask pending, until someone needs it in memory: so a clip
// costs one multiplication for the block, and what follows reads it once. The verbs below live in the library and are
// vectorised whatever flags their caller is compiled with; map(f) is one loop of the caller's compiler.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <span>

#include "espalier/core/error.h"

namespace espalier::optim {

class Pipeline;
enum class StateShape : std::uint8_t;

/// A state of one parameter.
struct StateView {
  void* first;
  StateShape shape;
  Index size;
};

/// What is measured over blocks and added up. Its exponent range lets squares of doubles neither overflow nor vanish.
using Figure = long double;

/// T is float or double. What is called gradient here is what the transforms before this one made of it: behind an
/// optimizer the update, which will be added to the value; in a constraint the value itself.
template <class T>
class Block {
 public:
  static constexpr Index capacity = 4096;  // 16 KB of f32; a multiple of 64, so that mask words do not split

  // --- what it is ----------------------------------------------------------------------------------------------------
  Index size() const noexcept { return size_; }
  Index begin() const noexcept { return begin_; }                ///< its first element, counted within the parameter
  std::size_t parameter() const noexcept { return parameter_; }  ///< place in the optimizer's list
  Index units() const noexcept { return units_; }                ///< output units of the parameter
  Index unit_size() const noexcept { return unit_size_; }        ///< weights of each
  Index unit() const noexcept { return begin_ / unit_size_; }    ///< the one that the first element belongs to
  std::int64_t updates() const noexcept { return updates_; }     ///< of this parameter, this one included
  /// The parameter before the update (soft masks: the dense one).
  std::span<const T> value() const noexcept { return {value_, length()}; }
  /// The transform's state number k, to read and write: this block's part of one like the weight, all of another. What
  /// several blocks share, only a transform of whole tensors may write.
  std::span<T> state(std::size_t k) const noexcept {
    const StateView& s = states_[k];
    if (s.shape == StateShape{}) return {static_cast<T*>(s.first) + begin_, length()};
    return {static_cast<T*>(s.first), static_cast<std::size_t>(s.size)};
  }
  /// What this transform measured, of the unit, tensor or whole selection that the block belongs to.
  Figure figure(std::size_t k = 0) const noexcept { return figures_[k]; }
  /// It will not be run on this block again in this step: the sweep writes. What is counted is counted then.
  bool settles() const noexcept { return settles_; }
  /// Bits of live weights, 64 to a word, from this block's first element; null: all are live.
  const std::uint64_t* mask() const noexcept { return mask_; }
  Index live() const noexcept;  ///< how many are
  /// The same of a soft mask, which hides weights and leaves them to be trained; null: there is none.
  const std::uint64_t* soft_mask() const noexcept { return soft_mask_; }

  // --- verbs ---------------------------------------------------------------------------------------------------------
  void multiply(Figure c) {  ///< g <- c g. Pending: costs nothing
    if (clamps_) scale_bounds(c);
    scale_ *= c;
  }
  void add(double c);                            ///< g <- g + c
  void add(double c, std::span<const T> x);      ///< g <- g + c x
  void add_value(double c) { add(c, value()); }  ///< g <- g + c w: decay as part of the gradient
  /// g <- g within [lo, hi]; NaN stays. Pending. How many live entries were outside is added to `moved`, if given, by
  /// the end of the step.
  void clamp(double lo, double hi, std::atomic<Index>* moved = nullptr);
  Index count_outside(double lo, double hi);  ///< only counts them
  Index squash(double bound);                 ///< g <- bound tanh(g / bound); returns how many lay beyond bound
  void center();                              ///< g <- g - mean(g), over the live entries of the block
  void center_units();                        ///< the same for each unit; the block must be made of whole ones. Pending
  void soft_threshold(double s);              ///< g <- sign(g) max(|g| - s, 0), exactly 0 where |g| <= s; NaN stays
  void abs();
  void sign();  ///< -1, 0, 1; NaN stays
  /// w <- keep w, together with the update: decay that bypasses the transforms behind.
  void decay(double keep) noexcept { keep_ *= keep; }
  /// Soft masks: g <- mask g. (Hard masks are applied by the pipeline.)
  void mask_gradient() noexcept {
    if (soft_mask_ && centers_) materialise();
    if (soft_mask_) read_mask_ = soft_mask_;
  }
  /// g <- f(g), element by element, in one pass.
  template <class F>
  void map(F f) {
    if (read_mask_ || deferred() || !plain_scale()) materialise();  // mask bits are expanded in the library
    const T* from = source_;
    T* to = scratch_;
    const T scale = static_cast<T>(scale_);
    for (Index i = 0; i < size_; ++i) to[i] = f(from[i] * scale);
    set_result();
  }
  /// The gradient in memory, to change in place.
  std::span<T> gradient() {
    if (source_ != scratch_ || scale_ != 1 || read_mask_ || deferred()) materialise();
    return {scratch_, length()};
  }

  // --- figures of the gradient, over live coordinates ---------------------------------------------------------------
  Figure sum();
  Figure sum_squares();
  Figure sum_abs();
  Figure max_abs();                  ///< NaN if there is one
  Figure sum_powers(double p);       ///< of |g|^p
  Figure value_sum_squares() const;  ///< of value()

  // --- for transforms that take what is pending into their own loop -------------------------------------------------
  /// The gradient is scale * source[i] within [low, high], and 0 where mask() is.
  struct Pending {
    const T* source;
    T scale;
    double low, high;
    const T* ahead;  ///< size() elements to fetch into the cache meanwhile, as they are read next; may be null
  };
  /// Without bounds: low and high are infinite. With them: whoever writes what is pending counts what it clamps.
  Pending pending() {
    if (deferred()) materialise();
    return pending_within_bounds();
  }
  Pending pending_within_bounds() {
    if (centers_ || !plain_scale() || (read_mask_ && read_mask_ != mask_)) materialise();
    return {source_, static_cast<T>(scale_), low_, high_, read_next()};
  }
  /// So many live entries were clamped by the caller's loop.
  void count_clamped(Index n) noexcept {
    if (n > 0 && moved_) moved_->fetch_add(n, std::memory_order_relaxed);
  }
  /// Nothing follows: w <- keep w + update, masked by mask(), may go straight into writable_value(); set_applied().
  bool last() const noexcept { return last_; }
  double keep() const noexcept { return keep_; }
  T* writable_value() noexcept { return value_; }
  /// Where the new gradient goes; set_result() then says it is there.
  T* result() noexcept { return scratch_; }
  void set_result() noexcept {
    source_ = scratch_;
    scale_ = 1;
    read_mask_ = nullptr;
    if (clamps_) no_bounds();
    centers_ = false;
  }
  /// The value was written, see last().
  void set_applied() noexcept { applied_ = true; }
  /// Zeros the gradient again where the mask is 0, at its next use.
  void remask() noexcept {
    if (mask_) read_mask_ = mask_;
  }

 private:
  friend class Pipeline;
  std::size_t length() const noexcept { return static_cast<std::size_t>(size_); }
  /// The pending factor is a normal number of type T, so it may be multiplied with as it is.
  bool plain_scale() const noexcept;
  /// Where an update is left in scratch, the value it will be added to; where the gradient was read ahead of the states,
  /// the next block's. So memory is kept busy through loops that would not touch it.
  const T* read_next() const noexcept { return !last_ ? value_ : source_ == scratch_ ? ahead_ : nullptr; }
  bool deferred() const noexcept { return clamps_ || centers_; }
  void materialise();
  void scale_bounds(Figure c);
  void no_bounds() noexcept {
    clamps_ = false;
    high_ = std::numeric_limits<double>::infinity();
    low_ = -high_;
    moved_ = nullptr;
  }

  const T* source_ = nullptr;
  const T* ahead_ = nullptr;
  T* scratch_ = nullptr;
  T* value_ = nullptr;
  const std::uint64_t* read_mask_ = nullptr;  // pending on source_
  const std::uint64_t* mask_ = nullptr;       // hard
  const std::uint64_t* soft_mask_ = nullptr;
  const StateView* states_ = nullptr;  // of the transform at work
  Index size_ = 0, begin_ = 0, units_ = 1, unit_size_ = 1;
  std::size_t parameter_ = 0;
  std::int64_t updates_ = 0;
  Figure scale_ = 1, figures_[2] = {0, 0};
  double keep_ = 1;
  double low_ = -std::numeric_limits<double>::infinity(), high_ = -low_;  // pending on scale * source
  std::atomic<Index>* moved_ = nullptr;
  bool clamps_ = false, centers_ = false, settles_ = false, last_ = false, applied_ = false;
};

extern template class Block<float>;
extern template class Block<double>;

}  // namespace espalier::optim
