// Select: which parameters something applies to, by name, by rank, or by any test of your own.
//
//   on("*.weight", clip_by_value(0.1))          on(select_rank(2, 8) && !named("head.*"), adamw())
#pragma once

#include <concepts>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "espalier/autograd/parameter.h"

namespace espalier::optim {

class Select {
 public:
  /// All.
  Select() = default;
  /// Names that match: `*` stands for any characters, `?` for one.
  Select(const char* pattern);         // NOLINT: a pattern is a selection
  Select(const std::string& pattern);  // NOLINT
  /// `test(parameter)` with the name it has in the list.
  template <class F>
  requires(std::predicate<F&, const NamedParameter&> && !std::same_as<std::remove_cvref_t<F>, Select>)
      Select(F test)  // NOLINT
      : test_(std::move(test)) {}

  bool operator()(const NamedParameter& p) const { return !test_ || test_(p); }
  bool all() const noexcept { return !test_; }

  friend Select operator&&(Select a, Select b);
  friend Select operator||(Select a, Select b);
  friend Select operator!(Select a);

 private:
  std::function<bool(const NamedParameter&)> test_;
};

inline Select named(const std::string& pattern) { return Select(pattern); }
/// Rank within [lowest, highest]: weights of layers are select_rank(2), biases and gains select_rank(0, 1).
Select select_rank(int lowest, int highest = Dims::max_rank);
/// Biases, gains, shifts: all below rank 2.
Select vectors();
/// Weights of layers, which have rank 2 and more, but for the first, or the last, in the list. By name: a later list of
/// the same model is selected from in the same way. Errors: ConfigError for a list without any.
Select all_but_first(const ParameterList& parameters);
Select all_but_last(const ParameterList& parameters);
/// True if `name` matches: `*` stands for any characters, `?` for one.
bool matches(std::string_view pattern, std::string_view name) noexcept;

}  // namespace espalier::optim
