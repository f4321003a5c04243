// Side by side with a peer's figures.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "bench/measure.h"

namespace espalier::bench {

/// One line of a peer's file.
struct PeerFigure {
  std::string workload, peer, metric, unit;
  int threads;
  double value;
};
/// JSON lines as the peer scripts print them; lines that are no JSON objects (comments) are passed over.
/// Errors: IoError if the file cannot be read, FormatError if a JSON line lacks a field or no line is one.
std::vector<PeerFigure> read_peer(const std::string& file);

/// A table of every result that the peer has too, at this number of threads: both medians, espalier / peer, and what
/// that means.
void print_comparison(const std::vector<Result>& results, const std::vector<PeerFigure>& peer, int threads,
                      std::ostream& out);

}  // namespace espalier::bench
