#include "espalier/prune/score.h"

#include <cmath>

#include "espalier/core/elementwise.h"
#include "espalier/core/reduce.h"

namespace espalier::prune {

namespace {

/// Something that scores may need, how one sees that it is there, and what the user is told if it is not.
struct Need {
  bool Needs::*wanted;
  bool (*present)(const Statistics&);
  const char* what;
  const char* hint;
};
constexpr const char* reach = "gather() it from losses that depend on the parameter, or leave it out of the selection";
constexpr const char* layer =
    "gather() it; only a parameter that linear(), conv1d() or conv2d() reads as its weight has it";
constexpr Need all_needs[] = {
    {&Needs::gradient, [](const Statistics& s) { return s.gradient.defined(); }, "gradient",
     "run backward first, or leave the parameter out of the pruner's selection"},
    {&Needs::squared_gradient, [](const Statistics& s) { return s.squared_gradient.defined(); }, "squared gradient",
     reach},
    {&Needs::unit_saliency, [](const Statistics& s) { return s.unit_saliency.defined(); }, "saliency of its units",
     reach},
    {&Needs::total_saliency, [](const Statistics& s) { return s.total_saliency == s.total_saliency; },
     "finite total saliency", reach},
    {&Needs::hessian_gradient, [](const Statistics& s) { return s.hessian_gradient.defined(); },
     "product of Hessian and gradient", reach},
    {&Needs::hessian_diagonal, [](const Statistics& s) { return s.hessian_diagonal.defined(); },
     "diagonal of the Hessian", reach},
    {&Needs::inputs, [](const Statistics& s) { return s.input_squares.defined(); }, "sums of its inputs", layer},
    {&Needs::gram, [](const Statistics& s) { return s.gram.defined(); }, "Gram matrix of its inputs", layer},
    {&Needs::outputs, [](const Statistics& s) { return s.output_mean.defined(); }, "sums of its outputs", layer},
    {&Needs::output_saliency, [](const Statistics& s) { return s.output_saliency.defined(); },
     "saliency of its outputs", layer},
    {&Needs::flow, [](const Statistics& s) { return s.flow.defined(); }, "flow", "gather_flow() it from the model"},
    {&Needs::norm, [](const Statistics& s) { return s.norm != nullptr; }, "normalisation behind it",
     "gather() it; it must follow the layer directly, and have a scale for each of its units"},
};

/// What was gathered of a weight of another shape says nothing of this one.
bool fits(const Statistics& s, const Shape& shape) {
  for (const Tensor* t : {&s.gradient, &s.squared_gradient, &s.hessian_gradient, &s.hessian_diagonal, &s.flow})
    if (t->defined() && !(t->shape() == shape)) return false;
  for (const Tensor* t : {&s.unit_saliency, &s.output_mean, &s.output_saliency})
    if (t->defined() && (shape.rank() == 0 || t->size() != shape[0])) return false;
  if (const Tensor& x = s.input_squares; x.defined()) {
    if (x.rank() != shape.rank()) return false;
    for (int a = 0; a < shape.rank(); ++a)
      if (x.shape()[a] != shape[a] && !(a == 0 && x.shape()[0] == 1)) return false;
  }
  return !s.gram.defined() || (shape.rank() >= 2 && s.gram.dim(1) * shape[0] == count(shape));
}

}  // namespace

Tensor sum_units(const Tensor& scores, int axis) {
  const int unit = checked_axis("sum_units", axis, scores.rank());
  Dims others;
  for (int a = 0; a < scores.rank(); ++a)
    if (a != unit) others.push_back(a);
  const Tensor exact = scores.to(DType::f64);
  return others.rank() == 0 ? exact : sum(exact, others);
}

Tensor Score::operator()(const NamedParameter& parameter, const Statistics& statistics) const {
  const Shape& shape = parameter.parameter->value().shape();
  for (const Need& need : all_needs)
    if (needs_.*need.wanted && !need.present(statistics))
      fail<ConfigError>("[", name_, "] '", parameter.name, "' has no ", need.what,
                        ", which this score needs. Hint: ", need.hint);
  if (!fits(statistics, shape))
    fail<ConfigError>("[", name_, "] the statistics of '", parameter.name,
                      "' were gathered when it had another shape than ", shape, ". Hint: gather() them anew");
  Tensor scores = score_(*parameter.parameter, statistics);
  const bool units = shape.rank() > 0 && axis_ >= 0 && axis_ < shape.rank() && scores.defined() && scores.rank() == 1 &&
                     scores.size() == shape[axis_];
  if (!scores.defined() || !(scores.shape() == shape || units))
    fail<ShapeError>("[", name_, "] scores of shape ", scores.shape(), scores.defined() ? "" : " (undefined)", " for '",
                     parameter.name, "' of shape ", shape);
  if (!is_floating(scores.dtype()))
    fail<DTypeError>("[", name_, "] scores of '", parameter.name, "' must be f32 or f64, got ", scores.dtype());
  return scores.contiguous();
}

Score magnitude(MagnitudeOptions options) {
  const double p = options.p;
  if (!(p > 0)) fail<ConfigError>("[magnitude] p must be above 0, got ", p);
  return Score(p == 1 ? "magnitude" : join("magnitude(p=", p, ")"),
               [p](const ParameterState& parameter, const Statistics&) {
                 const Tensor& w = weights_of(parameter);
                 if (p == 1) return map_with("magnitude", w, [](auto v) { return std::abs(v); });
                 // In double: squares of small f32 weights would otherwise all be 0, and tie.
                 return map_with("magnitude", w.to(DType::f64), [p](auto v) {
                   using T = decltype(v);
                   return p == 2 ? v * v : static_cast<T>(std::pow(std::abs(static_cast<double>(v)), p));
                 });
               });
}

Score random(Rng& rng) {
  const Rng::State base = rng.split().state();
  return Score("random", [base](const ParameterState& parameter, const Statistics& statistics) {
    const Rng mixed = [&] {
      Rng r;
      // The counter moves in blocks; 2^20 steps of 2^40 blocks each never meet.
      r.set_state({base[0], base[1] + statistics.parameter, static_cast<std::uint64_t>(statistics.step) << 40});
      return r;
    }();
    Rng own = mixed;
    return own.uniform(parameter.value().shape(), 0, 1, DType::f64);
  });
}

}  // namespace espalier::prune
