#include "espalier/prune/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "espalier/core/parallel.h"

namespace espalier::prune {

Index count_of(const char* op, double fraction, Index n) {
  if (!(fraction >= 0 && fraction <= 1)) fail<ConfigError>("[", op, "] the fraction must be in [0, 1], got ", fraction);
  return static_cast<Index>(std::nearbyint(fraction * static_cast<double>(n)));
}

namespace {

// Scores as unsigned keys in the same order. The smallest and the largest key belong to NaNs, which are refused, so
// they are free for what must sort below and above everything.
constexpr Index grain = Index{1} << 16;  // a multiple of 64: chunks share no mask word

template <class Key>
constexpr Key lowest_key = 0;
template <class Key>
constexpr Key highest_key = std::numeric_limits<Key>::max();

inline std::uint32_t key_of(float v) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(v + 0.0f);  // -0 and 0 are equal
  return bits ^ (static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31) | std::uint32_t{1} << 31);
}
inline std::uint64_t key_of(double v) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(v + 0.0);
  return bits ^ (static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> 63) | std::uint64_t{1} << 63);
}

/// The scores as keys, T being the type they are compared in. Errors: NonFiniteError.
template <class T, class Key>
void write_keys(const Candidate& c, Key* keys) {
  const Tensor scores = c.scores.to(std::is_same_v<T, float> ? DType::f32 : DType::f64).contiguous();
  const T* s = scores.data<T>();
  const Index first_nan = parallel_reduce<Index>(
      scores.size(), grain,
      [&](Index begin, Index end) {
        Key nan = 0;  // of the key's width, so that the loop is vectorised
        for (Index i = begin; i < end; ++i) nan |= static_cast<Key>(s[i] != s[i]);
        for (Index i = begin; i < end; ++i) keys[i] = key_of(s[i]);
        if (c.pruned.defined())
          for (Index i = begin; i < end; ++i)
            if (!c.pruned[i]) keys[i] = lowest_key<Key>;
        if (nan == 0) return Index{0};
        while (s[begin] == s[begin]) ++begin;
        return begin + 1;
      },
      [](Index a, Index b) { return a != 0 ? a : b; });
  if (first_nan != 0)
    fail<NonFiniteError>("[prune] the score of '", c.name, "' is NaN at ", c.place, " ", first_nan - 1,
                         ". Hint: check the weights and gradients; nothing was pruned");
}

/// The k lowest keys are those below `key` and the first `ties` of those equal to it.
template <class Key>
struct Threshold {
  Key key;
  Index ties;
};

/// 1 <= k <= n. A histogram of the leading bits finds the bin of the k-th key; only that bin is looked at again.
template <class Key>
Threshold<Key> threshold_of(std::span<const Key> keys, Index k) {
  constexpr int bits = 12, shift = std::numeric_limits<Key>::digits - bits;
  using Histogram = std::array<Index, std::size_t{1} << bits>;
  const auto n = static_cast<Index>(keys.size());
  const Index chunks = detail::chunk_count(n, grain);
  std::vector<Histogram> counts(static_cast<std::size_t>(chunks));
  parallel_for(n, grain, [&](Index begin, Index end) {
    Histogram& h = counts[static_cast<std::size_t>(begin / grain)];
    for (Index i = begin; i < end; ++i) ++h[static_cast<std::size_t>(keys[static_cast<std::size_t>(i)] >> shift)];
  });
  Index below = 0;
  std::size_t bin = 0;
  Index in_bin = 0;
  for (;; ++bin) {
    in_bin = 0;
    for (const Histogram& h : counts) in_bin += h[bin];
    if (below + in_bin >= k) break;
    below += in_bin;
  }
  std::vector<Key> inside(static_cast<std::size_t>(in_bin));
  std::vector<Index> at(static_cast<std::size_t>(chunks));
  for (std::size_t c = 1; c < at.size(); ++c) at[c] = at[c - 1] + counts[c - 1][bin];
  parallel_for(n, grain, [&](Index begin, Index end) {
    auto to = static_cast<std::size_t>(at[static_cast<std::size_t>(begin / grain)]);
    for (Index i = begin; i < end; ++i)
      if (const Key key = keys[static_cast<std::size_t>(i)]; static_cast<std::size_t>(key >> shift) == bin)
        inside[to++] = key;
  });
  const auto nth = inside.begin() + (k - below - 1);
  std::nth_element(inside.begin(), nth, inside.end());
  const auto smaller = std::count_if(inside.begin(), nth, [key = *nth](Key other) { return other < key; });
  return {*nth, k - below - smaller};
}

/// Live bits of all but the k lowest of `keys`, ties by index. Chunks run at the same time; each owns whole words.
template <class Key>
Mask all_but_lowest(std::span<const Key> keys, const std::optional<Threshold<Key>>& threshold) {
  const auto n = static_cast<Index>(keys.size());
  if (!threshold) return Mask(n);
  const Key bound = threshold->key;
  std::vector<Index> ties(static_cast<std::size_t>(detail::chunk_count(n, grain)));
  parallel_for(n, grain, [&](Index begin, Index end) {
    Index equal = 0;
    for (Index i = begin; i < end; ++i) equal += keys[static_cast<std::size_t>(i)] == bound;
    ties[static_cast<std::size_t>(begin / grain)] = equal;
  });
  Index before = 0;
  for (Index& count : ties) before += std::exchange(count, before);
  std::vector<std::uint64_t> words(static_cast<std::size_t>((n + 63) / 64));
  parallel_for(n, grain, [&](Index begin, Index end) {
    Index rank = ties[static_cast<std::size_t>(begin / grain)];
    for (Index first = begin; first < end; first += 64) {
      const Key* key = keys.data() + first;
      const int bits = static_cast<int>(std::min<Index>(64, end - first));
      std::uint64_t live = 0, equal = 0;  // without a branch: which weights go is hard to predict
      for (int i = 0; i < bits; ++i) {
        live |= std::uint64_t{key[i] >= bound} << i;
        equal |= std::uint64_t{key[i] == bound} << i;
      }
      for (; equal != 0 && rank < threshold->ties; ++rank, equal &= equal - 1) live &= ~(equal & -equal);
      words[static_cast<std::size_t>(first / 64)] = live;
    }
  });
  return Mask(n, std::move(words));
}

template <class Key>
std::optional<Threshold<Key>> lowest(std::span<const Key> keys, Index k) {
  return k <= 0 ? std::nullopt : std::optional(threshold_of(keys, k));
}

template <class T, class Key>
std::vector<Mask> select(std::span<const Candidate> candidates, Index prune, Index min_keep) {
  std::vector<std::size_t> first;
  Index total = 0, already = 0, free = 0;  // free: live ones that min_keep does not hold
  for (const Candidate& c : candidates) {
    first.push_back(static_cast<std::size_t>(total));
    const Index live = c.live();
    total += c.scores.size();
    already += c.scores.size() - live;
    free += live - std::min(live, min_keep);
  }
  std::vector<Key> keys(static_cast<std::size_t>(total));
  auto keys_of = [&](std::size_t c) {
    return std::span(keys).subspan(first[c], static_cast<std::size_t>(candidates[c].scores.size()));
  };
  for (std::size_t c = 0; c < candidates.size(); ++c) write_keys<T>(candidates[c], keys_of(c).data());

  const Index k = already + std::clamp(prune - already, Index{0}, free);
  auto masks = [&] {
    const auto threshold = lowest<Key>(keys, k);
    std::vector<Mask> result;
    Index ties_left = threshold ? threshold->ties : 0;
    for (std::size_t c = 0; c < candidates.size(); ++c) {  // ties go to the candidates in their order
      const std::span<const Key> own = keys_of(c);
      auto share = threshold;
      if (share) share->ties = ties_left;
      result.push_back(all_but_lowest<Key>(own, share));
      if (threshold && ties_left > 0)
        ties_left -= std::min<Index>(ties_left, std::count(own.begin(), own.end(), threshold->key));
    }
    return result;
  };
  std::vector<Mask> result = masks();
  auto kept = [&](std::size_t c) { return std::min(candidates[c].live(), min_keep); };
  bool short_of = false;
  for (std::size_t c = 0; c < candidates.size(); ++c) short_of |= result[c].live() < kept(c);
  if (short_of) {  // set the best of every candidate above all others, and choose again
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      const std::span<Key> own = keys_of(c);
      const Mask best = all_but_lowest<Key>(own, lowest<Key>(own, static_cast<Index>(own.size()) - kept(c)));
      for (Index i = 0; i < best.size(); ++i)
        if (best[i]) own[static_cast<std::size_t>(i)] = highest_key<Key>;
    }
    result = masks();
  }
  for (Mask& mask : result)
    if (mask.live() == mask.size()) mask = Mask();
  return result;
}

}  // namespace

std::vector<Mask> prune_lowest(std::span<const Candidate> candidates, Index prune, Index min_keep) {
  if (prune < 0 || min_keep < 0)
    fail<ConfigError>("[prune] counts must not be negative: ", prune, " to prune, min_keep ", min_keep);
  bool single = true;
  for (const Candidate& c : candidates) {
    single = single && c.scores.dtype() == DType::f32;
    if (c.pruned.defined() && c.pruned.size() != c.scores.size())
      fail<ShapeError>("[prune] ", c.pruned.size(), " mask bits for the scores of '", c.name, "' of shape ",
                       c.scores.shape());
  }
  return single ? select<float, std::uint32_t>(candidates, prune, min_keep)
                : select<double, std::uint64_t>(candidates, prune, min_keep);
}

}  // namespace espalier::prune
