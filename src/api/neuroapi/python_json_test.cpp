#include "api/neuroapi/python_json.hpp"

#include <gtest/gtest.h>

using namespace myelin;
using namespace myelin::api::neuroapi;

namespace {

std::string again(std::string_view text, Layout layout = Layout::restful_compact) {
  auto value = read_json(text, 64);
  return value ? write_json(*value, layout) : "! " + value.error().message;
}

}  // namespace

TEST(PythonJson, NumbersAsPythonWritesThem) {
  EXPECT_EQ(again("[1, -0, 0, 1.0, 1e5, 1E400, -1e-400, 0.1, 1e16, 123456789012345678901234567890]"),
            "[1, 0, 0, 1.0, 100000.0, Infinity, -0.0, 0.1, 1e+16, 123456789012345678901234567890]\n");
  EXPECT_EQ(again("[NaN, Infinity, -Infinity]"), "[NaN, Infinity, -Infinity]\n");
  EXPECT_EQ(again(std::string(5000, '1')), "! Exceeds the limit (4300 digits) for integer string conversion: line 1 column 1 (char 0)");
}

TEST(PythonJson, TextsAreEscaped) {
  EXPECT_EQ(again(R"("é\u00e9\ud83d\ude00\ud800x\n\"\\\/\u007f")"), "\"\\u00e9\\u00e9\\ud83d\\ude00\\ud800x\\n\\\"\\\\/\\u007f\"\n");
  EXPECT_TRUE(has_surrogates(*read_json(R"("\ud800")", 1)->text()));
  EXPECT_FALSE(has_surrogates(*read_json(R"("\ud83d\ude00")", 1)->text()));
}

TEST(PythonJson, Layouts) {
  const char* text = R"({"b": [1, {}], "a": {"c": []}})";
  EXPECT_EQ(again(text, Layout::flask), "{\n  \"a\": {\n    \"c\": []\n  }, \n  \"b\": [\n    1, \n    {}\n  ]\n}\n");
  EXPECT_EQ(again(text, Layout::flask_compact), "{\"a\":{\"c\":[]},\"b\":[1,{}]}\n");
  EXPECT_EQ(again(text, Layout::restful), "{\n    \"b\": [\n        1,\n        {}\n    ],\n    \"a\": {\n        \"c\": []\n    }\n}\n");
  EXPECT_EQ(again(text), "{\"b\": [1, {}], \"a\": {\"c\": []}}\n");
  EXPECT_EQ(again(R"({"a": 1, "b": 2, "a": 3})"), "{\"a\": 3, \"b\": 2}\n");
}

TEST(PythonJson, ComplainsInPythonsWords) {
  EXPECT_EQ(again("{x"), "! Expecting property name enclosed in double quotes: line 1 column 2 (char 1)");
  EXPECT_EQ(again(""), "! Expecting value: line 1 column 1 (char 0)");
  EXPECT_EQ(again("[1,]"), "! Expecting value: line 1 column 4 (char 3)");
  EXPECT_EQ(again("{\"é\"\n 1}"), "! Expecting ':' delimiter: line 2 column 2 (char 6)");
  EXPECT_EQ(again("[1 2]"), "! Expecting ',' delimiter: line 1 column 4 (char 3)");
  EXPECT_EQ(again("1 2"), "! Extra data: line 1 column 3 (char 2)");
  EXPECT_EQ(again("\"abc"), "! Unterminated string starting at: line 1 column 1 (char 0)");
  EXPECT_EQ(again("\"a\tb\""), "! Invalid control character at: line 1 column 3 (char 2)");
  EXPECT_EQ(again("\"\\x\""), "! Invalid \\escape: line 1 column 2 (char 1)");
  EXPECT_EQ(again("\"\xff\""), "! the text is not UTF-8");
  EXPECT_EQ(again(std::string(1000, '[')), "! Nested too deeply: line 1 column 66 (char 65)");
}

TEST(PythonJson, Truth) {
  for (const char* text : {"null", "false", "0", "0.0", "\"\"", "[]", "{}"}) EXPECT_TRUE(read_json(text, 4)->falsy()) << text;
  for (const char* text : {"true", "1", "\"0\"", "[0]", "{\"a\":0}"}) EXPECT_FALSE(read_json(text, 4)->falsy()) << text;
}
