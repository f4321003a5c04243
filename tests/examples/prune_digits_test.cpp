// The main job as a user runs it: exit codes, the figures it promises, and the same bytes at any thread count.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/examples/program.h"

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class PruneDigits : public ProgramTest {
 protected:
  PruneDigits() : ProgramTest("prune_digits") {}
  Json job(const std::string& arguments, const std::string& out) {
    EXPECT_EQ(run_here(arguments + " --out " + path(out) + " --json " + path(out + ".json")), 0) << output();
    return Json::parse(content(path(out + ".json")));
  }
};

TEST_F(PruneDigits, KeepsItsPromisesOnTheShippedDigits) {
  double dense = 0, deployed = 0;
  for (int seed : {1, 2, 3}) {
    const Json j = job("--seed " + std::to_string(seed), "seed" + std::to_string(seed));
    dense += j["dense"]["accuracy"].get<double>() / 3;
    deployed += j["deployed"]["accuracy"].get<double>() / 3;
    for (const char* model : {"dense", "masked", "deployed"}) {
      const fs::path file = fs::path(path("seed" + std::to_string(seed))) / (std::string(model) + ".safetensors");
      EXPECT_EQ(j[model]["bytes"].get<std::uintmax_t>(), fs::file_size(file));
      EXPECT_GT(j[model]["latency_us"]["1"].get<double>(), 0);
      EXPECT_GT(j[model]["latency_us"]["64"].get<double>(), 0);
    }
    EXPECT_LE(j["deployed"]["bytes"].get<double>(), 0.16 * j["dense"]["bytes"].get<double>());
    EXPECT_EQ(j["dense"]["weights"], 64 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10);
    EXPECT_EQ(j["masked"]["weights"],
              (64 * 300 + 300 * 100 + 100 * 10) / 10 + 410);  // exactly 90 % of the weights gone
    EXPECT_LE(j["deployed"]["weights"], j["masked"]["weights"]);
    EXPECT_EQ(j["deployed"]["kernels"].size(), 3u);
    EXPECT_EQ(j["clip"]["steps"], 23 * 100);
    EXPECT_GE(j["clip"]["clipped_share"], 0);
    EXPECT_LE(j["clip"]["clipped_share"], 1);
    EXPECT_LE(j["clip"]["norm_p50"], j["clip"]["norm_p90"]);
    EXPECT_LE(j["clip"]["norm_p90"], j["clip"]["norm_p99"]);
  }
  EXPECT_GE(dense, 0.95);
  EXPECT_GE(deployed, dense - 0.01);
}

TEST_F(PruneDigits, GivesTheSameBytesAtAnyThreadCount) {
  auto figures = [&](int threads) {
    Json j = job("--epochs 12 --kernels fixed --threads " + std::to_string(threads), "t" + std::to_string(threads));
    for (const char* model : {"dense", "masked", "deployed"}) j[model].erase("latency_us");
    j["settings"].erase("threads");
    return j;
  };
  const Json one = figures(1);
  for (int threads : {2, 4}) {
    EXPECT_EQ(figures(threads), one);
    for (const char* model : {"dense", "masked", "deployed"})
      EXPECT_EQ(content(path("t" + std::to_string(threads) + "/" + model + ".safetensors")),
                content(path("t1/" + std::string(model) + ".safetensors")))
          << model << " at " << threads << " threads";
  }
}

TEST_F(PruneDigits, PrintsPlainLinesAndTheTableWhenPiped) {
  ASSERT_EQ(run_here("--epochs 5 --out " + path("out")), 0);
  EXPECT_EQ(output().find('\r'), std::string::npos);
  EXPECT_EQ(output().find('\033'), std::string::npos);
  for (const char* word :
       {"dense", "masked", "deployed", "test accuracy", "bytes on disk", "batch 64", "clipping at norm"})
    EXPECT_NE(output().find(word), std::string::npos) << word;
}

TEST_F(PruneDigits, ExplainsItselfAndRefusesWhatMakesNoSense) {
  EXPECT_EQ(run_here("--help"), 0);
  for (const char* flag :
       {"--data", "--seed", "--threads", "--epochs", "--sparsity", "--clip-norm", "--out", "--kernels", "--json"})
    EXPECT_NE(output().find(flag), std::string::npos) << flag;
  for (const char* wrong :
       {"--sparsity 1.5", "--sparsity many", "--epochs 0", "--clip-norm -1", "--kernels fastest", "--sead 1"})
    EXPECT_EQ(run_here(wrong), 2) << wrong << "\n" << output();
}

TEST_F(PruneDigits, NamesTheDataItDoesNotFind) {
  EXPECT_EQ(run_here("--data " + path("nowhere")), 3);
  EXPECT_NE(output().find("nowhere"), std::string::npos) << output();
}

}  // namespace
