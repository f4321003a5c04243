#include "espalier/optim/projection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "espalier/core/parallel.h"
#include "espalier/optim/detail/blocks.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Index task_elements = 1 << 16;  // units are handed to threads in tasks of at least so many weights
constexpr std::size_t few = 512;          // up to so many numbers are looked through by halving alone

/// Memory of one task, kept from unit to unit.
template <class T>
struct Scratch {
  std::vector<T> live, candidates;
  std::vector<double> depths;
};

/// Which of up to 1,024 equal parts of [least, most] a number lies in. It never falls where the number grows, so that the
/// part in which something changes is found by counting, and only its few members need to be put in order.
class Parts {
 public:
  static constexpr std::size_t limit = 1024;
  Parts(double least, double most, std::size_t numbers)
      : number_(std::clamp<std::size_t>(numbers / 8, 64, limit)),
        least_(least),
        scale_(static_cast<double>(number_) / (most - least)) {}
  bool usable() const { return std::isfinite(scale_); }
  std::size_t number() const { return number_; }
  std::size_t of(double x) const {
    return static_cast<std::size_t>(std::min((x - least_) * scale_, static_cast<double>(number_ - 1)));
  }

 private:
  std::size_t number_;
  double least_, scale_;
};
/// Leaves in `found` those of n numbers, number(i), that lie in the part that look(parts, n, number) finds, and narrows
/// them down again while that throws most of them out. Numbers in [least, most]; those that are `most` are left out, if
/// so asked.
template <class N, class Number, class Look>
void narrow_down(std::size_t n, double least, double most, bool open, std::vector<N>& found, const Number& number,
                 const Look& look) {
  found.clear();
  const auto take = [&](std::size_t count, const auto& from) {
    const Parts parts(least, most, count);
    const bool all = count <= few || !parts.usable();
    const std::size_t part = all ? 0 : look(parts, count, from);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const N x = from(i);
      const auto value = static_cast<double>(x);
      if ((open && value >= most) || (!all && parts.of(value) != part)) continue;
      kept < found.size() ? void(found[kept] = x) : found.push_back(x);
      ++kept;
    }
    found.resize(kept);
    open = false;
    return kept > few && kept < count / 2;
  };
  if (!take(n, number)) return;
  do {
    const auto [low, high] = std::ranges::minmax(found);
    least = static_cast<double>(low);
    most = static_cast<double>(high);
  } while (take(found.size(), [&](std::size_t i) { return found[i]; }));
}

/// What is known to lie below the level.
struct Ground {
  std::size_t count = 0;
  Figure sum = 0;
  /// The level rises above ground at `height`, behind which these lie, itself among them.
  bool below(double height, double total) const { return static_cast<Figure>(count) * height - sum < total; }
};

/// tau with sum of max(tau - d_i, 0) = total, for d_i >= 0 of which one is 0, and total > 0: how high water stands that was
/// poured over ground of heights d. `known` are those that lie below besides d. Halves what is left to be decided, so
/// that it takes O(n) on average. Reorders d.
double water_level(std::span<double> d, double total, Ground known = {}) {
  std::size_t first = 0, end = d.size();
  const auto at = [&](std::size_t i) { return d.begin() + static_cast<std::ptrdiff_t>(i); };
  while (first < end) {
    const std::size_t middle = first + (end - first) / 2;
    std::nth_element(at(first), at(middle), at(end));
    Ground more = known;
    more.count += middle + 1 - first;
    for (std::size_t i = first; i <= middle; ++i) more.sum += d[i];
    if (more.below(d[middle], total)) {
      known = more;
      first = middle + 1;
    } else {
      end = middle;
    }
  }
  return static_cast<double>((total + known.sum) / static_cast<Figure>(known.count));
}

/// Where heights stand out of water that is poured over them upside down: over their depths below the highest, so that
/// nothing cancels where the total is small beside them.
struct Surface {
  double highest, level;
  double above(double height) const { return std::max(level - (highest - height), 0.0); }
};
/// The surface with sum of above(height(x_i)) = total > 0, of heights up to `highest`. What is not above `bottom` is known
/// to stay under water.
template <class T, class Height>
Surface pour(std::span<const T> x, double total, double highest, double bottom, std::vector<double>& depths,
             Height height) {
  Ground known;
  // The level is at most `total` deep.
  narrow_down(
      x.size(), 0, std::min(highest - bottom, total), true, depths,
      [&](std::size_t i) { return highest - height(x[i]); },
      [&](const Parts& parts, std::size_t n, const auto& depth) {
        struct Part {
          std::size_t count;
          double sum, deepest;
        };
        std::array<Part, Parts::limit> all{};
        for (std::size_t i = 0; i < n; ++i) {
          const double d = depth(i);
          const std::size_t k = parts.of(d);
          if (k == parts.number() - 1) continue;  // those left out are there, too
          Part& part = all[k];
          ++part.count;
          part.sum += d;
          part.deepest = std::max(part.deepest, d);
        }
        std::size_t k = 0;
        for (; k + 1 < parts.number(); ++k) {
          const Ground more{known.count + all[k].count, known.sum + all[k].sum};
          if (all[k].count > 0 && !more.below(all[k].deepest, total)) break;
          known = more;
        }
        return k;
      });
  return {highest, water_level(depths, total, known)};
}

/// The k-th largest |x|, 1 <= k <= n, and how many of those that are as large are among the first k, if put in order.
template <class T>
struct Least {
  T size;
  std::size_t room;
  bool all_fit;  ///< and there are no more of them
};
template <class T>
Least<T> kth_largest(std::span<const T> x, std::size_t k, T most, std::vector<T>& candidates) {
  narrow_down(
      x.size(), 0, static_cast<double>(most), false, candidates, [&](std::size_t i) { return std::abs(x[i]); },
      [&](const Parts& parts, std::size_t n, const auto& size) {
        std::array<std::size_t, Parts::limit> count{};
        for (std::size_t i = 0; i < n; ++i) ++count[parts.of(static_cast<double>(size(i)))];
        std::size_t part = parts.number() - 1;
        for (; count[part] < k; --part) k -= count[part];
        return part;
      });
  const auto last = candidates.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(candidates.begin(), last, candidates.end(), std::greater<T>());
  const auto larger = std::count_if(candidates.begin(), last, [=](T v) { return v > *last; });
  const std::size_t room = k - static_cast<std::size_t>(larger);
  const auto equal = std::count(candidates.begin(), candidates.end(), *last);
  return {*last, room, static_cast<std::size_t>(equal) == room};
}

/// Largest |x|, not finite if one is not.
template <class T>
T largest(std::span<const T> x) {
  double most = 0;
  detail::for_each_block(0, static_cast<Index>(x.size()), kernels::block_size, [&](Index at, Index size) {
    const double here = kernels::step<T>().abs_max(x.data() + at, nullptr, size);
    if (std::isfinite(most) && !(here <= most)) most = here;
  });
  return static_cast<T>(most);
}

template <class T>
Figure sum_abs(std::span<const T> x) {
  Figure sums[4] = {};  // chains that run side by side
  std::size_t i = 0;
  for (; i + 4 <= x.size(); i += 4)
    for (std::size_t k = 0; k < 4; ++k) sums[k] += std::abs(x[i + k]);
  for (; i < x.size(); ++i) sums[0] += std::abs(x[i]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// What all share. Abstract. Self has `template <class T> void project(std::span<T>, T largest, Scratch<T>&) const`, which
/// is given finite values, at least one, and the largest absolute value.
template <class Self>
class Projection : public TransformOf<Self> {
 public:
  std::string name() const final { return name_; }
  Grain grain() const final { return Grain::tensor; }
  bool is_constraint() const final { return true; }
  bool keeps_zeros() const final { return true; }

  template <class T>
  void apply(Block<T>& b) const {
    const std::span<T> w = b.gradient();
    const Index n = over_ == Over::tensor ? b.size() : b.unit_size();
    parallel_for(b.size() / n, std::max<Index>(task_elements / n, 1), [&](Index first, Index last) {
      Scratch<T> scratch;
      for (Index u = first; u < last; ++u)
        project_live(w.subspan(static_cast<std::size_t>(u * n), static_cast<std::size_t>(n)), b.mask(), u * n, scratch);
    });
  }

 protected:
  Projection(const char* name, Over over) : name_(name), over_(detail::unit_or_tensor(name, over)) {}
  std::string over() const { return std::string(", ") + detail::describe(over_); }

 private:
  /// Bit `begin` of the mask is that of w[0].
  template <class T>
  void project_live(std::span<T> w, const std::uint64_t* mask, Index begin, Scratch<T>& scratch) const {
    const auto each_live = [&](auto f) {
      for (std::size_t i = 0; i < w.size(); ++i) {
        const Index bit = begin + static_cast<Index>(i);
        if (mask[bit >> 6] >> (bit & 63) & 1) f(w[i]);
      }
    };
    std::span<T> live = w;
    if (mask) {
      scratch.live.clear();
      each_live([&](T x) { scratch.live.push_back(x); });
      live = scratch.live;
    }
    const T most = largest<T>(live);
    if (live.empty() || !std::isfinite(most)) return;
    static_cast<const Self&>(*this).template project<T>(live, most, scratch);
    if (!mask) return;
    auto from = live.begin();
    each_live([&](T& x) { x = *from++; });
  }

  const char* name_;
  Over over_;
};

class L1Ball final : public Projection<L1Ball> {
 public:
  explicit L1Ball(BallOptions o) : Projection("l1_ball", o.over), radius_("l1_ball", "radius", std::move(o.radius)) {}
  std::string settings() const override { return radius_.describe() + over(); }
  void begin(const StepContext& context) override { now_ = radius_.at(context.step); }
  template <class T>
  void project(std::span<T> x, T most, Scratch<T>& scratch) const {
    // What was projected before lies within but for rounding, and is left alone.
    if (sum_abs<T>(x) <= now_ * (1 + static_cast<double>(std::numeric_limits<T>::epsilon()))) return;
    if (now_ == 0) return std::fill(x.begin(), x.end(), T(0));
    const auto height = [](T v) { return std::abs(static_cast<double>(v)); };
    const Surface surface = pour<T>(x, now_, static_cast<double>(most), 0, scratch.depths, height);
    for (T& v : x) v = std::copysign(static_cast<T>(surface.above(height(v))), v) + T(0);  // no -0
  }

 private:
  detail::Range radius_;
  double now_ = 0;
};

class Simplex final : public Projection<Simplex> {
 public:
  explicit Simplex(SimplexOptions o) : Projection("simplex", o.over), total_("simplex", "total", std::move(o.total)) {
    if (total_.constantly(infinity)) refuse_infinity();
  }
  std::string settings() const override { return total_.describe() + over(); }
  void begin(const StepContext& context) override {
    now_ = total_.at(context.step);
    if (std::isinf(now_)) refuse_infinity();
  }
  template <class T>
  void project(std::span<T> x, T, Scratch<T>& scratch) const {
    if (now_ == 0) return std::fill(x.begin(), x.end(), T(0));
    const auto height = [](T v) { return static_cast<double>(v); };
    const Surface surface = pour<T>(x, now_, height(*std::ranges::max_element(x)), -infinity, scratch.depths, height);
    for (T& v : x) v = static_cast<T>(surface.above(height(v)));
  }

 private:
  [[noreturn]] static void refuse_infinity() { fail<ConfigError>("[simplex] total must be finite, got inf"); }
  detail::Range total_;
  double now_ = 0;
};

class TopK final : public Projection<TopK> {
 public:
  explicit TopK(const TopKOptions& o)
      : Projection("top_k", o.over),
        by_count_(o.count.has_value()),
        amount_("top_k", by_count_ ? "count" : "fraction", by_count_ ? *o.count : o.fraction.value_or(0.0),
                by_count_ ? detail::not_negative : detail::closed_fraction) {
    if (by_count_ == o.fraction.has_value())
      fail<ConfigError>("[top_k] takes either a count or a fraction of the weights to keep");
    if (by_count_ && !o.count->scheduled()) checked_count(o.count->value());
  }
  std::string settings() const override { return amount_.describe() + over(); }
  void begin(const StepContext& context) override {
    now_ = amount_.at(context.step);
    if (by_count_) checked_count(now_);
  }
  template <class T>
  void project(std::span<T> x, T most, Scratch<T>& scratch) const {
    const auto n = static_cast<double>(x.size());
    const double keep = by_count_ ? now_ : std::nearbyint(now_ * n);
    if (keep >= n) return;
    if (keep == 0) return std::fill(x.begin(), x.end(), T(0));
    auto least = kth_largest<T>(x, static_cast<std::size_t>(keep), most, scratch.candidates);
    if (least.all_fit) {
      for (T& v : x) v = std::abs(v) < least.size ? T(0) : v;
      return;
    }
    for (T& v : x) {
      const T size = std::abs(v);
      if (size > least.size) continue;
      if (size == least.size && least.room > 0)
        --least.room;
      else
        v = T(0);
    }
  }

 private:
  static void checked_count(double count) {
    if (count != std::floor(count))
      fail<ConfigError>("[top_k] count must be a whole number, got ", count, ". Hint: top_k({.fraction = ...})");
  }
  bool by_count_;
  detail::Range amount_;
  double now_ = 0;
};

}  // namespace

Chain l1_ball(BallOptions options) { return L1Ball(std::move(options)); }
Chain simplex(SimplexOptions options) { return Simplex(std::move(options)); }
Chain top_k(TopKOptions options) { return TopK(options); }

}  // namespace espalier::optim
