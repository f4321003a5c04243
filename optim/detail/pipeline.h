// Pipeline: plans the sweeps of a chain and runs them. pipeline_plan.cpp decides what is decided once, pipeline.cpp is
// one step, pipeline_sweep.cpp one pass over memory, pipeline_state.cpp what is saved.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/optim/optimizer.h"

namespace espalier::optim {

class Pipeline final {
 public:
  enum class Goal : std::uint8_t { update_values, change_gradients };
  Pipeline(const ParameterList& parameters, const Chain& chain, const OptimizerOptions& options, Goal goal,
           std::int64_t step = 0);

  StepReport step();
  void add_hook(std::shared_ptr<StepHook> hook) { hooks_.push_back(std::move(hook)); }
  void add_listener(std::shared_ptr<StepListener> listener) { listeners_.push_back(std::move(listener)); }
  std::int64_t steps() const noexcept { return step_; }
  const ParameterList& parameters() const noexcept { return parameters_; }
  OptimizerState state() const;
  Tensor state(const std::string& transform, const std::string& state, std::size_t parameter) const;
  Memory memory(const std::string& transform) const;
  void load_state(const OptimizerState& state);
  std::string describe() const;
  /// The same at the same step for parameters of which less is left.
  std::unique_ptr<Pipeline> with_cuts(std::span<const ParameterCut> cuts) const;
  /// For what with_cuts() made, once the parameters are cut: `from` has seen all masks that were before.
  void follow_masks(const std::vector<std::uint8_t>& unseen);
  std::vector<std::uint8_t> unseen_masks() const;

 private:
  Pipeline(const Pipeline& from, std::vector<Shape> shapes);
  static constexpr std::size_t none = ~std::size_t{0};
  using Figures = std::array<Figure, 2>;
  struct MaskWindows;

  /// A state of a transform: one flat buffer per element type, all selected parameters behind each other.
  struct StateBuffer {
    std::string name;
    StateShape shape;
    std::array<Tensor, 2> flat;                                            // f32, f64
    std::vector<Index> begin;                                              // [parameter], in the buffer of its type
    Tensor of(const Shape& state, int type, std::size_t parameter) const;  // a view
  };
  /// A transform at work on this optimizer's parameters.
  struct Stage {
    std::unique_ptr<Transform> transform;
    std::string name;
    std::function<bool(std::int64_t)> when;  // null: in every step
    std::vector<std::uint8_t> selected;      // [parameter]
    bool everyone = false, keeps_zeros = false, stateful = false, whole = false;
    bool ahead = false;  // something it works on must be measured in a sweep before
    bool active = true;  // in this step
    Span span = Span::nothing;
    std::vector<StateBuffer> states;
    std::vector<StateView> views;     // [parameter][state]
    std::vector<Figures> figures;     // of the last measuring, one for each long unit, tensor, or of everything
    std::vector<Index> first_figure;  // [parameter]
    std::size_t record = none;        // its place in the report
  };
  /// One pass over memory.
  struct Sweep {
    bool on_values = false;                    // blocks are of the values, no longer of the gradients
    bool whole = false;                        // one block for each parameter, changed in place
    std::size_t from = 0, upto = 0;            // stages that are applied
    bool apply = false;                        // then the value is updated,
    std::size_t constraints_upto = 0;          // and the constraints from `upto` on are applied to it
    std::size_t measure = 0, measure_end = 0;  // stages that measure what came out, each on parameters of its own
    bool store = false;                        // what came out replaces the gradient
    bool check = false;                        // the raw gradient is looked at for NaN and infinities,
    bool check_is_measure = false;             // which the measuring finds by itself
    bool measures() const { return measure < measure_end; }
    bool writes() const { return store || apply || on_values; }
  };
  /// A parameter that has a gradient, looked up once a step: the sweeps touch no header.
  struct Row {
    std::size_t parameter;
    int type;  // 0: f32, 1: f64
    void* value;
    void* gradient;             // null if it is row-sparse,
    const RowSparse* sparse;    // then this
    const std::uint64_t* mask;  // hard
    const std::uint64_t* soft_mask;
    void* shown;              // soft: mask * value is written here
    Index size, unit, block;  // elements of all of it, of a unit, and of a block
    std::size_t first_piece, last_piece;
  };
  /// Consecutive blocks of one parameter, within one task. Boundaries depend on the sizes of the parameters alone.
  struct Piece {
    std::size_t row;
    Index begin, end;
  };

  void plan();
  void plan_gradients(std::size_t gradients);
  void plan_values(std::size_t first_constraint);
  std::size_t measured_together(std::size_t first, std::size_t end) const;
  void add_states(Stage& stage) const;
  void add_figures(Stage& stage) const;
  Shape state_shape(StateShape shape, std::size_t parameter) const;
  /// f(key, view) for each state of each selected parameter.
  template <class F>
  void for_each_state(F f) const;
  Stage make_stage(const Link& link, std::string name) const;
  void settle(Stage& stage) const;
  void measure_parameters();
  void choose_blocks();
  bool is_long(std::size_t parameter) const;
  std::string describe(const Stage& stage) const;

  void look_at_parameters(StepReport& report);
  Row make_row(std::size_t parameter) const;
  void densify(Row& row);
  void cut_into_tasks();
  void run_hooks(const StepContext& context, StepReport& report);
  void begin_stages(const StepContext& context);
  bool run_sweeps(const StepContext& context, StepReport& report);
  bool needed(const Sweep& sweep) const;
  void start_writing();
  /// Of all that writing sweeps write in these pieces' parameters.
  void raise_versions(std::size_t first_piece, std::size_t last_piece);
  void fit_states_to_masks();
  bool has_hard_mask(std::size_t parameter) const;
  void zero_dead_states(std::size_t parameter);
  std::int64_t mark_of_mask(std::size_t parameter) const;
  void run(const Sweep& sweep);
  void run_whole(const Sweep& sweep);
  template <class T>
  void run_piece(const Sweep& sweep, std::size_t index);
  /// The gradient of a block of a row-sparse one, written to `out`; false if all of it is 0.
  template <class T>
  bool assemble(const Row& row, Index begin, Index size, T* out) const;
  /// A block without gradient may be left out of this sweep.
  bool passes_zeros(const Sweep& sweep, const Row& row) const;
  template <class T>
  void measure(const Stage& stage, Block<T>& b, const Row& row, std::size_t piece);
  template <class T>
  Block<T> make_block(const Row& row, Index begin, Index size, bool of_value, MaskWindows& windows) const;
  /// A block that is a whole parameter, whatever its size.
  template <class T>
  Block<T> whole_block(const Row& row) const;
  template <class T>
  void apply_stages(Block<T>& b, std::size_t from, std::size_t upto, const Row& row, bool last) const;
  template <class T>
  void finish_value(Block<T>& b, const Row& row, Index begin) const;
  template <class T, class F>
  void for_each_unit(Block<T>& b, const Row& row, F f) const;
  const Stage* measuring_stage(const Sweep& sweep, const Row& row) const;
  /// False if the step is to be skipped.
  bool hand_out_figures(const Sweep& sweep, const StepContext& context, StepReport& report);
  void collect_figures(Stage& stage);
  bool all_finite(bool counts) const;
  /// Something was found not to be finite, behind this many stages. False if the step is to be skipped. Errors:
  /// NonFiniteError.
  bool handle_nonfinite(StepReport& report, std::size_t stages_ahead);
  void finish(StepReport& report);

  ParameterList parameters_;
  std::vector<Shape> shapes_;         // as the optimizer knows them
  std::vector<Index> sizes_, units_;  // elements of each parameter, and of each of its units
  std::vector<Index> blocks_;         // elements of its blocks
  std::vector<int> types_;
  std::vector<Stage> stages_;            // gradient transforms, then constraints
  std::vector<std::size_t> last_stage_;  // [parameter]: the last gradient transform that works on it
  std::vector<Sweep> sweeps_;
  bool wants_dense_ = false;  // a sweep writes over gradients
  std::vector<std::shared_ptr<StepHook>> hooks_;
  std::vector<std::shared_ptr<StepListener>> listeners_;
  std::vector<ClipRecord> blank_records_;
  OptimizerOptions options_;
  Goal goal_;

  std::int64_t step_ = 0;
  std::int64_t backwards_ = 0;  // calls since the last step, where gradients accumulate
  std::int64_t skipped_ = 0, skipped_in_a_row_ = 0;
  std::vector<std::int64_t> updates_;  // [parameter]
  std::vector<std::uint32_t> mask_seen_;
  std::vector<std::int64_t> mask_marks_;  // of the masks that states were fitted to
  bool broken_ = false;

  // Of the step that runs; kept from step to step for their storage.
  std::vector<std::int64_t> updates_now_;
  std::vector<std::uint8_t> has_gradient_, cut_for_;
  std::vector<Row> rows_;
  std::vector<Piece> pieces_;
  std::vector<std::size_t> tasks_;       // first piece of each, and the end
  std::vector<Figures> figures_;         // [piece]
  std::vector<Index> checks_;            // [piece]: non-finite entries
  std::vector<std::size_t> unit_slots_;  // [piece]: where the figures of the long units it touches begin,
  std::vector<Figures> unit_figures_;    // in here
  std::vector<double> keeps_;            // [piece]: a decay that a stored update still owes
  std::vector<std::size_t> measured_parameters_;
  std::vector<Figure> measured_figures_, measured_second_;
  std::vector<Index> measured_sizes_;
  double gradient_scale_ = 1;  // of gradients as they lie in memory
  bool writing_ = false;
  std::atomic<bool> masks_moved_ = false;  // since states were fitted to them
};

}  // namespace espalier::optim
