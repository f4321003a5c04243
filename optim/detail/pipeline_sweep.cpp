// One pass over memory: tasks, pieces, blocks.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "espalier/core/parallel.h"
#include "espalier/core/row_sparse.h"
#include "espalier/optim/detail/blocks.h"
#include "espalier/optim/detail/pipeline.h"

namespace espalier::optim {
namespace {

using detail::by_type, detail::for_each_block, detail::for_each_far, detail::offset, detail::op;

Figure combine(Combine how, Figure a, Figure b) {
  if (how == Combine::sum) return a + b;
  return a >= b ? a : std::isnan(a) ? a : b;  // NaN stays
}
void combine_into(std::array<Figure, 2>& into, Combine how, const std::array<Figure, 2>& more) {
  into = {combine(how, into[0], more[0]), combine(how, into[1], more[1])};
}

}  // namespace

struct Pipeline::MaskWindows {
  detail::MaskWindow hard, soft;
};

void Pipeline::run(const Sweep& sweep) {
  figures_.assign(pieces_.size(), {});
  std::fill(unit_figures_.begin(), unit_figures_.end(), Figures{});
  checks_.assign(pieces_.size(), 0);
  if (sweep.whole) return run_whole(sweep);
  parallel_for(static_cast<Index>(tasks_.size()) - 1, 1, [&](Index first, Index last) {
    const std::size_t begin = tasks_[static_cast<std::size_t>(first)], end = tasks_[static_cast<std::size_t>(last)];
    if (sweep.writes()) raise_versions(begin, end);
    for (std::size_t k = begin; k < end; ++k)
      by_type(rows_[pieces_[k].row].type, [&]<class T>() { run_piece<T>(sweep, k); });
  });
}

void Pipeline::run_whole(const Sweep& sweep) {
  for (const Row& row : rows_) {  // one after the other: such transforms use all threads for one tensor
    if (row.first_piece == row.last_piece) continue;
    if (sweep.writes()) raise_versions(row.first_piece, row.last_piece);
    by_type(row.type, [&]<class T>() {
      MaskWindows windows;
      Block<T> b = make_block<T>(row, 0, row.size, sweep.on_values, windows);
      b.settles_ = true;
      b.keep_ = keeps_[row.first_piece];
      apply_stages(b, sweep.from, sweep.upto, row, false);
      if (sweep.on_values)
        finish_value(b, row, 0);
      else
        b.gradient();
      for (std::size_t k = row.first_piece; k < row.last_piece; ++k) keeps_[k] = b.keep_;
    });
  }
}

void Pipeline::raise_versions(std::size_t first_piece, std::size_t last_piece) {
  const auto parameter = [&](std::size_t k) -> ParameterState& {
    return *parameters_[rows_[pieces_[k].row].parameter].parameter;
  };
  for_each_far(
      first_piece, last_piece, [&](std::size_t k) { __builtin_prefetch(&parameter(k).value()); },
      [&](std::size_t k) { parameter(k).value().prefetch(); },
      [&](std::size_t k) {
        if (pieces_[k].begin > 0) return;  // done with the first piece
        ParameterState& p = parameter(k);
        if (wants_dense_) p.mutable_grad().write_bytes_with_others(op);
        if (goal_ == Goal::change_gradients) return;
        p.mutable_value().write_bytes_with_others(op);
        if (rows_[pieces_[k].row].soft_mask) p.mutable_dense().write_bytes_with_others(op);
      });
}

template <class T>
void Pipeline::run_piece(const Sweep& sweep, std::size_t index) {
  const Piece& piece = pieces_[index];
  const Row& row = rows_[piece.row];
  const Stage* measuring = measuring_stage(sweep, row);
  const bool only_checks = !measuring && !sweep.writes(), skips_zeros = row.sparse && passes_zeros(sweep, row);
  alignas(64) T scratch[Block<T>::capacity];
  MaskWindows windows;
  double keep = keeps_[index];
  for_each_block(piece.begin, piece.end, row.block, [&](Index at, Index size) {
    const T* gradient = offset<T>(row.gradient, at);
    if (row.sparse && !sweep.on_values) {
      if (!assemble(row, at, size, scratch) && skips_zeros) return;
      gradient = scratch;
    }
    if (sweep.check && !sweep.check_is_measure)
      checks_[index] += kernels::step<T>().count_nonfinite(gradient, windows.hard.of(row.mask, at, size), size);
    if (only_checks) return;
    if (!sweep.on_values) {
      Block<T> b = make_block<T>(row, at, size, false, windows);
      if (!sweep.store) b.scratch_ = scratch;
      b.source_ = gradient;
      if (row.gradient && at + 2 * size <= row.size) b.ahead_ = offset<T>(row.gradient, at + size);
      b.settles_ = sweep.writes();
      b.keep_ = keeps_[index];
      apply_stages(b, sweep.from, sweep.upto, row, sweep.apply);
      if (sweep.store) {
        b.gradient();
        keep = b.keep_;
      }
      if (!sweep.apply) {
        if (measuring) measure(*measuring, b, row, index);
        return;
      }
      if (!b.applied_) {
        const auto in = b.pending_within_bounds();
        const kernels::SgdStep apply{.lr = -1, .scale = in.scale, .keep = b.keep_, .low = in.low, .high = in.high};
        b.count_clamped(kernels::step<T>().sgd(apply, in.source, nullptr, b.value_, nullptr, b.mask_, size));
      }
      if (sweep.constraints_upto <= sweep.upto && !row.soft_mask && !measuring) return;
    }
    Block<T> b = make_block<T>(row, at, size, true, windows);
    b.settles_ = true;
    if (sweep.on_values)
      apply_stages(b, sweep.from, sweep.upto, row, false);
    else
      apply_stages(b, sweep.upto, sweep.constraints_upto, row, false);
    finish_value(b, row, at);
    if (measuring) measure(*measuring, b, row, index);
  });
  keeps_[index] = keep;
}

template <class T>
Block<T> Pipeline::make_block(const Row& row, Index begin, Index size, bool of_value, MaskWindows& windows) const {
  Block<T> b;
  b.value_ = offset<T>(row.value, begin);
  b.scratch_ = of_value ? b.value_ : offset<T>(row.gradient, begin);
  b.source_ = b.scratch_;
  b.mask_ = windows.hard.of(row.mask, begin, size);
  b.soft_mask_ = windows.soft.of(row.soft_mask, begin, size);
  b.read_mask_ = of_value ? nullptr : b.mask_;
  b.scale_ = of_value ? 1 : static_cast<Figure>(gradient_scale_);
  b.size_ = size;
  b.begin_ = begin;
  b.unit_size_ = row.unit;
  b.units_ = row.size / row.unit;
  b.parameter_ = row.parameter;
  b.updates_ = updates_now_[row.parameter];
  return b;
}

template <class T>
Block<T> Pipeline::whole_block(const Row& row) const {
  MaskWindows none_needed;  // a whole parameter begins with its first bit
  return make_block<T>(row, 0, row.size, false, none_needed);
}
template Block<float> Pipeline::whole_block<float>(const Row& row) const;
template Block<double> Pipeline::whole_block<double>(const Row& row) const;

template <class T>
void Pipeline::apply_stages(Block<T>& b, std::size_t from, std::size_t upto, const Row& row, bool last) const {
  for (std::size_t t = from; t < upto; ++t) {
    const Stage& stage = stages_[t];
    if (!stage.active || !stage.selected[row.parameter]) continue;
    b.states_ = stage.views.data() + row.parameter * stage.states.size();
    b.last_ = last && t == last_stage_[row.parameter];
    const bool known = is_long(row.parameter);
    if (stage.span == Span::unit && (known || !stage.transform->takes_whole_units())) {
      for_each_unit(b, row, [&](Block<T>& part, Index unit) {
        const Figures figures = known
                                    ? stage.figures[static_cast<std::size_t>(stage.first_figure[row.parameter] + unit)]
                                    : stage.transform->measure(part);
        part.figures_[0] = figures[0];
        part.figures_[1] = figures[1];
        stage.transform->apply(part);
        if (!stage.keeps_zeros) part.remask();
        part.gradient();
      });
      b.set_result();
      continue;
    }
    if (stage.span == Span::tensor || stage.span == Span::everything) {
      const Figures& figures = stage.figures[static_cast<std::size_t>(stage.first_figure[row.parameter])];
      b.figures_[0] = figures[0];
      b.figures_[1] = figures[1];
    }
    stage.transform->apply(b);
    if (!stage.keeps_zeros) b.remask();
  }
}

template <class T>
bool Pipeline::assemble(const Row& row, Index begin, Index size, T* out) const {
  const std::span<const Index> stored(row.sparse->rows().data<Index>(),
                                      static_cast<std::size_t>(row.sparse->rows().size()));
  const T* values = row.sparse->values().data<T>();
  const Index width = row.size / row.sparse->shape()[0], end = begin + size;
  auto next = std::lower_bound(stored.begin(), stored.end(), begin / width);
  const bool any = next != stored.end() && *next * width < end;
  std::fill_n(out, size, T(0));
  for (; next != stored.end() && *next * width < end; ++next) {
    const Index from = std::max(*next * width, begin), upto = std::min((*next + 1) * width, end);
    std::copy_n(values + (next - stored.begin()) * width + (from - *next * width), upto - from, out + (from - begin));
  }
  return any;
}

bool Pipeline::passes_zeros(const Sweep& sweep, const Row& row) const {
  const auto all_pass = [&](std::size_t from, std::size_t upto) {
    for (std::size_t t = from; t < upto; ++t)
      if (stages_[t].active && stages_[t].selected[row.parameter] && !stages_[t].transform->passes_zeros())
        return false;
    return true;
  };
  return all_pass(sweep.from, sweep.upto) && all_pass(sweep.measure, sweep.measure_end) &&
         (!sweep.apply || all_pass(sweep.upto, sweep.constraints_upto));
}

template <class T>
void Pipeline::measure(const Stage& stage, Block<T>& b, const Row& row, std::size_t piece) {
  const Combine how = stage.transform->combines();
  if (stage.span != Span::unit) return combine_into(figures_[piece], how, stage.transform->measure(b));
  for_each_unit(b, row, [&](Block<T>& part, Index unit) {
    Figures& own = unit_figures_[unit_slots_[piece] + static_cast<std::size_t>(unit - pieces_[piece].begin / row.unit)];
    combine_into(own, how, stage.transform->measure(part));
  });
}

template <class T>
void Pipeline::finish_value(Block<T>& b, const Row& row, Index begin) const {
  b.gradient();
  if (row.soft_mask) kernels::step<T>().load(offset<T>(row.shown, begin), b.value_, T(1), b.soft_mask_, b.size_);
}

template <class T, class F>
void Pipeline::for_each_unit(Block<T>& b, const Row& row, F f) const {
  detail::MaskWindow hard, soft;
  const Index end = b.begin_ + b.size_;
  for (Index at = b.begin_; at < end;) {
    const Index unit = at / row.unit, stop = std::min((unit + 1) * row.unit, end), skipped = at - b.begin_;
    Block<T> part = b;
    part.begin_ = at;
    part.size_ = stop - at;
    part.source_ += skipped;
    part.scratch_ += skipped;
    part.value_ += skipped;
    if (part.ahead_) part.ahead_ += skipped;
    part.mask_ = hard.of(b.mask_, skipped, part.size_);
    part.soft_mask_ = soft.of(b.soft_mask_, skipped, part.size_);
    if (b.read_mask_) part.read_mask_ = b.read_mask_ == b.mask_ ? part.mask_ : part.soft_mask_;
    part.last_ = false;
    f(part, unit);
    b.keep_ = part.keep_;  // each part started from the same one
    at = stop;
  }
}

const Pipeline::Stage* Pipeline::measuring_stage(const Sweep& sweep, const Row& row) const {
  for (std::size_t t = sweep.measure; t < sweep.measure_end; ++t) {
    const Stage& stage = stages_[t];
    if (!stage.active || !stage.selected[row.parameter]) continue;
    return stage.span == Span::unit && !is_long(row.parameter) ? nullptr : &stage;
  }
  return nullptr;
}

void Pipeline::collect_figures(Stage& stage) {
  const Combine how = stage.transform->combines();
  const auto resize_measured = [&](std::size_t n) {
    measured_parameters_.resize(n);
    measured_figures_.resize(n);
    measured_second_.resize(n);
    measured_sizes_.resize(n);
  };
  resize_measured(rows_.size());
  std::size_t n = 0;
  Figure total = 0, total_second = 0;  // apart, in registers: figures in memory cost more than they add up
  for (const Row& row : rows_) {
    if (!stage.selected[row.parameter]) continue;
    Figures* own = stage.figures.data() + stage.first_figure[row.parameter];
    if (stage.span == Span::unit) {
      if (!is_long(row.parameter)) continue;
      std::fill_n(own, row.size / row.unit, Figures{});
      for (std::size_t k = row.first_piece; k < row.last_piece; ++k) {
        const Index first = pieces_[k].begin / row.unit, last = (pieces_[k].end - 1) / row.unit;
        for (Index u = first; u <= last; ++u)
          combine_into(own[u], how, unit_figures_[unit_slots_[k] + static_cast<std::size_t>(u - first)]);
      }
      continue;
    }
    Figure figure = 0, second = 0;
    for (std::size_t k = row.first_piece; k < row.last_piece; ++k) {
      figure = combine(how, figure, figures_[k][0]);
      second = combine(how, second, figures_[k][1]);
    }
    if (stage.span == Span::tensor) *own = {figure, second};
    measured_parameters_[n] = row.parameter;
    measured_figures_[n] = figure;
    measured_second_[n] = second;
    measured_sizes_[n++] = row.size;
    total = combine(how, total, figure);
    total_second = combine(how, total_second, second);
  }
  resize_measured(n);
  if (stage.span == Span::everything) stage.figures.front() = {total, total_second};
}

bool Pipeline::hand_out_figures(const Sweep& sweep, const StepContext& context, StepReport& report) {
  for (std::size_t t = sweep.measure; t < sweep.measure_end; ++t) {
    Stage& stage = stages_[t];
    if (!stage.active) continue;
    collect_figures(stage);
    if (stage.span == Span::unit) continue;
    const Figure total =
        stage.span == Span::everything
            ? stage.figures.front()[0]
            : std::accumulate(measured_figures_.begin(), measured_figures_.end(), Figure(0),
                              [&](Figure a, Figure b) { return combine(stage.transform->combines(), a, b); });
    stage.transform->measured({measured_parameters_, measured_figures_, measured_second_, measured_sizes_, total},
                              context);
    if (!stage.transform->skips()) continue;
    report.skipped_by = stage.name;
    return false;
  }
  return true;
}

}  // namespace espalier::optim
