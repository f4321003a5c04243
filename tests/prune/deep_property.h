// What compact() and shrink() must have on any network.
#pragma once

#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/groups.h"
#include "espalier/prune/shrink.h"
#include "tests/prune/random_deep_net.h"

namespace espalier::testing {

inline Index units_cut_by_properties = 0;  // so that a test can see that they are not empty

inline void same_outputs(const DeepNet& a, const DeepNet& b, const DeepSpec& spec) {
  for (std::uint64_t seed : {1u, 2u}) {
    const Tensor x = DeepNet::sample(spec, seed == 1 ? 2 : 3, spec.seed + seed);
    const std::vector<double> y = a(x).value().to(DType::f64).to_vector<double>();
    const std::vector<double> z = b(x).value().to(DType::f64).to_vector<double>();
    RC_ASSERT(y.size() == z.size());
    double scale = 1;  // biases, whose sums may cancel, are of this size
    for (double v : y) scale = std::max(scale, std::abs(v));
    for (std::size_t i = 0; i < y.size(); ++i) RC_ASSERT(std::abs(y[i] - z[i]) <= (spec.single ? 1e-5 : 1e-10) * scale);
  }
}

inline void compact_keeps_outputs_of_deep_nets(const DeepSpec& spec) {
  const DeepNet net(spec);
  const Tensor x = DeepNet::sample(spec, 2, spec.seed + 1);
  prune::CompactReport report;
  const prune::CompactOptions options{.kernels = prune::Kernels::fixed};
  const DeepNet small = prune::compact(net, x, options, &report);
  units_cut_by_properties += report.cut_constant + report.cut_unread;
  same_outputs(net, small, spec);
  RC_ASSERT(small.parameter_count() <= net.parameter_count());
  const DeepNet again = prune::compact(small, x, options, &report);
  RC_ASSERT(report.cut_unread == 0 && report.cut_constant == 0);
}

inline void shrink_keeps_outputs_of_deep_nets(const DeepSpec& spec) {
  const DeepNet net(spec);
  DeepNet small(spec);
  small.eval();
  DeepNet before = net;
  before.eval();
  const prune::CompactReport report = prune::shrink(small, DeepNet::sample(spec, 2, spec.seed + 1));
  units_cut_by_properties += report.cut_constant + report.cut_unread;
  same_outputs(before, small, spec);
  for (const NamedParameter& p : small.parameters()) {  // the mask invariant
    const Mask& mask = p.parameter->mask();
    const std::vector<double> w = p.parameter->value().to(DType::f64).to_vector<double>();
    for (std::size_t i = 0; mask.defined() && i < w.size(); ++i) RC_ASSERT(mask[static_cast<Index>(i)] || w[i] == 0);
  }
}

/// Some units of all groups masked in all that belongs to them: then a step of the smaller network is one of the larger.
inline void shrunk_deep_nets_learn_as_masked_ones(DeepSpec spec) {
  spec.single = false;
  spec.dead_rows = spec.dead_columns = spec.sparsity = spec.masked_biases = 0;
  DeepNet masked(spec);
  const Tensor x = DeepNet::sample(spec, 3, spec.seed + 1);
  for (const prune::UnitGroup& group : prune::unit_groups(masked, x))
    prune::mask_units(group, static_cast<Index>(spec.seed % 3) * group.size() / 4);
  DeepNet shrunk = masked;
  const auto recipe = [&] {
    return spec.seed % 2 ? optim::Chain(chain(optim::sgd({.lr = 0.01, .momentum = 0.9})))
                         : optim::Chain(chain(optim::clip_by_global_norm(1), optim::adam({.lr = 0.001, .eps = 1e-3})));
  };
  optim::Optimizer slow(masked.parameters(), recipe()), fast(shrunk.parameters(), recipe());
  const auto step = [&](DeepNet& net, optim::Optimizer& optimizer) {
    Tape tape;
    tape.backward(mean(square(net(x))));
    optimizer.step();
  };
  for (DeepNet* net : {&masked, &shrunk}) step(*net, net == &masked ? slow : fast);
  const prune::CompactReport report = prune::shrink(shrunk, x, fast);
  units_cut_by_properties += report.cut_constant + report.cut_unread;
  for (int k = 0; k < 3; ++k) {
    step(masked, slow);
    step(shrunk, fast);
  }
  const std::vector<double> y = masked(x).value().to_vector<double>(), z = shrunk(x).value().to_vector<double>();
  double scale = 1;
  for (double v : y) scale = std::max(scale, std::abs(v));
  for (std::size_t i = 0; i < y.size(); ++i) RC_ASSERT(!(std::abs(y[i] - z[i]) > 1e-7 * scale));
}

}  // namespace espalier::testing
