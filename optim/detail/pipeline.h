// Pipeline: plans the sweeps of a chain and runs them.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "espalier/optim/optimizer.h"

namespace espalier::optim {

class Pipeline final {
 public:
  enum class Goal : std::uint8_t { update_values, change_gradients };
  Pipeline(const ParameterList& parameters, const Chain& chain, Nonfinite nonfinite, Goal goal, std::int64_t step = 0);

  StepReport step();
  void add_hook(std::shared_ptr<StepHook> hook) { hooks_.push_back(std::move(hook)); }
  std::int64_t steps() const noexcept { return step_; }
  const ParameterList& parameters() const noexcept { return parameters_; }
  OptimizerState state() const;
  void load_state(const OptimizerState& state);
  std::string describe() const;

 private:
  static constexpr std::size_t none = ~std::size_t{0};

  /// A state of a transform: one flat buffer per element type, all selected parameters behind each other.
  struct StateBuffer {
    std::string name;
    std::array<Tensor, 2> flat;  // f32, f64
  };
  /// A transform at work on this optimizer's parameters.
  struct Stage {
    std::unique_ptr<Transform> transform;
    std::string name;
    std::vector<std::uint8_t> selected;  // [parameter]
    bool everyone, keeps_zeros, stateful;
    Span span;
    std::vector<StateBuffer> states;
    std::array<std::vector<void*>, 2> bases;  // [type][state]
    std::vector<Index> begin;                 // [parameter], in the buffers of its type
    std::vector<Figure> figures;              // of the last measuring, one for each unit, tensor, or of everything
    std::vector<Index> first_figure;          // [parameter]
    std::size_t record = none;                // its place in the report
    bool measures() const { return span != Span::nothing; }
  };
  /// One pass over memory.
  struct Sweep {
    bool on_values = false;            // blocks are of the values, no longer of the gradients
    bool whole = false;                // one block for each parameter, changed in place
    std::size_t from = 0, upto = 0;    // stages that are applied
    bool apply = false;                // then the value is updated,
    std::size_t constraints_upto = 0;  // and the constraints from `upto` on are applied to it
    std::size_t measure = none;        // the stage that measures what came out
    bool store = false;                // what came out replaces the gradient
    bool check = false;                // the raw gradient is looked at for NaN and infinities,
    bool check_is_measure = false;     // which the measuring finds by itself
    bool writes() const { return store || apply || on_values; }
  };
  /// A parameter that has a gradient, looked up once a step: the sweeps touch no header.
  struct Row {
    std::size_t parameter;
    int type;  // 0: f32, 1: f64
    void* value;
    void* gradient;
    const std::uint64_t* mask;  // hard
    const std::uint64_t* soft_mask;
    void* shown;       // soft: mask * value is written here
    Index size, unit;  // elements of all of it, and of a unit
  };
  /// Consecutive blocks of one parameter, within one task. Boundaries depend on the sizes of the parameters alone.
  struct Piece {
    std::size_t row;
    Index begin, end;
  };

  void plan();
  void plan_values(std::size_t first_constraint);
  void add_states(Stage& stage);
  void add_figures(Stage& stage);

  void look_at_parameters(StepReport& report);
  void look_up_rows();
  void cut_into_tasks();
  void run_hooks(const StepContext& context, StepReport& report);
  bool run_sweeps(const StepContext& context, StepReport& report);
  void start_writing();
  void zero_states_of_pruned();
  void run(const Sweep& sweep);
  template <class T>
  void run_piece(const Sweep& sweep, std::size_t index);
  template <class T>
  Block<T> make_block(const Sweep& sweep, const Row& row, Index begin, Index size) const;
  template <class T>
  void apply_stages(Block<T>& b, std::size_t from, std::size_t upto, const Row& row, bool last) const;
  template <class T>
  void finish_value(Block<T>& b, const Row& row, Index begin) const;
  template <class T, class F>
  void for_each_unit(Block<T>& b, const Row& row, F f) const;
  void hand_out_figures(std::size_t stage, const StepContext& context);
  bool all_finite(const std::vector<Figure>& figures) const;
  /// False if the step is to be skipped. Errors: NonFiniteError.
  bool handle_nonfinite(StepReport& report);
  void finish(StepReport& report);

  ParameterList parameters_;
  std::vector<Shape> shapes_;         // as the optimizer knows them
  std::vector<Index> sizes_, units_;  // elements of each parameter, and of each of its units
  std::vector<int> types_;
  std::vector<Stage> stages_;            // gradient transforms, then constraints
  std::vector<std::size_t> last_stage_;  // [parameter]: the last gradient transform that works on it
  std::vector<Sweep> sweeps_;
  std::vector<std::shared_ptr<StepHook>> hooks_;
  std::vector<ClipRecord> blank_records_;
  Nonfinite nonfinite_;
  Goal goal_;

  std::int64_t step_ = 0;
  std::vector<std::int64_t> updates_;  // [parameter]
  std::vector<std::uint32_t> mask_seen_;
  bool broken_ = false;

  // Of the step that runs; kept from step to step for their storage.
  std::vector<std::int64_t> updates_now_;
  std::vector<std::uint8_t> has_gradient_, cut_for_;
  std::vector<Row> rows_;
  std::vector<Piece> pieces_;
  std::vector<std::size_t> tasks_;        // first piece of each, and the end
  std::vector<Figure> figures_, checks_;  // [piece]
  std::vector<std::size_t> unit_slots_;   // [piece]: where the figures of the units it touches begin,
  std::vector<Figure> unit_figures_;      // in here
  std::vector<double> keeps_;             // [piece]: a decay that a stored update still owes
  std::vector<std::size_t> measured_parameters_;
  std::vector<Figure> measured_figures_;
  std::size_t done_upto_ = 0;  // stages whose replaying would be a second time
  bool writing_ = false;
};

}  // namespace espalier::optim
