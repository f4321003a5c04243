// The runner itself: a forged case must fail, and fail for the right reason.
#include "tests/golden/runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "espalier/io/safetensors.h"

namespace espalier::golden {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor f32(std::initializer_list<float> values) { return Tensor::from(values); }
Tensor f64(std::initializer_list<double> values) { return Tensor::from(values); }

class GoldenRunner : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() / (std::string("espalier_golden_") + test->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "deeper");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  using Metadata = std::map<std::string, std::string>;

  /// A case of kind "ops" with one input and one output; `changes` replaces metadata, "" removes it.
  void write(const std::string& name, std::vector<io::NamedTensor> tensors, const Metadata& changes = {}) {
    Metadata metadata = {{"format", "espalier-golden-1"},
                         {"case", "ops/" + name},
                         {"kind", "ops"},
                         {"op", "tanh"},
                         {"args", "{}"},
                         {"inputs", "[\"input\"]"},
                         {"wrt", "[\"input\"]"},
                         {"nout", "1"},
                         {"dtypes", "[\"f32\", \"f64\"]"},
                         {"tol", R"({"f32": {"rtol": 1e-5, "atol": 2e-6}, "f64": {"rtol": 1e-10, "atol": 1e-12}})"}};
    for (const auto& [key, text] : changes) {
      if (text.empty())
        metadata.erase(key);
      else
        metadata[key] = text;
    }
    io::write_safetensors((folder_ / "deeper" / (name + ".safetensors")).string(), {std::move(tensors), metadata});
  }

  /// tanh at 0 and 1/2 with the gradient for weights 1 and 2, `wrong` added to one expected value.
  std::vector<io::NamedTensor> tanh_case(double wrong = 0) {
    const double y = std::tanh(0.5);
    return {{"in.input", f32({0, 0.5f})},
            {"out.0", f64({0, y})},
            {"gout.0", f32({1, 2})},
            {"grad.input", f64({1, 2 * (1 - y * y) + wrong})}};
  }

  int run(const std::string& filter = "", bool list = false) {
    std::ostringstream out;
    const int code = run_all({{folder_.string()}, filter, list}, out);
    said_ = out.str();
    return code;
  }
  /// The last line of what was printed.
  std::string last() const {
    const std::size_t end = said_.find_last_not_of('\n');
    const std::size_t before = said_.rfind('\n', end);
    return said_.substr(before == std::string::npos ? 0 : before + 1,
                        end - (before == std::string::npos ? 0 : before + 1) + 1);
  }
  bool said(const std::string& text) const { return said_.find(text) != std::string::npos; }

  std::filesystem::path folder_;
  std::string said_;
};

TEST_F(GoldenRunner, CountsACaseOnceHoweverManyPrecisionsItHas) {
  write("right", tanh_case());
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(said_, "1 passed, 0 failed, 0 unsupported\n");
}

TEST_F(GoldenRunner, ReportsAForgedValueWithPlaceAndError) {
  write("right", tanh_case());
  write("wrong", tanh_case(1e-3));
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(last(), "1 passed, 1 failed, 0 unsupported");
  EXPECT_TRUE(said("FAILED ops/wrong: grad.input, f32: 1 of 2 wrong; largest error at [1]")) << said_;
  EXPECT_TRUE(said("FAILED ops/wrong: grad.input, f64")) << said_;
  EXPECT_TRUE(said("allowed")) << said_;
}

TEST_F(GoldenRunner, FailsACaseThatOnlyOnePrecisionMisses) {
  write("close", tanh_case(1e-7));  // within the tolerance of f32, not of f64
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(last(), "0 passed, 1 failed, 0 unsupported");
  EXPECT_FALSE(said("f32")) << said_;
}

TEST_F(GoldenRunner, TakesThePrecisionsOfTheTolerancesWithoutAList) {
  write("close", tanh_case(1e-7), {{"dtypes", ""}, {"tol", R"({"f32": {"rtol": 1e-5, "atol": 2e-6}})"}});
  EXPECT_EQ(run(), 0) << said_;
  write("none", tanh_case(), {{"dtypes", ""}, {"tol", "{}"}});
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(said("names no precision")) << said_;
}

TEST_F(GoldenRunner, CountsWhatItDoesNotKnow) {
  write("unknown", tanh_case(), {{"op", "no_such_op"}});
  write("kind", tanh_case(), {{"kind", "no_such_kind"}});
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(said_, "0 passed, 0 failed, 2 unsupported\n");
  EXPECT_EQ(run("unknown", true), 0);
  EXPECT_TRUE(said("unsupported ops/unknown: no row for ops/no_such_op")) << said_;
  EXPECT_EQ(last(), "0 passed, 0 failed, 1 unsupported");
}

TEST_F(GoldenRunner, NothingExpectedGoesUncompared) {
  auto tensors = tanh_case();
  tensors.push_back({"out.1", f64({1})});
  write("more", tensors, {{"nout", "2"}});
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(said("1 outputs, expected 2")) << said_;
  EXPECT_TRUE(said("out.1, f64: expected, but the runner produced none")) << said_;
}

TEST_F(GoldenRunner, WrongShapesAndTypesFail) {
  auto shape = tanh_case();
  shape[1].tensor = Tensor::zeros({2, 1}, DType::f64);
  write("shape", shape);
  auto type = tanh_case();
  type[1].tensor = Tensor::zeros({2}, DType::i64);
  write("type", type);
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(said("ops/shape: out.0, f32: shape [2], expected [2, 1]")) << said_;
  EXPECT_TRUE(said("ops/type: out.0, f32: element type f32, expected i64")) << said_;
}

TEST_F(GoldenRunner, AListOfOneSizeIsNoNumber) {
  write("split", {{"in.input", f32({})}, {"out.0", f64({})}},
        {{"op", "split"}, {"args", R"({"split_size": [0], "dim": 0})"}, {"wrt", "[]"}});
  EXPECT_EQ(run(), 0) << said_;
}

TEST_F(GoldenRunner, NanAndInfinityMustBeMet) {
  const auto nonfinite = [](std::initializer_list<double> expected) {
    return std::vector<io::NamedTensor>{{"in.input", f32({float(nan), float(infinity), float(-infinity)})},
                                        {"out.0", f64(expected)}};
  };
  const Metadata relu = {{"op", "relu"}, {"wrt", "[]"}};
  write("right", nonfinite({nan, infinity, 0}), relu);
  write("nan_due", nonfinite({nan, nan, 0}), relu);
  write("nan_not_due", nonfinite({0, infinity, 0}), relu);
  write("sign", nonfinite({nan, -infinity, 0}), relu);
  write("finite_due", nonfinite({nan, 1e300, 0}), relu);
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(last(), "1 passed, 4 failed, 0 unsupported") << said_;
}

TEST_F(GoldenRunner, GradientsOfViewsAreThoseOfTheBase) {
  // neg of base[::2]: the elements between have no gradient.
  const std::vector<io::NamedTensor> tensors = {{"in.input", f32({1, 2, 3, 4})},
                                                {"out.0", f64({-1, -3})},
                                                {"gout.0", f32({10, 20})},
                                                {"grad.input", f64({-10, 0, -20, 0})}};
  write("slice", tensors, {{"op", "neg"}, {"views", R"({"input": [["slice", 0, 0, 4, 2]]})"}});
  // neg of one row repeated three times, transposed: the base's gradient is a sum.
  const std::vector<io::NamedTensor> repeated = {{"in.input", f32({1, 2})},
                                                 {"out.0", Tensor::from<double>({-1, -1, -1, -2, -2, -2}, {2, 3})},
                                                 {"gout.0", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3})},
                                                 {"grad.input", f64({-6, -15})}};
  write("expand", repeated, {{"op", "neg"}, {"views", R"({"input": [["expand", [3, 2]], ["permute", [1, 0]]]})"}});
  EXPECT_EQ(run(), 0) << said_;
  EXPECT_EQ(last(), "2 passed, 0 failed, 0 unsupported");
}

TEST_F(GoldenRunner, ACaseThatMustRaiseFailsIfItDoesNot) {
  const std::vector<io::NamedTensor> finite = {{"in.g0", f32({3, 4})}};
  const std::vector<io::NamedTensor> broken = {{"in.g0", f32({3, float(nan)})}};
  const Metadata clip = {{"kind", "clip"},
                         {"op", "clip_grad_norm"},
                         {"raises", "true"},
                         {"args", R"({"max_norm": 1.0, "norm_type": "inf", "error_if_nonfinite": true})"}};
  write("broken", broken, clip);
  EXPECT_EQ(run(), 0) << said_;
  write("finite", finite, clip);
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(said("no error was reported, but one is due")) << said_;
  EXPECT_EQ(last(), "1 passed, 1 failed, 0 unsupported");
}

TEST_F(GoldenRunner, AnUnexpectedErrorIsAFailure) {
  write("throws", {{"in.input", f32({1, 2})}, {"in.other", f32({1, 2, 3})}, {"out.0", f64({1, 2})}},
        {{"op", "add"}, {"inputs", R"(["input", "other"])"}, {"wrt", "[]"}});
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(said("FAILED ops/throws: no tensor, f32: unexpected error: [add]")) << said_;
}

TEST_F(GoldenRunner, FilesThatAreNoCasesFail) {
  std::ofstream(folder_ / "cut.safetensors") << "no header";
  io::write_safetensors((folder_ / "other.safetensors").string(), {{{"x", f32({1})}}, {}});
  write("args", tanh_case(), {{"args", "{\"broken\""}});
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(last(), "0 passed, 3 failed, 0 unsupported") << said_;
  EXPECT_TRUE(said("is no golden case")) << said_;
}

TEST_F(GoldenRunner, AMissingFolderIsAnError) {
  std::ostringstream out;
  EXPECT_THROW(run_all({{(folder_ / "nowhere").string()}, "", false}, out), IoError);
}

TEST(GoldenTable, HoldsEveryKind) {
  std::map<std::string, int> rows;
  for (const auto& [key, run] : make_table()) ++rows[key.first];
  for (const char* kind : {"ops", "clip", "optim", "prune", "e2e"}) EXPECT_GT(rows[kind], 0) << kind;
}

TEST(GoldenArgs, ReadsWhatCasesHold) {
  const Args args =
      Args::parse(R"({"a": "inf", "b": "-inf", "n": 3, "f": 2.0, "none": null, "t": true, "l": [1, -2]})");
  EXPECT_EQ(args.number("a"), infinity);
  EXPECT_EQ(args.number("b"), -infinity);
  EXPECT_EQ(args.integer("f"), 2);
  EXPECT_FALSE(args.has("none"));
  EXPECT_EQ(args.number("none", 7), 7);
  EXPECT_TRUE(args.flag("t"));
  EXPECT_EQ(args.integers("l"), (std::vector<Index>{1, -2}));
  EXPECT_EQ(args.integers("n"), std::vector<Index>{3});
  EXPECT_THROW(args.number("missing"), FormatError);
  EXPECT_THROW(args.number("t"), FormatError);
  EXPECT_THROW(args.text("n"), FormatError);
  EXPECT_THROW(args.expect("n", 4), Unsupported);
  EXPECT_NO_THROW(args.expect("n", 3));
  EXPECT_THROW(Args::parse("[1]"), FormatError);
  EXPECT_THROW(Args::parse("{"), FormatError);
}

}  // namespace
}  // namespace espalier::golden
