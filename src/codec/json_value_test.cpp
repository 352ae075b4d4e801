#include "codec/json_value.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <limits>

using namespace myelin;
using namespace myelin::codec;

namespace {
std::string quoted(std::string_view text, NonAscii non_ascii = NonAscii::keep) {
  std::string out;
  append_quoted(out, text, non_ascii);
  return out;
}
}  // namespace

TEST(Quoting, EscapesWhatMustBe) {
  EXPECT_EQ(quoted(""), "\"\"");
  EXPECT_EQ(quoted("a\"b\\c/\b\f\n\r\t\x01\x1f"), R"("a\"b\\c/\b\f\n\r\t\u0001\u001f")");
  EXPECT_EQ(quoted(std::string_view("\0", 1)), R"("\u0000")");
  EXPECT_EQ(quoted("é€😀"), "\"é€😀\"");
  EXPECT_EQ(quoted("é€😀", NonAscii::escape), R"("\u00e9\u20ac\ud83d\ude00")");
  EXPECT_EQ(quoted("a\xff\xc3"), "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_EQ(quoted("\xff", NonAscii::escape), R"("\ufffd")");
}

TEST(ParseObject, TakesObjectsOnly) {
  EXPECT_TRUE(parse_object(R"({"a":1})"));
  EXPECT_EQ(parse_object("[1]").error().message, "invalid JSON: an object expected");
  EXPECT_EQ(parse_object("{").error().code, Code::bad_request);
  EXPECT_FALSE(parse_object(R"({"a":NaN})"));
  EXPECT_FALSE(parse_object(R"({"a":1e999999999999})")) << "beyond what Boost.JSON reads, but no exception";
  const std::string deep = "{\"a\":" + std::string(31, '[') + std::string(31, ']') + "}";
  EXPECT_TRUE(parse_object(deep));
  EXPECT_FALSE(parse_object("{\"a\":" + std::string(32, '[') + std::string(32, ']') + "}"));
}

TEST(Json, GetsOnlyTheAskedType) {
  auto json = Json::parse(
      R"({"s":"x","i":-5,"u":18446744073709551615,"d":0.5,"b":true,"n":null,"o":{"k":1},"l":["a","b"],"p":[{},{"z":1}]})");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->get_string("s"), "x");
  EXPECT_EQ(json->get_string("i"), std::nullopt);
  EXPECT_EQ(json->get_string("absent"), std::nullopt);
  EXPECT_EQ(json->get_int("i"), -5);
  EXPECT_EQ(json->get_int("u"), std::nullopt);
  EXPECT_EQ(json->get_int("d"), std::nullopt);
  EXPECT_EQ(json->get_double("d"), 0.5);
  EXPECT_EQ(json->get_double("i"), -5.0);
  EXPECT_EQ(json->get_bool("b"), true);
  EXPECT_EQ(json->get_bool("i"), std::nullopt);
  EXPECT_TRUE(json->is_null("n"));
  EXPECT_TRUE(json->has("n"));
  EXPECT_FALSE(json->has("m"));
  EXPECT_EQ(json->get_object("o")->get_int("k"), 1);
  EXPECT_EQ(json->get_strings("l"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(json->get_strings("p"), std::nullopt);
  EXPECT_EQ(json->get_objects("p")->at(1).get_int("z"), 1);
  EXPECT_EQ(json->get_text("o"), R"({"k":1})");
  EXPECT_EQ(json->keys().size(), 9u);
}

TEST(JsonText, WritesNumbersAsPeopleDo) {
  EXPECT_EQ(json_text(boost::json::array{12.5, -70.0, 1e-7, 3, nullptr, "a\"b"}), R"([12.5,-70.0,1e-07,3,null,"a\"b"])");
}

TEST(Json, WritesCompactTextWithReadableNumbers) {
  Json json;
  json.set("s", "a\n")
      .set("i", 5)
      .set("u", std::size_t{7})
      .set("big", UINT64_MAX)
      .set("d", 0.4)
      .set("whole", 1000.0);
  json.set("b", true)
      .set_null("n")
      .set("o", Json().set("x", std::string("y")))
      .set("l", std::vector<std::string>{"p", "q"});
  json.set("nan", std::nan("")).set("e", std::vector<Json>{});
  EXPECT_TRUE(json.set_text("raw", R"([1, {"a" : 2}])"));
  EXPECT_FALSE(json.set_text("raw", "[1"));
  EXPECT_EQ(json.text(),
            R"({"s":"a\n","i":5,"u":7,"big":18446744073709551615,"d":0.4,"whole":1000.0,"b":true,"n":null,)"
            R"("o":{"x":"y"},"l":["p","q"],"nan":null,"e":[],"raw":[1,{"a":2}]})");
  EXPECT_EQ(json.get_int("u"), 7);
  EXPECT_EQ(Json().text(), "{}");
  Json copy = json;
  copy.remove("s").set("i", 6);
  EXPECT_EQ(json.get_int("i"), 5);
  EXPECT_FALSE(copy.has("s"));
}
