// Every row of the op table, tried in every way. See op_cases.h for what a row is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <regex>
#include <set>
#include <sstream>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/autograd/op_cases.h"
#include "tests/support.h"

namespace espalier::testing {
namespace {

using Kind = Lengths::Kind;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// The distance to the nearest kink is at least `apart`.
double moved_apart(double x, const Domain& domain) {
  if (domain.apart == 0) return x;
  for (const double kink : {0., domain.apart_from, -domain.apart_from})
    if (std::abs(x - kink) < domain.apart) return kink + (x < kink ? -domain.apart : domain.apart);
  return x;
}

Array draw_values(const Shape& shape, const Domain& domain, Rng& rng) {
  Array a(shape);
  for (double& v : a.values) v = moved_apart(domain.low + (domain.high - domain.low) * rng.uniform(), domain);
  return a;
}

Tensor to_tensor(const Array& a, DType type = DType::f64) { return Tensor::from(a.values, a.shape).to(type); }

std::vector<Array> draw_inputs(const OpCase& row, unsigned seed, Kind kind) {
  Lengths lengths(seed, kind);
  Rng rng(seed);
  std::vector<Array> inputs;
  for (const Shape& shape : row.shapes(lengths)) inputs.push_back(draw_values(shape, row.domain, rng));
  return inputs;
}

std::vector<Tensor> tensors(const std::vector<Array>& arrays, DType type = DType::f64) {
  std::vector<Tensor> result;
  for (const Array& a : arrays) result.push_back(to_tensor(a, type));
  return result;
}

Tensor call(const OpCase& row, const std::vector<Tensor>& inputs) {
  return row.call(std::vector<Variable>(inputs.begin(), inputs.end())).value();
}

/// Output, and gradients of <weights, output> by each input.
struct Both {
  Tensor value;
  std::vector<Tensor> gradients;
};
Both forward_backward(const OpCase& row, const std::vector<Tensor>& inputs) {
  Tape tape;
  std::vector<Variable> x;
  for (const Tensor& t : inputs) x.push_back(tape.watch(t));
  const Variable y = row.call(x);
  Rng rng(99);
  const Variable weights(rng.uniform(y.shape(), -1, 1, DType::f64).to(y.dtype()));
  Both both{y.value(), {}};
  for (const Variable& g : tape.gradient({&y, 1}, {&weights, 1}, x)) both.gradients.push_back(g.value());
  return both;
}

/// |a - b| <= relative * max(1, largest |b|) everywhere; NaN only against NaN.
::testing::AssertionResult close(const Tensor& a, const Tensor& b, double relative) {
  if (!(a.shape() == b.shape())) return ::testing::AssertionFailure() << "shapes " << a.shape() << " and " << b.shape();
  const std::vector<double> x = a.to(DType::f64).to_vector<double>(), y = b.to(DType::f64).to_vector<double>();
  double scale = 1;
  for (double v : y)
    if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool same =
        x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])) || std::abs(x[i] - y[i]) <= relative * scale;
    if (!same)
      return ::testing::AssertionFailure() << "element " << i << " of " << a.shape() << ": " << x[i] << " and " << y[i];
  }
  return ::testing::AssertionSuccess();
}

class OpTable : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpTable, ValueIsThePlainLoops) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<Array> inputs = draw_inputs(GetParam(), seed, Kind::small);
    EXPECT_TRUE(close(call(GetParam(), tensors(inputs)), to_tensor(GetParam().reference(inputs)), 1e-13)) << seed;
  }
}

TEST_P(OpTable, EmptyInputsGiveTheirShapesAndGradients) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<Array> inputs = draw_inputs(GetParam(), seed, Kind::empty);
    const Both both = forward_backward(GetParam(), tensors(inputs));
    EXPECT_TRUE(close(both.value, to_tensor(GetParam().reference(inputs)), 1e-13)) << seed;
    for (std::size_t k = 0; k < inputs.size(); ++k) EXPECT_EQ(both.gradients[k].shape(), inputs[k].shape) << seed;
  }
}

TEST_P(OpTable, GradientsAgreeWithDifferences) {
  const OpCase& row = GetParam();
  for (unsigned seed = 0; seed < 6; ++seed) {
    const GradcheckResult result =
        gradcheck(row.call, tensors(draw_inputs(row, seed, Kind::small)), {.atol = 1e-7, .rtol = 1e-6});
    EXPECT_TRUE(result) << result.message;
  }
}

TEST_P(OpTable, SecondGradientsAgreeWithDifferencesOrAreRefused) {
  const OpCase& row = GetParam();
  for (unsigned seed = 0; seed < 3; ++seed) {
    const std::vector<Tensor> inputs = tensors(draw_inputs(row, seed, Kind::small));
    if (!row.twice) {
      EXPECT_TRUE(throws<GradError>([&] { gradgradcheck(row.call, inputs); }, row.op(), "once"));
      continue;
    }
    const GradcheckResult result = gradgradcheck(row.call, inputs, {.atol = 1e-6, .rtol = 1e-5});
    EXPECT_TRUE(result) << result.message;
  }
}

/// The same values in another memory order: axes reversed, every second element of a longer one, NaN in between.
Tensor strided(const Tensor& t, unsigned how) {
  if (t.rank() == 0) return t;
  Tensor dense = t;
  Dims reversed;
  for (int axis = t.rank(); axis-- > 0;) reversed.push_back(axis);
  if (how & 1) dense = dense.permute(reversed);
  Shape wide = dense.shape();
  if (how & 2) wide[-1] = 2 * wide[-1];
  Tensor view = Tensor::full(wide, nan, t.dtype());
  if (how & 2) view = view.slice(-1, 0, wide[-1], 2);
  view.copy_from(dense);
  return how & 1 ? view.permute(reversed) : view;
}

TEST_P(OpTable, StridedInputsGiveTheSame) {
  for (unsigned seed = 0; seed < 8; ++seed) {
    const std::vector<Tensor> inputs = tensors(draw_inputs(GetParam(), seed, Kind::small));
    const Both dense = forward_backward(GetParam(), inputs);
    for (unsigned how = 1; how < 4; ++how) {
      std::vector<Tensor> views;
      for (const Tensor& t : inputs) views.push_back(strided(t, how));
      const Both viewed = forward_backward(GetParam(), views);
      EXPECT_TRUE(close(viewed.value, dense.value, 1e-14));
      for (std::size_t k = 0; k < inputs.size(); ++k)
        EXPECT_TRUE(close(viewed.gradients[k], dense.gradients[k], 1e-14));
    }
    std::vector<Tensor> mixed;
    for (const Tensor& t : inputs) mixed.push_back(strided(t, mixed.size() % 2 ? 1 : 3));
    const GradcheckResult result = gradcheck(GetParam().call, mixed, {.atol = 1e-7, .rtol = 1e-6});
    EXPECT_TRUE(result) << result.message;
  }
}

TEST_P(OpTable, WithoutATapeNothingIsRecordedAndTheBytesAreTheSame) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    const std::vector<Tensor> inputs = tensors(draw_inputs(GetParam(), seed, Kind::small), DType::f32);
    const std::vector<Variable> constants(inputs.begin(), inputs.end());
    const Variable plain = GetParam().call(constants);
    EXPECT_FALSE(plain.recorded());
    Tape tape;
    const Variable of_constants = GetParam().call(constants);
    EXPECT_FALSE(of_constants.recorded());
    EXPECT_EQ(tape.size(), 0u);
    std::vector<Variable> watched;
    for (const Tensor& t : inputs) watched.push_back(tape.watch(t));
    const std::size_t leaves = tape.size();
    {
      const NoTape quiet;
      EXPECT_FALSE(GetParam().call(watched).recorded());
      EXPECT_EQ(tape.size(), leaves);
    }
    const Variable recorded = GetParam().call(watched);
    EXPECT_TRUE(recorded.recorded());
    EXPECT_TRUE(same_bytes(plain.value(), recorded.value()));
    EXPECT_TRUE(same_bytes(plain.value(), of_constants.value()));
  }
}

TEST_P(OpTable, F32AgreesWithF64) {
  const OpCase& row = GetParam();
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::vector<Tensor> narrow = tensors(draw_inputs(row, seed, Kind::small), DType::f32), wide;
    for (const Tensor& t : narrow) wide.push_back(t.to(DType::f64));
    const Both a = forward_backward(row, narrow), b = forward_backward(row, wide);
    EXPECT_EQ(a.value.dtype(), DType::f32);
    EXPECT_TRUE(close(a.value, b.value, row.f32_error));
    for (std::size_t k = 0; k < narrow.size(); ++k) {
      EXPECT_EQ(a.gradients[k].dtype(), DType::f32);
      EXPECT_TRUE(close(a.gradients[k], b.gradients[k], 4 * row.f32_error)) << "gradient " << k;
    }
  }
}

TEST_P(OpTable, SameBytesAtAnyThreadCount) {
  for (DType type : {DType::f32, DType::f64}) {
    const std::vector<Tensor> inputs = tensors(draw_inputs(GetParam(), 1, Kind::large), type);
    const Threads use_one(1);
    const Both one = forward_backward(GetParam(), inputs);
    for (int n : {2, 4}) {
      const Threads use(n);
      const Both many = forward_backward(GetParam(), inputs);
      EXPECT_TRUE(same_bytes(one.value, many.value)) << n << " threads";
      for (std::size_t k = 0; k < inputs.size(); ++k)
        EXPECT_TRUE(same_bytes(one.gradients[k], many.gradients[k])) << n << " threads, gradient " << k;
    }
  }
}

TEST_P(OpTable, LargeInputsAgreeWithThePlainLoop) {
  const std::vector<Array> inputs = draw_inputs(GetParam(), 2, Kind::large);
  EXPECT_TRUE(close(call(GetParam(), tensors(inputs)), to_tensor(GetParam().reference(inputs)), 1e-12));
}

TEST_P(OpTable, SpecialValuesAreThePlainLoops) {
  if (!GetParam().special) return;  // only elementwise references say what NaN and infinity give
  constexpr double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> special = {nan, inf, -inf, 0., -0., 1., -1., 700., -700., 1e300, -1e300, 1e-300};
  const auto n = static_cast<Index>(special.size());
  Lengths lengths(0, Kind::small);
  std::vector<Array> inputs(GetParam().shapes(lengths).size(), Array({n, n}));
  for (Index i = 0; i < n * n; ++i)
    for (std::size_t k = 0; k < inputs.size(); ++k)
      inputs[k][i] = special[static_cast<std::size_t>(k == 0 ? i / n : i % n)];
  const Tensor y = call(GetParam(), tensors(inputs)), expected = to_tensor(GetParam().reference(inputs));
  for (Index i = 0; i < n * n; ++i) {
    const double a = y.data<double>()[i], b = expected.data<double>()[i];
    EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= 1e-13 * std::abs(b))
        << "of " << inputs[0][i] << (inputs.size() > 1 ? join(" and ", inputs[1][i]) : "") << ": " << a << ", not "
        << b;
  }
}

TEST_P(OpTable, InputsAreLeftAloneAndLaterChangesAreErrorsOrHarmless) {
  const OpCase& row = GetParam();
  const std::vector<Tensor> inputs = tensors(draw_inputs(row, 4, Kind::small));
  std::vector<Tensor> before;
  for (const Tensor& t : inputs) before.push_back(t.clone());
  const Both both = forward_backward(row, inputs);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    EXPECT_TRUE(same_bytes(inputs[k], before[k]));
    EXPECT_LE(inputs[k].version(), before[k].version()) << "written to";
  }
  for (std::size_t changed = 0; changed < inputs.size(); ++changed) {
    std::vector<Tensor> fresh;
    for (const Tensor& t : before) fresh.push_back(t.clone());
    Tape tape;
    std::vector<Variable> x;
    for (const Tensor& t : fresh) x.push_back(tape.watch(t));
    const Variable y = row.call(x);
    if (y.value().shares_storage(fresh[changed])) continue;  // a view changes with what it shows
    Rng rng(99);
    const Variable weights(rng.uniform(y.shape(), -1, 1, DType::f64));
    fresh[changed].fill(0.125, "the test");
    try {
      const std::vector<Variable> gradients = tape.gradient({&y, 1}, {&weights, 1}, x);
      for (std::size_t k = 0; k < x.size(); ++k)
        EXPECT_TRUE(same_bytes(gradients[k].value(), both.gradients[k]))
            << "input " << changed << " was changed unseen";
    } catch (const GradError& error) {
      EXPECT_NE(std::string(error.what()).find("[the test]"), std::string::npos) << error.what();
    }
  }
}

TEST_P(OpTable, OtherElementTypesAreErrors) {
  const std::vector<Tensor> inputs = tensors(draw_inputs(GetParam(), 4, Kind::small));
  if (inputs.size() > 1) {  // no promotion
    std::vector<Tensor> mixed = inputs;
    mixed[0] = mixed[0].to(DType::f32);
    EXPECT_THROW(call(GetParam(), mixed), DTypeError);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTable, ::testing::ValuesIn(op_cases()), [](const auto& instance) {
  std::string name = instance.param.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

// --- the table is complete -------------------------------------------------------------------------------------------

/// Functions declared in the headers of autograd/ops that return a Variable, or several; and objects that are called.
std::set<std::string> declared_ops() {
  std::set<std::string> names;
  const std::regex comment("//[^\n]*"),
      declaration(R"((?:Variable|std::vector<Variable>|\w+Result)\s+([a-z]\w*)\s*\()"), object(R"(\} ([a-z]\w*)\{\};)");
  for (const auto& entry : std::filesystem::directory_iterator(ESPALIER_SOURCE_DIR "/autograd/ops")) {
    if (entry.path().extension() != ".h") continue;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string code = std::regex_replace(text.str(), comment, "");
    for (const std::regex& form : {declaration, object})
      for (auto it = std::sregex_iterator(code.begin(), code.end(), form); it != std::sregex_iterator(); ++it)
        if (!(*it)[1].str().starts_with("operator")) names.insert((*it)[1]);
  }
  return names;
}

TEST(OpTableItself, EveryDeclaredOpHasARow) {
  const std::set<std::string> declared = declared_ops();
  EXPECT_GE(declared.size(), 20u) << "the headers were not found";
  std::set<std::string> rows;
  for (const OpCase& row : op_cases()) rows.insert(row.op());
  for (const std::string& op : declared)
    EXPECT_TRUE(rows.contains(op)) << op << " has no row. Add one to tests/autograd/op_cases_<family>.cpp";
  for (const std::string& op : rows) EXPECT_TRUE(declared.contains(op)) << op << " has a row but is not declared";
}

TEST(OpTableItself, OperatorsCallTheirFunctions) {
  const Variable a(Tensor::from({1., -2., 3.})), b(Tensor::from({0.5, 4., -1.}));
  EXPECT_TRUE(same_bytes((a + b).value(), add(a, b).value()));
  EXPECT_TRUE(same_bytes((a - b).value(), sub(a, b).value()));
  EXPECT_TRUE(same_bytes((a * b).value(), mul(a, b).value()));
  EXPECT_TRUE(same_bytes((a / b).value(), div(a, b).value()));
  EXPECT_TRUE(same_bytes((-a).value(), neg(a).value()));
  EXPECT_EQ((a + 1).value().to_vector<double>(), (std::vector<double>{2, -1, 4}));
  EXPECT_EQ((1 + a).value().to_vector<double>(), (std::vector<double>{2, -1, 4}));
  EXPECT_EQ((a - 1).value().to_vector<double>(), (std::vector<double>{0, -3, 2}));
  EXPECT_EQ((1 - a).value().to_vector<double>(), (std::vector<double>{0, 3, -2}));
  EXPECT_EQ((2 * a).value().to_vector<double>(), (std::vector<double>{2, -4, 6}));
  EXPECT_EQ((a * 2).value().to_vector<double>(), (std::vector<double>{2, -4, 6}));
  EXPECT_EQ((a / 2).value().to_vector<double>(), (std::vector<double>{0.5, -1, 1.5}));
  EXPECT_EQ((6 / a).value().to_vector<double>(), (std::vector<double>{6, -3, 2}));
}

}  // namespace
}  // namespace espalier::testing
