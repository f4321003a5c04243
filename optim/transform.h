// Transform: one step of what happens to gradients (or, as a constraint, to values) between backward and the weights.
//
//   class Sign final : public optim::TransformOf<Sign> {             // g <- sign(g), for f32 and f64
//    public:
//     std::string name() const override { return "sign"; }
//     template <class T>
//     void apply(optim::Block<T>& b) const { b.sign(); }
//   };
//   auto opt = optim::Optimizer(model.parameters(), chain(Sign(), sgd({.lr = 0.01})));
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/block.h"
#include "espalier/optim/report.h"

namespace espalier::optim {

/// What a transform must know figures of before it can be applied. Tensor and everything end the sweep before it; a
/// unit is measured within the sweep if it fits into a block, and in the sweep before if it is longer.
enum class Span : std::uint8_t {
  nothing,
  unit,       ///< of each output unit: of each index of the first axis; vectors and scalars are one unit. measure() and
              ///< apply() then get blocks that lie within one unit, and measured() is not called
  tensor,     ///< a figure of each parameter
  everything  ///< and one of all parameters it works on (those selected by on())
};
/// What a transform must have before it at a time.
enum class Grain : std::uint8_t {
  block,  ///< any part of a parameter: fast
  tensor  ///< a whole parameter: Block::size() is its size, and the sweeps before and behind it are cut off
};
enum class Combine : std::uint8_t { sum, max };
/// The shape of a state. A weight [out, ...] has `out` output units; vectors and scalars are one unit.
enum class StateShape : std::uint8_t {
  like_weight,  ///< a number for each weight; 0 where the mask is 0
  unit,         ///< one for each output unit, [units]
  column,       ///< one for each place within a unit, [size / units]
  tensor        ///< one number, []
};

struct StateSpec {
  std::string name;  ///< saved as "<transform>/<name>/<parameter>"
  StateShape shape = StateShape::like_weight;
};

/// What holds for a whole step.
struct StepContext {
  std::int64_t step;                      ///< steps done before this one: 0 at first. Schedules get it
  const ParameterList& parameters;        ///< all of the optimizer's, each once
  std::span<const std::int64_t> updates;  ///< how often each was updated, this step included if it has a gradient
  bool detailed = false;                  ///< someone wants ClipRecord::parameters
};

/// What measure() returned, summed (or the maximum) over the blocks of each parameter that has a gradient. In apply(),
/// Block::figure() is that of the block's span.
struct Measured {
  std::span<const std::size_t> parameters;
  std::span<const Figure> figures;  ///< one for each of `parameters`
  std::span<const Figure> second;   ///< the second of each, where measure() returns two
  std::span<const Index> sizes;     ///< weights of each
  Figure total;                     ///< of all of them
};

/// What a transform remembers besides its states: a history of norms, say. Each tensor always has the same shape.
using Memory = std::map<std::string, Tensor>;

/// Abstract. Derive from TransformOf<Self>, which makes the f32 and the f64 overloads out of one template.
class Transform {
 public:
  virtual ~Transform() = default;
  virtual std::unique_ptr<Transform> clone() const = 0;

  /// Short and constant; a chain numbers names that repeat.
  virtual std::string name() const = 0;
  /// Its settings, for describe(): "max_norm 1, p 2".
  virtual std::string settings() const { return {}; }
  virtual std::vector<StateSpec> states() const { return {}; }
  virtual Span measures() const { return Span::nothing; }
  /// Of Span::unit: where a unit fits into a block, apply() gets blocks of several whole units and measures by itself.
  virtual bool takes_whole_units() const { return false; }
  virtual Combine combines() const { return Combine::sum; }
  virtual Grain grain() const { return Grain::block; }
  /// An input of 0 gives 0. If not (noise, a mean subtracted, a map whose author does not say), the pipeline applies
  /// the mask again behind it.
  virtual bool keeps_zeros() const { return false; }
  /// A block whose gradient is 0 may be left out: measure() would add nothing, apply() would change neither it nor the
  /// value nor a state. What spares the rows that a row-sparse gradient does not have. Asked behind begin().
  virtual bool passes_zeros() const { return false; }
  /// Its output is to be added to the value. A chain has exactly one such transform for each parameter.
  virtual bool makes_update() const { return false; }
  /// It works on values, after the update.
  virtual bool is_constraint() const { return false; }
  /// It has a record in the StepReport.
  virtual bool is_clip() const { return false; }
  /// skips() may be true. It must stand before everything that has a state.
  virtual bool may_skip() const { return false; }
  /// Its figure is not finite if, and only if, one of the entries measured is not: it serves as the finite check.
  virtual bool finds_nonfinite() const { return false; }
  /// Where an entry is not finite, it is not so behind this transform either, or others are not: a figure that is
  /// measured behind it still serves as the finite check.
  virtual bool passes_nonfinite() const { return false; }

  /// Once, for each parameter it is to work on. Errors: ConfigError if it cannot.
  virtual void check(const NamedParameter&) const {}
  /// Once, when an optimizer is built: all of its parameters. What memory() holds may depend on them.
  virtual void prepare(const ParameterList&) {}
  /// Once a step, before anything is written: evaluate schedules here. Errors leave everything as it was. Called again
  /// if the step begins anew with non-finite entries zeroed.
  virtual void begin(const StepContext&) {}
  /// Between the sweeps, once all is measured. What it learns it may keep in end() only: the step may yet be skipped.
  virtual void measured(const Measured&, const StepContext&) {}
  /// Behind measured(): drop the gradients and leave everything as it is.
  virtual bool skips() const { return false; }
  /// After the sweeps of a step that was not skipped; `record` is there if is_clip().
  virtual void end(ClipRecord* /*record*/) {}

  /// Saved as "<transform>/<key>".
  virtual Memory memory() const { return {}; }
  /// Errors: ConfigError for contents that make no sense. Keys, shapes and types were checked.
  virtual void set_memory(const Memory&) {}

  /// Two figures; those who have one leave the second alone.
  virtual std::array<Figure, 2> measure(Block<float>&) const = 0;
  virtual std::array<Figure, 2> measure(Block<double>&) const = 0;
  /// Before a step, when a hard mask has changed: states that are not like the weight are to be made to fit what is
  /// live. The block is a whole parameter, its gradient of no meaning.
  virtual void mask_changed(Block<float>&) const {}
  virtual void mask_changed(Block<double>&) const {}
  /// Called on several threads at the same time, once for each block; a transform without state possibly twice, for the
  /// sweep that measures and for the one behind it.
  virtual void apply(Block<float>&) const = 0;
  virtual void apply(Block<double>&) const = 0;
};

/// Self has `template <class T> void apply(Block<T>&) const`, and `template <class T> Figure measure(Block<T>&) const`
/// (or std::array<Figure, 2>) if measures() says so.
template <class Self>
class TransformOf : public Transform {
 public:
  std::unique_ptr<Transform> clone() const final { return std::make_unique<Self>(self()); }
  std::array<Figure, 2> measure(Block<float>& b) const final { return measured_in(b); }
  std::array<Figure, 2> measure(Block<double>& b) const final { return measured_in(b); }
  void apply(Block<float>& b) const final { self().template apply<float>(b); }
  void apply(Block<double>& b) const final { self().template apply<double>(b); }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
  template <class T>
  std::array<Figure, 2> measured_in(Block<T>& b) const {
    if constexpr (requires { &Self::template measure<T>; }) {
      if constexpr (requires { Figure(self().template measure<T>(b)); })
        return {self().template measure<T>(b), 0};
      else
        return self().template measure<T>(b);
    } else {
      return {};
    }
  }
};

}  // namespace espalier::optim
