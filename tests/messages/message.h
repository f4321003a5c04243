// Texts of errors, pinned word for word.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <string>

#include "espalier/core/error.h"

namespace espalier::testing {

struct Message {
  const char* what;            ///< the mistake, in a few words
  std::function<void()> call;  ///< makes it
  const char* text;            ///< what the user then reads
};

inline void expect_texts(std::span<const Message> messages) {
  for (const Message& message : messages) {
    std::string text = "no error";
    try {
      message.call();
    } catch (const Error& error) {
      text = error.what();
    }
    EXPECT_EQ(text, message.text) << message.what;
  }
}

}  // namespace espalier::testing
