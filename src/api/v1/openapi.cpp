#include "api/v1/openapi.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "api/v1/route.hpp"
#include "codec/json_value.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

// What an example shows of its type.
json::object schema_of(const json::value& example) {
  switch (example.kind()) {
    case json::kind::bool_: return {{"type", "boolean"}};
    case json::kind::int64:
    case json::kind::uint64: return {{"type", "integer"}};
    case json::kind::double_: return {{"type", "number"}};
    case json::kind::string: return {{"type", "string"}};
    case json::kind::null: return {};
    case json::kind::array: {
      json::object schema{{"type", "array"}};
      auto& items = example.get_array();
      schema["items"] = items.empty() ? json::object() : schema_of(items.front());
      return schema;
    }
    case json::kind::object: break;
  }
  json::object properties;
  for (auto& [key, value] : example.get_object()) properties[key] = schema_of(value);
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

std::optional<json::value> example_of(std::string_view text) {
  json::error_code failed;
  auto value = json::parse(json::string_view(text.data(), text.size()), failed);
  if (failed) return std::nullopt;
  return value;
}

json::object content(std::string_view text, std::string_view required) {
  auto example = example_of(text);
  if (!example) return {{text, json::object{{"schema", json::object{{"type", "string"}, {"format", "binary"}}}}}};
  auto schema = schema_of(*example);
  json::array names;
  for (auto name = http::next_item(required); !name.empty(); name = http::next_item(required)) names.push_back(json::string(name));
  if (!names.empty()) schema["required"] = std::move(names);
  return {{"application/json", json::object{{"schema", std::move(schema)}, {"example", *example}}}};
}

std::string operation_id(const Route& route) {
  std::string id;
  for (char c : route.method) id += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (char c : route.pattern.substr(3)) id += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return id;
}

json::object build() {
  json::object paths;
  for (const Route& route : routes()) {
    json::object operation{{"operationId", operation_id(route)}, {"summary", route.summary}, {"tags", json::array{route.tag}}};
    json::array parameters;
    for (std::size_t at = 0; (at = route.pattern.find('{', at)) != std::string_view::npos; ++at) {
      auto end = route.pattern.find('}', at);
      parameters.push_back(json::object{{"name", route.pattern.substr(at + 1, end - at - 1)}, {"in", "path"}, {"required", true},
                                        {"schema", json::object{{"type", "string"}}}});
    }
    std::string_view query = route.query;
    for (auto name = http::next_item(query); !name.empty(); name = http::next_item(query))
      parameters.push_back(json::object{{"name", name}, {"in", "query"}, {"schema", json::object{{"type", "string"}}}});
    if (!parameters.empty()) operation["parameters"] = std::move(parameters);
    if (!route.body.empty())
      operation["requestBody"] = json::object{{"content", content(route.body, route.required)}, {"required", !route.required.empty()}};
    json::object answer{{"description", route.status == 204 ? "done" : route.status == 101 ? "a WebSocket" : "the answer"}};
    if (!route.answer.empty()) answer["content"] = content(route.answer, "");
    json::object problem{{"$ref", "#/components/responses/problem"}};
    operation["responses"] = json::object{{std::to_string(route.status), std::move(answer)}, {"default", std::move(problem)}};
    if (route.needs == "open" || route.needs == "public") operation["security"] = json::array();
    operation["x-needs"] = route.needs;
    std::string method = operation_id(route).substr(0, route.method.size());
    auto& path = paths[route.pattern];
    if (!path.is_object()) path = json::object();
    path.get_object()[method] = std::move(operation);
  }
  json::object problem_schema{
      {"type", "object"},
      {"properties", json::object{{"type", json::object{{"type", "string"}}},
                                  {"title", json::object{{"type", "string"}}},
                                  {"status", json::object{{"type", "integer"}}},
                                  {"code", json::object{{"type", "string"}, {"description", "stable"}}},
                                  {"detail", json::object{{"type", "string"}, {"description", "what is wrong and what to do"}}},
                                  {"class", json::object{{"type", "string"}, {"description", "of the exception, where a script failed"}}},
                                  {"line", json::object{{"type", "integer"}, {"description", "of the script"}}},
                                  {"stdout", json::object{{"type", "string"}}}}},
      {"required", json::array{"type", "title", "status", "code", "detail"}}};
  return {{"openapi", "3.1.0"},
          {"info", json::object{{"title", "Myelin"}, {"version", MYELIN_VERSION},
                                {"description", "Sessions of simulators, isolated from each other, that branch, stream and keep what they produce. "
                                                "Results follow Accept: application/json or application/cbor (RFC 8746 typed arrays)."},
                                {"license", json::object{{"name", "Apache-2.0"}, {"identifier", "Apache-2.0"}}}}},
          {"security", json::array{json::object{{"token", json::array()}}}},
          {"paths", std::move(paths)},
          {"components",
           json::object{{"securitySchemes", json::object{{"token", json::object{{"type", "http"}, {"scheme", "bearer"}}}}},
                        {"schemas", json::object{{"problem", std::move(problem_schema)}}},
                        {"responses", json::object{{"problem", json::object{{"description", "what went wrong (RFC 9457)"},
                                                                            {"content", json::object{{"application/problem+json", json::object{{"schema", json::object{{"$ref", "#/components/schemas/problem"}}}}}}}}}}}}}};
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

// An example over several lines, two spaces a level.
void pretty(std::string& out, const json::value& value, std::size_t depth) {
  const std::string indent(2 * (depth + 1), ' '), last(2 * depth, ' ');
  if (value.is_object() && !value.get_object().empty()) {
    out += "{\n";
    bool first = true;
    for (auto& [key, member] : value.get_object()) {
      if (!first) out += ",\n";
      first = false;
      out += indent;
      codec::append_quoted(out, key);
      out += ": ";
      pretty(out, member, depth + 1);
    }
    out += "\n" + last + "}";
  } else {
    codec::append_json(out, value);
  }
}

std::string shown(std::string_view text) {
  auto example = example_of(text);
  if (!example) return std::string(text);
  std::string out;
  pretty(out, *example, 0);
  return out;
}

std::string page() {
  std::string out =
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">"
      "<title>Myelin API</title><style>"
      ":root{color-scheme:light dark;--page:#fafaf7;--panel:#fff;--text:#1b1e23;--muted:#5c6470;--line:#dfe2e6;--accent:#2459c4}"
      "@media(prefers-color-scheme:dark){:root{--page:#0e0f12;--panel:#16181d;--text:#e8eaed;--muted:#9aa3af;--line:#2a2e36;--accent:#7aa7ff}}"
      "body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}"
      "main{max-width:60rem;margin:0 auto;padding:1.5rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem;text-transform:capitalize}"
      "p{color:var(--muted);margin:.3rem 0 0}details{background:var(--panel);border:1px solid var(--line);border-radius:6px;margin:.4rem 0}"
      "summary{cursor:pointer;padding:.5rem .8rem;display:flex;gap:.8rem;flex-wrap:wrap;align-items:baseline}"
      "summary:focus-visible{outline:2px solid var(--accent)}code,pre{font:13px/1.45 ui-monospace,monospace}"
      ".m{min-width:4.2rem;font-weight:600;color:var(--accent)}.s{color:var(--muted)}"
      "div.b{padding:0 .8rem .8rem}pre{margin:.2rem 0 .6rem;padding:.6rem;background:var(--page);border-radius:4px;overflow:auto}"
      "a{color:var(--accent)}h3{font-size:.85rem;margin:.6rem 0 0;color:var(--muted);font-weight:600}</style><main>"
      "<h1>Myelin API</h1><p>Version " MYELIN_VERSION ". A token goes into <code>Authorization: Bearer …</code>. Errors are "
      "<code>application/problem+json</code> with a stable <code>code</code>. For programs: <a href=\"/v1/openapi.json\">openapi.json</a>.</p>";
  std::string_view tag;
  for (const Route& route : routes()) {
    if (route.tag != tag) {
      tag = route.tag;
      out += "<h2>" + escaped(tag) + "</h2>";
    }
    out += "<details><summary><code class=m>" + escaped(route.method) + "</code><code>" + escaped(route.pattern) + "</code><span class=s>" +
           escaped(route.summary) + "</span></summary><div class=b>";
    if (!route.query.empty()) out += "<h3>Query</h3><pre>" + escaped(route.query) + "</pre>";
    if (!route.body.empty()) out += "<h3>Body" + (route.required.empty() ? std::string() : " (needed: " + escaped(route.required) + ")") +
                                    "</h3><pre>" + escaped(shown(route.body)) + "</pre>";
    out += "<h3>Answer " + std::to_string(route.status) + "</h3>";
    if (!route.answer.empty()) out += "<pre>" + escaped(shown(route.answer)) + "</pre>";
    out += "</div></details>";
  }
  return out + "</main></html>";
}

}  // namespace

const std::string& openapi() {
  static const std::string text = [] {
    std::string out;
    pretty(out, build(), 0);
    return out + "\n";
  }();
  return text;
}

std::string openapi_with(const std::vector<function::FunctionPtr>& functions) {
  auto described = build();
  auto& paths = described["paths"].get_object();
  for (auto& f : functions) {
    auto& d = f->declaration;
    json::object body{{"type", "object"}, {"properties", json::object{{"parameters", function::schema_of(d)}, {"keep", json::object{{"type", "boolean"}}},
                                                                      {"title", json::object{{"type", "string"}}}, {"timeout_s", json::object{{"type", "number"}}},
                                                                      {"seed", json::object{{"type", "integer"}}}}}};
    json::object results;
    for (auto& [name, result] : d.results) {
      json::object one;
      auto& o = result.as_object();
      if (!o.at("help").as_string().empty()) one["description"] = o.at("help");
      if (!o.at("unit").as_string().empty()) one["x-unit"] = o.at("unit");
      results[name] = std::move(one);
    }
    json::object data;
    if (!results.empty()) data = {{"type", "object"}, {"properties", std::move(results)}};
    json::object answer{{"type", "object"}, {"properties", json::object{{"data", std::move(data)}, {"stdout", json::object{{"type", "string"}}}}}};
    auto content = [](json::object schema) { return json::object{{"application/json", json::object{{"schema", std::move(schema)}}}}; };
    json::object operation{{"operationId", "call_" + f->package + "_" + d.name}, {"summary", d.title.empty() ? d.signature : d.title}, {"tags", json::array{"functions of this server"}},
                           {"requestBody", json::object{{"content", content(std::move(body))}}},
                           {"responses", json::object{{"200", json::object{{"description", "the result"}, {"content", content(std::move(answer))}}},
                                                      {"default", json::object{{"$ref", "#/components/responses/problem"}}}}}};
    if (!d.description.empty()) operation["description"] = d.description;
    if (f->visibility == function::Visibility::everyone) operation["security"] = json::array();
    operation["x-needs"] = "public";
    paths["/v1/functions/" + f->id] = json::object{{"post", std::move(operation)}};
  }
  std::string out;
  pretty(out, described, 0);
  return out + "\n";
}

const std::string& reference_page() {
  static const std::string text = page();
  return text;
}

}  // namespace myelin::api::v1
