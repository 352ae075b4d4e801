#include "codec/json_walk.hpp"

#include <gtest/gtest.h>

#include "base/result.hpp"

using namespace myelin::codec;

namespace {

struct Log : JsonVisitor {
  std::string all, events;
  void raw(std::string_view text) override { all += text; }
  void scalar(std::string_view token) override {
    all += token;
    events += "=" + std::string(token) + " ";
  }
  void begin(bool object) override { events += object ? "{ " : "[ "; }
  void end(bool object) override { events += object ? "} " : "] "; }
  void key(std::string_view text) override { events += std::string(text) + ": "; }
  void string_begin() override { events += "<"; }
  void string_end() override { events += "> "; }
};

Log walk(std::string_view text, std::size_t part) {
  Log log;
  JsonWalk walk(log);
  for (std::size_t at = 0; at < text.size(); at += part) walk.feed(text.substr(at, part));
  walk.pause();
  return log;
}

}  // namespace

TEST(JsonWalk, TellsWhatItMeetsHoweverTheTextIsCut) {
  const std::string text = R"({"da\"ta" : [1,-2.5e3, NaN,{"é":"a]\"{,"}] , "n":null,"o":{"b":true},"e":[]})";
  const std::string events = "{ da\\\"ta: [ =1 =-2.5e3 =NaN { é: <> } ] n: =null o: { b: =true } e: [ ] } ";
  for (std::size_t part = 1; part <= text.size(); ++part) {
    const Log log = walk(text, part);
    EXPECT_EQ(log.all, text);
    EXPECT_EQ(log.events, events) << part;
  }
}

TEST(JsonWalk, ANumberAloneAndBrokenTextDoNoHarm) {
  EXPECT_EQ(walk("-12.5", 2).events, "=-12.5 ");
  for (const char* text : {"]]]", "}", "{]", ",,", "\"", "{\"a", "[\"\\", "\xff\xfe[", ""})
    EXPECT_EQ(walk(text, 1).all, text);
}

TEST(JsonWalk, LongKeysAreCut) {
  const std::string key(1000, 'k');
  EXPECT_EQ(walk("{\"" + key + "\":1}", 7).events, "{ " + std::string(256, 'k') + ": =1 } ");
}
