#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> prune_rows() { return {}; }

}  // namespace espalier::golden
