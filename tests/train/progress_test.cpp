#include "espalier/train/progress.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace espalier::train {
namespace {

std::string written(std::FILE* file) {
  std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  return text;
}

TEST(Progress, PrintsOnlyNotesWhereThereIsNoTerminal) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress("job", 10, file);
    EXPECT_FALSE(progress.on_terminal());
    progress.update(3, "loss 1.0");
    progress.note("epoch 1");
    progress.update(10);
  }
  EXPECT_EQ(written(file), "epoch 1\n");
  std::fclose(file);
}

TEST(Progress, TakesTotalsOfZeroAndStepsBeyondTheEnd) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress("job", 0, file);
    progress.update(5);
  }
  EXPECT_EQ(written(file), "");
  std::fclose(file);
}

}  // namespace
}  // namespace espalier::train
