// One step: what can fail first, then the sweeps.
#include "espalier/optim/detail/pipeline.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/core/parallel.h"
#include "espalier/optim/detail/blocks.h"

namespace espalier::optim {
namespace {

using detail::by_type, detail::for_each_block, detail::for_each_far, detail::offset, detail::op;

constexpr Index task_elements = 1 << 16;  // 256 KB of f32: worth handing to another thread

}  // namespace

StepReport Pipeline::step() {
  if (broken_)
    fail<ConfigError>(
        "[step] a transform failed in the middle of an earlier step: weights and states no longer fit each "
        "other. Hint: restore both, then load_state");
  StepReport report;
  report.step = step_;
  look_at_parameters(report);
  if (report.with_gradient == 0) {
    report.clips_ = blank_records_;
    for (ClipRecord& clip : report.clips_) clip.nothing_to_clip = true;
    if (goal_ == Goal::change_gradients) return report;
    fail<GradError>("[step] none of the ", parameters_.size(),
                    " parameters has a gradient. Hint: did backward run on the model this optimizer was built with? A "
                    "copied module has parameters of its own");
  }
  if (backwards_ + 1 < options_.accumulate) {
    ++backwards_;
    report.accumulating = true;
    return report;
  }
  report.clips_ = blank_records_;
  const StepContext context{step_, parameters_, updates_now_, !listeners_.empty()};
  begin_stages(context);
  run_hooks(context, report);
  if (!report.skipped) {
    cut_into_tasks();
    writing_ = false;
    gradient_scale_ = options_.average ? 1 / static_cast<double>(options_.accumulate) : 1;
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
  rows_.resize(parameters_.size());
  const auto look = [&](std::size_t i) {
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
    if (p.mask_version() != mask_seen_[i]) masks_moved_.store(true, std::memory_order_relaxed);
    has_gradient_[i] = p.has_grad();
    updates_now_[i] = updates_[i] + has_gradient_[i];
    rows_[i] = make_row(i);
  };
  // What is made dense is made so by this thread, whose memory it comes from.
  const auto far = [&](std::size_t i) { parameters_[i].parameter->prefetch(); };
  const auto n = static_cast<Index>(parameters_.size());
  parallel_for(n, wants_dense_ ? n : 128, [&](Index begin, Index end) {
    for_each_far(
        static_cast<std::size_t>(begin), static_cast<std::size_t>(end), far, [](std::size_t) {}, look);
  });
  std::erase_if(rows_, [&](const Row& row) { return !has_gradient_[row.parameter]; });
  report.with_gradient = static_cast<Index>(rows_.size());
  report.without_gradient = static_cast<Index>(parameters_.size() - rows_.size());
}

void Pipeline::begin_stages(const StepContext& context) {
  for (Stage& stage : stages_) {
    stage.active = !stage.when || stage.when(context.step);
    if (stage.active) stage.transform->begin(context);
  }
}

void Pipeline::run_hooks(const StepContext& context, StepReport& report) {
  const auto due = [&](const std::shared_ptr<StepHook>& hook) { return hook->due(context.step); };
  if (std::none_of(hooks_.begin(), hooks_.end(), due)) return;
  if (options_.nonfinite != Nonfinite::propagate) {  // a mask that a hook sets cannot be taken back
    cut_into_tasks();
    run(Sweep{.check = true});
    if (!all_finite(true) && !handle_nonfinite(report, 0)) {
      report.skipped = true;
      return;
    }
  }
  for (const auto& hook : hooks_)
    if (due(hook)) hook->begin(context);
  masks_moved_ = true;
  for (Row& row : rows_) row = make_row(row.parameter);  // hooks set masks
}

Pipeline::Row Pipeline::make_row(std::size_t i) const {
  const ParameterState& p = *parameters_[i].parameter;
  // Written through only behind raise_versions().
  const auto bytes = [](const Tensor& t) { return t.defined() ? const_cast<std::byte*>(t.bytes()) : nullptr; };
  const bool soft = p.mask_mode() == MaskMode::soft, masked = p.mask().defined();
  const RowSparse* sparse = wants_dense_ ? nullptr : p.row_gradient();
  return {.parameter = i,
          .type = types_[i],
          .value = bytes(soft ? p.dense() : p.value()),
          .gradient = sparse || !p.has_grad() ? nullptr : bytes(p.grad()),
          .sparse = sparse,
          .mask = masked && !soft ? p.mask().words().data() : nullptr,
          .soft_mask = soft ? p.mask().words().data() : nullptr,
          .shown = soft ? bytes(p.value()) : nullptr,
          .size = sizes_[i],
          .unit = units_[i],
          .block = blocks_[i],
          .first_piece = 0,
          .last_piece = 0};
}

void Pipeline::densify(Row& row) {
  if (!row.sparse) return;
  row.gradient = const_cast<std::byte*>(parameters_[row.parameter].parameter->grad().bytes());
  row.sparse = nullptr;
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
      const Row& row = rows_[r];
      for_each_block(0, row.size, task_elements / row.block * row.block, [&](Index begin, Index size) {
        if (filled + size > task_elements) {
          tasks_.push_back(pieces_.size());
          filled = 0;
        }
        pieces_.push_back({r, begin, begin + size});
        unit_slots_.push_back(slots);
        if (is_long(row.parameter))
          slots += static_cast<std::size_t>((begin + size - 1) / row.unit - begin / row.unit + 1);
        filled += size;
      });
    }
    tasks_.push_back(pieces_.size());
    const bool units =
        std::any_of(stages_.begin(), stages_.end(), [](const Stage& s) { return s.span == Span::unit && s.ahead; });
    unit_figures_.resize(units ? slots : 0);
  }
  std::size_t piece = 0;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    rows_[r].first_piece = piece;
    while (piece < pieces_.size() && pieces_[piece].row == r) ++piece;
    rows_[r].last_piece = piece;
  }
  keeps_.assign(pieces_.size(), 1);
}

bool Pipeline::needed(const Sweep& sweep) const {
  const auto any_active = [&](std::size_t from, std::size_t upto) {
    return std::any_of(stages_.begin() + static_cast<std::ptrdiff_t>(from),
                       stages_.begin() + static_cast<std::ptrdiff_t>(upto), [](const Stage& s) { return s.active; });
  };
  if (sweep.check || sweep.store || sweep.apply || any_active(sweep.measure, sweep.measure_end)) return true;
  return sweep.on_values && any_active(sweep.from, sweep.upto);
}

bool Pipeline::run_sweeps(const StepContext& context, StepReport& report) {
  bool first = true;
  for (Sweep sweep : sweeps_) {
    if (!needed(sweep)) continue;
    if (sweep.check_is_measure)
      for (std::size_t t = sweep.measure; t < sweep.measure_end; ++t) sweep.check_is_measure &= stages_[t].active;
    if (sweep.writes() && !writing_) start_writing();
    run(sweep);
    if (sweep.check && !all_finite(!sweep.check_is_measure)) {
      if (!handle_nonfinite(report, sweep.upto)) return false;
      begin_stages(context);  // zeroed: once more, from the beginning
      run(sweep);
    }
    if (sweep.measures()) {
      if (options_.nonfinite == Nonfinite::propagate && first && !all_finite(false))
        handle_nonfinite(report, sweep.upto);
      if (!hand_out_figures(sweep, context, report)) return false;
    }
    if (sweep.store) gradient_scale_ = 1;
    first = false;
  }
  return true;
}

void Pipeline::start_writing() {
  writing_ = true;
  if (goal_ == Goal::update_values && masks_moved_.exchange(false)) fit_states_to_masks();
}

bool Pipeline::all_finite(bool counts) const {
  if (counts) return std::all_of(checks_.begin(), checks_.end(), [](Index n) { return n == 0; });
  return std::all_of(figures_.begin(), figures_.end(), [](const Figures& f) { return std::isfinite(f[0]); });
}

bool Pipeline::handle_nonfinite(StepReport& report, std::size_t stages_ahead) {
  Index count = 0, first = -1;
  const Row* where = nullptr;
  for (Row& row : rows_) {
    densify(row);
    if (options_.nonfinite == Nonfinite::zero) parameters_[row.parameter].parameter->mutable_grad().write_bytes(op);
    by_type(row.type, [&]<class T>() {
      for_each_block(0, row.size, kernels::block_size, [&](Index at, Index size) {
        T* g = offset<T>(row.gradient, at);
        const std::uint64_t* mask = row.mask ? row.mask + at / 64 : nullptr;
        const Index here = kernels::step<T>().count_nonfinite(g, mask, size);
        if (here == 0) return;
        if (count == 0) {
          first = at + kernels::step<T>().first_nonfinite(g, mask, size);
          where = &row;
        }
        count += here;
        if (options_.nonfinite != Nonfinite::zero) return;
        for (Index i = 0; i < size; ++i)
          if (!std::isfinite(g[i])) g[i] = 0;
      });
    });
  }
  if (count == 0 && stages_ahead > 0) {  // a transform's doing
    if (options_.nonfinite == Nonfinite::throw_error)
      fail<NonFiniteError>("[step] the gradients are finite, but what ", stages_[stages_ahead - 1].name,
                           " makes of them, or the norm of that, is not. No weight was changed. Hint: so large numbers "
                           "overflow; scale the loss down, clip_by_value() first, or take a smaller p");
    if (options_.nonfinite == Nonfinite::skip_step) report.skipped_by = "nonfinite";
    return options_.nonfinite != Nonfinite::skip_step;
  }
  if (count == 0)  // a sum of powers beyond the range of any number
    fail<ConfigError>("[step] the norm is too large to be computed with this p. Hint: a smaller p, or infinity");
  report.nonfinite = count;
  if (options_.nonfinite == Nonfinite::skip_step) {
    report.skipped_by = "nonfinite";
    return false;
  }
  if (options_.nonfinite != Nonfinite::throw_error) return true;
  double value = 0;
  by_type(where->type, [&]<class T>() { value = static_cast<double>(static_cast<const T*>(where->gradient)[first]); });
  fail<NonFiniteError>("[step] the gradient of '", parameters_[where->parameter].name, "' is ", value, " at index ",
                       first, "; ", count,
                       " of all gradients' entries are NaN or infinite. No weight was changed. Hint: a smaller "
                       "learning rate, or OptimizerOptions{.nonfinite = Nonfinite::skip_step}");
}

void Pipeline::finish(StepReport& report) {
  for (Stage& stage : stages_) {
    ClipRecord* record = stage.record == none ? nullptr : &report.clips_[stage.record];
    if (!report.skipped && stage.active) stage.transform->end(record);
    if (!record) continue;
    record->name = stage.name;  // a transform may replace its record; the name is the chain's
    record->active = stage.active;
  }
  if (goal_ == Goal::update_values) {
    const auto parameter = [&](std::size_t r) -> ParameterState& { return *parameters_[rows_[r].parameter].parameter; };
    for_each_far(
        0, rows_.size(), [&](std::size_t r) { parameter(r).prefetch(); },
        [&](std::size_t r) { parameter(r).prefetch_grad(); }, [&](std::size_t r) { parameter(r).clear_grad(); });
    backwards_ = 0;
    if (report.skipped) {
      ++skipped_;
      ++skipped_in_a_row_;
    } else {
      skipped_in_a_row_ = 0;
      updates_.swap(updates_now_);
      ++step_;
    }
    report.skipped_in_a_row = skipped_in_a_row_;
    report.skipped_in_all = skipped_;
  }
  report.step = step_;
  for (const auto& listener : listeners_) listener->stepped(report, parameters_);
  if (report.skipped && options_.most_skips_in_a_row > 0 && skipped_in_a_row_ > options_.most_skips_in_a_row)
    fail<NonFiniteError>("[step] ", skipped_in_a_row_, " steps in a row were skipped, the last one by ",
                         report.skipped_by, "; the limit is ", options_.most_skips_in_a_row,
                         ". The weights are those of the last step that was done. Hint: a smaller learning rate");
}

}  // namespace espalier::optim
