#include "run/describe.hpp"

#include <boost/json.hpp>
#include <map>

#include "base/time.hpp"

namespace myelin::run {

namespace json = boost::json;

namespace {

json::value time_or_null(const std::optional<Time>& time) {
  return time ? json::value(iso_time(*time)) : json::value();
}

// Output of a program may be any bytes; JSON is UTF-8.
json::string utf8(const std::string& bytes) {
  json::string out;
  out.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const auto c = static_cast<unsigned char>(bytes[i]);
    const std::size_t size = c < 0x80                ? 1
                             : c >= 0xC2 && c < 0xE0 ? 2
                             : c >= 0xE0 && c < 0xF0 ? 3
                             : c >= 0xF0 && c < 0xF5 ? 4
                                                     : 0;
    bool good = size != 0 && i + size <= bytes.size();
    for (std::size_t k = 1; good && k < size; ++k)
      good = (static_cast<unsigned char>(bytes[i + k]) & 0xC0) == 0x80;
    if (good) {
      out.append(std::string_view(bytes).substr(i, size));
      i += size;
    } else {
      out.append("\xEF\xBF\xBD");
      ++i;
    }
  }
  return out;
}

}  // namespace

json::value parse_member(const std::string& text) {
  boost::system::error_code failed;
  json::parse_options options;
  options.max_depth = 128;  // more than is let in
  json::value value = json::parse(text, failed, {}, options);
  return failed ? json::value(text) : value;
}

std::string problem_text(const Error& error) {
  const CodeInfo info = myelin::describe(error.code);
  json::object o{{"type", "about:blank"},
                 {"title", std::string(info.name)},
                 {"status", info.http_status},
                 {"code", std::string(info.name)},
                 {"detail", error.message}};
  // What a worker said of a failed call; the detail of one that is gone is its last output.
  boost::system::error_code failed;
  const auto more = json::parse(error.code == Code::gone || error.detail.empty() ? "{}" : error.detail, failed);
  if (!failed && more.is_object())
    for (const char* key : {"class", "text", "line", "traceback", "kernel"})
      if (const auto* value = more.get_object().if_contains(key)) o[key] = *value;
  return json::serialize(o);
}

std::string file_input(const std::string& path, const std::string& sha256) { return "file:" + sha256 + ":" + path; }

std::optional<std::pair<std::string, std::string>> file_of(const std::string& input) {
  constexpr std::size_t head = 5, digits = 64;
  if (!input.starts_with("file:") || input.size() < head + digits + 2 || input[head + digits] != ':') return std::nullopt;
  return std::pair(input.substr(head + digits + 1), input.substr(head, digits));
}

json::object describe(const Record& r, Detail detail) {
  const bool full = detail == Detail::full;
  json::object o;
  o["id"] = r.id;
  o["title"] = r.title;
  o["user"] = r.owner_name.empty() ? r.owner : r.owner_name;
  o["session"] = r.session;
  o["engine"] = r.engine;
  o["kind"] = std::string(name_of(r.kind));
  o["state"] = std::string(name_of(r.state));
  if (full && r.source) o["source"] = *r.source;
  if (r.function) o["function"] = *r.function;
  if (full && r.arguments) o["arguments"] = parse_member(*r.arguments);
  o["history"] = r.history_count;
  if (!r.history_complete) o["history_complete"] = false;
  o["parent_session"] = r.parent_session ? json::value(*r.parent_session) : json::value();
  json::array inputs;
  for (const auto& input : r.inputs) {
    if (const auto file = file_of(input)) inputs.push_back(json::object{{"file", file->first}, {"sha256", file->second}});
    else inputs.emplace_back(input);
  }
  o["inputs"] = std::move(inputs);
  o["versions"] = parse_member(r.versions);
  o["machine"] = parse_member(r.machine);
  o["seeds"] = parse_member(r.seeds);
  o["options"] = parse_member(r.options);
  o["created_at"] = iso_time(r.created);
  o["started_at"] = time_or_null(r.started);
  o["ended_at"] = time_or_null(r.ended);
  o["expires_at"] = time_or_null(r.expires);
  if (r.error) o["error"] = parse_member(*r.error);
  if (full) o["stdout"] = utf8(r.stdout_text);
  o["bytes"] = r.bytes;
  o["datasets"] = parse_member(r.datasets);
  if (r.datasets_left_out) o["datasets_left_out"] = true;
  return o;
}

std::string record_text(const Record& record) {
  json::object o = describe(record, Detail::full);
  o.erase("bytes");  // this file is part of it
  o.erase("expires_at");
  o["history_calls"] = parse_member(record.history);
  return json::serialize(o) + "\n";
}

std::string file_stem(const Record& record) {
  std::string stem;
  for (const char c : record.title.substr(0, 60)) {
    const bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (safe)
      stem += c;
    else if (!stem.empty() && stem.back() != '-')
      stem += '-';
  }
  if (!stem.empty() && stem.back() != '-') stem += '-';
  return stem + record.id;
}

std::string crate_metadata(const Record& r, const Kept& kept,
                           const std::vector<std::pair<std::string, FileFacts>>& files) {
  json::array graph, parts, results, software;
  json::object script{{"@id", r.source ? "script.py" : "call.json"}};
  json::array described;
  std::map<std::string, const Dataset*> sets;
  for (const auto& d : kept.datasets) sets[d.file()] = &d;
  for (const auto& [name, facts] : files) {
    json::object file{{"@id", name},
                      {"@type", "File"},
                      {"name", name},
                      {"contentSize", std::to_string(facts.bytes)},
                      {"sha256", facts.sha256}};
    const auto ends = [&n = name](std::string_view suffix) { return n.ends_with(suffix); };
    if (ends(".npy")) {
      file["encodingFormat"] = "application/x-npy";
      if (const auto found = sets.find(name); found != sets.end()) {
        const Dataset* set = found->second;
        file["name"] = set->name;
        std::string shape;
        for (const auto n : set->shape) shape += (shape.empty() ? "" : " × ") + std::to_string(n);
        std::string over;
        for (const auto& coordinate : set->coordinates) over += (over.empty() ? " over " : ", ") + coordinate;
        file["description"] = "array of " + shape + " numbers" + (set->unit ? " in " + *set->unit : "") + over;
        if (set->unit) file["variableMeasured"] = json::object{{"@id", "#variable-" + set->name}};
        if (set->unit)
          described.push_back(json::object{{"@id", "#variable-" + set->name},
                                           {"@type", "PropertyValue"},
                                           {"name", set->name},
                                           {"unitText", *set->unit}});
      }
    } else if (ends(".csv")) {
      file["encodingFormat"] = "text/csv";
    } else if (ends(".json")) {
      file["encodingFormat"] = "application/json";
    }
    if (name == "script.py") {
      file["@type"] = json::array{"File", "SoftwareSourceCode"};
      file["name"] = r.title;
      file["encodingFormat"] = "text/x-python";
      file["programmingLanguage"] = json::object{{"@id", "#python"}};
    }
    if (ends(".npy") || ends(".csv") || name == "result.json") results.push_back(json::object{{"@id", name}});
    parts.push_back(json::object{{"@id", name}});
    described.push_back(std::move(file));
  }
  bool python = false;
  const auto versions = parse_member(r.versions);
  if (versions.is_object())
    for (const auto& item : versions.get_object()) {
      const std::string id = "#" + std::string(item.key());
      python |= id == "#python";
      json::object application{{"@id", id},
                               {"@type", item.key() == "python" ? "ComputerLanguage" : "SoftwareApplication"},
                               {"name", item.key()}};
      application["version"] = item.value().is_string() ? std::string(item.value().get_string().c_str())
                                                        : json::serialize(item.value());
      described.push_back(std::move(application));
      software.push_back(json::object{{"@id", id}});
    }
  if (!python)
    described.push_back(json::object{{"@id", "#python"}, {"@type", "ComputerLanguage"}, {"name", "Python"}});
  const std::string user = r.owner_name.empty() ? r.owner : r.owner_name;
  json::array objects{script};
  for (const auto& input : r.inputs) {
    if (const auto file = file_of(input)) {
      const std::string id = "#input-" + std::to_string(objects.size());
      objects.push_back(json::object{{"@id", id}});
      described.push_back(json::object{{"@id", id}, {"@type", "CreativeWork"}, {"name", file->first}, {"sha256", file->second}});
      continue;
    }
    objects.push_back(json::object{{"@id", "#" + input}});
    described.push_back(
        json::object{{"@id", "#" + input}, {"@type", "CreativeWork"}, {"name", "run " + input}});
  }
  json::object action{{"@id", "#" + r.id},
                      {"@type", "CreateAction"},
                      {"name", r.title},
                      {"description", "A run on the engine " + r.engine + " of Myelin"},
                      {"agent", json::object{{"@id", "#user"}}},
                      {"actionStatus", json::object{{"@id", "http://schema.org/CompletedActionStatus"}}},
                      {"object", std::move(objects)},
                      {"result", std::move(results)}};
  json::array instruments{script};
  for (auto& item : software) instruments.push_back(item);
  action["instrument"] = std::move(instruments);
  if (r.started) action["startTime"] = iso_time(*r.started);
  if (r.ended) action["endTime"] = iso_time(*r.ended);

  graph.push_back(json::object{{"@id", "ro-crate-metadata.json"},
                               {"@type", "CreativeWork"},
                               {"conformsTo", json::object{{"@id", "https://w3id.org/ro/crate/1.1"}}},
                               {"about", json::object{{"@id", "./"}}}});
  graph.push_back(json::object{{"@id", "./"},
                               {"@type", "Dataset"},
                               {"name", r.title},
                               {"description", "Script, parameters, software versions and results of run " +
                                                   r.id + " on the engine " + r.engine},
                               {"identifier", r.id},
                               {"datePublished", iso_time(r.ended.value_or(r.created))},
                               {"creator", json::object{{"@id", "#user"}}},
                               {"mentions", json::object{{"@id", "#" + r.id}}},
                               {"hasPart", std::move(parts)}});
  graph.push_back(json::object{{"@id", "#user"}, {"@type", "Person"}, {"name", user}});
  graph.push_back(std::move(action));
  for (auto& item : described) graph.push_back(std::move(item));
  json::object root;
  root["@context"] = json::array{"https://w3id.org/ro/crate/1.1/context",
                                 json::object{{"sha256", "https://w3id.org/ro/terms/workflow-run#sha256"}}};
  root["@graph"] = std::move(graph);
  return json::serialize(root) + "\n";
}

}  // namespace myelin::run
