// Granularity: what is pruned as one piece. A Pruner scores pieces, counts pieces and prunes whole ones.
//
//   Pruner(parameters, {.granularity = prune::filters()}).to_sparsity(0.5);            // half of the output channels
//   Pruner(parameters, {.granularity = prune::blocks({.rows = 8, .columns = 1})});     // what packed kernels like
//   Pruner(parameters, {.granularity = prune::n_m({.keep = 2, .of = 4})}).to_sparsity(0.5);
//   Pruner(parameters, {.granularity = prune::dependency_groups(model, sample)});      // in groups.h
//
// | pieces                    | of a weight [out, in, h, w]            | sparsity counts |
// |---------------------------|----------------------------------------|-----------------|
// | elements()                | single weights                         | weights         |
// | filters(), rows()         | one output, all that it reads          | outputs         |
// | channels(), columns()     | one input, all that reads it           | inputs          |
// | units({.axis = a})        | one index of an axis                   | units           |
// | kernels()                 | h x w, of one input and output         | kernels         |
// | blocks({.rows, .columns}) | a block of the matrix [out, rest]      | blocks          |
// | n_m({.keep, .of})         | `of` in line, of which `keep` stay     | weights         |
// | dependency_groups()       | channel, head, hidden unit: everywhere | units           |
// | ... of branches()         | a residual branch, whole               | branches        |
//
// A piece counts as pruned when all its weights are. Its score is pooled from the scores of its weights; a weight that
// is pruned and stays so adds 0 to it. A Score of units, such as ln_structured() or fpgm(), is taken as it is where its
// axis is that of the pieces.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/core/dims.h"

namespace espalier::prune {

namespace detail {
class Grain;
}  // namespace detail

/// How the scores of a piece's weights become its own: in f64, NaN stays.
class Pool final {
 public:
  static Pool mean();  ///< pieces of unlike size compare
  static Pool sum();
  static Pool max();  ///< of magnitude(): the norm of p = infinity

  const std::string& name() const noexcept { return name_; }
  /// What `scores` add to, all of them or those left of a piece of `size` weights.
  double operator()(double a, double b) const { return add_(a, b); }
  double start() const noexcept { return start_; }
  double finish(double total, std::size_t size) const noexcept {
    return average_ ? total / static_cast<double>(size) : total;
  }

 private:
  Pool(const char* name, double start, bool average, double (*add)(double, double))
      : name_(name), start_(start), average_(average), add_(add) {}
  std::string name_;
  double start_;
  bool average_;
  double (*add_)(double, double);
};

/// Pieces there are, and those that are not pruned.
struct PieceCount {
  Index all = 0, live = 0;
};

/// A value; copies share what it holds.
class Granularity final {
 public:
  /// The piece of each weight, in row-major order: any numbers from 0 on, each piece in one tensor.
  using Numbering = std::function<std::vector<Index>(const Shape&)>;

  /// elements().
  Granularity();
  /// Pieces of your own: Granularity("diagonals", [](const Shape& s) { ... }). Of a shape that has none the function
  /// throws. Errors when pruning: ConfigError for a number of weights that is not the tensor's, or a number below 0.
  Granularity(std::string name, Numbering pieces, Pool pool = Pool::mean());
  explicit Granularity(std::shared_ptr<const detail::Grain> grain) : grain_(std::move(grain)) {}

  /// "elements", "units of axis 0", "blocks of 8 x 1", "2:4", ...
  const std::string& name() const;
  const detail::Grain& grain() const noexcept { return *grain_; }

 private:
  std::shared_ptr<const detail::Grain> grain_;
};

/// Single weights.
Granularity elements();

struct UnitsOptions {
  int axis = 0;  ///< 0: outputs of a layer; 1: inputs; negative: from the last axis
  Pool pool = Pool::mean();
};
/// All weights with one index of an axis. With magnitude({.p = p}) the order is that of the p-norms of the units, with
/// Pool::max() and magnitude() that of p = infinity (Li et al. 2017). Only what lies in this one tensor: a bias or a
/// normalisation behind it stays, see dependency_groups(). Errors when pruning: ConfigError for a parameter without
/// this axis.
Granularity units(UnitsOptions options = {});
inline Granularity rows() { return units({.axis = 0}); }
inline Granularity filters() { return units({.axis = 0}); }
inline Granularity columns() { return units({.axis = 1}); }
inline Granularity channels() { return units({.axis = 1}); }

/// What one output of a convolution reads of one input: all weights with the same first two indices. Errors when
/// pruning: ConfigError below rank 3.
Granularity kernels(Pool pool = Pool::mean());

struct BlocksOptions {
  Index rows = 1;
  Index columns = 8;
  Pool pool = Pool::mean();
};
/// Blocks of the matrix [shape[0], all other axes], from its first row and column on. At the last rows and columns
/// blocks are smaller, and pooled over what they have; a tensor smaller than a block is one block. Packed weights run
/// fastest with 8 x 1, 4 x 1, 1 x 8 and 1 x 4. Errors: ConfigError for sides below 1; when pruning, for a rank below 2.
/// Narang, Undersander and Diamos 2017.
Granularity blocks(BlocksOptions options = {});

struct NOfMOptions {
  Index keep = 2, of = 4;
  /// Along which groups run. Without one: along the inputs (axis 1; of a vector axis 0), for each kernel position.
  std::optional<int> axis = {};
  bool lowered = false;       ///< along the rows of the matrix [shape[0], all other axes], as packed kernels read them
  bool transposable = false;  ///< both ways: the transposed weight, which backward multiplies by, has the pattern, too
};
/// `keep` of each `of` consecutive weights stay, those of the highest scores. Of the t < of weights at the end of a
/// line keep t / of stay, rounded up.
///
/// Sparsity is the share of weights, and 1 - keep / of is all that the pattern can have: to_sparsity(1 - keep / of)
/// gives the whole pattern, half of that prunes half of the groups, those first that lose the lowest sum of scores;
/// groups that cannot lose a weight are not counted. So a Schedule may lead up to it. Weights are chosen anew in each
/// group whenever the pruner is due: in soft mode from all, in hard mode from those still live. min_keep has no meaning
/// here, since no group loses all its weights.
///
/// Transposable: in each tile of `of` x `of`, of <= 4, the choice that loses the least among all patterns with `keep`
/// in every row and column (90 of 2:4), by exact search. Smaller tiles at the edges keep in every row and column at
/// most what the rule for ends says, and as many as go (Hubara et al. 2021).
///
/// Errors: ConfigError unless 1 <= keep < of, or for lowered with an axis; when pruning, for a sparsity above 1 -
/// keep / of, a scalar, an axis that the parameter does not have, or a Score of units.
/// Mishra, Latorre, Pool, Stosic, Venkatesh, Yu and Micikevicius 2021.
Granularity n_m(NOfMOptions options = {});

}  // namespace espalier::prune
