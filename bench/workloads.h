// The rows of each group; main.cpp makes one table of them. A new workload is one row.
#pragma once

#include <iosfwd>

#include "bench/measure.h"

namespace espalier::bench {

/// Training steps: forward, loss, backward, clip by global norm, optimizer.
std::vector<Workload> train_workloads();
/// Latency of one forward pass.
std::vector<Workload> infer_workloads();
/// Clipping and optimizer steps alone, on 10 M parameters in 100 tensors and 1 M in 1,000.
std::vector<Workload> optim_workloads();
/// Elementwise functions, reductions, and what one tiny op costs.
std::vector<Workload> kernel_workloads();
/// Single ops, forward and with their gradients.
std::vector<Workload> op_workloads();
/// Convolution layers: forward, both gradients, and all of a training step's part.
std::vector<Workload> conv_workloads();
/// Pruned weights in their packed form beside the dense product.
std::vector<Workload> sparse_workloads();
/// Their results as a grid, each beside dense; nothing if there are none.
void print_sparse_grid(const std::vector<Result>& results, std::ostream& out);

/// Keeps a result from being optimised away.
inline void keep(const void* p) { asm volatile("" : : "g"(p) : "memory"); }

}  // namespace espalier::bench
