// One step: what can fail first, then the sweeps.
#include "espalier/optim/detail/pipeline.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/core/kernels/step.h"
#include "espalier/core/parallel.h"

namespace espalier::optim {
namespace {

constexpr Index task_elements = 1 << 16;  // 256 KB of f32: worth handing to another thread
constexpr const char* op = "optimizer step";

Figure combine(Combine how, Figure a, Figure b) {
  if (how == Combine::sum) return a + b;
  return a >= b ? a : std::isnan(a) ? a : b;  // NaN stays
}

template <class T>
T* offset(void* base, Index by) {
  return base ? static_cast<T*>(base) + by : nullptr;
}
const std::uint64_t* offset_bits(const std::uint64_t* words, Index by) { return words ? words + by / 64 : nullptr; }

/// f.operator()<T>() with float or double.
template <class F>
void by_type(int type, F&& f) {
  type == 0 ? f.template operator()<float>() : f.template operator()<double>();
}

/// f(begin, size) for each block of [begin, end).
template <class F>
void for_each_block(Index begin, Index end, F&& f) {
  for (Index at = begin; at < end; at += kernels::block_size) f(at, std::min(kernels::block_size, end - at));
}

}  // namespace

StepReport Pipeline::step() {
  if (broken_)
    fail<ConfigError>(
        "[step] a transform failed in the middle of an earlier step: weights and states no longer fit each "
        "other. Hint: restore both, then load_state");
  StepReport report;
  report.clips_ = blank_records_;
  look_at_parameters(report);
  if (report.with_gradient == 0) {
    for (ClipRecord& clip : report.clips_) clip.nothing_to_clip = true;
    if (goal_ == Goal::change_gradients) return report;
    fail<GradError>("[step] none of the ", parameters_.size(),
                    " parameters has a gradient. Hint: did backward run on the model this optimizer was built with? A "
                    "copied module has parameters of its own");
  }
  const StepContext context{step_, parameters_, updates_now_};
  for (Stage& stage : stages_) stage.transform->begin(context);
  run_hooks(context, report);
  if (!report.skipped) {
    look_up_rows();
    cut_into_tasks();
    writing_ = false;
    try {
      report.skipped = !run_sweeps(context, report);
    } catch (...) {
      broken_ = writing_ && goal_ == Goal::update_values;
      throw;
    }
  }
  finish(report);
  return report;
}

void Pipeline::look_at_parameters(StepReport& report) {
  has_gradient_.resize(parameters_.size());
  updates_now_.resize(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterState& p = *parameters_[i].parameter;
    if (!p.owned()) [[unlikely]]
      fail<ConfigError>(
          "[step] '", parameters_[i].name,
          "' no longer belongs to a module: the model was destroyed, or a new one was moved into its place, "
          "after the optimizer was built. Hint: build the optimizer after the model it trains");
    const Tensor& value = p.value();
    if (value.packed()) [[unlikely]]
      fail<ConfigError>("[step] '", parameters_[i].name, "' was packed and cannot be trained any more");
    if (!(value.shape() == shapes_[i]) || (value.dtype() == DType::f32 ? 0 : 1) != types_[i]) [[unlikely]]
      fail<ConfigError>("[step] '", parameters_[i].name, "' was ", types_[i] == 0 ? "f32 " : "f64 ", shapes_[i],
                        " when the optimizer was built and is now ", value.dtype(), " ", value.shape(),
                        ". Hint: build a new optimizer after the shapes have changed");
    has_gradient_[i] = p.grad().defined();
    updates_now_[i] = updates_[i] + has_gradient_[i];
    report.with_gradient += has_gradient_[i];
  }
  report.without_gradient = static_cast<Index>(parameters_.size()) - report.with_gradient;
}

void Pipeline::run_hooks(const StepContext& context, StepReport& report) {
  const auto due = [&](const std::shared_ptr<StepHook>& hook) { return hook->due(context.step); };
  if (std::none_of(hooks_.begin(), hooks_.end(), due)) return;
  if (nonfinite_ != Nonfinite::propagate) {  // a mask that a hook sets cannot be taken back
    look_up_rows();
    cut_into_tasks();
    run(Sweep{.check = true});
    if (!all_finite(checks_) && !handle_nonfinite(report)) {
      report.skipped = true;
      return;
    }
  }
  for (const auto& hook : hooks_)
    if (due(hook)) hook->begin(context);
}

void Pipeline::look_up_rows() {
  rows_.clear();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!has_gradient_[i]) continue;
    const ParameterState& p = *parameters_[i].parameter;
    // Written through only after start_writing(), which raises the versions.
    const auto bytes = [](const Tensor& t) { return const_cast<std::byte*>(t.bytes()); };
    const bool soft = p.mask_mode() == MaskMode::soft, masked = p.mask().defined();
    rows_.push_back({.parameter = i,
                     .type = types_[i],
                     .value = bytes(soft ? p.dense() : p.value()),
                     .gradient = bytes(p.grad()),
                     .mask = masked && !soft ? p.mask().words().data() : nullptr,
                     .soft_mask = soft ? p.mask().words().data() : nullptr,
                     .shown = soft ? bytes(p.value()) : nullptr,
                     .size = sizes_[i],
                     .unit = units_[i]});
  }
}

void Pipeline::cut_into_tasks() {
  if (cut_for_ != has_gradient_) {
    cut_for_ = has_gradient_;
    pieces_.clear();
    unit_slots_.clear();
    std::size_t slots = 0;
    tasks_.assign(1, 0);
    Index filled = 0;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      for (Index begin = 0; begin < rows_[r].size; begin += task_elements) {
        const Index end = std::min(begin + task_elements, rows_[r].size);
        if (filled + (end - begin) > task_elements) {
          tasks_.push_back(pieces_.size());
          filled = 0;
        }
        pieces_.push_back({r, begin, end});
        unit_slots_.push_back(slots);
        slots += static_cast<std::size_t>((end - 1) / rows_[r].unit - begin / rows_[r].unit + 1);
        filled += end - begin;
      }
    }
    tasks_.push_back(pieces_.size());
    const bool units = std::any_of(stages_.begin(), stages_.end(), [](const Stage& s) { return s.span == Span::unit; });
    unit_figures_.resize(units ? slots : 0);
  }
  keeps_.assign(pieces_.size(), 1);
  done_upto_ = 0;
}

bool Pipeline::run_sweeps(const StepContext& context, StepReport& report) {
  for (const Sweep& sweep : sweeps_) {
    if (sweep.writes() && !writing_) start_writing();
    run(sweep);
    if (sweep.check && !all_finite(sweep.check_is_measure ? figures_ : checks_)) {
      if (!handle_nonfinite(report)) return false;
      for (Stage& stage : stages_) stage.transform->begin(context);  // zeroed: once more, from the beginning
      done_upto_ = 0;
      run(sweep);
    }
    if (sweep.measure != none) {
      if (nonfinite_ == Nonfinite::propagate && &sweep == sweeps_.data() && !all_finite(figures_))
        handle_nonfinite(report);
      hand_out_figures(sweep.measure, context);
    }
    done_upto_ = std::max(done_upto_, sweep.apply ? sweep.constraints_upto : sweep.upto);
  }
  return true;
}

void Pipeline::start_writing() {
  writing_ = true;
  for (const Row& row : rows_) {
    ParameterState& p = *parameters_[row.parameter].parameter;
    p.mutable_grad().write_bytes(op);
    if (goal_ == Goal::change_gradients) continue;
    p.mutable_value().write_bytes(op);
    if (row.soft_mask) p.mutable_dense().write_bytes(op);
  }
  zero_states_of_pruned();
}

void Pipeline::zero_states_of_pruned() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterState& p = *parameters_[i].parameter;
    if (std::exchange(mask_seen_[i], p.mask_version()) == p.mask_version()) continue;
    if (!p.mask().defined() || p.mask_mode() == MaskMode::soft) continue;
    for (Stage& stage : stages_) {
      if (!stage.selected[i]) continue;
      for (void* base : stage.bases[static_cast<std::size_t>(types_[i])])
        by_type(types_[i], [&]<class T>() {
          T* state = offset<T>(base, stage.begin[i]);
          for_each_block(0, sizes_[i], [&](Index at, Index size) {
            kernels::step<T>().mask_zero(state + at, offset_bits(p.mask().words().data(), at), size);
          });
        });
    }
  }
}

void Pipeline::run(const Sweep& sweep) {
  figures_.assign(pieces_.size(), 0);
  std::fill(unit_figures_.begin(), unit_figures_.end(), Figure(0));
  checks_.assign(pieces_.size(), 0);
  if (sweep.whole) {  // one after the other: such transforms use all threads for one tensor
    for (const Row& row : rows_) {
      by_type(row.type, [&]<class T>() {
        Block<T> b = make_block<T>(sweep, row, 0, row.size);
        apply_stages(b, sweep.from, sweep.upto, row, false);
        if (sweep.on_values)
          finish_value(b, row, 0);
        else
          b.gradient();
      });
    }
    return;
  }
  parallel_for(static_cast<Index>(tasks_.size()) - 1, 1, [&](Index first, Index last) {
    for (std::size_t k = tasks_[static_cast<std::size_t>(first)]; k < tasks_[static_cast<std::size_t>(last)]; ++k)
      by_type(rows_[pieces_[k].row].type, [&]<class T>() { run_piece<T>(sweep, k); });
  });
}

template <class T>
void Pipeline::run_piece(const Sweep& sweep, std::size_t index) {
  const Piece& piece = pieces_[index];
  const Row& row = rows_[piece.row];
  const Stage* measuring =
      sweep.measure != none && stages_[sweep.measure].selected[row.parameter] ? &stages_[sweep.measure] : nullptr;
  const auto measure = [&](Block<T>& b) {
    if (!measuring) return;
    const Combine how = measuring->transform->combines();
    if (measuring->span != Span::unit) {
      figures_[index] = combine(how, figures_[index], measuring->transform->measure(b));
      return;
    }
    for_each_unit(b, row, [&](Block<T>& part, Index unit) {
      Figure& figure = unit_figures_[unit_slots_[index] + static_cast<std::size_t>(unit - piece.begin / row.unit)];
      figure = combine(how, figure, measuring->transform->measure(part));
    });
  };
  alignas(64) T scratch[Block<T>::capacity];
  double keep = keeps_[index];
  for_each_block(piece.begin, piece.end, [&](Index at, Index size) {
    if (sweep.check && !sweep.check_is_measure)
      checks_[index] += static_cast<Figure>(
          kernels::step<T>().count_nonfinite(offset<T>(row.gradient, at), offset_bits(row.mask, at), size));
    if (!sweep.on_values) {
      Block<T> b = make_block<T>(sweep, row, at, size);
      if (!sweep.store) b.scratch_ = scratch;
      b.keep_ = keeps_[index];
      apply_stages(b, sweep.from, sweep.upto, row, sweep.apply);
      if (!sweep.apply) measure(b);
      if (sweep.store) {
        b.gradient();
        keep = b.keep_;
      }
      if (!sweep.apply) return;
      if (!b.applied_) {
        const auto in = b.pending();
        kernels::step<T>().sgd({.lr = -1, .scale = in.scale, .keep = b.keep_}, in.source, nullptr, b.value_, nullptr,
                               b.mask_, size);
      }
      if (sweep.constraints_upto <= sweep.upto && !row.soft_mask && !measuring) return;
    }
    Sweep on_values = sweep;
    on_values.on_values = true;
    Block<T> b = make_block<T>(on_values, row, at, size);
    if (sweep.on_values)
      apply_stages(b, sweep.from, sweep.upto, row, false);
    else
      apply_stages(b, sweep.upto, sweep.constraints_upto, row, false);
    measure(b);
    finish_value(b, row, at);
  });
  keeps_[index] = keep;
}

template <class T>
Block<T> Pipeline::make_block(const Sweep& sweep, const Row& row, Index begin, Index size) const {
  Block<T> b;
  b.value_ = offset<T>(row.value, begin);
  b.scratch_ = sweep.on_values ? b.value_ : offset<T>(row.gradient, begin);
  b.source_ = b.scratch_;
  b.mask_ = offset_bits(row.mask, begin);
  b.soft_mask_ = offset_bits(row.soft_mask, begin);
  b.read_mask_ = sweep.on_values ? nullptr : b.mask_;
  b.size_ = size;
  b.begin_ = begin;
  b.parameter_ = row.parameter;
  b.updates_ = updates_now_[row.parameter];
  return b;
}

template <class T>
void Pipeline::apply_stages(Block<T>& b, std::size_t from, std::size_t upto, const Row& row, bool last) const {
  for (std::size_t t = from; t < upto; ++t) {
    const Stage& stage = stages_[t];
    if (!stage.selected[row.parameter]) continue;
    b.states_ = stage.bases[static_cast<std::size_t>(row.type)].data();
    b.state_begin_ = stage.begin[row.parameter] + b.begin_;
    b.last_ = last && t == last_stage_[row.parameter];
    b.again_ = t < done_upto_;
    const auto figure = stage.figures.begin() + stage.first_figure[row.parameter];
    if (stage.span == Span::unit) {
      for_each_unit(b, row, [&](Block<T>& part, Index unit) {
        part.figure_ = figure[unit];
        stage.transform->apply(part);
        part.gradient();
      });
    } else {
      if (stage.measures()) b.figure_ = *figure;
      stage.transform->apply(b);
    }
    if (!stage.keeps_zeros) b.remask();
  }
}

template <class T>
void Pipeline::finish_value(Block<T>& b, const Row& row, Index begin) const {
  b.gradient();
  if (row.soft_mask) kernels::step<T>().load(offset<T>(row.shown, begin), b.value_, T(1), b.soft_mask_, b.size_);
}

template <class T, class F>
void Pipeline::for_each_unit(Block<T>& b, const Row& row, F f) const {
  T* g = b.gradient().data();  // in memory, masked: its parts need no mask, whose words they would split
  for (Index at = b.begin_; at < b.begin_ + b.size_;) {
    const Index unit = at / row.unit, end = std::min((unit + 1) * row.unit, b.begin_ + b.size_);
    Block<T> part = b;
    part.begin_ = at;
    part.size_ = end - at;
    part.state_begin_ += at - b.begin_;
    part.value_ += at - b.begin_;
    part.scratch_ = g + (at - b.begin_);
    part.source_ = part.scratch_;
    part.mask_ = part.soft_mask_ = nullptr;
    part.last_ = false;
    f(part, unit);
    b.keep_ = part.keep_;  // each part started from the same one
    at = end;
  }
}

void Pipeline::hand_out_figures(std::size_t index, const StepContext& context) {
  Stage& stage = stages_[index];
  const Combine how = stage.transform->combines();
  measured_parameters_.clear();
  measured_figures_.clear();
  std::size_t piece = 0;
  Figure total = 0;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    const Row& row = rows_[r];
    const bool selected = stage.selected[row.parameter];
    const auto own = stage.figures.begin() + stage.first_figure[row.parameter];
    if (stage.span == Span::unit && selected) std::fill_n(own, row.size / row.unit, Figure(0));
    Figure figure = 0;
    for (; piece < pieces_.size() && pieces_[piece].row == r; ++piece) {
      figure = combine(how, figure, figures_[piece]);
      if (stage.span != Span::unit || !selected) continue;
      const Index first = pieces_[piece].begin / row.unit, last = (pieces_[piece].end - 1) / row.unit;
      for (Index u = first; u <= last; ++u) {
        const Figure part = unit_figures_[unit_slots_[piece] + static_cast<std::size_t>(u - first)];
        own[u] = combine(how, own[u], part);
        figure = combine(how, figure, part);
      }
    }
    if (!selected) continue;
    if (stage.span == Span::tensor) *own = figure;
    measured_parameters_.push_back(rows_[r].parameter);
    measured_figures_.push_back(figure);
    total = combine(how, total, figure);
  }
  if (stage.span == Span::everything) stage.figures.front() = total;
  stage.transform->measured({measured_parameters_, measured_figures_, total}, context);
}

bool Pipeline::all_finite(const std::vector<Figure>& figures) const {
  // Figures that stand for themselves must be finite; counts must be 0.
  const bool counts = &figures == &checks_;
  return std::all_of(figures.begin(), figures.end(), [=](Figure f) { return counts ? f == 0 : std::isfinite(f); });
}

bool Pipeline::handle_nonfinite(StepReport& report) {
  Index count = 0, first = -1;
  const Row* where = nullptr;
  for (const Row& row : rows_)
    by_type(row.type, [&]<class T>() {
      for_each_block(0, row.size, [&](Index at, Index size) {
        T* g = offset<T>(row.gradient, at);
        const std::uint64_t* mask = offset_bits(row.mask, at);
        const Index here = kernels::step<T>().count_nonfinite(g, mask, size);
        if (here == 0) return;
        if (count == 0) {
          first = at + kernels::step<T>().first_nonfinite(g, mask, size);
          where = &row;
        }
        count += here;
        if (nonfinite_ != Nonfinite::zero) return;
        for (Index i = 0; i < size; ++i)
          if (!std::isfinite(g[i])) g[i] = 0;
      });
    });
  if (count == 0)  // a sum of powers beyond the range of any number
    fail<ConfigError>("[step] the norm is too large to be computed with this p. Hint: a smaller p, or infinity");
  report.nonfinite = count;
  if (nonfinite_ == Nonfinite::skip_step) return false;
  if (nonfinite_ != Nonfinite::throw_error) return true;
  double value = 0;
  by_type(where->type, [&]<class T>() { value = static_cast<double>(static_cast<const T*>(where->gradient)[first]); });
  fail<NonFiniteError>("[step] the gradient of '", parameters_[where->parameter].name, "' is ", value, " at index ",
                       first, "; ", count,
                       " of all gradients' entries are NaN or infinite. No weight was changed. Hint: a smaller "
                       "learning rate, or OptimizerOptions{.nonfinite = Nonfinite::skip_step}");
}

void Pipeline::finish(StepReport& report) {
  if (!report.skipped)
    for (Stage& stage : stages_) stage.transform->end(stage.record == none ? nullptr : &report.clips_[stage.record]);
  for (std::size_t k = 0; k < stages_.size(); ++k)  // a transform may replace its record; the name is the chain's
    if (stages_[k].record != none) report.clips_[stages_[k].record].name = stages_[k].name;
  if (goal_ == Goal::update_values) {
    for (const NamedParameter& p : parameters_) p.parameter->clear_grad();
    if (!report.skipped) {
      updates_.swap(updates_now_);
      ++step_;
    }
  }
  report.step = step_;
}

}  // namespace espalier::optim
