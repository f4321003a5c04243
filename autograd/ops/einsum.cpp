#include "espalier/autograd/ops/einsum.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier {
namespace {

/// Axes by name, one char each: letters, and '0' ... '7' for those of "...", '0' being the last.
using Labels = std::string;

bool has(const Labels& labels, char label) { return labels.find(label) != Labels::npos; }

/// An operand on its way: one label an axis, all different.
struct Term {
  Variable value;
  Labels labels;
  Index length(char label) const { return value.shape()[static_cast<int>(labels.find(label))]; }
};

template <class... Parts>
[[noreturn]] void refuse(std::string_view equation, const Parts&... parts) {
  fail<ShapeError>("[einsum] '", equation, "': ", parts...);
}

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

constexpr char ellipsis = '.';

/// Letters, with one '.' for "...".
Labels read_labels(std::string_view equation, std::string_view text) {
  Labels labels;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ') continue;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      labels += c;
    } else if (c == '.') {
      if (text.substr(i, 3) != "..." || has(labels, ellipsis))
        refuse(equation, "'.' may stand only as one '...' in each operand");
      labels += ellipsis;
      i += 2;
    } else {
      refuse(equation, "'", std::string_view(&c, 1), "' is no letter. Hint: letters, ',', '...', and one '->'");
    }
  }
  return labels;
}

/// The axes behind "...": '0' is the last of them, so that they align from the right.
Labels expanded(const Labels& labels, int hidden) {
  Labels result;
  for (char c : labels) {
    if (c != ellipsis)
      result += c;
    else
      for (int k = hidden; k-- > 0;) result += static_cast<char>('0' + k);
  }
  return result;
}

Equation parse(std::string_view equation, std::span<const Variable> operands) {
  const std::size_t arrow = equation.find("->");
  const bool explicit_output = arrow != std::string_view::npos;
  std::string_view left = equation.substr(0, arrow);
  Equation parsed;
  std::vector<Labels> terms;
  for (std::size_t from = 0;;) {
    const std::size_t comma = left.find(',', from);
    terms.push_back(read_labels(equation, left.substr(from, comma - from)));
    if (comma == std::string_view::npos) break;
    from = comma + 1;
  }
  if (terms.size() != operands.size())
    refuse(equation, "names ", terms.size(), " operands, ", operands.size(), " are given");
  int most_hidden = 0;
  std::array<int, 256> seen{};
  for (std::size_t k = 0; k < terms.size(); ++k) {
    const bool open = has(terms[k], ellipsis);
    const int named = static_cast<int>(terms[k].size()) - open, rank = operands[k].rank();
    if (open ? rank < named : rank != named)
      refuse(equation, "operand ", k, " has shape ", operands[k].shape(), ", the equation names ", named,
             open ? " axes and '...'" : " axes");
    most_hidden = std::max(most_hidden, rank - named);
    for (char c : terms[k]) ++seen[static_cast<unsigned char>(c)];
    parsed.inputs.push_back(expanded(terms[k], rank - named));
  }
  if (explicit_output) {
    const Labels output = read_labels(equation, equation.substr(arrow + 2));
    for (char c : output) {
      if (std::count(output.begin(), output.end(), c) > 1)
        refuse(equation, "the output names '", std::string_view(&c, 1), "' twice");
      if (c != ellipsis && seen[static_cast<unsigned char>(c)] == 0)
        refuse(equation, "the output names '", std::string_view(&c, 1), "', which no operand has");
    }
    parsed.output = expanded(output, most_hidden);
  } else {
    parsed.output = expanded(Labels(1, ellipsis), most_hidden);
    for (int c = 'A'; c <= 'z'; ++c)
      if (seen[static_cast<std::size_t>(c)] == 1) parsed.output += static_cast<char>(c);
  }
  return parsed;
}

/// The window on x whose axis k runs along all axes j of x with to[j] = k at once.
Tensor diagonal_view(const Tensor& x, const std::vector<int>& to, int rank) {
  Shape shape;
  Dims strides;
  for (int k = 0; k < rank; ++k) {
    shape.push_back(0);
    strides.push_back(0);
  }
  for (int axis = 0; axis < x.rank(); ++axis) {
    const int k = to[static_cast<std::size_t>(axis)];
    shape[k] = x.shape()[axis];
    strides[k] += x.strides()[axis];
  }
  return x.as_strided(shape, strides);
}

Variable diagonal_of(const Variable& x, const std::vector<int>& to, int rank);
/// zeros(shape) with x on the diagonal: the adjoint.
Variable on_diagonal(const Variable& x, const Shape& shape, const std::vector<int>& to) {
  Tensor y = Tensor::zeros(shape, x.dtype());
  diagonal_view(y, to, x.rank()).copy_from(x.value());
  if (!recording(x)) return y;
  return record("diagonal_backward", std::move(y), {&x},
                [to, rank = x.rank()](const Variable& g, Wants) { return diagonal_of(g, to, rank); });
}
Variable diagonal_of(const Variable& x, const std::vector<int>& to, int rank) {
  Tensor y = diagonal_view(x.value(), to, rank);
  if (!recording(x)) return y;
  return record("diagonal", std::move(y), {&x},
                [shape = x.shape(), to](const Variable& g, Wants) { return on_diagonal(g, shape, to); });
}

/// Takes the diagonal of labels that stand twice.
Term without_repeats(std::string_view equation, std::size_t place, const Variable& x, const Labels& labels) {
  Labels unique;
  std::vector<int> to;
  for (std::size_t axis = 0; axis < labels.size(); ++axis) {
    const char c = labels[axis];
    const std::size_t first = labels.find(c);
    if (first == axis) unique += c;
    const Index a = x.shape()[static_cast<int>(first)], b = x.shape()[static_cast<int>(axis)];
    if (a != b)
      refuse(equation, "operand ", place, " has shape ", x.shape(), ", but names '", std::string_view(&c, 1),
             "' for axes of ", a, " and ", b, " elements");
    to.push_back(static_cast<int>(unique.find(c)));
  }
  return {unique.size() == labels.size() ? x : diagonal_of(x, to, static_cast<int>(unique.size())), unique};
}

/// Sums over the labels for which `gone` holds.
template <class Gone>
Term summed(const Term& term, Gone gone) {
  Dims axes;
  Labels left;
  for (std::size_t axis = 0; axis < term.labels.size(); ++axis) {
    if (gone(term.labels[axis]))
      axes.push_back(static_cast<Index>(axis));
    else
      left += term.labels[axis];
  }
  if (axes.rank() == 0) return term;
  return {sum(term.value, axes), left};
}

/// Axes in the order of `order`, which has the same labels.
Variable ordered(const Term& term, const Labels& order) {
  if (term.labels == order) return term.value;
  Dims axes;
  for (char c : order) axes.push_back(static_cast<Index>(term.labels.find(c)));
  return permute(term.value, axes);
}

Variable reshaped(const Variable& x, const Shape& shape) { return x.shape() == shape ? x : reshape(x, shape); }

/// Lengths of all labels; checks that they agree.
class Lengths final {
 public:
  Lengths(std::string_view equation, const std::vector<Term>& terms) {
    for (std::size_t k = 0; k < terms.size(); ++k)
      for (char c : terms[k].labels) {
        const Index n = terms[k].length(c);
        Index& known = length_[static_cast<unsigned char>(c)];
        if (known == -1 || known == 1)
          known = n;
        else if (n != known && n != 1)
          refuse(equation, "axis '", std::string_view(&c, 1), "' of operand ", k, " has ", n,
                 " elements, an earlier operand ", known, "; the operand has shape ", terms[k].value.shape());
      }
  }
  Index operator[](char label) const { return length_[static_cast<unsigned char>(label)]; }
  Index of(const Labels& labels) const {
    Index n = 1;
    for (char c : labels) n *= (*this)[c];
    return n;
  }
  double volume(const Labels& labels) const {
    double n = 1;
    for (char c : labels) n *= static_cast<double>((*this)[c]);
    return n;
  }
  Shape shape(const Labels& labels) const {
    Shape s;
    for (char c : labels) s.push_back((*this)[c]);
    return s;
  }

 private:
  std::array<Index, 128> length_ = [] {
    std::array<Index, 128> all;
    all.fill(-1);
    return all;
  }();
};

/// a and b multiplied and summed over the labels that nobody needs later.
Term contract(Term a, Term b, const Labels& needed, const Lengths& lengths) {
  const auto unneeded = [&](const Term& other) {
    return [&](char c) { return !has(needed, c) && !has(other.labels, c); };
  };
  a = summed(a, unneeded(b));
  b = summed(b, unneeded(a));
  Labels batch, inner, left, right;
  for (char c : a.labels) (has(b.labels, c) ? (has(needed, c) ? batch : inner) : left) += c;
  for (char c : b.labels)
    if (!has(a.labels, c)) right += c;
  const Index n = lengths.of(batch), k = lengths.of(inner), rows = lengths.of(left), columns = lengths.of(right);
  Variable product;
  if (inner.empty())
    product =
        mul(reshaped(ordered(a, batch + left), {n, rows, 1}), reshaped(ordered(b, batch + right), {n, 1, columns}));
  else if (batch.empty())
    product = matmul(reshaped(ordered(a, left + inner), {rows, k}), reshaped(ordered(b, inner + right), {k, columns}));
  else
    product = matmul(reshaped(ordered(a, batch + left + inner), {n, rows, k}),
                     reshaped(ordered(b, batch + inner + right), {n, k, columns}));
  const Labels labels = batch + left + right;
  return {reshaped(product, lengths.shape(labels)), labels};
}

}  // namespace

Variable einsum(std::string_view equation, std::span<const Variable> operands) {
  const Equation parsed = parse(equation, operands);
  std::vector<Term> terms;
  for (std::size_t k = 0; k < operands.size(); ++k)
    terms.push_back(without_repeats(equation, k, operands[k], parsed.inputs[k]));
  const Lengths lengths(equation, terms);
  // An axis of length 1 against a longer one broadcasts: it is dropped where another operand has the label, too.
  for (Term& term : terms) term = summed(term, [&](char c) { return term.length(c) == 1 && lengths[c] != 1; });

  auto needed_without = [&](std::size_t i, std::size_t j) {
    Labels needed = parsed.output;
    for (std::size_t k = 0; k < terms.size(); ++k)
      if (k != i && k != j) needed += terms[k].labels;
    return needed;
  };
  while (terms.size() > 1) {  // the pair whose product takes the fewest multiplications, then the smallest one
    std::size_t best_i = 0, best_j = 1;
    double least_work = -1, least_size = 0;
    for (std::size_t i = 0; i < terms.size(); ++i)
      for (std::size_t j = i + 1; j < terms.size(); ++j) {
        const Labels needed = needed_without(i, j);
        Labels all = terms[i].labels, kept;
        for (char c : terms[j].labels)
          if (!has(all, c)) all += c;
        for (char c : all)
          if (has(needed, c)) kept += c;
        const double work = lengths.volume(all), size = lengths.volume(kept);
        if (least_work < 0 || work < least_work || (work == least_work && size < least_size)) {
          least_work = work;
          least_size = size;
          best_i = i;
          best_j = j;
        }
      }
    Term product = contract(terms[best_i], terms[best_j], needed_without(best_i, best_j), lengths);
    terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(best_j));
    terms[best_i] = std::move(product);
  }
  const Term last = summed(terms[0], [&](char c) { return !has(parsed.output, c); });
  return ordered(last, parsed.output);
}

}  // namespace espalier
