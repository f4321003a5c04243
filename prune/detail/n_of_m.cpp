// N:M patterns: `keep` of each `of` weights in line, or that in both directions of a matrix at once.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "espalier/core/parallel.h"
#include "espalier/prune/detail/grain.h"
#include "espalier/prune/granularity.h"

namespace espalier::prune {
namespace {

using detail::Choice;
using detail::Contest;
using detail::Field;
using detail::Grain;
using detail::Lines;

constexpr const char* op = "n_m";

/// The scores of a weight and what of it is pruned, as a group reads them.
struct Weights {
  const double* score;  // null: nobody asks
  const Mask* pruned;
  bool live(Index i) const { return !pruned->defined() || (*pruned)[i]; }
};

/// What a group loses: places in the weight, and their scores added up. NaN if a score is.
struct Loss {
  double sum = 0;
  std::vector<Index> places = {};
  bool done = false;  ///< it has the pattern already
};

/// How a weight falls into groups, and what each loses. Abstract.
class Groups {
 public:
  virtual ~Groups() = default;
  virtual Index size() const = 0;
  virtual Loss loss(Index group, const Weights& weights) const = 0;
};

/// Of `size` in line so many stay.
Index kept_of(const NOfMOptions& o, Index size) { return size - size * (o.of - o.keep) / o.of; }

/// The groups of all lines, without ends too short to lose a weight.
class LineGroups final : public Groups {
 public:
  LineGroups(const NOfMOptions& o, const Lines& lines) : o_(o), lines_(lines) {
    const Index tail = lines.length % o.of;
    per_line_ = lines.length / o.of + (kept_of(o, tail) < tail);
  }
  Index size() const override { return lines_.outer * lines_.inner * per_line_; }
  Loss loss(Index group, const Weights& w) const override {
    const Index line = group / per_line_, first = group % per_line_ * o_.of;
    const Index size = std::min(o_.of, lines_.length - first), lost = size - kept_of(o_, size);
    const Index begin = (line / lines_.inner * lines_.length + first) * lines_.inner + line % lines_.inner;
    Loss loss;
    std::vector<Index> places;  // of those that are live
    places.reserve(static_cast<std::size_t>(size));
    for (Index k = 0; k < size; ++k)
      if (const Index i = begin + k * lines_.inner; w.live(i)) places.push_back(i);
    const auto gone = static_cast<std::size_t>(std::max<Index>(lost - (size - std::ssize(places)), 0));
    loss.done = gone == 0;
    if (loss.done || !w.score) return loss;
    for (Index i : places)
      if (w.score[i] != w.score[i]) loss.sum = w.score[i];
    if (loss.sum != loss.sum) return loss;
    std::sort(places.begin(), places.end(),
              [&](Index a, Index b) { return w.score[a] < w.score[b] || (w.score[a] == w.score[b] && a < b); });
    places.resize(gone);
    for (Index i : places) loss.sum += w.score[i];
    loss.places = std::move(places);
    return loss;
  }

 private:
  NOfMOptions o_;
  Lines lines_;
  Index per_line_;
};

/// All ways to keep weights of a tile, bit (row columns + column) for each that stays; of ways that lose the same the
/// first takes the lower indices.
std::vector<std::uint32_t> patterns(const NOfMOptions& o, Index rows, Index columns) {
  const Index in_row = kept_of(o, columns), in_column = kept_of(o, rows);
  const auto row_bits = (std::uint32_t{1} << columns) - 1;
  std::vector<std::uint32_t> found;
  int most = 0;
  for (std::uint32_t way = std::uint32_t{1} << (rows * columns); way-- > 0;) {
    if (std::popcount(way) < most) continue;
    bool fits = true;
    for (Index r = 0; r < rows; ++r) fits &= std::popcount(way >> (r * columns) & row_bits) <= in_row;
    for (Index c = 0; fits && c < columns; ++c) {
      Index sum = 0;
      for (Index r = 0; r < rows; ++r) sum += way >> (r * columns + c) & 1;
      fits = sum <= in_column;
    }
    if (!fits) continue;
    if (std::popcount(way) > most) found.clear();
    most = std::popcount(way);
    found.push_back(way);
  }
  return found;
}

/// The tiles of a weight [rows, between, columns, inner].
class TileGroups final : public Groups {
 public:
  TileGroups(const NOfMOptions& o, Index rows, const Lines& lines)
      : of_(o.of), rows_(rows), between_(rows == 0 ? 0 : lines.outer / rows), lines_(lines) {
    for (Index r : {o.of, rows % o.of})
      for (Index c : {o.of, lines.length % o.of}) patterns_.push_back(patterns(o, r, c));
    down_ = (rows + of_ - 1) / of_;
    across_ = (lines.length + of_ - 1) / of_;
  }
  Index size() const override { return down_ * between_ * lines_.inner * across_; }
  Loss loss(Index tile, const Weights& w) const override {
    const Index column = tile % across_ * of_, i = tile / across_ % lines_.inner;
    const Index b = tile / across_ / lines_.inner % between_, row = tile / across_ / lines_.inner / between_ * of_;
    const Index rows = std::min(of_, rows_ - row), columns = std::min(of_, lines_.length - column);
    const std::vector<std::uint32_t>& ways = patterns_[(rows < of_) * 2u + (columns < of_)];
    Index place[16];
    double score[16];
    std::uint32_t live = 0;
    Loss best;
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) {
        const Index k = r * columns + c;
        place[k] = (((row + r) * between_ + b) * lines_.length + column + c) * lines_.inner + i;
        score[k] = w.live(place[k]) && w.score ? w.score[place[k]] : 0;
        live |= std::uint32_t{w.live(place[k])} << k;
        if (score[k] != score[k]) best.sum = score[k];
      }
    best.done = std::any_of(ways.begin(), ways.end(), [live](std::uint32_t way) { return (live & ~way) == 0; });
    if (best.done || best.sum != best.sum || !w.score) return best;
    std::uint32_t chosen = ways.front();
    best.sum = std::numeric_limits<double>::infinity();
    for (std::uint32_t way : ways) {
      double sum = 0;
      for (std::uint32_t gone = live & ~way; gone != 0; gone &= gone - 1) sum += score[std::countr_zero(gone)];
      if (sum < best.sum) {
        best.sum = sum;
        chosen = way;
      }
    }
    for (std::uint32_t gone = live & ~chosen; gone != 0; gone &= gone - 1)
      best.places.push_back(place[std::countr_zero(gone)]);
    return best;
  }

 private:
  Index of_, rows_, between_;
  Lines lines_;
  std::vector<std::vector<std::uint32_t>> patterns_;  // whole, cut at the right, cut below, both
  Index down_, across_;
};

class NOfM final : public Grain {
 public:
  explicit NOfM(const NOfMOptions& o)
      : Grain(join(o.keep, ":", o.of,
                   o.lowered ? " lowered"
                   : o.axis  ? join(" along axis ", *o.axis)
                             : std::string(),
                   o.transposable ? " transposable" : "")),
        o_(o) {}

  Contest contest(const Field& field, Choice& choice) const override {
    const ParameterState& p = *field.owner.parameter;
    const Tensor scores = choice.scores_of(p);
    if (!(scores.shape() == p.value().shape()))
      fail<ConfigError>("[", choice.op(), "] ", choice.score().name(), " scores whole units of '", field.owner.name,
                        "', and ", name(), " needs a score for each weight");
    const Tensor exact = scores.to(DType::f64).contiguous();
    const std::unique_ptr<const Groups> groups = groups_of(field.owner);
    const Weights weights{exact.data<double>(), &choice.fixed(p)};
    auto losses = std::make_shared<std::vector<Loss>>(static_cast<std::size_t>(groups->size()));
    parallel_for(groups->size(), 1024, [&](Index begin, Index end) {
      for (Index g = begin; g < end; ++g) (*losses)[static_cast<std::size_t>(g)] = groups->loss(g, weights);
    });
    Tensor sums = Tensor::zeros({groups->size()}, DType::f64);
    double* sum = sums.write<double>(op);
    Mask gone(groups->size());
    for (Index g = 0; g < groups->size(); ++g) {
      const Loss& loss = (*losses)[static_cast<std::size_t>(g)];
      sum[g] = loss.sum;
      if (loss.done) gone.set(g, false);
    }
    const Index unmet = gone.live();
    return {{field.owner.name, std::move(sums), std::move(gone), "group"},
            weights.pruned == &p.mask() ? unmet : count(field).live,
            [&p, losses](const Mask& live, Choice& made) {
              if (!live.defined()) return;
              Mask& mask = made.writable(p);
              for (std::size_t g = 0; g < losses->size(); ++g)
                if (!live[static_cast<Index>(g)])
                  for (Index i : (*losses)[g].places) mask.set(i, false);
            }};
  }

  PieceCount count(const Field& field) const override {
    const std::unique_ptr<const Groups> groups = groups_of(field.owner);
    const Weights weights{nullptr, &field.owner.parameter->mask()};
    PieceCount pieces{groups->size(), 0};
    for (Index g = 0; g < pieces.all; ++g) pieces.live += !groups->loss(g, weights).done;
    return pieces;
  }

  double share(const char* who, double sparsity) const override {
    const double most = static_cast<double>(o_.of - o_.keep) / static_cast<double>(o_.of);
    if (!(sparsity >= 0)) return sparsity;           // refused where it is counted
    if (std::abs(sparsity - most) < 1e-9) return 1;  // 2.0 / 3 and 1 - 1.0 / 3
    if (sparsity > most)
      fail<ConfigError>("[", who, "] ", name(), " prunes at most ", most, " of the weights, asked for ", sparsity,
                        ". Hint: ", most, " is the whole pattern");
    return sparsity / most;
  }
  Index min_keep(Index) const override { return 0; }

 private:
  std::unique_ptr<const Groups> groups_of(const NamedParameter& named) const {
    const Shape& shape = named.parameter->value().shape();
    if (shape.rank() == 0) fail<ConfigError>("[n_m] '", named.name, "' is a scalar and has no groups");
    const int axis = o_.axis.value_or(shape.rank() > 1 ? 1 : 0);
    if (axis < -shape.rank() || axis >= shape.rank())
      fail<ConfigError>("[n_m] '", named.name, "' of shape ", shape, " has no axis ", axis,
                        ". Hint: leave it out of the selection");
    Lines lines = detail::lines_along(op, shape, axis);
    if (o_.lowered) lines = {shape.rank() > 1 ? shape[0] : 1, 0, 1};
    if (o_.lowered && lines.outer > 0) lines.length = espalier::count(shape) / lines.outer;
    if (!o_.transposable) return std::make_unique<LineGroups>(o_, lines);
    if (shape.rank() < 2 || (axis < 0 ? axis + shape.rank() : axis) == 0)
      fail<ConfigError>("[n_m] a transposable pattern is of a matrix of axis 0 and another; '", named.name,
                        "' of shape ", shape, " has none along axis ", axis);
    return std::make_unique<TileGroups>(o_, shape[0], lines);
  }

  NOfMOptions o_;
};

}  // namespace

Granularity n_m(NOfMOptions o) {
  if (o.keep < 1 || o.keep >= o.of) fail<ConfigError>("[n_m] needs 1 <= keep < of, got keep ", o.keep, " of ", o.of);
  if (o.lowered && o.axis) fail<ConfigError>("[n_m] lowered groups run along rows; they take no axis");
  if (o.transposable && o.of > 4)
    fail<ConfigError>("[n_m] a transposable pattern needs of <= 4, got ", o.of, ": all of them are tried");
  return Granularity(std::make_shared<const NOfM>(o));
}

}  // namespace espalier::prune
