#include "espalier/autograd/ops/shape.h"

#include <algorithm>
#include <memory>

#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rearrange.h"

namespace espalier {
namespace {
/// A sound axis of x, counted from the front.
Index from_front(Index axis, const Variable& x) { return axis < 0 ? axis + x.rank() : axis; }
}  // namespace

Variable reshape(const Variable& x, const Shape& shape) {
  Tensor y = x.value().reshape(shape);
  if (!recording(x)) return y;
  return record("reshape", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return reshape(g, shape); });
}

Variable flatten(const Variable& x, int first_axis, int last_axis) {
  return reshape(x, x.value().flatten(first_axis, last_axis).shape());
}

Variable transpose(const Variable& x, int axis_a, int axis_b) {
  Tensor y = x.value().transpose(axis_a, axis_b);
  if (!recording(x)) return y;
  if (x.rank() == 0) return x;
  return record(
      "transpose", std::move(y), {&x},
      [axis_a, axis_b](const Variable& g, Wants) { return transpose(g, axis_a, axis_b); },
      settings(from_front(axis_a, x), from_front(axis_b, x)));
}

Variable permute(const Variable& x, const Dims& axes) {
  Tensor y = x.value().permute(axes);
  if (!recording(x)) return y;
  Dims order = axes, inverse = axes;
  for (int i = 0; i < axes.rank(); ++i) {
    order[i] = from_front(axes[i], x);
    inverse[static_cast<int>(order[i])] = i;
  }
  return record(
      "permute", std::move(y), {&x}, [inverse](const Variable& g, Wants) { return permute(g, inverse); }, order.span());
}

namespace {

template <class View>
Variable placed(const char* op, const Variable& g, const Shape& shape, View view);

/// A view that shows each element of x at most once. The gradient goes through the same view into that of x.
template <class View>
Variable viewed(const char* op, const Variable& x, View view, std::span<const Index> settings = {}) {
  Tensor y = view(x.value());
  if (!recording(x)) return y;
  return record(
      op, std::move(y), {&x},
      [op, view, shape = x.shape()](const Variable& g, Wants, Tensor so_far) -> Variable {
        if (!so_far.defined()) return placed(op, g, shape, view);
        Tensor part = view(so_far);
        add_in_place(part, g.value());
        return so_far;
      },
      settings);
}
template <class View>
Variable placed(const char* op, const Variable& g, const Shape& shape, View view) {
  Tensor all = Tensor::zeros(shape, g.dtype());
  view(all).copy_from(g.value(), op);
  if (!recording(g)) return all;
  return record(op, std::move(all), {&g}, [op, view](const Variable& gg, Wants) { return viewed(op, gg, view); });
}

using Places = std::shared_ptr<const std::vector<Index>>;  // shared by a node and the node of its gradient

Variable added_at(const char* op, const Variable& g, const Places& places, Index length, int axis);

/// Elements places[j] along `axis`.
Variable taken_from(const char* op, const Variable& x, const Places& places, int axis) {
  Tensor y = take_axis(x.value(), *places, axis);
  if (!recording(x)) return y;
  std::vector<Index> settings{axis};
  settings.insert(settings.end(), places->begin(), places->end());
  return record(
      op, std::move(y), {&x},
      [op, places, axis, n = x.shape()[axis]](const Variable& g, Wants) { return added_at(op, g, places, n, axis); },
      settings);
}
Variable added_at(const char* op, const Variable& g, const Places& places, Index length, int axis) {
  Tensor y = add_axis(g.value(), *places, length, axis);
  if (!recording(g)) return y;
  return record(op, std::move(y), {&g},
                [op, places, axis](const Variable& gg, Wants) { return taken_from(op, gg, places, axis); });
}

Places places_of(Index n, const auto& place) {
  auto places = std::make_shared<std::vector<Index>>(static_cast<std::size_t>(n));
  for (Index j = 0; j < n; ++j) (*places)[static_cast<std::size_t>(j)] = place(j);
  return places;
}

/// Non-negative remainder.
Index modulo(Index a, Index n) { return (a % n + n) % n; }

int axis_of(const char* op, Index axis, int rank) {
  return checked_axis(op, static_cast<int>(std::clamp<Index>(axis, -99, 99)), rank);
}

Variable triangle(const Variable& x, Index diagonal, bool lower) {
  Tensor y = lower ? tril(x.value(), diagonal) : triu(x.value(), diagonal);
  if (!recording(x)) return y;
  return record(
      lower ? "tril" : "triu", std::move(y), {&x},
      [=](const Variable& g, Wants) { return triangle(g, diagonal, lower); }, settings(diagonal));
}

Variable constant_pad(const Variable& x, const std::vector<Index>& pads, double value) {
  Tensor y = padded(x.value(), pads, value);
  if (!recording(x)) return y;
  return record(
      "pad", std::move(y), {&x},
      [pads](const Variable& g, Wants) {
        std::vector<Index> off = pads;  // what was added goes, what was cropped gets zeros
        for (Index& p : off) p = -p;
        return constant_pad(g, off, 0);
      },
      pads);
}

/// Where element j of a padded axis comes from. `n` is the axis' length, `before` its pad.
Index reflected(Index j, Index n) { return j < 0 ? -j : j >= n ? 2 * (n - 1) - j : j; }

void check_pad(const Shape& shape, int axis, Index before, Index behind, PadMode mode) {
  const Index n = shape[axis];
  if (n + before + behind < 0)
    fail<ShapeError>("[pad] axis ", axis, " of shape ", shape, " would have the length ", n + before + behind);
  const Index most = std::max(before, behind);
  if (most <= 0) return;
  if (mode == PadMode::reflect && most >= n)
    fail<ShapeError>("[pad] reflecting ", most, " elements needs an axis longer than that; axis ", axis, " of shape ",
                     shape, " is not. Hint: PadMode::replicate");
  if (mode == PadMode::circular && most > n)
    fail<ShapeError>("[pad] going round by ", most, " elements needs an axis at least as long; axis ", axis,
                     " of shape ", shape, " is not. Hint: repeat() it");
  if (n == 0) fail<ShapeError>("[pad] axis ", axis, " of shape ", shape, " is empty: nothing can be repeated");
}

}  // namespace

Variable squeeze(const Variable& x) { return reshape(x, x.value().squeeze().shape()); }
Variable squeeze(const Variable& x, int axis) { return reshape(x, x.value().squeeze(axis).shape()); }
Variable unsqueeze(const Variable& x, int axis) { return reshape(x, x.value().unsqueeze(axis).shape()); }

Variable slice(const Variable& x, int axis, Index start, Index stop, Index step) {
  const int at = checked_axis("slice", axis, x.rank());
  const Index n = x.shape()[at], first = std::clamp<Index>(start < 0 ? start + n : start, 0, n);
  return viewed(
      "slice", x, [=](const Tensor& t) { return t.slice(axis, start, stop, step); }, settings(at, first, step));
}
Variable narrow(const Variable& x, int axis, Index start, Index length) {
  return viewed(
      "narrow", x, [=](const Tensor& t) { return t.narrow(axis, start, length); },
      settings(from_front(axis, x), start, 1));
}
Variable select(const Variable& x, int axis, Index index) {
  const int at = checked_axis("select", axis, x.rank());
  return viewed(
      "select", x, [=](const Tensor& t) { return t.select(axis, index); },
      settings(at, index < 0 ? index + x.shape()[at] : index));
}
Variable diagonal(const Variable& x, Index offset, int axis_a, int axis_b) {
  return viewed(
      "diagonal", x, [=](const Tensor& t) { return espalier::diagonal(t, offset, axis_a, axis_b); },
      settings(offset, from_front(axis_a, x), from_front(axis_b, x)));
}

Variable expand(const Variable& x, const Shape& shape) {
  Shape to = shape;
  for (int k = 1; k <= std::min(to.rank(), x.rank()); ++k)
    if (to[-k] == -1) to[-k] = x.shape()[-k];
  for (const Index length : to)
    if (length < 0)
      fail<ShapeError>("[expand] ", x.shape(), " cannot become ", shape, ". Hint: -1 keeps an axis that is there");
  return broadcast_to(x, to);
}

Variable movedim(const Variable& x, const Dims& from, const Dims& to) {
  if (x.rank() == 0) return reshape(movedim(reshape(x, {1}), from, to), {});
  if (from.rank() != to.rank())
    fail<ShapeError>("[movedim] ", from.rank(), " axes ", from, " cannot go to ", to.rank(), " places ", to);
  Dims order;
  for (int axis = 0; axis < x.rank(); ++axis) order.push_back(-1);
  unsigned moved = 0;
  for (int k = 0; k < from.rank(); ++k) {
    const int source = axis_of("movedim", from[k], x.rank()), target = axis_of("movedim", to[k], x.rank());
    if (moved >> source & 1 || order[target] >= 0)
      fail<IndexError>("[movedim] ", from, " to ", to, " names an axis twice");
    moved |= 1u << source;
    order[target] = source;
  }
  for (int axis = 0, place = 0; axis < x.rank(); ++axis) {
    if (moved >> axis & 1) continue;
    while (order[place] >= 0) ++place;
    order[place] = axis;
  }
  return permute(x, order);
}

Variable tril(const Variable& x, Index diagonal) { return triangle(x, diagonal, true); }
Variable triu(const Variable& x, Index diagonal) { return triangle(x, diagonal, false); }

Variable flip(const Variable& x, const Dims& axes) {
  if (x.rank() == 0) return reshape(flip(reshape(x, {1}), axes), {});
  Variable y = x;
  unsigned named = 0;
  for (const Index axis : axes) {
    const int at = axis_of("flip", axis, x.rank());
    if (named >> at & 1) fail<IndexError>("[flip] axis ", axis, " is named twice in ", axes);
    named |= 1u << at;
    const Index n = x.shape()[at];
    y = taken_from("flip", y, places_of(n, [n](Index j) { return n - 1 - j; }), at);
  }
  return y;
}

Variable roll(const Variable& x, const Dims& shifts, const Dims& axes) {
  if (axes.rank() == 0) {
    if (shifts.rank() != 1)
      fail<ShapeError>("[roll] shifts ", shifts, " without axes; without axes there is one shift, of the flattened ",
                       "tensor");
    return reshape(roll(reshape(x, {x.size()}), shifts, {0}), x.shape());
  }
  if (shifts.rank() != axes.rank())
    fail<ShapeError>("[roll] ", shifts.rank(), " shifts ", shifts, " for ", axes.rank(), " axes ", axes);
  Variable y = x;
  for (int k = 0; k < axes.rank(); ++k) {
    const int at = axis_of("roll", axes[k], x.rank());
    const Index n = x.shape()[at];
    if (n == 0) continue;
    const Index first = modulo(-(shifts[k] % n), n);
    y = taken_from("roll", y, places_of(n, [=](Index j) { return (first + j) % n; }), at);
  }
  return y;
}

Variable repeat(const Variable& x, const Dims& repeats) {
  const int added = repeats.rank() - x.rank();
  if (added < 0)
    fail<ShapeError>("[repeat] ", repeats, " has fewer numbers than shape ", x.shape(), " axes. Hint: 1 keeps an axis");
  Shape shape;  // with its leading axes of length 1
  Index pairs = 0;
  for (int axis = 0; axis < repeats.rank(); ++axis) {
    if (repeats[axis] < 0) fail<ShapeError>("[repeat] a negative number in ", repeats, " for shape ", x.shape());
    shape.push_back(axis < added ? 1 : x.shape()[axis - added]);
    pairs += repeats[axis] != 1;
  }
  Variable y = x;
  // Repeated axes become pairs [1, n], seen as [repeats, n]: as many at a time as an x of this rank has room for.
  for (int axis = repeats.rank(); pairs > 0;) {
    Shape once = shape, joined = shape;
    Dims at, by;
    for (; axis > 0 && once.rank() < Shape::max_rank; --axis) {
      if (repeats[axis - 1] == 1) continue;
      once.insert(axis - 1, 1);
      for (int k = 0; k < at.rank(); ++k) ++at[k];
      at.push_back(axis - 1);
      by.push_back(repeats[axis - 1]);
      joined[axis - 1] *= repeats[axis - 1];
      --pairs;
    }
    y = reshape(y, once);
    for (int k = 0; k < at.rank();
         ++k) {  // one by one, for the sake of the gradient: a sum over one axis moves nothing
      once[static_cast<int>(at[k])] = by[k];
      y = broadcast_to(y, once);
    }
    shape = joined;
    y = reshape(y, shape);
  }
  return reshape(y, shape);
}

Variable repeat_interleave(const Variable& x, Index repeats, int axis) {
  const int at = checked_axis("repeat_interleave", axis, x.rank());
  if (repeats < 0) fail<ShapeError>("[repeat_interleave] a negative number of repeats, ", repeats);
  Index outer = 1, inner = 1;
  for (int a = 0; a < x.rank(); ++a) (a <= at ? outer : inner) *= x.shape()[a];
  Shape shape = x.shape();
  shape[at] *= repeats;
  return reshape(broadcast_to(reshape(x, {outer, 1, inner}), {outer, repeats, inner}), shape);
}

Variable repeat_interleave(const Variable& x, std::span<const Index> repeats, int axis) {
  const int at = checked_axis("repeat_interleave", axis, x.rank());
  if (static_cast<Index>(repeats.size()) != x.shape()[at])
    fail<ShapeError>("[repeat_interleave] ", repeats.size(), " numbers of repeats for axis ", axis, " of shape ",
                     x.shape());
  auto places = std::make_shared<std::vector<Index>>();
  for (std::size_t k = 0; k < repeats.size(); ++k) {
    if (repeats[k] < 0) fail<ShapeError>("[repeat_interleave] a negative number of repeats, ", repeats[k]);
    places->insert(places->end(), static_cast<std::size_t>(repeats[k]), static_cast<Index>(k));
  }
  return taken_from("repeat_interleave", x, places, at);
}

Variable pad(const Variable& x, const std::vector<Index>& pads, PadMode mode, double value) {
  if (mode == PadMode::constant) return constant_pad(x, pads, value);
  if (pads.size() % 2 != 0 || static_cast<int>(pads.size()) > 2 * x.rank()) return padded(x.value(), pads);  // throws
  Variable y = x;
  for (std::size_t k = 0; k < pads.size(); k += 2) {
    const int axis = x.rank() - 1 - static_cast<int>(k / 2);
    const Index before = pads[k], behind = pads[k + 1], n = x.shape()[axis];
    check_pad(x.shape(), axis, before, behind, mode);
    if (before == 0 && behind == 0) continue;
    // Going round is going round what the crop has left.
    const Index low = mode == PadMode::circular ? std::max<Index>(0, -before) : 0;
    const Index kept = mode == PadMode::circular ? n - low - std::max<Index>(0, -behind) : n;
    if (kept < 1 && n + before + behind > 0)
      fail<ShapeError>("[pad] axis ", axis, " of shape ", x.shape(), " is cropped to nothing: nothing can go round");
    y = taken_from("pad", y,
                   places_of(n + before + behind,
                             [=](Index j) {
                               const Index from = j - before;
                               if (mode == PadMode::reflect) return reflected(from, n);
                               if (mode == PadMode::replicate) return std::clamp<Index>(from, 0, n - 1);
                               return low + modulo(from - low, kept);
                             }),
                   axis);
  }
  return y;
}

}  // namespace espalier
