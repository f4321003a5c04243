// The rows of each kind; runner.cpp makes one table of them.
#pragma once

#include "tests/golden/runner.h"

namespace espalier::golden {

std::vector<Row> elementwise_rows();
std::vector<Row> reduction_rows();
std::vector<Row> linalg_rows();
std::vector<Row> shape_rows();
std::vector<Row> loss_rows();
std::vector<Row> expression_rows();
std::vector<Row> clip_rows();
std::vector<Row> optim_rows();
std::vector<Row> prune_rows();
std::vector<Row> e2e_rows();

}  // namespace espalier::golden
