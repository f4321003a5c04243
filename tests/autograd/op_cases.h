// The op table: one row buys a differentiable function every test in op_table_test.cpp.
//
//   {"softmax", VARIABLE(softmax(v[0], -1)), along_last([](Line x, Line y) { ... }), shapes({"R", "C"}), ...}
//
// A row says how the op is called, what it computes (a plain loop over doubles) and which shapes fit; values,
// gradients, second gradients, empty, strided, f32, threads and the rest follow from that. Rows of a family stand in
// op_cases_<family>.cpp. A test fails if an op declared in autograd/ops/*.h has no row.
#pragma once

#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier::testing {

/// A dense row-major array: what the references compute with.
struct Array {
  Shape shape;
  std::vector<double> values;

  Array() = default;
  explicit Array(const Shape& s, double value = 0) : shape(s), values(static_cast<std::size_t>(count(s)), value) {}
  Index size() const { return static_cast<Index>(values.size()); }
  double& operator[](Index i) { return values[static_cast<std::size_t>(i)]; }
  double operator[](Index i) const { return values[static_cast<std::size_t>(i)]; }
};

/// Draws lengths of axes. What an op can do with an empty axis it draws with length(), the rest with positive().
class Lengths {
 public:
  enum class Kind { small, empty, large };
  Lengths(unsigned seed, Kind kind) : random_(seed), kind_(kind) {}
  /// 1 ... 5; of the kind `empty` often 0; of the kind `large` long enough that work is cut for threads.
  Index length() {
    if (kind_ == Kind::empty && random_() % 2 == 0) return 0;
    return positive();
  }
  Index positive() { return kind_ == Kind::large ? 48 + below(20) : 1 + below(5); }
  Index below(Index n) { return static_cast<Index>(random_() % static_cast<std::uint32_t>(n)); }
  /// Up to three axes.
  Shape any(int least_rank = 0) {
    Shape shape;
    const Index rank = kind_ == Kind::large ? 3 : std::max<Index>(least_rank, below(4));
    for (Index axis = 0; axis < rank; ++axis) shape.push_back(length());
    return shape;
  }
  /// One that broadcasts with `shape`: leading axes may be missing, others 1.
  Shape broadcasting_with(const Shape& shape) {
    Shape result;
    const Index dropped = below(shape.rank() + 1);
    for (int axis = static_cast<int>(dropped); axis < shape.rank(); ++axis)
      result.push_back(below(3) == 0 ? 1 : shape[axis]);
    return result;
  }

 private:
  std::mt19937 random_;
  Kind kind_;
};

/// Values are drawn from [low, high], and `apart` keeps them that far from kinks at multiples of `apart_from`
/// (relu at 0), where differences tell nothing. Ties between operands are avoided as draws are all different.
struct Domain {
  double low = -2, high = 2;
  double apart = 0;
  double apart_from = 0;
};

struct OpCase {
  std::string name;  ///< the op, or "op: what is special about this row"
  std::function<Variable(std::span<const Variable>)> call;
  std::function<Array(std::span<const Array>)> reference;
  std::function<std::vector<Shape>(Lengths&)> shapes;  ///< of the inputs
  Domain domain = {};
  bool twice = true;        ///< false: the rule is differentiable only once, and says so
  bool special = false;     ///< the reference holds for NaN, infinities and zeros of either sign too (elementwise ops)
  double f32_error = 2e-6;  ///< allowed in f32, relative to the largest value
  std::string op() const { return name.substr(0, name.find(':')); }
};

/// For the texts of failing tests.
inline void PrintTo(const OpCase& row, std::ostream* out) { *out << row.name; }

/// How a row calls its op: VARIABLE(relu(v[0])).
#define VARIABLE(...) [](std::span<const ::espalier::Variable> v) -> ::espalier::Variable { return __VA_ARGS__; }

/// y[i] = f(x[i]): one input of any shape.
template <class F>
OpCase unary_case(std::string name, std::function<Variable(std::span<const Variable>)> call, F f, Domain domain = {}) {
  OpCase row{std::move(name), std::move(call), {}, {}, domain};
  row.reference = [f](std::span<const Array> in) {
    Array y(in[0].shape);
    for (Index i = 0; i < y.size(); ++i) y[i] = f(in[0][i]);
    return y;
  };
  row.shapes = [](Lengths& draw) { return std::vector<Shape>{draw.any()}; };
  row.special = true;
  return row;
}

/// y = f(a, b) with broadcasting.
OpCase binary_case(std::string name, std::function<Variable(std::span<const Variable>)> call,
                   std::function<double(double, double)> f, Domain domain = {});

/// Position of element i of `shape` in an array of a shape that broadcasts to it.
Index broadcast_position(const Shape& shape, Index i, const Shape& from);

std::vector<OpCase> elementwise_cases();
std::vector<OpCase> reduce_cases();
std::vector<OpCase> shape_cases();
std::vector<OpCase> linalg_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> math_cases();
std::vector<OpCase> activation_cases();
std::vector<OpCase> compare_cases();
std::vector<OpCase> scan_cases();
std::vector<OpCase> sort_cases();
std::vector<OpCase> join_cases();
std::vector<OpCase> index_cases();
std::vector<OpCase> embedding_cases();
std::vector<OpCase> einsum_cases();
std::vector<OpCase> dropout_cases();
std::vector<OpCase> conv_cases();
std::vector<OpCase> pool_cases();
std::vector<OpCase> patches_cases();
std::vector<OpCase> interpolate_cases();
std::vector<OpCase> norm_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> recurrent_cases();

/// Every row.
const std::vector<OpCase>& op_cases();

}  // namespace espalier::testing
