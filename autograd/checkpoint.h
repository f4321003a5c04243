// checkpoint: memory for time. Runs a segment without recording it, and again when backward needs its insides.
//
//   Variable y = checkpoint([&](const Variable& x) { return block(x); }, x);
//   auto [h, c] = checkpoint([&](const Variable& h, const Variable& c) { return std::array{f(h, c), g(h, c)}; }, h, c);
//   Variable z = checkpoint(rng, [&](Rng& r, const Variable& x) { return dropout(block(x), 0.1, r); }, x);
//
// Only the inputs are kept. Parameters that the segment reads get their gradients like any others, and segments nest.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/autograd/tape.h"
#include "espalier/core/rng.h"

namespace espalier {

namespace detail {

using Segment = std::function<std::vector<Variable>(std::span<const Variable>)>;
std::vector<Variable> run_segment(Segment segment, std::vector<Variable> inputs);

/// An object with parameters is held by reference: a copy would have parameters of its own. All else is kept as it is.
template <class F>
auto keep(F&& f) {
  if constexpr (requires { f.parameters(); }) {
    static_assert(std::is_lvalue_reference_v<F>, "this module would be gone when its segment runs again");
    return std::cref(f);
  } else {
    return std::decay_t<F>(std::forward<F>(f));
  }
}

template <class>
using Argument = const Variable&;

inline std::vector<Variable> to_vector(Variable&& y) { return {std::move(y)}; }
inline std::vector<Variable> to_vector(std::vector<Variable>&& ys) { return std::move(ys); }
template <std::size_t N>
std::vector<Variable> to_vector(std::array<Variable, N>&& ys) {
  return {std::make_move_iterator(ys.begin()), std::make_move_iterator(ys.end())};
}
template <class Result>
Result from_vector(std::vector<Variable>&& ys) {
  if constexpr (std::is_same_v<Result, Variable>) {
    return std::move(ys[0]);
  } else if constexpr (std::is_same_v<Result, std::vector<Variable>>) {
    return std::move(ys);
  } else {
    Result result;
    std::move(ys.begin(), ys.end(), result.begin());
    return result;
  }
}

/// f(inputs[0], inputs[1], ...)
template <class... Front, class F, std::size_t... I>
auto call(const F& f, std::span<const Variable> inputs, std::index_sequence<I...>, Front&... front) {
  return f(front..., inputs[I]...);
}

}  // namespace detail

/// f(inputs...), a Variable, a std::vector or a std::array of them. While a tape records, f runs unrecorded and is
/// called again by backward: it must then do the same, and what it refers to must still exist. Its second run sees the
/// Label of the first, a tape that is alive (so modules train as before, unless train() or eval() was called in
/// between), and what layers keep in Buffers, generators and running statistics, as it was at the first; these end up as
/// if f had run once. Every recorded value that f uses must be one of its inputs; parameters need not be. A module is held
/// by reference, other functions by value.
/// Errors: GradError if f returns a recorded value that was no input, and, from backward, if f uses one, or comes out
/// otherwise than the first time; an input or a parameter that was changed in place before backward, as in every op.
/// Gradient: once differentiable. Cost: a second forward pass; memory of the inputs, and of one segment in backward.
/// Chen, Xu, Zhang, Guestrin 2016.
template <class F, std::convertible_to<Variable>... V>
requires std::invocable < const std::remove_reference_t<F>
&, const detail::Argument<V>... > auto checkpoint(F&& f, const V&... inputs) {
  using Result = std::invoke_result_t<const std::remove_reference_t<F>&, const detail::Argument<V>...>;
  detail::Segment segment = [kept = detail::keep(std::forward<F>(f))](std::span<const Variable> in) {
    return detail::to_vector(detail::call(kept, in, std::index_sequence_for<V...>()));
  };
  return detail::from_vector<std::remove_cvref_t<Result>>(
      detail::run_segment(std::move(segment), {Variable(inputs)...}));
}

/// f(rng, inputs...), which draws the same numbers when it runs again. `rng` ends where f leaves it.
template <class F, std::convertible_to<Variable>... V>
auto checkpoint(Rng& rng, F&& f, const V&... inputs) {
  using Result = std::invoke_result_t<const std::remove_reference_t<F>&, Rng&, const detail::Argument<V>...>;
  const auto end = std::make_shared<Rng>(rng);
  detail::Segment segment = [kept = detail::keep(std::forward<F>(f)), start = rng, end](std::span<const Variable> in) {
    *end = start;
    return detail::to_vector(detail::call(kept, in, std::index_sequence_for<V...>(), *end));
  };
  auto outputs = detail::run_segment(std::move(segment), {Variable(inputs)...});
  rng = *end;
  return detail::from_vector<std::remove_cvref_t<Result>>(std::move(outputs));
}

}  // namespace espalier
