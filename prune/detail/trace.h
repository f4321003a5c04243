// A sample pass, read off the tape: which op read what, every value, and which leaf is which parameter.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/tape.h"

namespace espalier::prune::detail {

/// Runs a model on x and returns all of its outputs.
using Run = std::function<std::vector<Variable>(const Variable& x)>;

struct Graph {
  struct Value {
    Tensor tensor;
    ParameterRef parameter;          ///< of a leaf, else null
    const Buffer* buffer = nullptr;  ///< where a layer's buffer is an op's input, else null
    std::uint32_t reads = 0;         ///< by recorded ops, and by code that took the plain tensor
    bool escaped = false;            ///< an op read the tensor without its place on the tape (detach(), value())
    bool is_leaf() const { return parameter || buffer; }
  };
  struct Node {
    std::string op;
    std::vector<std::uint32_t> inputs;  ///< slots; Tape::constant where the input has none
    std::vector<Tensor> constants;      ///< of those inputs; undefined where there is none
    std::vector<bool> present;          ///< the input is defined (a bias may not be)
    std::uint32_t first_output = 0, outputs = 0;
    std::vector<Index> settings;  ///< see RecordedOp
  };
  std::vector<Value> values;  ///< by slot; buffers have slots behind all others
  std::vector<Node> nodes;    ///< in the order of computation
  std::vector<Tensor> outputs;
  std::vector<std::uint32_t> output_slots;  ///< of those outputs that have one
  std::uint32_t sample_slot = Tape::constant;
};

/// Runs the model once. A floating sample is watched, so that everything computed from it is seen.
Graph trace(const Run& run, const Tensor& sample, const BufferList& buffers);

}  // namespace espalier::prune::detail
