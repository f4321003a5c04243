#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "espalier/autograd/ops/einsum.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// The definition: a loop over all positions of all letters. Terms and output in full, without "...".
std::function<Array(std::span<const Array>)> loops(std::vector<std::string> terms, std::string output) {
  return [=](std::span<const Array> in) {
    std::map<char, Index> length;
    for (std::size_t k = 0; k < terms.size(); ++k)
      for (std::size_t axis = 0; axis < terms[k].size(); ++axis) {
        const Index n = in[k].shape[static_cast<int>(axis)];
        Index& known = length.try_emplace(terms[k][axis], n).first->second;
        if (known == 1) known = n;
      }
    std::string letters = output;
    for (const auto& [letter, n] : length)
      if (output.find(letter) == std::string::npos) letters += letter;
    Shape shape;
    for (char c : output) shape.push_back(length[c]);
    Array y(shape);
    Index total = 1;
    for (char c : letters) total *= length[c];
    std::array<Index, 128> at{};
    for (Index step = 0; step < total; ++step) {
      Index rest = step;
      for (std::size_t k = letters.size(); k-- > 0;) {
        const Index n = length[letters[k]];
        at[static_cast<std::size_t>(letters[k])] = rest % n;
        rest /= n;
      }
      double product = 1;
      for (std::size_t k = 0; k < terms.size(); ++k) {
        Index place = 0;
        for (std::size_t axis = 0; axis < terms[k].size(); ++axis) {
          const Index n = in[k].shape[static_cast<int>(axis)];
          place = place * n + (n == 1 ? 0 : at[static_cast<std::size_t>(terms[k][axis])]);
        }
        product *= in[k][place];
      }
      Index place = 0;
      for (char c : output) place = place * length[c] + at[static_cast<std::size_t>(c)];
      y[place] += product;
    }
    return y;
  };
}

/// Shapes with the same length wherever a letter stands.
std::function<std::vector<Shape>(Lengths&)> lengths_of(std::vector<std::string> terms) {
  return [=](Lengths& draw) {
    std::map<char, Index> length;
    const std::string all = std::accumulate(terms.begin(), terms.end(), std::string());
    const auto letters = static_cast<double>(std::set<char>(all.begin(), all.end()).size());
    const auto longest = static_cast<Index>(std::pow(1e5, 1 / letters));  // the reference visits all positions
    std::vector<Shape> shapes;
    for (const std::string& term : terms) {
      shapes.emplace_back();
      for (char c : term) {
        if (!length.contains(c)) length[c] = std::min(draw.length(), longest);
        shapes.back().push_back(length[c]);
      }
    }
    return shapes;
  };
}

OpCase row(const std::string& equation, std::vector<std::string> terms, const std::string& output,
           std::string shown = "") {
  OpCase c;
  c.name = "einsum: " + equation;
  if (shown.empty()) shown = equation;
  c.call = [shown](std::span<const Variable> v) { return einsum(shown, v); };
  c.reference = loops(terms, output);
  c.shapes = lengths_of(terms);
  return c;
}

}  // namespace

std::vector<OpCase> einsum_cases() {
  std::vector<OpCase> rows = {
      row("ij,jk->ik", {"ij", "jk"}, "ik"),
      row("product", {"ij", "jk"}, "ik", " i j , j k "),
      row("bhqd,bhkd->bhqk", {"bqd", "bkd"}, "bqk", "bqd,bkd->bqk"),
      row("ii->i", {"ii"}, "i"),
      row("trace", {"ii"}, "", "ii"),
      row("iij->ji", {"iij"}, "ji"),
      row("ij->", {"ij"}, ""),
      row("ij->ji", {"ij"}, "ji"),
      row("outer", {"i", "j"}, "ij", "i,j"),
      row("elementwise", {"ij", "ji"}, "ij", "ij,ji->ij"),
      row("summed early", {"ijk", "jl"}, "l", "ijk,jl->l"),
      row("three operands", {"ab", "bc", "cd"}, "ad", "ab,bc,cd->ad"),
      row("four with a shared letter", {"ab", "ac", "ad", "bcd"}, "a", "ab,ac,ad,bcd->a"),
      row("bilinear", {"bi", "oij", "bj"}, "bo", "bi,oij,bj->bo"),
      row("capitals first", {"bA", "Ac"}, "bc", "bA,Ac"),
      row("diagonal of both", {"iij", "jkk"}, "ik", "iij,jkk->ik"),
      row("dots", {"xij", "xjk"}, "xik", "...ij,...jk->...ik"),
      row("dots on one side", {"xyij", "jk"}, "xyik", "...ij,jk"),
      row("dots summed", {"xi", "xi"}, "i", "...i,...i->i"),
      row("dots behind", {"ix", "jx"}, "ijx", "i...,j...->ij..."),
  };
  OpCase broadcast = row("broadcast of length 1", {"xij", "xjk"}, "xik", "...ij,...jk->...ik");
  broadcast.shapes = [](Lengths& draw) {
    auto length = [&] { return std::min<Index>(draw.length(), 17); };
    const Index j = length(), x = length();
    return std::vector<Shape>{{1, length(), j}, {x, j, length()}};
  };
  rows.push_back(broadcast);
  OpCase named = row("a letter of length 1", {"ij", "ij"}, "i", "ij,ij->i");
  named.shapes = [](Lengths& draw) {
    const Index i = draw.length();
    return std::vector<Shape>{{i, 1}, {i, draw.length()}};
  };
  rows.push_back(named);
  return rows;
}

}  // namespace espalier::testing
