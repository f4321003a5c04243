// What goes into layers and what comes out of them, seen on the tape while a model runs.
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "espalier/autograd/tape.h"
#include "espalier/prune/statistics.h"

namespace espalier::prune::detail {

/// Adds up, batch after batch, what linear(), conv1d() and conv2d() read and give, by their weight.
class LayerObserver final : public TapeObserver {
 public:
  LayerObserver(const ParameterList& parameters, Needs needs);

  /// A new batch, on this tape.
  void begin(Tape& tape);
  void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override;
  /// The batch has run: outputs are final.
  void end();
  /// Outputs of this batch, for gradients; in the order that add_saliency() takes those in.
  std::vector<Variable> outputs() const;
  void add_saliency(std::span<const Variable> gradients);
  /// Writes what came together over all batches.
  void write(Gathered& gathered, Index batches) const;

 private:
  struct Sums {
    Tensor absolute, squares;  // [groups, columns]
    Tensor gram;               // [groups, columns, columns]
    Index rows = 0;
    Tensor output, zeros, saliency;  // [units]
    Index values = 0;                // a unit
    ParameterRef norm;
  };
  struct Reading {  // what a layer gave, followed to its activation
    std::size_t parameter;
    int axis;  // of the units
    Variable values;
    bool active;
    bool direct;  // nothing in between yet
  };
  void add_inputs(Sums& sums, const Shape& weight, const Tensor& x, const Tensor& y, std::span<const Index> settings);
  void add_columns(Sums& sums, const Tensor& columns);
  void follow(const RecordedOp& node, std::string_view op, std::span<const Variable> outputs);

  ParameterList parameters_;
  Needs needs_;
  bool inputs_, outputs_;
  std::unordered_map<const ParameterState*, std::size_t> place_;
  std::vector<Sums> sums_;
  Tape* tape_ = nullptr;
  std::vector<Reading> readings_;                              // of this batch
  std::unordered_map<std::uint32_t, std::size_t> reading_of_;  // slot -> readings_
};

}  // namespace espalier::prune::detail
