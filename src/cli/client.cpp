#include "cli/client.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "codec/json_value.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

std::atomic<int> interrupts{0};

std::string variable(const Surroundings& surroundings, const char* name) {
  auto found = surroundings.environment.find(name);
  return found == surroundings.environment.end() ? "" : found->second;
}

// Ours or root's: what somebody else put into a shared folder is not a server of ours.
bool is_ours(const fs::path& path, mode_t kind) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IFMT) == kind && (info.st_uid == ::geteuid() || info.st_uid == 0);
}

bool somebody_listens(const fs::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string text = path.string();
  if (text.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;  // EAGAIN: busy
  ::close(fd);
  return connected;
}

std::string token_in(const fs::path& path) {
  if (!is_ours(path, S_IFREG)) return "";
  std::ifstream file(path);
  std::string token;
  file >> token;
  return token.size() <= 512 ? token : "";
}

}  // namespace

Interrupts::Interrupts() {
  interrupts = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { ++interrupts; };
  ::sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: a wait ends at once
}

Interrupts::~Interrupts() { ::signal(SIGINT, SIG_DFL); }

int Interrupts::count() { return interrupts; }

Place find_server(const ClientOptions& options, const Surroundings& surroundings) {
  constexpr const char* default_url = "http://127.0.0.1:52425";
  Place place{options.url, options.socket, options.token};
  if (place.token.empty()) place.token = variable(surroundings, "MYELIN_TOKEN");
  if (place.url.empty() && place.socket.empty() && options.data.empty()) place.url = variable(surroundings, "MYELIN_URL");
  if (place.url.rfind("unix:", 0) == 0) place.socket = place.url.substr(5), place.url.clear();
  while (!place.url.empty() && place.url.back() == '/') place.url.pop_back();
  if (!place.url.empty() && place.socket.empty()) return place;
  place.url = "http://localhost";
  if (!place.socket.empty()) return place;

  std::vector<fs::path> folders;
  if (!options.data.empty()) {
    folders = {options.data};
  } else {
    std::string given = variable(surroundings, "MYELIN_DATA");
    folders = {given.empty() ? default_data(surroundings) : fs::path(given), ".myelin"};
  }
  for (const auto& folder : folders) {
    fs::path socket = folder / "socket";
    if (folder.empty() || !is_ours(socket, S_IFSOCK) || !somebody_listens(socket)) continue;
    place.socket = socket.string();
    return place;
  }
  place.url = default_url;
  for (const auto& folder : folders)
    if (place.token.empty() && !folder.empty()) place.token = token_in(folder / "token");
  return place;
}

Remote::Remote(const ClientOptions& options, const Surroundings& surroundings)
    : options_(options), place_(find_server(options, surroundings)), http_(another()) {}

HttpClient Remote::another() const { return {place_.url, place_.socket, place_.token}; }

int Remote::fail(Exit status, const std::string& text) {
  std::fprintf(stderr, "myelin: %s\n", shortened(text, 4000).c_str());
  return status_ = status;
}

int Remote::fail_problem(const json::object& problem, const std::string& script) {
  std::string code = text_of(problem, "code"), detail = text_of(problem, "detail", text_of(problem, "title", "the server gave no reason"));
  if (code == "unauthorized" || number_of(problem, "status") == 401)
    return fail(refused, "the server does not know this token: give --token or MYELIN_TOKEN (an operator's is in DIR/token of the server's machine)");
  if (code == "invalid" || code == "broken") return fail(refused, detail);
  bool failed = code == "call_failed" || code == "interrupted" || code == "deadline" || code == "worker_lost" || code == "gone";
  if (!failed || script.empty()) return fail(refused, detail);
  auto line = static_cast<long long>(number_of(problem, "line"));
  std::string what = text_of(problem, "class");
  if (what == "KeyboardInterrupt") return fail(script_failed, script + ": interrupted" + (line ? " at line " + std::to_string(line) : ""));
  std::string text = text_of(problem, "text", detail);
  if (what.empty()) text = detail;
  else text = text.empty() ? what : what + ": " + text;
  return fail(script_failed, script + (line ? ":" + std::to_string(line) : "") + ": " + text);
}

std::optional<HttpAnswer> Remote::ask(const Ask& ask) {
  HttpRequest request{ask.method, ask.target, "", ask.headers, ask.into};
  if (ask.body) codec::append_json(request.body, *ask.body);
  auto answer = http_.send(request, ask.tick);
  if (!answer) {
    if (answer.error().code == Code::interrupted) status_ = left;
    else if (answer.error().code == Code::unavailable)
      fail(unreachable, answer.error().message + "; is it running (`myelin serve`)? Another place is given by --url, --socket or MYELIN_URL");
    else fail(refused, answer.error().message);
    return std::nullopt;
  }
  if (answer->ok()) return std::move(*answer);
  auto problem = parsed(answer->body);
  if (problem && problem->is_object() && problem->get_object().contains("status")) {
    if (options_.json) print_json(*problem);
    if (auto* stdout_text = problem->get_object().if_contains("stdout"); stdout_text && stdout_text->is_string() && !options_.json)
      std::fwrite(stdout_text->get_string().data(), 1, stdout_text->get_string().size(), stdout), std::fflush(stdout);
    fail_problem(problem->get_object(), ask.script);
  } else {
    fail(answer->status >= 500 ? unreachable : refused,
         http_.where() + " answers " + std::to_string(answer->status) + ", and not as a Myelin server does; is the address right?");
  }
  return std::nullopt;
}

std::optional<json::value> Remote::value(const Ask& wanted) {
  auto answer = ask(wanted);
  if (!answer) return std::nullopt;
  if (answer->body.empty()) return json::value(json::object{});
  auto value = parsed(answer->body);
  if (!value) fail(unreachable, http_.where() + " did not answer in JSON; is it a Myelin server?");
  return value;
}

std::optional<json::value> Remote::get(const std::string& target) {
  Ask wanted;
  wanted.target = target;
  return value(wanted);
}

std::optional<json::object> Remote::session(const std::string& wanted) {
  auto all = get("/v1/sessions");
  if (!all) return std::nullopt;
  std::vector<json::object> fitting;
  for (auto& session : objects_of(*all, "sessions")) {
    if (text_of(session, "id") == wanted) return session;
    if (text_of(session, "name") == wanted) fitting.push_back(session);
  }
  if (fitting.size() == 1) return fitting.front();
  if (fitting.size() > 1) {
    std::string ids;
    for (auto& session : fitting) ids += (ids.empty() ? "" : ", ") + text_of(session, "id") + " (" + text_of(session, "engine") + " of " + text_of(session, "user") + ")";
    fail(refused, "several sessions have the name '" + wanted + "', give one by its id: " + ids);
    return std::nullopt;
  }
  if (wanted.rfind("s_", 0) == 0) {  // an ended one is not listed
    auto one = get("/v1/sessions/" + percent_encoded(wanted));
    if (one && one->is_object()) return one->get_object();
    return std::nullopt;
  }
  fail(refused, "there is no session '" + wanted + "'; `myelin sessions` lists them");
  return std::nullopt;
}

std::optional<json::value> parsed(const std::string& text) {
  json::parse_options options;
  options.max_depth = 512;
  json::error_code failed;
  auto value = json::parse(text, failed, {}, options);
  if (failed) return std::nullopt;
  return value;
}

std::string text_of(const json::object& object, std::string_view key, std::string_view fallback) {
  auto* value = object.if_contains(json::string_view(key.data(), key.size()));
  return value && value->is_string() ? std::string(value->get_string()) : std::string(fallback);
}

double number_of(const json::object& object, std::string_view key, double fallback) {
  auto* value = object.if_contains(json::string_view(key.data(), key.size()));
  return value && value->is_number() ? value->to_number<double>() : fallback;
}

const json::object* object_of(const json::object& object, std::string_view key) {
  auto* value = object.if_contains(json::string_view(key.data(), key.size()));
  return value && value->is_object() ? &value->get_object() : nullptr;
}

std::vector<json::object> objects_of(const json::value& value, std::string_view key) {
  std::vector<json::object> out;
  if (!value.is_object()) return out;
  auto* list = value.get_object().if_contains(json::string_view(key.data(), key.size()));
  if (list && list->is_array())
    for (auto& item : list->get_array())
      if (item.is_object()) out.push_back(item.get_object());
  return out;
}

void print_json(const json::value& value) {
  const std::string text = codec::json_text(value) + '\n';
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string progress_text(const json::object& progress) {
  if (!progress.contains("time_ms") || !progress.contains("of_ms")) return text_of(progress, "note");
  char out[64];
  std::snprintf(out, sizeof out, "%.0f of %.0f ms", number_of(progress, "time_ms"), number_of(progress, "of_ms"));
  return out;
}

CLI::App* group(CLI::App& app, const std::string& name, const std::string& help) {
  for (auto* known : app.get_subcommands([&](CLI::App* command) { return command->get_name() == name; })) return known;
  return app.add_subcommand(name, help);
}

void add_client_options(CLI::App* command, ClientOptions& options) {
  command->add_option("--url", options.url, "the server's address (MYELIN_URL; else a socket nearby, else http://127.0.0.1:52425)");
  command->add_option("--socket", options.socket, "the server's Unix socket, DIR/socket");
  command->add_option("--token", options.token, "who asks; better by MYELIN_TOKEN, which does not show in ps");
  command->add_option("--data", options.data, "DIR of a server on this machine: its socket, else its token");
  command->add_flag("--json", options.json, "print what the server answers, as JSON");
}

void add_client_commands(CLI::App& app, const Surroundings& surroundings, int& status) {
  static ClientOptions options;  // of the one command that is run
  add_call_commands(app, options, surroundings, status);
  add_function_commands(app, options, surroundings, status);
  add_list_commands(app, options, surroundings, status);
}

}  // namespace myelin::cli
