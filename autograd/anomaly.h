// Anomaly: finds where the first NaN or infinity comes from.
//
//   Tape tape;
//   Anomaly anomaly(tape);
//   tape.backward(loss(model, batch));   // throws at the first value or gradient that is not finite, and says whose
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier {

struct AnomalyOptions {
  bool infinities = true;  ///< else: NaN alone, for models that mask with -inf
};

/// While in scope, everything that `tape` records, and every gradient that its rules return, is looked at. The first
/// value that is not finite is a NonFiniteError: op, node, shapes, which input or output, its first such element, the
/// parameters nearest upstream by full name, and the innermost Label at the time the node was recorded. Behind an error
/// in forward the tape is as before; one in backward spends it. Ops under NoTape and those on constants are not seen.
/// A checkpointed segment is looked into where its outputs are not finite, and as it runs again. Must not outlive the
/// tape.
/// Cost: a look at every value; a few words a node.
class [[nodiscard]] Anomaly final : public TapeObserver {
 public:
  explicit Anomaly(Tape& tape, AnomalyOptions options = {});
  ~Anomaly() override;
  Anomaly(const Anomaly&) = delete;
  Anomaly& operator=(const Anomaly&) = delete;

  /// The innermost one of this thread, or null; for code that runs ops on a tape of its own.
  static const Anomaly* current() noexcept { return current_; }
  AnomalyOptions options() const noexcept { return options_; }
  bool is_fault(const Variable& v) const { return !fault(v).empty(); }

  void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override;
  void returned(const RecordedOp& node, std::span<const Variable> incoming,
                std::span<const Variable> gradients) override;

 private:
  /// " is nan at element 5", empty if all is finite or not floating.
  std::string fault(const Variable& v) const;
  std::string upstream(const RecordedOp& node) const;
  [[noreturn]] void report(const std::string& what, const RecordedOp& node) const;

  static thread_local constinit Anomaly* current_;
  Anomaly* outer_;
  Tape& tape_;
  AnomalyOptions options_;
  std::vector<std::string> labels_;      // those seen, in the order they came
  std::vector<std::uint32_t> label_of_;  // by node: its place in labels_
};

}  // namespace espalier
