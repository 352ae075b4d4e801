// functions: lists them, tells the parameters of one, calls it.

#include <boost/json.hpp>
#include <cstdio>

#include "cli/client.hpp"
#include "codec/json_value.hpp"

namespace myelin::cli {
namespace {

struct FunctionOptions {
  std::string output, title;
  bool keep = false, background = false;
  double timeout_s = 0;
};

std::string compact(const json::value& value) {
  std::string text;
  codec::append_json(text, value);
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// "number from -1 to 1, in nA"
std::string type_text(const json::object& parameter) {
  std::string kind = text_of(parameter, "kind"), text = kind == "any" ? "value" : kind;
  if (auto* choices = parameter.if_contains("choices"); choices && choices->is_array()) {
    text = "one of";
    for (auto& choice : choices->get_array()) text += " " + compact(choice);
  }
  if (auto* items = object_of(parameter, "items")) text += " of " + type_text(*items);
  auto* least = parameter.if_contains("minimum");
  auto* most = parameter.if_contains("maximum");
  if (least && most) text += " from " + compact(*least) + " to " + compact(*most);
  else if (least) text += " from " + compact(*least) + " on";
  else if (most) text += " up to " + compact(*most);
  if (auto unit = text_of(parameter, "unit"); !unit.empty()) text += ", in " + unit;
  return text;
}

int list(Remote& remote) {
  auto all = remote.get("/v1/functions");
  if (!all) return remote.status();
  if (remote.json_wanted()) {
    print_json(*all);
    return done;
  }
  Table table({"FUNCTION", "ENGINE", "VERSION", "WHAT"});
  for (auto& one : objects_of(*all, "functions")) {
    std::string what = text_of(one, "title");
    if (what.empty()) what = first_line(text_of(one, "description"));
    std::string signature = text_of(one, "signature");
    auto bracket = signature.find('(');
    table.add({text_of(one, "id") + (bracket == std::string::npos ? "" : signature.substr(bracket)), text_of(one, "engine"), text_of(one, "version"), what});
  }
  if (table.empty()) std::printf("there are no functions; a Python file in DIR/functions makes some\n");
  else std::fputs(table.text().c_str(), stdout);
  for (auto& one : objects_of(*all, "errors")) {
    auto line = static_cast<long long>(number_of(one, "line"));
    std::string where = text_of(one, "file");
    if (line) where += ":" + std::to_string(line);
    std::fprintf(stderr, "myelin: the package %s is broken: %s%s\n", text_of(one, "package").c_str(), where.empty() ? "" : (where + ": ").c_str(),
                 shortened(text_of(one, "text"), 1000).c_str());
  }
  return done;
}

int help(const json::object& function) {
  std::printf("myelin functions %s [--PARAMETER VALUE …]\n", text_of(function, "id").c_str());
  for (auto& part : {text_of(function, "title"), text_of(function, "description")})
    if (!part.empty()) std::printf("\n%s\n", part.c_str());
  Table table({"PARAMETER", "TYPE", "DEFAULT", "WHAT"});
  for (auto& one : objects_of(json::value(function), "parameters")) {
    auto* fallback = one.if_contains("default");
    auto* required = one.if_contains("required");
    const bool needed = required && required->is_bool() && required->get_bool();
    std::string help_text = text_of(one, "help");
    table.add({"--" + text_of(one, "name"), type_text(one), fallback ? shortened(compact(*fallback), 30) : needed ? "needed" : "", help_text});
  }
  if (table.empty()) std::printf("\nIt takes no parameters.\n");
  else std::printf("\n%s", table.text().c_str());
  return done;
}

// A value in the type that the parameter has: a text stays a text, all else is JSON if it is that.
json::value value_of(const json::object* parameter, const std::string& text) {
  if (parameter && (text_of(*parameter, "kind") == "text" || text_of(*parameter, "kind") == "file" || text_of(*parameter, "kind") == "run")) return json::value(text);
  return parsed(text).value_or(json::value(text));
}

// --amp 0.1, --amp=0.1, amp=0.1; a boolean may stand alone. Nothing: it was said.
std::optional<json::object> read_parameters(Remote& remote, const json::object& function, const std::vector<std::string>& words) {
  json::object given;
  auto parameters = objects_of(json::value(function), "parameters");
  auto find = [&](const std::string& name) -> const json::object* {
    for (auto& one : parameters)
      if (text_of(one, "name") == name) return &one;
    return nullptr;
  };
  for (std::size_t i = 1; i < words.size(); ++i) {
    std::string word = words[i];
    const bool dashed = word.rfind("--", 0) == 0;
    if (dashed) word.erase(0, 2);
    auto equals = word.find('=');
    if (!dashed && equals == std::string::npos) {
      remote.fail(usage, "'" + word + "' is no parameter: write --NAME VALUE; `myelin functions " + words.front() + " --help` lists them");
      return std::nullopt;
    }
    std::string name = word.substr(0, equals);
    if (!find(name))  // what a shell's user writes as --n-spikes
      for (auto& c : name)
        if (c == '-') c = '_';
    auto* parameter = find(name);
    if (auto* more = function.if_contains("variadic"); !parameter && !(more && more->is_bool() && more->get_bool())) {
      remote.fail(usage, words.front() + " has no parameter '" + name + "'; `myelin functions " + words.front() + " --help` lists them");
      return std::nullopt;
    }
    if (equals != std::string::npos) given[name] = value_of(parameter, word.substr(equals + 1));
    else if (parameter && text_of(*parameter, "kind") == "boolean" && (i + 1 == words.size() || (words[i + 1] != "true" && words[i + 1] != "false"))) given[name] = true;
    else if (i + 1 < words.size()) given[name] = value_of(parameter, words[++i]);
    else {
      remote.fail(usage, "--" + name + " needs a value");
      return std::nullopt;
    }
  }
  return given;
}

std::string media_type(const std::string& file) {
  for (auto [end, type] : {std::pair{".png", "image/png"}, {".svg", "image/svg+xml"}, {".npz", "application/x-npz"}, {".csv", "text/csv"}, {".zip", "application/zip"}, {".cbor", "application/cbor"}})
    if (file.size() > std::string_view(end).size() && file.compare(file.size() - std::string_view(end).size(), std::string::npos, end) == 0) return type;
  return "application/json;nonfinite=null";
}

int run(const ClientOptions& client, const Surroundings& surroundings, const FunctionOptions& options, const std::vector<std::string>& words) {
  Remote remote(client, surroundings);
  if (words.empty()) return list(remote);
  if (words.front().rfind("-", 0) == 0) return remote.fail(usage, "unknown option " + words.front() + "; `myelin functions --help` lists them");
  const std::string path = "/v1/functions/" + percent_encoded(words.front());
  auto known = remote.get(path);
  if (!known || !known->is_object()) return remote.status();
  auto& function = known->get_object();
  for (std::size_t i = 1; i < words.size(); ++i)
    if (words[i] == "--help" || words[i] == "-h") {
      if (!remote.json_wanted()) return help(function);
      print_json(*known);
      return done;
    }
  auto parameters = read_parameters(remote, function, words);
  if (!parameters) return remote.status();
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = path;
  ask.body = json::object{{"parameters", std::move(*parameters)}};
  if (options.keep) (*ask.body)["keep"] = true;
  if (!options.title.empty()) (*ask.body)["title"] = options.title;
  if (options.timeout_s > 0) (*ask.body)["timeout_s"] = options.timeout_s;
  ask.headers = {"Accept: " + media_type(options.output), "Prefer: cancel-on-disconnect"};
  if (options.background) ask.headers.back() = "Prefer: respond-async";
  ask.script = words.front();
  Interrupts counting;
  ask.tick = [] { return Interrupts::count() == 0; };
  auto answer = remote.ask(ask);
  if (!answer) return remote.status();
  if (auto id = answer->header("myelin-run"); !id.empty() && options.keep && !remote.json_wanted()) std::fprintf(stderr, "myelin: kept as run %s\n", id.c_str());
  if (!options.output.empty() && !options.background) {
    std::FILE* file = options.output == "-" ? stdout : std::fopen(options.output.c_str(), "wb");
    if (!file) return remote.fail(usage, options.output + " can't be written");
    bool written = std::fwrite(answer->body.data(), 1, answer->body.size(), file) == answer->body.size();
    if (file != stdout) written = std::fclose(file) == 0 && written;
    return written ? done : remote.fail(usage, options.output + " can't be written");
  }
  auto value = parsed(answer->body);
  if (!value || !value->is_object()) return remote.fail(unreachable, "the server did not answer in JSON; is it a Myelin server?");
  auto& object = value->get_object();
  if (remote.json_wanted()) print_json(*value);
  else if (answer->status == 202) std::printf("%s\n", text_of(object, "id").c_str());
  else {
    std::string text = text_of(object, "stdout");
    std::fwrite(text.data(), 1, text.size(), stderr);
    if (auto* data = object.if_contains("data")) print_json(*data);
  }
  return done;
}

}  // namespace

void add_function_commands(CLI::App& app, ClientOptions& client, const Surroundings& surroundings, int& status) {
  static FunctionOptions options;
  auto* command = app.add_subcommand("functions", "list simulation functions; call one: [OPTIONS] NAME [--PARAMETER VALUE …]; its parameters: NAME --help");
  add_client_options(command, client);
  command->add_option("-o,--output", options.output, "write the result to a file: .json, .cbor, .npz, .csv, .zip (CSVs), .png or .svg");
  command->add_flag("--keep", options.keep, "keep the result as a run");
  command->add_flag("--async", options.background, "don't wait: print the job's id");
  command->add_option("--title", options.title, "of the run");
  command->add_option("--timeout", options.timeout_s, "seconds after which the server interrupts it")->check(CLI::PositiveNumber);
  command->prefix_command();  // after NAME all belongs to the function
  command->callback([&, command] { status = run(client, surroundings, options, command->remaining()); });
}

}  // namespace myelin::cli
