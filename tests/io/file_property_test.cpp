// Files of pruned models, whatever their shapes, types and masks.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "espalier/core/rng.h"
#include "espalier/io/model_file.h"
#include "tests/support.h"

namespace espalier::io {
namespace {

using testing::same_bytes;

/// Parameters w0, w1, ...
struct Weights {
  std::vector<Parameter> all;
  ParameterList parameters() const {
    ParameterList list;
    for (std::size_t k = 0; k < all.size(); ++k) list.push_back({"w" + std::to_string(k), all[k].ref()});
    return list;
  }
};

Shape any_shape() {
  const auto axes = *rc::gen::inRange(0, 5);
  Shape shape;
  for (int k = 0; k < axes; ++k) shape.push_back(*rc::gen::inRange<Index>(axes > 2 ? 1 : 0, axes > 2 ? 9 : 70));
  return shape;
}
/// Live weights at random, in runs so that gaps of every length occur.
Mask any_mask(Index n) {
  const double live = *rc::gen::element(0.0, 0.01, 0.05, 0.1, 0.5, 0.95);
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  const std::vector<double> chance = rng.uniform({n}, 0, 1, DType::f64).to_vector<double>();
  Mask mask(n);
  for (Index i = 0; i < n; ++i) mask.set(i, chance[static_cast<std::size_t>(i)] < live);
  return mask;
}

TEST(ModelFileProperties, EveryModelComesBackToTheBytesAndPrunedOnesAreSmaller) {
  const auto path = (std::filesystem::temp_directory_path() / "espalier_file_property.safetensors").string();
  EXPECT_TRUE(rc::check("a model comes back", [&] {
    Weights saved, dense, masked;
    Index bound = 0;
    const int count = *rc::gen::inRange(1, 5);
    for (int k = 0; k < count; ++k) {
      const Shape shape = any_shape();
      const DType type = *rc::gen::element(DType::f32, DType::f64);
      Rng rng(*rc::gen::arbitrary<std::uint64_t>());
      const std::string name = "w" + std::to_string(k);
      saved.all.emplace_back(rng.normal(shape, 0, 1, type), name);
      dense.all.emplace_back(rng.normal(shape, 0, 1, type), name);
      masked.all.emplace_back(rng.normal(shape, 0, 1, type), name);
      Parameter& w = saved.all.back();
      const Index n = w.size(), bytes = n * size_of(type);
      Index own = bytes;
      if (n > 0 && *rc::gen::arbitrary<bool>()) {
        const bool soft = *rc::gen::arbitrary<bool>();
        w.set_mask(any_mask(n), soft ? MaskMode::soft : MaskMode::hard);
        masked.all.back().set_mask(any_mask(n), *rc::gen::element(MaskMode::soft, MaskMode::hard));
        const Index live = w.mask().live(), bits = (n + 7) / 8;
        own = soft ? bytes + bits : live * size_of(type) + bits;  // the gaps, where they take less than the bits
      }
      bound += own + 1024;  // names, shapes, alignment
    }
    save(path, saved);
    RC_ASSERT(static_cast<Index>(std::filesystem::file_size(path)) <= bound + 1024);
    for (Weights* into : {&dense, &masked}) {
      load(path, *into);
      for (std::size_t k = 0; k < saved.all.size(); ++k) {
        const ParameterState &a = *saved.all[k].ref(), &b = *into->all[k].ref();
        RC_ASSERT(static_cast<bool>(same_bytes(a.value(), b.value())));
        RC_ASSERT(a.mask() == b.mask());
        RC_ASSERT(!a.mask().defined() || a.mask_mode() == b.mask_mode());
        RC_ASSERT(static_cast<bool>(same_bytes(a.dense(), b.dense())) || !a.dense().defined());
      }
    }
  }));
  std::filesystem::remove(path);
}

TEST(ModelFileProperties, AFileCutShortAnywhereIsAnErrorAndChangesNothing) {
  const auto path = (std::filesystem::temp_directory_path() / "espalier_file_cut.safetensors").string();
  EXPECT_TRUE(rc::check("a file that is cut short", [&] {
    Rng rng(*rc::gen::arbitrary<std::uint64_t>());
    Weights saved, into;
    saved.all.emplace_back(rng.normal({13, 21}), "w0");
    saved.all.back().set_mask(any_mask(13 * 21));
    into.all.emplace_back(rng.normal({13, 21}), "w0");
    const Tensor before = into.all[0].value().clone();
    save(path, saved);
    const auto size = static_cast<Index>(std::filesystem::file_size(path));
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(*rc::gen::inRange<Index>(0, size)));
    bool failed = false;
    try {
      load(path, into);
    } catch (const Error&) {
      failed = true;
    }
    RC_ASSERT(failed);
    RC_ASSERT(static_cast<bool>(same_bytes(into.all[0].value(), before)));
    RC_ASSERT(!into.all[0].mask().defined());
  }));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace espalier::io
