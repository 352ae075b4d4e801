#include "function/check.hpp"

#include <gtest/gtest.h>

using namespace myelin::function;

namespace {

Declaration declaration(std::string_view parameters, bool typed = true) {
  auto text = R"({"name":"f","typed":)" + std::string(typed ? "true" : "false") + R"(,"parameters":)" + std::string(parameters) + "}";
  auto made = parse_declaration(json::parse(text));
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? *made : Declaration{};
}

std::string wrong(const Declaration& d, std::string_view given) {
  std::string out;
  for (auto& error : check(d, json::parse(json::string_view(given.data(), given.size())).get_object())) out += error.field + ": " + error.message + "\n";
  return out;
}

const char* const all = R"([
  {"name":"amp","kind":"number","minimum":-1,"maximum":1,"default":0.1},
  {"name":"n","kind":"integer","minimum":0,"required":true},
  {"name":"mode","kind":"choice","choices":["a",2,null],"default":"a"},
  {"name":"xs","kind":"list","items":{"kind":"number"},"nullable":true,"default":null},
  {"name":"v","kind":"array","default":[]},
  {"name":"free","kind":"any","default":0}])";

}  // namespace

TEST(Check, TakesWhatFits) {
  auto d = declaration(all);
  for (auto given : {R"({"n":0})", R"({"n":1,"amp":1})", R"({"n":2.0,"amp":-1.0})", R"({"n":9223372036854775807})", R"({"n":1,"mode":2.0})", R"({"n":1,"mode":null})", R"({"n":1,"xs":null})",
                     R"({"n":1,"xs":[]})", R"({"n":1,"v":[[1,2],[3,4.5]]})", R"({"n":1,"v":[true,false]})", R"({"n":1,"free":{"a":[1]}})"})
    EXPECT_EQ(wrong(d, given), "") << given;
}

TEST(Check, NamesTheFieldAndSaysWhy) {
  auto d = declaration(all);
  EXPECT_EQ(wrong(d, "{}"), "n: is missing\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"zz":1})"), "zz: is not known; there are: amp, n, mode, xs, v, free\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"amp":2})"), "amp: must be between -1 and 1, not 2\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"amp":"NaN"})"), "amp: must be a finite number, not NaN\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"amp":true})"), "amp: must be a number, not true\n");
  EXPECT_EQ(wrong(d, R"({"n":-1})"), "n: must be at least 0, not -1\n");
  EXPECT_EQ(wrong(d, R"({"n":1.5})"), "n: must be a whole number, not 1.5\n");
  EXPECT_EQ(wrong(d, R"({"n":1e30})"), "n: is too large for an integer of 64 bits\n");
  EXPECT_EQ(wrong(d, R"({"n":18446744073709551615})"), "n: is too large for an integer of 64 bits\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"mode":"b"})"), "mode: must be one of \"a\", 2, null, not \"b\"\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"xs":[1,"2"]})"), "xs[1]: must be a number, not \"2\"\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"v":[[1,2],[3]]})"), "v[1]: has lists of different lengths\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"v":[1,[2]]})"), "v: has numbers beside lists\n");
  EXPECT_EQ(wrong(d, R"({"n":1,"v":[[1],2]})"), "v: has numbers beside lists\n");
}

TEST(Check, LeavesUntypedFunctionsToPython) {
  auto d = declaration(R"([{"name":"x","kind":"any","required":true}])", false);
  EXPECT_EQ(wrong(d, R"({"zz":1})"), "");
  EXPECT_FALSE(canonical(d, json::object{}));
}

TEST(Check, KeepsTheListOfErrorsShort) {
  auto d = declaration(all);
  json::array many;
  for (int i = 0; i < 100000; ++i) many.push_back("x");
  EXPECT_EQ(check(d, json::object{{"n", 1}, {"xs", many}}).size(), 100u);
}

TEST(Canonical, IsOneTextForOneMeaning) {
  auto d = declaration(R"([{"name":"amp","kind":"number","default":0.1},{"name":"n","kind":"integer","default":3},{"name":"xs","kind":"list","items":{"kind":"number"},"default":null,"nullable":true}])");
  auto text = [&](std::string_view given) { return canonical(d, json::parse(json::string_view(given.data(), given.size())).get_object()).value_or("none"); };
  for (auto given : {"{}", R"({"n":3})", R"({"n":3.0,"amp":0.1})", R"({"amp":1e-1,"n":3})"}) EXPECT_EQ(text(given), text("{}")) << given;
  EXPECT_NE(text(R"({"amp":0.2})"), text("{}"));
  EXPECT_NE(text(R"({"amp":0.1000000000000001})"), text("{}"));
  EXPECT_NE(text(R"({"xs":[1]})"), text(R"({"xs":[1.0]})"));  // a function may take both, and tell them apart
  EXPECT_NE(text(R"({"amp":9007199254740993})"), text(R"({"amp":9007199254740992})"));
  EXPECT_NE(text(R"({"xs":[1,2]})"), text(R"({"xs":[12]})"));
  EXPECT_NE(text(R"({"n":9007199254740993})"), text(R"({"n":9007199254740992})"));
}

TEST(Canonical, GivesUpWhereTextsMayLie) {
  auto d = declaration(R"([{"name":"x","kind":"any","default":0},{"name":"y","kind":"number","default":0.5}])");
  EXPECT_FALSE(canonical(d, json::object{{"x", 1e30}}));
  EXPECT_TRUE(canonical(d, json::object{{"y", 1}}));
}

TEST(Nonfinite, IsQuotedOutsideOfTexts) {
  EXPECT_EQ(with_quoted_nonfinite(R"({"a":NaN,"b":[-Infinity,Infinity],"NaN":"NaN \" NaN"})"), R"({"a":"NaN","b":["-Infinity","Infinity"],"NaN":"NaN \" NaN"})");
}

TEST(Declaration, RefusesWhatIsNone) {
  for (auto text : {"3", "{}", R"({"name":"1x"})", R"({"name":"a.b"})", R"({"name":"f","parameters":[3]})", R"({"name":"f","parameters":[{"name":"x","kind":"zz"}]})",
                    R"({"name":"f","parameters":[{"name":"x","kind":"any"},{"name":"x","kind":"any"}]})", R"({"name":"f","parameters":[{"name":"x","kind":"choice","choices":[]}]})",
                    R"({"name":"f","parameters":[{"name":"x","kind":"number","minimum":2,"maximum":1}]})"})
    EXPECT_FALSE(parse_declaration(json::parse(text))) << text;
  std::string deep = R"({"kind":"number"})";
  for (int i = 0; i < 20; ++i) deep = R"({"kind":"list","items":)" + deep + "}";
  EXPECT_FALSE(parse_declaration(json::parse(R"({"name":"f","parameters":[{"name":"x",)" + deep.substr(1) + "]}")));
  json::array many;
  for (int i = 0; i < 300; ++i) many.push_back(json::object{{"name", "p" + std::to_string(i)}, {"kind", "any"}});
  EXPECT_FALSE(parse_declaration(json::object{{"name", "f"}, {"parameters", many}}));
}

TEST(Declaration, KeepsOnlyWhatItKnows) {
  auto made = parse_declaration(json::parse(R"({"name":"f","owner":"operator","limits":{"seconds":-5,"memory_bytes":1e99},"plots":[{"kind":"script"},{"kind":"line","x":"t","y":["v"]}],
    "results":{"v":{"unit":"mV","evil":1}},"parameters":[]})"));
  ASSERT_TRUE(made);
  auto out = describe(*made);
  EXPECT_FALSE(out.contains("owner"));
  EXPECT_EQ(out.at("limits").as_object().size(), 0u);
  EXPECT_EQ(out.at("plots").as_array().size(), 1u);
  EXPECT_FALSE(out.at("results").at("v").as_object().contains("evil"));
}
