// What one op tells of each example's gradient of a parameter: the parts of optim/per_example.h that do arithmetic.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier::optim::detail {

/// An op as it was recorded.
struct OpRecord {
  const char* op;
  std::vector<Variable> inputs;
  std::vector<int> parameters;  ///< of each input: the number of the listed parameter whose leaf it is, or -1
  Variable output;
  std::vector<Index> settings;
};

/// Where the examples are in an op's output, [N, ...], [T, N, ...], or [N T, ...] with the rows of one example together.
enum class Layout : std::uint8_t { first, second, grouped };
/// Those that the shape allows. `leading`: axes in front of those that are features.
std::vector<Layout> possible_layouts(const Shape& output, int leading, Index n);
/// t [.., features] as [N, T, ...] with the last `features` axes kept.
Tensor by_example(const Tensor& t, Layout layout, Index n, int features);

/// The gradient of one parameter through one op, of each example.
class Use {
 public:
  virtual ~Use() = default;

  /// g_i is a sum of `terms` products u v^T, for each of `groups` blocks of the parameter; u of length `rows`, v of
  /// `columns`. terms = 0: it is no such sum.
  struct Form {
    Index terms = 0, groups = 1, rows = 0, columns = 0;
    bool rows_are_places = false;  ///< u is 1 in one place, else 0
  };
  virtual Form form() const { return {}; }
  /// Writes the terms of example i and one group: u [terms, rows], or the places (-1: a term that counts for nothing),
  /// and v [terms, columns].
  virtual void list(Index /*example*/, Index /*group*/, double* /*u*/, Index* /*places*/, double* /*v*/) const {}

  /// into += g_i; `into` is contiguous, of the parameter's shape.
  virtual void add_to(Tensor& into, Index example) const = 0;
  /// sum over i of c[i] g_i, of the parameter's shape; c [N] of the parameter's type.
  virtual Tensor weighted(const Tensor& c) const = 0;
};

/// The op's output has this many leading axes, among which examples lie; 0: input number `input` is not one that any
/// formula is known for.
int leading_axes(const OpRecord& record, std::size_t input);
/// `g`: d losses / d output. Call it only where leading_axes() is not 0.
std::unique_ptr<Use> make_use(const OpRecord& record, std::size_t input, const Tensor& g, Layout layout, Index n);

/// ||g_i||^2 for all examples, g_i the sum over the uses; only where the mask, if there is one, is 1.
std::vector<long double> squared_norms(std::span<const std::unique_ptr<Use>> uses, const ParameterState& parameter,
                                       Index n);
long double sum_squares(const Tensor& t);

}  // namespace espalier::optim::detail
