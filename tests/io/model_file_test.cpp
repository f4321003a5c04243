#include "espalier/io/model_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/packed_linear.h"
#include "espalier/core/rng.h"
#include "espalier/io/detail/sparse_code.h"
#include "tests/support/temp_folder.h"

namespace espalier::io {
namespace {

using espalier::testing::read_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

/// Two layers, a running mean, and a second name for the last bias.
struct Model {
  explicit Model(std::uint64_t seed, Index hidden = 30, DType type = DType::f32) {
    Rng rng(seed);
    w1 = Parameter(rng.normal({hidden, 20}, 0, 1, type));
    b1 = Parameter(rng.normal({hidden}, 0, 1, type));
    w2 = Parameter(rng.normal({10, hidden}, 0, 1, type));
    b2 = Parameter(rng.normal({10}, 0, 1, type));
    mean = Buffer(rng.normal({hidden}, 0, 1, type));
  }
  ParameterList parameters() const {
    return {{"fc1.weight", w1.ref()}, {"fc1.bias", b1.ref()}, {"fc2.weight", w2.ref()}, {"fc2.bias", b2.ref()}};
  }
  BufferList buffers() const { return {{"norm.running_mean", &mean}}; }
  struct Alias {
    std::string name, of;
  };
  std::vector<Alias> aliases() const { return {{"tied.bias", "fc2.bias"}}; }

  Parameter w1, b1, w2, b2;
  Buffer mean;
};

Mask random_mask(Index size, double live, std::uint64_t seed) { return Mask(Rng(seed).bernoulli({size}, live)); }

bool same(const Model& a, const Model& b) {
  const ParameterList pa = a.parameters(), pb = b.parameters();
  for (std::size_t i = 0; i < pa.size(); ++i) {
    const ParameterState &x = *pa[i].parameter, &y = *pb[i].parameter;
    if (!equal(x.value().densify(), y.value().densify()) || !(x.mask() == y.mask()) || x.mask_mode() != y.mask_mode() ||
        x.dense().defined() != y.dense().defined() || (x.dense().defined() && !equal(x.dense(), y.dense())))
      return false;
  }
  return equal(a.mean.value(), b.mean.value());
}

class ModelFile : public ::testing::Test {
 protected:
  TempFolder folder;
  const std::string path = folder / "model.safetensors";
};

TEST_F(ModelFile, DenseModelsHavePlainNames) {
  const Model model(1);
  save(path, model, {.metadata = {{"note", "hello"}}});
  const TensorFile file = read_safetensors(path);
  std::vector<std::string> names;
  for (const NamedTensor& t : file.tensors) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "norm.running_mean"}));
  Model other(2);
  const LoadReport report = load(path, other);
  EXPECT_TRUE(same(model, other));
  EXPECT_EQ(report.metadata, (std::map<std::string, std::string>{{"note", "hello"}}));
  EXPECT_THROW(save(path, model, {.metadata = {{"espalier.version", "2"}}}), ConfigError);
}

TEST_F(ModelFile, MasksTravel) {
  for (const double live : {0.0, 0.003, 0.1, 0.5, 1.0}) {
    Model model(1), other(2);
    model.w1.set_mask(random_mask(model.w1.size(), live, 3));
    model.w2.set_mask(random_mask(model.w2.size(), live, 4), MaskMode::soft);
    other.b1.set_mask(random_mask(other.b1.size(), 0.5, 5));  // goes: the file has none
    other.w2.ref()->accumulate(Tensor::ones(other.w2.shape()));
    save(path, model);
    load(path, other);
    EXPECT_TRUE(same(model, other)) << live;
    EXPECT_FALSE(other.b1.mask().defined());
    EXPECT_FALSE(other.w2.grad().defined());
    save(path + "2", other);
    EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
  }
}

TEST_F(ModelFile, ValuesThatComparisonsMiss) {
  Model model(1, 30, DType::f64), other(2, 30, DType::f64);
  double* w = model.w1.ref()->mutable_value().write<double>("test");
  w[0] = std::numeric_limits<double>::quiet_NaN();
  w[1] = -0.0;
  w[2] = std::numeric_limits<double>::infinity();
  model.w1.set_mask(Mask(model.w1.size()));
  save(path, model);
  load(path, other);
  EXPECT_TRUE(allclose(model.w1.value(), other.w1.value(), 0, 0, true));
  EXPECT_TRUE(std::signbit(other.w1.value().data<double>()[1]));
}

TEST_F(ModelFile, SizesAtNinetyAndNinetyFivePercent) {
  // LeNet-300-100, as it is written in files.
  auto bytes = [&](double live) {
    Rng rng(1);
    std::vector<Parameter> p;
    ParameterList list;
    for (const auto& [out, in] : {std::pair<Index, Index>{300, 784}, {100, 300}, {10, 100}}) {
      p.emplace_back(rng.normal({out, in}));
      if (live < 1) p.back().set_mask(random_mask(out * in, live, 2));
      list.push_back({"fc" + std::to_string(p.size()) + ".weight", p.back().ref()});
      p.emplace_back(rng.normal({out}));
      list.push_back({"fc" + std::to_string(p.size()) + ".bias", p.back().ref()});
    }
    save(path, list);
    return static_cast<double>(std::filesystem::file_size(path));
  };
  const double dense = bytes(1);
  EXPECT_LE(bytes(0.10) / dense, 0.16);
  EXPECT_LE(bytes(0.05) / dense, 0.09);
  EXPECT_LE(bytes(0.01) / dense, 0.03);
}

TEST_F(ModelFile, PackedWeightsAreRestoredWithTheirKernels) {
  Model model(1), other(2);
  model.w1.set_mask(random_mask(model.w1.size(), 0.1, 3));
  for (const bool masked : {false, true}) {
    const Tensor dense = model.w1.value().densify();
    const KernelChoices choices{KernelChoice::sparse, KernelChoice::dense, KernelChoice::sparse};
    const Mask mask = masked ? random_mask(model.w1.size(), 0.1, 3) : Mask();
    model.w1.ref()->replace(
        Tensor::packed(dense.shape(), dense.dtype(), std::make_unique<PackedLinear>(dense, choices)), mask);
    save(path, model);
    load(path, other);
    EXPECT_TRUE(same(model, other));
    const auto* packed = dynamic_cast<const PackedLinear*>(other.w1.value().packed());
    ASSERT_NE(packed, nullptr);
    EXPECT_EQ(packed->choices(), choices);
    EXPECT_EQ(other.w1.mask().defined(), masked);
    save(path + "2", other);
    EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
    EXPECT_TRUE(equal(read_state(path).at("fc1.weight"), dense));
  }
}

TEST_F(ModelFile, BlocksNofMAndConvolutionsAreRestoredWithTheirKernels) {
  struct Three {
    Parameter blocks{Tensor::zeros({32, 40})}, groups{Tensor::zeros({9, 24})}, conv{Tensor::zeros({6, 4, 3, 3})};
    ParameterList parameters() const { return {{"b", blocks.ref()}, {"g", groups.ref()}, {"c", conv.ref()}}; }
  } model, other;
  const auto pack = [](Parameter& p, const KernelChoices& choices, auto live) {
    Tensor dense = Tensor::zeros(p.shape());
    const Index columns = dense.size() / dense.shape()[0];
    for (Index i = 0; i < dense.size(); ++i)
      if (live(i / columns, i % columns)) dense.write<float>("test")[i] = static_cast<float>(i + 1);
    p.ref()->replace(Tensor::packed(p.shape(), DType::f32, std::make_unique<PackedLinear>(dense, choices)), Mask());
  };
  using enum KernelChoice;
  pack(model.blocks, {blocked, sparse, dense}, [](Index r, Index c) { return (r / 8 + c) % 5 == 0; });
  pack(model.groups, {grouped, grouped, sparse}, [](Index r, Index c) { return (r + c) % 2 == 0; });
  pack(model.conv, {sparse, sparse, dense}, [](Index r, Index c) { return (r * 7 + c * c) % 11 < 2; });
  save(path, model);
  load(path, other);
  const ParameterList before = model.parameters(), after = other.parameters();
  for (std::size_t k = 0; k < before.size(); ++k) {
    const auto* was = dynamic_cast<const PackedLinear*>(before[k].parameter->value().packed());
    const auto* is = dynamic_cast<const PackedLinear*>(after[k].parameter->value().packed());
    ASSERT_NE(is, nullptr) << before[k].name;
    EXPECT_EQ(is->describe(), was->describe());
    EXPECT_TRUE(equal(is->densify(), was->densify()));
  }
  // A kernel whose pattern the weight does not have: the file is broken.
  TensorFile file = read_safetensors(path);
  file.metadata["espalier.sparse/c"] = "mode=none mask=bits shape=6,4,3,3 kernels=blocked,dense,dense";
  write_safetensors(path, file);
  EXPECT_PRED2(espalier::testing::contains, espalier::testing::text_of<FormatError>([&] { load(path, other); }),
               "'c' has no pattern for the kernel 'blocked'");
}

TEST_F(ModelFile, ACompactedModelsFileResizesAFreshOne) {
  Model model(1), fresh(2);
  const Model cut(3, 25);
  for (std::size_t i = 0; i < 4; ++i)
    model.parameters()[i].parameter->replace(cut.parameters()[i].parameter->value().clone(), Mask());
  model.mean.set(cut.mean.value().clone());
  EXPECT_TRUE(model.w1.ref()->resized());
  EXPECT_FALSE(model.b2.ref()->resized());
  save(path, model);
  load(path, fresh);
  EXPECT_TRUE(same(model, fresh));
  EXPECT_EQ(fresh.w2.shape(), (Shape{10, 25}));
  save(path + "2", fresh);  // and says so again
  EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
  const Model copy = model;
  EXPECT_TRUE(copy.w1.ref()->resized());
}

TEST_F(ModelFile, OtherShapesAreErrorsThatChangeNothing) {
  const Model model(1, 25);
  save(path, model);
  Model other(2);
  const Model before = other;
  EXPECT_ERROR(
      ShapeError, [&] { load(path, other); }, "'fc1.weight' is [25, 20] in the file and [30, 20] in the model");
  Model wide(2, 25, DType::f64);
  EXPECT_ERROR(
      DTypeError, [&] { load(path, wide); }, "is f32 in the file and f64 in the model");
  EXPECT_TRUE(same(other, before));
}

TEST_F(ModelFile, NamesMissingAndUnexpected) {
  const Model model(1);
  TensorFile file{{{"fc1.weight", model.w1.value()}, {"stranger", Tensor::ones({1})}}, {}};
  write_safetensors(path, file);
  Model other(2);
  const Model before = other;
  EXPECT_ERROR(
      FormatError, [&] { load(path, other); },
      "missing: 'fc1.bias', 'fc2.weight', 'fc2.bias', 'norm.running_mean'; unexpected: 'stranger'");
  EXPECT_TRUE(same(other, before));
  const LoadReport report = load(path, other, {.strict = false});
  EXPECT_EQ(report.missing.size(), 4u);
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"stranger"});
  EXPECT_TRUE(equal(other.w1.value(), model.w1.value()));
  EXPECT_TRUE(equal(other.w2.value(), before.w2.value()));
}

TEST_F(ModelFile, SecondNamesOfTiedParameters) {
  const Model model(1);
  std::map<std::string, Tensor> state;
  for (const auto& [name, parameter] : model.parameters()) state[name] = parameter->value();
  state["norm.running_mean"] = model.mean.value();
  state["tied.bias"] = model.b2.value();
  Model other(2);
  write_state(path, state);
  load(path, other);
  EXPECT_TRUE(same(model, other));
  state.erase("fc2.bias");
  write_state(path, state);
  Model third(3);
  load(path, third);
  EXPECT_TRUE(same(model, third));
  state["fc2.bias"] = Tensor::ones({10});
  write_state(path, state);
  EXPECT_ERROR(
      FormatError, [&] { load(path, third); }, "one parameter in the model, but differ in the file");
  EXPECT_TRUE(same(model, third));
}

TEST_F(ModelFile, SoftMasksComeMaskedFromReadState) {
  Model model(1);
  model.w1.set_mask(random_mask(model.w1.size(), 0.5, 3), MaskMode::soft);
  save(path, model);
  EXPECT_TRUE(equal(read_state(path).at("fc1.weight"), model.w1.value()));
  EXPECT_TRUE(equal(*read_safetensors(path).find("fc1.weight"), model.w1.ref()->dense()));
}

/// A file of a pruned model, to be broken.
class Forged : public ModelFile {
 protected:
  Forged() : model(1), target(2), before(target) {
    model.w1.set_mask(random_mask(model.w1.size(), 0.1, 3));
    model.w2.set_mask(random_mask(model.w2.size(), 0.004, 4));
    save(path, model);
    file = read_safetensors(path);
  }
  Tensor& tensor(const std::string& name) {
    for (NamedTensor& t : file.tensors)
      if (t.name == name) return t.tensor;
    throw std::runtime_error("no " + name);
  }
  std::string error() {
    write_safetensors(path, file);
    const std::string text = espalier::testing::text_of<FormatError>([&] { load(path, target); });
    EXPECT_PRED2(espalier::testing::contains, text, path);
    EXPECT_TRUE(same(target, before));
    return text;
  }
  std::string entry_error(const std::string& text) {
    file.metadata["espalier.sparse/fc1.weight"] = text;
    return error();
  }
  Model model, target;
  const Model before;
  TensorFile file;
};

#define EXPECT_TEXT(text, part) EXPECT_PRED2(espalier::testing::contains, text, part)

TEST_F(Forged, TheFileIsGoodToBeginWith) {
  EXPECT_EQ(file.metadata.at("espalier.sparse/fc1.weight"), "mode=hard mask=bits shape=30,20");
  EXPECT_EQ(file.metadata.at("espalier.sparse/fc2.weight"), "mode=hard mask=gaps shape=10,30");
  load(path, target);
  EXPECT_TRUE(same(model, target));
}

TEST_F(Forged, EveryCutChangesNothing) {
  const std::string whole = read_bytes(path);
  for (std::size_t n = 0; n < whole.size(); n += 3) {
    write_bytes(path, whole.substr(0, n));
    EXPECT_THROW(load(path, target), FormatError) << n;
  }
  EXPECT_TRUE(same(target, before));
}

TEST_F(Forged, MetadataEntries) {
  for (const char* text :
       {"", "mode=hard", "mode=hard mask=bits", "mode=hard mask=bits shape=30,20 shape=30,20",
        "mode=hard mask=bits shape=30,20 more=1", "mode=firm mask=bits shape=30,20", "mode=hard mask=hex shape=30,20",
        "mode=hard mask=bits shape=30,-20", "mode=hard mask=bits shape=30,x",
        "mode=hard mask=bits shape=4294967296,4294967296", "mode=hard mask=bits shape=1,1,1,1,1,1,1,1,1",
        "mode=none mask=bits shape=30,20", "mode=hard mask=bits shape=30,20 kernels=sparse",
        "mode=hard mask=bits shape=30,20 kernels=sparse,sparse,fast",
        "mode=hard mask=bits shape=600 kernels=sparse,sparse,sparse", "mode=hard mask=bits shape=30, 20"})
    EXPECT_TEXT(entry_error(text), "espalier.sparse/fc1.weight") << text;
}

TEST_F(Forged, MasksAndValuesThatDoNotFit) {
  EXPECT_TEXT(entry_error("mode=hard mask=bits shape=31,20"), "75 bytes for 620 bits");
  EXPECT_TEXT(entry_error("mode=hard mask=gaps shape=30,20"), "'fc1.weight.mask'");
  EXPECT_TEXT(entry_error("mode=hard mask=gaps shape=1073741824,1048576"), "cannot stand for");
  EXPECT_TEXT(entry_error("mode=soft mask=bits shape=30,20"), "'fc1.weight', which the metadata speaks of, is missing");
  file.metadata["espalier.sparse/fc1.weight"] = "mode=hard mask=bits shape=30,20";
  tensor("fc1.weight.values") = Tensor::ones({7});
  EXPECT_TEXT(error(), "live weights, but 7 values");
  tensor("fc1.weight.values") = Tensor::ones({7}, DType::i64);
  EXPECT_TEXT(error(), "must be f32 or f64 [n]");
  tensor("fc1.weight.values") = Tensor::scalar(1);
  EXPECT_TEXT(error(), "must be f32 or f64 [n]");
}

TEST_F(Forged, DenseAndPrunedAtOnce) {
  file.tensors.push_back({"fc1.weight", model.w1.value()});
  EXPECT_TEXT(error(), "dense as well as pruned");
}

TEST_F(Forged, MasksOfWrongType) {
  tensor("fc1.weight.mask") = Tensor::ones({75}, DType::i32);
  EXPECT_TEXT(error(), "it must be u8 [n]");
}

TEST_F(Forged, ALaterVersionAndAMaskForABuffer) {
  file.metadata["espalier.version"] = "2";
  EXPECT_TEXT(error(), "this library reads 1");
  file.metadata["espalier.version"] = "1";
  tensor("norm.running_mean") = Tensor::ones({30});
  for (NamedTensor& t : file.tensors)
    if (t.name == "norm.running_mean") t.name += ".values";
  file.tensors.push_back({"norm.running_mean.mask", Tensor::from(std::vector<std::uint8_t>{255, 255, 255, 63}, {4})});
  file.metadata["espalier.sparse/norm.running_mean"] = "mode=hard mask=bits shape=30";
  EXPECT_TEXT(error(), "has a mask");
}

TEST_F(Forged, AFailedSaveLeavesTheOldFile) {
  const std::string old = read_bytes(path);
  struct Colliding {
    Parameter a{Tensor::ones({1})}, b{Tensor::ones({1})};
    ParameterList parameters() const { return {{"a", a.ref()}, {"a", b.ref()}}; }
  } colliding;
  EXPECT_THROW(save(path, colliding), ConfigError);
  EXPECT_EQ(read_bytes(path), old);
  EXPECT_EQ(folder.names().size(), 1u);
}

TEST(SparseCode, EveryMaskComesBack) {
  for (const Index size : {1, 63, 64, 65, 255, 256, 510, 511, 1000, 5000, 65535, 65536, 200000}) {
    for (const double live : {0.0, 0.0001, 0.001, 0.01, 0.3, 1.0}) {
      const Mask mask = random_mask(size, live, static_cast<std::uint64_t>(size));
      const detail::MaskCode code = detail::encode_mask(mask);
      EXPECT_EQ(detail::decode_mask(code, size, mask.live(), "test: "), mask)
          << size << ", " << live << ", " << code.form;
      EXPECT_EQ(detail::decode_mask(code, size, detail::any_count, "test: "), mask);
      EXPECT_LE(code.bytes.size(), (size + 7) / 8);
      EXPECT_THROW(detail::decode_mask(code, size, mask.live() + 1, "test: "), FormatError);
      EXPECT_THROW(detail::decode_mask(code, size + 300, mask.live(), "test: "), FormatError);
      if (size <= 8) continue;
      EXPECT_THROW(detail::decode_mask(code, size - 8, mask.live(), "test: "), FormatError) << size;
    }
  }
}

TEST(SparseCode, BrokenCodes) {
  auto decode = [](const char* form, std::vector<std::uint8_t> bytes, Index size, Index live) {
    const Index n = static_cast<Index>(bytes.size());
    return detail::decode_mask({form, Tensor::from(bytes, {n})}, size, live, "test: ");
  };
  EXPECT_EQ(decode("gaps", {1, 0, 1}, 4, 2).words().front(), 0b0110u);
  EXPECT_EQ(decode("gaps", {255, 0, 0}, 256, 1).live(), 1);
  EXPECT_ERROR(
      FormatError, [&] { decode("gaps", {}, 0, 0); }, "test: ");
  EXPECT_THROW(decode("gaps", {255}, 255, 0), FormatError);
  EXPECT_THROW(decode("gaps", {4, 0}, 4, 1), FormatError);
  EXPECT_THROW(decode("gaps", {9, 0}, 4, 1), FormatError);
  EXPECT_THROW(decode("gaps", {0, 1}, 4, 1), FormatError);
  EXPECT_EQ(decode("gaps16", {1, 0, 0, 0, 1, 0}, 4, 2).words().front(), 0b0110u);
  EXPECT_EQ(decode("gaps16", {255, 255, 0, 1, 0, 0}, 65535 + 257, 1).live(), 1);
  EXPECT_THROW(decode("gaps16", {1, 0, 0}, 1, 0), FormatError);
  EXPECT_THROW(decode("gaps16", {255, 255}, 65535, 0), FormatError);
  EXPECT_THROW(decode("gaps16", {0, 0, 1, 0}, 4, 1), FormatError);
  EXPECT_THROW(decode("bits", {0x1f}, 4, 5), FormatError);
  EXPECT_THROW(decode("bits", {1, 0}, 4, 1), FormatError);
  EXPECT_FALSE(decode("bits", {}, 0, 0).defined());
}

}  // namespace
}  // namespace espalier::io
