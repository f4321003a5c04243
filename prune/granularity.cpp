#include "espalier/prune/granularity.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "espalier/prune/detail/grain.h"
#include "espalier/prune/report.h"

namespace espalier::prune {

namespace detail {

// --- what all grains share ------------------------------------------------------------------------------------------

bool Choice::scores(const ParameterState& p) const {
  return std::any_of(scored_.begin(), scored_.end(), [&](auto& named) { return named.parameter.get() == &p; });
}

Tensor Choice::scores_of(const ParameterState& p) const {
  const auto at =
      std::find_if(scored_.begin(), scored_.end(), [&](auto& named) { return named.parameter.get() == &p; });
  Statistics statistics = gathered_.of(p);
  statistics.step = step_;
  statistics.parameter = static_cast<std::size_t>(at - scored_.begin());
  if (!statistics.gradient.defined()) statistics.gradient = p.grad();
  return score_(*at, statistics);
}

const Mask& Choice::fixed(const ParameterState& p) const {
  static const Mask none;
  return mode_ == MaskMode::hard && p.mask_mode() == MaskMode::hard ? p.mask() : none;
}

Mask& Choice::mask(const ParameterState& p) {
  const auto [at, fresh] = masks_.try_emplace(&p);
  if (fresh) at->second = fixed(p);
  return at->second;
}

Mask& Choice::writable(const ParameterState& p) {
  Mask& made = mask(p);
  if (!made.defined()) made = Mask(p.value().size());
  return made;
}

std::vector<Field> Grain::fields(const ParameterList& selected) const {
  std::vector<Field> all;
  for (std::size_t i = 0; i < selected.size(); ++i) all.push_back({selected[i], i});
  return all;
}

ParameterList Grain::touched(const ParameterList&, const std::vector<Field>& fields) const {
  ParameterList all;
  for (const Field& field : fields) all.push_back(field.owner);
  return all;
}

Lines lines_along(const char* op, const Shape& shape, int axis) {
  const int along = checked_axis(op, axis, shape.rank());
  Lines lines{1, shape[along], 1};
  for (int a = 0; a < along; ++a) lines.outer *= shape[a];
  for (int a = along + 1; a < shape.rank(); ++a) lines.inner *= shape[a];
  return lines;
}

}  // namespace detail

namespace {

using detail::Choice;
using detail::Contest;
using detail::Field;
using detail::Grain;

// --- single weights -------------------------------------------------------------------------------------------------

class Elements final : public Grain {
 public:
  Elements() : Grain("elements") {}
  Contest contest(const Field& field, Choice& choice) const override {
    const ParameterState& p = *field.owner.parameter;
    Tensor scores = choice.scores_of(p);
    if (!(scores.shape() == p.value().shape()))
      fail<ConfigError>(
          "[", choice.op(), "] ", choice.score().name(), " scores whole units of '", field.owner.name,
          "', and single weights are pruned here. Hint: .granularity = units({.axis = ", choice.score().axis(), "})");
    return {{field.owner.name, std::move(scores), choice.fixed(p)},
            live_weights(p),
            [&p](const Mask& live, Choice& made) { made.mask(p) = live; }};
  }
  PieceCount count(const Field& field) const override {
    return {field.owner.parameter->value().size(), live_weights(*field.owner.parameter)};
  }
};

// --- pieces of one tensor -------------------------------------------------------------------------------------------

/// The piece of each weight.
struct Tiles {
  Index count = 0;
  std::vector<Index> of;
  /// Pieces that have a live weight.
  Mask live(const Mask& weights) const {
    if (!weights.defined()) return Mask(count);
    Mask pieces(count, std::vector<std::uint64_t>(static_cast<std::size_t>((count + 63) / 64)));
    for (std::size_t i = 0; i < of.size(); ++i)
      if (weights[static_cast<Index>(i)]) pieces.set(of[i], true);
    return pieces;
  }
};

class Tiled final : public Grain {
 public:
  /// `place`: what a piece is called. `axis`: of units, that of a score that speaks of the same.
  Tiled(std::string name, std::string place, Granularity::Numbering numbering, Pool pool, std::optional<int> axis = {})
      : Grain(std::move(name)),
        place_(std::move(place)),
        numbering_(std::move(numbering)),
        pool_(std::move(pool)),
        axis_(axis) {}

  Contest contest(const Field& field, Choice& choice) const override {
    const ParameterState& p = *field.owner.parameter;
    const Shape& shape = p.value().shape();
    auto tiles = std::make_shared<const Tiles>(tiles_of(field.owner));
    Tensor scores = choice.scores_of(p);
    if (!(scores.shape() == shape)) {
      const int axis = choice.score().axis();
      if (!axis_ || (*axis_ < 0 ? *axis_ + shape.rank() : *axis_) != axis)
        fail<ConfigError>("[", choice.op(), "] ", choice.score().name(), " scores units of axis ", axis, " of '",
                          field.owner.name, "', and ", name(), " are pruned here");
      if (tiles->count == 0) scores = Tensor::zeros({0}, DType::f64);  // units without weights
    } else {
      scores = pooled(scores, *tiles, choice.fixed(p));
    }
    const Mask& fixed = choice.fixed(p);
    const Index live = tiles->live(p.mask()).live();
    return {{field.owner.name, std::move(scores), fixed.defined() ? tiles->live(fixed) : Mask(), place_},
            live,
            [&p, tiles](const Mask& left, Choice& made) {
              if (!left.defined()) return;
              Mask& mask = made.writable(p);
              for (std::size_t i = 0; i < tiles->of.size(); ++i)
                if (!left[tiles->of[i]]) mask.set(static_cast<Index>(i), false);
            }};
  }

  PieceCount count(const Field& field) const override {
    const Tiles tiles = tiles_of(field.owner);
    return {tiles.count, tiles.live(field.owner.parameter->mask()).live()};
  }

 private:
  Tiles tiles_of(const NamedParameter& named) const {
    const Shape& shape = named.parameter->value().shape();
    Tiles tiles;
    try {
      tiles.of = numbering_(shape);
    } catch (const Error& e) {
      fail<ConfigError>("[pruner] '", named.name, "' has no ", name(), ": ", e.what(),
                        ". Hint: leave it out of the selection");
    }
    if (tiles.of.size() != static_cast<std::size_t>(espalier::count(shape)))
      fail<ConfigError>("[pruner] ", name(), " number ", tiles.of.size(), " weights of '", named.name, "' of shape ",
                        shape);
    std::vector<Index> number(tiles.of.size(), 0);  // without gaps: there is no piece without a weight
    for (Index piece : tiles.of) {
      if (piece < 0 || piece >= std::ssize(number))
        fail<ConfigError>("[pruner] ", name(), " give the number ", piece, " to a piece of '", named.name,
                          "' of shape ", shape);
      number[static_cast<std::size_t>(piece)] = 1;
    }
    for (Index& n : number) n = n ? tiles.count++ : 0;
    for (Index& piece : tiles.of) piece = number[static_cast<std::size_t>(piece)];
    return tiles;
  }

  Tensor pooled(const Tensor& weight_scores, const Tiles& tiles, const Mask& fixed) const {
    const Tensor exact = weight_scores.to(DType::f64).contiguous();
    const double* s = exact.data<double>();
    Tensor result = Tensor::full({tiles.count}, pool_.start(), DType::f64);
    double* to = result.write<double>("pool");
    std::vector<std::size_t> sizes(static_cast<std::size_t>(tiles.count));
    for (std::size_t i = 0; i < tiles.of.size(); ++i) {
      const Index piece = tiles.of[i];
      ++sizes[static_cast<std::size_t>(piece)];
      if (!fixed.defined() || fixed[static_cast<Index>(i)]) to[piece] = pool_(to[piece], s[i]);
    }
    for (Index piece = 0; piece < tiles.count; ++piece)
      if (const std::size_t size = sizes[static_cast<std::size_t>(piece)]) to[piece] = pool_.finish(to[piece], size);
    return result;
  }

  std::string place_;
  Granularity::Numbering numbering_;
  Pool pool_;
  std::optional<int> axis_;
};

std::string pooled_name(std::string name, const Pool& pool) {
  return pool.name() == "mean" ? name : name + " (" + pool.name() + ")";
}

}  // namespace

Pool Pool::mean() {
  return Pool("mean", 0, true, [](double a, double b) { return a + b; });
}
Pool Pool::sum() {
  return Pool("sum", 0, false, [](double a, double b) { return a + b; });
}
Pool Pool::max() {
  return Pool("max", -std::numeric_limits<double>::infinity(), false,
              [](double a, double b) { return a >= b || a != a ? a : b; });
}

Granularity::Granularity() : Granularity(std::make_shared<const Elements>()) {}
Granularity::Granularity(std::string name, Numbering pieces, Pool pool)
    : Granularity(std::make_shared<const Tiled>(std::move(name), "piece", std::move(pieces), std::move(pool))) {}

const std::string& Granularity::name() const { return grain_->name(); }

Granularity elements() { return Granularity(); }

Granularity units(UnitsOptions o) {
  const auto numbering = [axis = o.axis](const Shape& shape) {
    const detail::Lines lines = detail::lines_along("units", shape, axis);
    std::vector<Index> piece;
    piece.reserve(static_cast<std::size_t>(count(shape)));
    for (Index outer = 0; outer < lines.outer; ++outer)
      for (Index j = 0; j < lines.length; ++j) piece.insert(piece.end(), static_cast<std::size_t>(lines.inner), j);
    return piece;
  };
  std::string name = pooled_name(join("units of axis ", o.axis), o.pool);
  return Granularity(std::make_shared<const Tiled>(std::move(name), "unit", numbering, o.pool, o.axis));
}

Granularity kernels(Pool pool) {
  const auto numbering = [](const Shape& shape) {
    if (shape.rank() < 3) fail<ConfigError>("[kernels] a weight of shape ", shape, " is not one of a convolution");
    const Index n = count(shape), pairs = shape[0] * shape[1], size = pairs == 0 ? 1 : n / pairs;
    std::vector<Index> piece(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) piece[static_cast<std::size_t>(i)] = i / size;
    return piece;
  };
  return Granularity(std::make_shared<const Tiled>(pooled_name("kernels", pool), "kernel", numbering, pool));
}

Granularity blocks(BlocksOptions o) {
  if (o.rows < 1 || o.columns < 1)
    fail<ConfigError>("[blocks] a block must have at least one row and column, got ", o.rows, " x ", o.columns);
  const auto numbering = [o](const Shape& shape) {
    if (shape.rank() < 2) fail<ConfigError>("[blocks] shape ", shape, " is no matrix");
    const Index n = count(shape), width = n == 0 ? 1 : n / shape[0];
    const Index across = (width - 1) / o.columns + 1;
    std::vector<Index> piece;
    piece.reserve(static_cast<std::size_t>(n));
    for (Index i = 0; n > 0 && i < shape[0]; ++i)
      for (Index j = 0; j < width; ++j) piece.push_back(i / o.rows * across + j / o.columns);
    return piece;
  };
  std::string name = pooled_name(join("blocks of ", o.rows, " x ", o.columns), o.pool);
  return Granularity(std::make_shared<const Tiled>(std::move(name), "block", numbering, o.pool));
}

}  // namespace espalier::prune
