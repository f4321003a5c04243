// What stands behind a Granularity: how a pruner's parameters fall into pieces, what the pieces score, and which
// weights go with a piece.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/optim/reshape.h"
#include "espalier/prune/granularity.h"
#include "espalier/prune/score.h"
#include "espalier/prune/select.h"

namespace espalier::prune::detail {

/// One choice of a pruner while it is made: scores come in, masks come out.
class Choice final {
 public:
  /// `scored`: those whose place the statistics name. In hard mode what is pruned stays so.
  Choice(const char* op, const Score& score, const Gathered& gathered, const ParameterList& scored, MaskMode mode,
         std::int64_t step)
      : op_(op), score_(score), gathered_(gathered), scored_(scored), mode_(mode), step_(step) {}

  const char* op() const noexcept { return op_; }
  const Score& score() const noexcept { return score_; }
  /// Whether the parameter is selected, that is, to be scored.
  bool scores(const ParameterState& p) const;
  /// What the score says: of the parameter's shape, or [units].
  Tensor scores_of(const ParameterState& p) const;
  /// The mask that holds whatever is chosen; undefined: every weight may go or come back.
  const Mask& fixed(const ParameterState& p) const;
  /// The mask that is being made, at first fixed().
  Mask& mask(const ParameterState& p);
  /// As `mask`, all live if nothing is pruned yet.
  Mask& writable(const ParameterState& p);

 private:
  const char* op_;
  const Score& score_;
  const Gathered& gathered_;
  const ParameterList& scored_;
  MaskMode mode_;
  std::int64_t step_;
  std::map<const ParameterState*, Mask> masks_;
};

/// What competes as one: the pieces of a weight, or the units of a group. `owner` stands for it: its name, its place
/// in a scope, its shape where sparsities are handed out.
struct Field {
  NamedParameter owner;
  std::size_t number;  ///< of those of a Grain
};

/// The pieces of a field in a choice.
struct Contest {
  Candidate candidate;                                   ///< their scores, and those that are pruned and stay so
  Index live;                                            ///< not pruned now, may they come back or not
  std::function<void(const Mask& live, Choice&)> prune;  ///< takes the weights of those that are not live
};

class Grain {
 public:
  explicit Grain(std::string name) : name_(std::move(name)) {}
  virtual ~Grain() = default;
  const std::string& name() const noexcept { return name_; }

  /// One for each parameter that is selected, unless a grain says otherwise. Errors: ConfigError.
  virtual std::vector<Field> fields(const ParameterList& selected) const;
  /// Of all parameters, those whose masks such fields change, in their order.
  virtual ParameterList touched(const ParameterList& all, const std::vector<Field>& fields) const;
  /// Errors: ConfigError if the field does not have such pieces, or the score does not speak of them.
  virtual Contest contest(const Field& field, Choice& choice) const = 0;
  /// By the masks as they are.
  virtual PieceCount count(const Field& field) const = 0;
  /// The share of pieces that a sparsity asks for. Errors: ConfigError if it cannot be.
  virtual double share(const char* /*op*/, double sparsity) const { return sparsity; }
  virtual Index min_keep(Index asked) const { return asked; }
  /// What stands for it once the parameters are cut; null: the same.
  virtual std::shared_ptr<const Grain> cut(std::span<const optim::ParameterCut> /*cuts*/) const { return nullptr; }

 private:
  std::string name_;
};

/// A tensor seen as lines along an axis: element (o, j, i) of line (o, i) is at (o length + j) inner + i.
struct Lines {
  Index outer = 1, length = 1, inner = 1;
};
/// Errors: IndexError.
Lines lines_along(const char* op, const Shape& shape, int axis);

}  // namespace espalier::prune::detail
