#include "espalier/autograd/ops/dropout.h"
#include "tests/autograd/op_cases.h"
#include "tests/support/philox.h"

namespace espalier::testing {
namespace {

constexpr double p = 0.3;

/// Decision i of a fresh Rng(17): draw w of block b serves decision 16 w + b of each 64.
bool stays(Index i) {
  const auto at = static_cast<std::size_t>(i);
  const auto bits = philox(17, 0, at / 64 * 16 + at % 16);
  return static_cast<double>(bits[at % 64 / 16]) >= p * 0x1p32;
}

/// Elements that share their first `axes` positions share a decision; -1: each has its own.
auto dropped(int axes) {
  return [axes](std::span<const Array> in) {
    Array y(in[0].shape);
    Index run = 1;
    for (int axis = y.shape.rank(); axes >= 0 && axis-- > axes;) run *= y.shape[axis];
    for (Index i = 0; i < y.size(); ++i) y[i] = stays(i / run) ? in[0][i] / (1 - p) : 0;
    return y;
  };
}

template <class F>
auto with_rng(F f) {
  return [f](std::span<const Variable> v) {
    Rng rng(17);
    return f(v[0], rng);
  };
}

}  // namespace

std::vector<OpCase> dropout_cases() {
  return {
      {"dropout", with_rng([](const Variable& x, Rng& rng) { return dropout(x, p, rng); }), dropped(-1),
       [](Lengths& draw) { return std::vector<Shape>{draw.any()}; }},
      {"channel_dropout", with_rng([](const Variable& x, Rng& rng) { return channel_dropout(x, p, rng); }), dropped(2),
       [](Lengths& draw) { return std::vector<Shape>{draw.any(2)}; }},
      {"drop_path", with_rng([](const Variable& x, Rng& rng) { return drop_path(x, p, rng); }), dropped(1),
       [](Lengths& draw) { return std::vector<Shape>{draw.any(1)}; }},
  };
}

}  // namespace espalier::testing
