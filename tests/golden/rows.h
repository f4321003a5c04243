// The rows of each kind; runner.cpp makes one table of them.
#pragma once

#include "tests/golden/runner.h"

namespace espalier::golden {

std::vector<Row> elementwise_rows();
std::vector<Row> reduction_rows();
std::vector<Row> linalg_rows();
std::vector<Row> shape_rows();
std::vector<Row> loss_rows();
std::vector<Row> math_rows();
std::vector<Row> activation_rows();
std::vector<Row> compare_rows();
std::vector<Row> scan_rows();
std::vector<Row> join_rows();
std::vector<Row> index_rows();
std::vector<Row> einsum_rows();
std::vector<Row> conv_rows();
std::vector<Row> pool_rows();
std::vector<Row> norm_rows();
std::vector<Row> attention_rows();
std::vector<Row> recurrent_rows();
std::vector<Row> expression_rows();
std::vector<Row> clip_rows();
std::vector<Row> optim_rows();
std::vector<Row> sched_rows();
std::vector<Row> prune_rows();
std::vector<Row> e2e_rows();

}  // namespace espalier::golden
