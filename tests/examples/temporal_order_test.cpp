// The temporal-order experiment as a user runs it: what it learns, its exit codes, and its picture.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/examples/program.h"

namespace {

using Json = nlohmann::json;

/// What is wrong with this XML, "" if nothing is: one element with balanced tags, quoted attributes, and no bare < or &.
std::string xml_fault(std::string_view text) {
  std::vector<std::string> open;
  bool had_root = false;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '&' && text.substr(i, 5) != "&amp;" && text.substr(i, 4) != "&lt;") return "bare &";
    if (text[i] != '<') {
      if (open.empty() && !std::isspace(static_cast<unsigned char>(text[i]))) return "text outside of the root";
      ++i;
      continue;
    }
    const bool closing = text.substr(i, 2) == "</";
    i += closing ? 2 : 1;
    const std::size_t name_end = text.find_first_of(" \n/>", i);
    if (name_end == std::string_view::npos || name_end == i) return "a tag without a name";
    const std::string name(text.substr(i, name_end - i));
    i = name_end;
    if (closing) {
      if (open.empty() || open.back() != name || text[i] != '>') return "</" + name + "> closes nothing";
      open.pop_back();
      ++i;
      continue;
    }
    if (open.empty() && had_root) return "a second root";
    had_root = true;
    while (text[i] != '>' && text.substr(i, 2) != "/>") {  // attributes
      if (std::isspace(static_cast<unsigned char>(text[i]))) {
        ++i;
        continue;
      }
      const std::size_t equals = text.find_first_of("=<> \"", i);
      if (equals == std::string_view::npos || text.substr(equals, 2) != "=\"") return "an attribute of " + name;
      const std::size_t quote = text.find_first_of("\"<", equals + 2);
      if (quote == std::string_view::npos || text[quote] != '"') return "an open quote in " + name;
      i = quote + 1;
      if (i >= text.size()) return "an open tag " + name;
    }
    if (text[i] == '>') open.push_back(name);
    i += text[i] == '>' ? 1u : 2u;
  }
  if (!open.empty()) return "<" + open.back() + "> is never closed";
  return had_root ? "" : "no element";
}

TEST(XmlFault, FindsWhatIsWrong) {
  EXPECT_EQ(xml_fault("<a b=\"1\">x &lt; y<c/>\n</a>\n"), "");
  for (const char* wrong : {"", "a", "<a>", "<a></b>", "<a b=1/>", "<a b=\"1/>", "<a/><a/>", "<a>&</a>",
                            "<a><b></a></b>", "<a>1 < 2</a>", "<a b=\"<\"/>"})
    EXPECT_NE(xml_fault(wrong), "") << wrong;
}

Json of_arm(const Json& result, bool clipped) {
  Json runs = Json::array();
  for (const Json& run : result["runs"])
    if (run["clipped"] == clipped) runs.push_back(run);
  return runs;
}

class TemporalOrder : public ProgramTest {
 protected:
  TemporalOrder() : ProgramTest("temporal_order") {}
  /// Runs it; its figures, without the times.
  Json result(const std::string& arguments) {
    EXPECT_EQ(run_here(arguments + " --plot " + path("plot.svg") + " --json " + path("figures.json")), 0) << output();
    Json json = Json::parse(content(path("figures.json")));
    for (Json& run : json["runs"]) run.erase("seconds");
    return json;
  }
  std::string plot() const { return content(path("plot.svg")); }
  std::size_t curves(const std::string& arm) const {
    const std::string svg = plot(), start = "<polyline class=\"" + arm + "\"";
    std::size_t count = 0;
    for (std::size_t at = svg.find(start); at != std::string::npos; at = svg.find(start, at + 1)) ++count;
    return count;
  }
};

TEST_F(TemporalOrder, LearnsAShortLengthAndDrawsBothArms) {
  const Json json = result("--length 20 --init orthogonal --lr 0.03 --seeds 2 --updates 4000 --test 2000 --every 250");
  ASSERT_EQ(of_arm(json, true).size(), 2u);
  ASSERT_EQ(of_arm(json, false).size(), 2u);
  for (const Json& run : of_arm(json, true)) {
    EXPECT_EQ(run["outcome"], "solved") << run["seed"];
    EXPECT_LT(run["error"].get<double>(), 0.01);
    EXPECT_LT(run["updates"].get<int>(), 4000) << "a run stops where it has solved the task";
    EXPECT_EQ(run["updates"].get<int>() % 250, 0);
    const Json& curve = run["curve"];
    EXPECT_EQ(curve["updates"].size(), run["updates"].get<std::size_t>() / 250);
    EXPECT_EQ(curve["error"].size(), curve["updates"].size());
    EXPECT_EQ(run["largest_norm"], *std::max_element(curve["largest_norm"].begin(), curve["largest_norm"].end()));
  }
  for (const char* word : {"seed", "clipped", "unclipped", "solved", "largest norm", "clipped: 2 of 2 solved"})
    EXPECT_NE(output().find(word), std::string::npos) << word << "\n" << output();
  EXPECT_EQ(output().find('\033'), std::string::npos) << "plain text when piped";

  EXPECT_EQ(xml_fault(plot()), "") << plot();
  // The share of solved seeds, then errors and norms of two runs.
  EXPECT_EQ(curves("clipped"), 5u);
  EXPECT_EQ(curves("unclipped"), 5u);
  for (const char* words :
       {"updates<", "Seeds that have solved", "Wrong answers", "Largest norm", "clipped at norm 1<"})
    EXPECT_NE(plot().find(words), std::string::npos) << words;
  EXPECT_EQ(plot().find("nan"), std::string::npos);
  EXPECT_EQ(plot().find("inf"), std::string::npos);
}

TEST_F(TemporalOrder, GivesBothArmsTheSameWeightsAndSequences) {
  const std::string small =
      "--length 12 --hidden 8 --seeds 1 --updates 60 --every 25 --test 100 --init basic --lr 0.05";
  const Json json = result(small + " --clip 1e9");  // which never clips
  Json clipped = of_arm(json, true)[0], unclipped = of_arm(json, false)[0];
  clipped.erase("clipped");
  unclipped.erase("clipped");
  EXPECT_EQ(clipped, unclipped);
  EXPECT_EQ(unclipped["curve"]["updates"], Json({25, 50, 60}));
  EXPECT_EQ(result(small + " --clip 1e9"), json) << "the same command, the same figures";

  const Json tight = result(small + " --clip 1e-3");
  EXPECT_NE(of_arm(tight, true)[0]["curve"]["largest_norm"], of_arm(tight, false)[0]["curve"]["largest_norm"]);
  EXPECT_EQ(of_arm(tight, true)[0]["curve"]["clipped_share"][0], 1);

  const Json none = result(small + " --clip none --first-seed 1");
  EXPECT_EQ(of_arm(none, true).size(), 0u);
  EXPECT_EQ(of_arm(none, false)[0]["curve"]["error"], of_arm(json, false)[0]["curve"]["error"]);
  EXPECT_EQ(curves("clipped"), 0u);
  EXPECT_EQ(curves("unclipped"), 3u);
}

TEST_F(TemporalOrder, ReportsARunWhoseGradientIsNoLongerFinite) {
  // The first update makes weights of 1e300 out of f32's range.
  const Json json = result("--length 10 --hidden 4 --seeds 1 --updates 20 --every 5 --test 50 --init basic --lr 1e300");
  ASSERT_EQ(json["runs"].size(), 2u);
  for (const Json& run : json["runs"]) {
    EXPECT_EQ(run["outcome"], "diverged");
    EXPECT_LT(run["updates"].get<int>(), 20);
    EXPECT_TRUE(run["error"].is_null());
  }
  EXPECT_NE(output().find("diverged"), std::string::npos);
  EXPECT_NE(output().find("clipped: 0 of 1 solved"), std::string::npos);
  EXPECT_EQ(xml_fault(plot()), "");
}

TEST_F(TemporalOrder, ExplainsItselfAndRefusesWhatMakesNoSense) {
  EXPECT_EQ(run_here("--help"), 0);
  for (const char* flag : {"--length", "--seeds", "--first-seed", "--updates", "--clip", "--lr", "--hidden", "--batch",
                           "--init", "--every", "--test", "--plot", "--json"})
    EXPECT_NE(output().find(flag), std::string::npos) << flag;
  for (const char* wrong : {"--length 9", "--length many", "--seeds 0", "--updates 0", "--clip 0", "--clip -1",
                            "--clip nan", "--clip some", "--lr 0", "--init clever", "--leng 10", "extra"})
    EXPECT_EQ(run_here(wrong), 2) << wrong << "\n" << output();
}

TEST_F(TemporalOrder, SaysBeforeItTrainsThatAFileCannotBeWritten) {
  EXPECT_EQ(run_here("--plot " + path("nowhere/plot.svg")), 3);
  EXPECT_NE(output().find("[plot] cannot write"), std::string::npos) << output();
  EXPECT_EQ(run_here("--plot " + path("plot.svg") + " --json " + path("nowhere/figures.json")), 3);
  EXPECT_NE(output().find("[json] cannot write"), std::string::npos) << output();
}

}  // namespace
