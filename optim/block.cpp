#include "espalier/optim/block.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "espalier/core/kernels/step.h"
#include "espalier/core/kernels/transforms.h"

namespace espalier::optim {
namespace {

// A sum in double leaves its range for squares of doubles beyond 1e154 or below 1e-154: such a block is summed again.
constexpr double safe_low = 1e-280, safe_high = 1e280;

template <class T, class Term>
Figure sum_slowly(const T* g, const std::uint64_t* mask, Index n, Term term) {
  Figure s = 0;
  for (Index i = 0; i < n; ++i)
    if (kernels::is_live(mask, i)) s += term(static_cast<Figure>(g[i]));
  return s;
}

Figure magnitude(Figure x) { return x < 0 ? -x : x; }

template <class T>
Figure sum_of_squares(const T* x, const std::uint64_t* mask, Index n) {
  const double s = kernels::step<T>().sum_squares(x, mask, n);
  const bool again = std::is_same_v<T, double> && !(s > safe_low && s < safe_high);
  return again ? sum_slowly(x, mask, n, [](Figure v) { return v * v; }) : Figure(s);
}

}  // namespace

template <class T>
bool Block<T>::plain_scale() const noexcept {
  const Figure c = scale_ < 0 ? -scale_ : scale_;
  // Subnormal factors have lost digits, and finite ones beyond T's range would turn entries into infinities.
  const bool normal = c >= std::numeric_limits<T>::min() && c <= std::numeric_limits<T>::max();
  return normal || c == 0 || !std::isfinite(c);
}

template <class T>
void Block<T>::materialise() {
  if (!plain_scale()) {
    for (Index i = 0; i < size_; ++i)
      scratch_[i] = kernels::is_live(read_mask_, i) ? static_cast<T>(scale_ * static_cast<Figure>(source_[i])) : T(0);
    source_ = scratch_;
    scale_ = 1;
  }
  if (centers_) {  // never with bounds: each is written before the other is asked for
    kernels::transforms<T>().load_centered(scratch_, source_, static_cast<T>(scale_), unit_size_, mask_, size_);
    return set_result();
  }
  const T scale = static_cast<T>(scale_), low = static_cast<T>(low_), high = static_cast<T>(high_);
  const bool in_place = source_ == scratch_ && scale == 1 && !read_mask_;
  if (clamps_ && in_place && kernels::step<T>().within(source_, low, high, size_)) return set_result();  // as usual
  if (clamps_)
    count_clamped(kernels::step<T>().load_clamped(scratch_, source_, scale, static_cast<T>(low_), static_cast<T>(high_),
                                                  read_mask_, size_));
  else if (source_ != scratch_ || scale != 1 || read_mask_)
    kernels::step<T>().load(scratch_, source_, scale, read_mask_, size_);
  set_result();
}

template <class T>
void Block<T>::scale_bounds(Figure c) {
  const auto scaled = [&](double bound) { return bound == 0 ? 0.0 : static_cast<double>(bound * c); };
  if (!(c > 0 || c < 0) || std::isinf(c)) return materialise();  // 0, NaN and infinity are for entries, not for bounds
  const double low = scaled(low_), high = scaled(high_);
  low_ = c > 0 ? low : high;
  high_ = c > 0 ? high : low;
}

template <class T>
void Block<T>::add(double c) {
  if (deferred() || !plain_scale() || (read_mask_ && read_mask_ != mask_)) materialise();
  kernels::step<T>().load_shifted(scratch_, source_, static_cast<T>(scale_), static_cast<T>(c), mask_, size_);
  set_result();
}

template <class T>
void Block<T>::add(double c, std::span<const T> x) {
  if (x.size() != length()) fail<ShapeError>("[block] add: ", x.size(), " values for a block of ", size_);
  kernels::step<T>().axpy(gradient().data(), static_cast<T>(c), x.data(), size_);
}

template <class T>
Index Block<T>::live() const noexcept {
  return kernels::count_live(mask_, size_);
}

template <class T>
void Block<T>::clamp(double lo, double hi, std::atomic<Index>* moved) {
  if (deferred() || !plain_scale()) materialise();
  clamps_ = true;
  low_ = lo;
  high_ = hi;
  moved_ = moved;
}

template <class T>
Index Block<T>::count_outside(double lo, double hi) {
  if (deferred() || !plain_scale()) materialise();
  alignas(64) T nowhere[capacity];
  Index outside = 0;
  for (Index at = 0; at < size_; at += capacity)
    outside += kernels::step<T>().load_clamped(nowhere, source_ + at, static_cast<T>(scale_), static_cast<T>(lo),
                                               static_cast<T>(hi), read_mask_ ? read_mask_ + at / 64 : nullptr,
                                               std::min(capacity, size_ - at));
  return outside;
}

template <class T>
Index Block<T>::squash(double bound) {
  if (deferred() || !plain_scale()) materialise();
  const T b = static_cast<T>(bound);
  if (std::isinf(b)) return 0;
  const Index beyond =
      kernels::step<T>().load_squashed(scratch_, source_, static_cast<T>(scale_), b, read_mask_, size_);
  set_result();
  return beyond;
}

template <class T>
void Block<T>::center() {
  if (deferred() || !plain_scale()) materialise();
  const Index count = live();
  if (count == 0) return;
  const Figure mean = sum() / static_cast<Figure>(count);
  kernels::step<T>().load_shifted(scratch_, source_, static_cast<T>(scale_), static_cast<T>(-mean), mask_, size_);
  set_result();
}

template <class T>
void Block<T>::center_units() {
  if (deferred() || !plain_scale() || (read_mask_ && read_mask_ != mask_)) materialise();
  centers_ = true;
}

template <class T>
void Block<T>::soft_threshold(double s) {
  if (deferred() || !plain_scale()) materialise();
  kernels::transforms<T>().load_softened(scratch_, source_, static_cast<T>(scale_), static_cast<T>(s), read_mask_,
                                         size_);
  set_result();
}

template <class T>
void Block<T>::abs() {
  for (T& g : gradient()) g = std::abs(g);
}

template <class T>
void Block<T>::sign() {
  kernels::step<T>().sign(gradient().data(), size_);
}

// The pending factor stays outside of the sums: it is applied to the figure.

template <class T>
Figure Block<T>::sum() {
  if (deferred()) materialise();
  return scale_ * static_cast<Figure>(kernels::step<T>().sum(source_, read_mask_, size_));
}

template <class T>
Figure Block<T>::sum_squares() {
  if (clamps_ && std::is_same_v<T, float> && plain_scale())  // squares of doubles may need a second look
    return kernels::step<T>().sum_squares_clamped(source_, static_cast<T>(scale_), static_cast<T>(low_),
                                                  static_cast<T>(high_), read_mask_, size_);
  if (centers_ && std::is_same_v<T, float> && plain_scale())
    return kernels::transforms<T>().sum_squares_centered(source_, static_cast<T>(scale_), unit_size_, mask_, size_);
  if (deferred()) materialise();
  return scale_ * scale_ * sum_of_squares(source_, read_mask_, size_);
}

template <class T>
Figure Block<T>::value_sum_squares() const {
  return sum_of_squares(value_, mask_, size_);
}

template <class T>
Figure Block<T>::sum_abs() {
  if (deferred()) materialise();
  const double s = kernels::step<T>().abs_sum(source_, read_mask_, size_);
  const bool again = !(s < (std::is_same_v<T, double> ? safe_high : 1e37));  // f32 lanes may have overflowed
  return magnitude(scale_) * (again ? sum_slowly(source_, read_mask_, size_, magnitude) : Figure(s));
}

template <class T>
Figure Block<T>::max_abs() {
  if (deferred()) materialise();
  return magnitude(scale_) * static_cast<Figure>(kernels::step<T>().abs_max(source_, read_mask_, size_));
}

template <class T>
Figure Block<T>::sum_powers(double p) {
  if (deferred()) materialise();
  const double most = kernels::step<T>().abs_max(source_, read_mask_, size_);
  if (!(most > 0) || std::isinf(most)) return static_cast<Figure>(most);  // zeros only, or NaN or infinite
  double s = 0;                                                           // relative to the largest: nothing overflows
  for (Index i = 0; i < size_; ++i)
    if (kernels::is_live(read_mask_, i)) s += std::pow(std::abs(static_cast<double>(source_[i])) / most, p);
  return static_cast<Figure>(s) * std::pow(magnitude(scale_) * static_cast<Figure>(most), static_cast<Figure>(p));
}

template class Block<float>;
template class Block<double>;

}  // namespace espalier::optim
