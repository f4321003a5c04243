// The property that compact() must have on any network.
#pragma once

#include "espalier/prune/compact.h"
#include "tests/prune/random_net.h"

namespace espalier::testing {

inline void compact_keeps_outputs(const NetSpec& spec) {
  const RandomNet net(spec);
  const Tensor& x = net.sample;
  const Tensor expected = net(x).value();
  prune::CompactReport report;
  const RandomNet small = prune::compact(net, x, {.kernels = prune::Kernels::fixed}, &report);
  // Another sample, too: constants must not have been fitted to the first.
  Rng rng(spec.seed + 1);
  for (const Tensor& t : {x, rng.normal({5, spec.in}, 0, 2, x.dtype())}) {
    const std::vector<double> a = net(t).value().to(DType::f64).to_vector<double>();
    const std::vector<double> b = small(t).value().to(DType::f64).to_vector<double>();
    RC_ASSERT(a.size() == b.size());
    const double allowed = (spec.single ? 1e-5 : 1e-10) * net.scale(t);
    for (std::size_t i = 0; i < a.size(); ++i) RC_ASSERT(std::abs(a[i] - b[i]) <= allowed);
  }
  RC_ASSERT(equal(net(x).value(), expected));  // the model is as it was
  RC_ASSERT(small.parameter_count() <= net.parameter_count());
  // No unit is left that nobody reads: only layers without a bias may keep constant ones.
  const RandomNet again = prune::compact(small, x, {.kernels = prune::Kernels::fixed}, &report);
  RC_ASSERT(report.cut_unread == 0 && report.cut_constant == 0);
  RC_ASSERT(equal(again(x).value(), small(x).value()));
}

}  // namespace espalier::testing
