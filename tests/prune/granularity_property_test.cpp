// Whatever is pruned, in whatever pieces: they go whole, counts are exact, and what is gone stays gone.
#include <rapidcheck.h>

#include <functional>
#include <map>

#include "espalier/optim/adam.h"
#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::bits_of;

/// A granularity, and by another way the piece of each weight of a shape.
struct Kind {
  Granularity granularity;
  std::function<std::vector<Index>(const Shape&)> piece_of;
};

template <class F>
std::vector<Index> numbered(const Shape& shape, F f) {
  std::vector<Index> all;
  const Index inner = shape[0] * shape[1] == 0 ? 0 : count(shape) / (shape[0] * shape[1]);
  for (Index a = 0; a < shape[0]; ++a)
    for (Index b = 0; b < shape[1]; ++b)
      for (Index c = 0; c < inner; ++c) all.push_back(f(a, b, c, inner));
  return all;
}

Kind any_kind() {
  const auto height = *rc::gen::inRange<Index>(1, 5), width = *rc::gen::inRange<Index>(1, 5);
  const Kind kinds[] = {
      {elements(),
       [](const Shape& s) {
         Index n = 0;
         return numbered(s, [&](Index, Index, Index, Index) { return n++; });
       }},
      {filters(), [](const Shape& s) { return numbered(s, [](Index a, Index, Index, Index) { return a; }); }},
      {channels(), [](const Shape& s) { return numbered(s, [](Index, Index b, Index, Index) { return b; }); }},
      {kernels(),
       [](const Shape& s) { return numbered(s, [&](Index a, Index b, Index, Index) { return a * s[1] + b; }); }},
      {blocks({.rows = height, .columns = width}), [=](const Shape& s) {
         return numbered(s, [&](Index a, Index b, Index c, Index inner) {
           return a / height * (s[1] * inner) + (b * inner + c) / width;  // not dense, but different
         });
       }}};
  return kinds[*rc::gen::inRange<std::size_t>(0, 5)];
}

Index pieces_in(const std::vector<Index>& piece_of, const std::vector<bool>* live) {
  std::vector<Index> seen;
  for (std::size_t i = 0; i < piece_of.size(); ++i)
    if (!live || (*live)[i]) seen.push_back(piece_of[i]);
  std::sort(seen.begin(), seen.end());
  return std::unique(seen.begin(), seen.end()) - seen.begin();
}

TEST(GranularityProperty, PiecesAreWholeCountsExactAndNothingComesBack) {
  Index pruned_in_all = 0;
  EXPECT_TRUE(rc::check("whole pieces, exact counts, invariant", [&] {
    Rng rng(*rc::gen::inRange<std::uint64_t>(0, 1000));
    const Kind kind = any_kind();
    std::vector<Parameter> weights;
    ParameterList list;
    for (int k = *rc::gen::inRange(1, 4); k-- > 0;) {
      const Shape shape{*rc::gen::inRange<Index>(0, 7), *rc::gen::inRange<Index>(1, 6), *rc::gen::inRange<Index>(1, 4)};
      const DType type = *rc::gen::arbitrary<bool>() ? DType::f32 : DType::f64;
      weights.emplace_back(rng.normal(shape, 0, 1, type), "w" + std::to_string(k));
    }
    for (const Parameter& w : weights) list.push_back({w.ref()->name(), w.ref()});
    const Scope scope = *rc::gen::element(Scope::global, Scope::tensor);
    const MaskMode mode = *rc::gen::element(MaskMode::hard, MaskMode::soft);
    const bool hard = mode == MaskMode::hard;
    const Index min_keep = *rc::gen::inRange<Index>(0, 3);
    Pruner pruner(list, {.granularity = kind.granularity, .scope = scope, .mode = mode, .min_keep = min_keep});
    optim::Optimizer optimizer(list, optim::adam({.lr = 0.05}));
    std::vector<std::vector<bool>> before;
    for (const Parameter& w : weights) before.push_back(bits_of(w));

    for (int round = 0; round < 3; ++round) {
      const double s = *rc::gen::inRange(0, 101) / 100.0;
      pruner.to_sparsity(s);
      Index all = 0, gone = 0, most = 0;
      for (std::size_t k = 0; k < weights.size(); ++k) {
        const std::vector<Index> piece_of = kind.piece_of(weights[k].shape());
        const std::vector<bool> live = bits_of(weights[k]);
        const Index n = pieces_in(piece_of, nullptr), left = pieces_in(piece_of, &live);
        std::map<Index, bool> state;
        for (std::size_t i = 0; i < live.size(); ++i)
          RC_ASSERT(state.try_emplace(piece_of[i], live[i]).first->second == live[i]);
        if (scope == Scope::tensor) {
          const Index asked = std::min(count_of("test", s, n), n - std::min(n, min_keep));
          RC_ASSERT(n - left == asked || (hard && n - left > asked));
          if (round == 0) RC_ASSERT(n - left == asked);
        }
        RC_ASSERT(left >= std::min(n, min_keep));
        all += n;
        gone += n - left;
        most += n - std::min(n, min_keep);
        for (std::size_t i = 0; hard && i < live.size(); ++i) RC_ASSERT(before[k][i] || !live[i]);
        before[k] = live;
      }
      const Index asked = std::min(count_of("test", s, all), most);
      if (scope == Scope::global) {
        RC_ASSERT(gone == asked || (hard && gone > asked));
        if (round == 0) RC_ASSERT(gone == asked);
      }
      RC_ASSERT(pruner.pieces().all == all);
      RC_ASSERT(pruner.pieces().live == all - gone);
      pruned_in_all += gone;

      for (const Parameter& w : weights) w.ref()->accumulate(rng.normal(w.shape(), 0, 1, w.dtype()));
      optimizer.step();
      for (std::size_t k = 0; k < weights.size(); ++k) {
        const std::vector<double> w = testing::values_of(weights[k].value());
        for (std::size_t i = 0; i < w.size(); ++i) RC_ASSERT(before[k][i] || (w[i] == 0 && !std::signbit(w[i])));
        if (!hard) continue;
        for (const char* state : {"m", "v"}) {
          const std::vector<double> m = testing::values_of(optimizer.state("adam", state, k));
          for (std::size_t i = 0; i < m.size(); ++i) RC_ASSERT(before[k][i] || (m[i] == 0 && !std::signbit(m[i])));
        }
      }
    }
  }));
  EXPECT_GT(pruned_in_all, 100);
}

}  // namespace
}  // namespace espalier::prune
