#pragma once
// The commands that talk to a server: exec, call, sessions, branch, jobs, runs, rerun, engine. spec/native-api.md is what
// they speak, docs/cli.md what they promise.

#include <CLI/App.hpp>
#include <boost/json/value.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/client_text.hpp"
#include "cli/config.hpp"
#include "cli/http_client.hpp"

namespace myelin::cli {

namespace json = boost::json;

/// Exit statuses of these commands.
enum Exit : int { done = 0, script_failed = 1, usage = 2, unreachable = 3, refused = 4, left = 130 };

struct ClientOptions {
  std::string url, token, socket, data;
  bool json = false;
};

/// Where the server is, by flags, environment and what lies around; see docs/cli.md.
struct Place {
  std::string url, socket, token;
};
[[nodiscard]] Place find_server(const ClientOptions& options, const Surroundings& surroundings);

/// Ctrl-C is counted instead of ending the program while one of these lives.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  [[nodiscard]] static int count();
};

/// The server as commands see it. What goes wrong is said here, on one line of stderr, and decides the exit status.
class Remote {
 public:
  Remote(const ClientOptions& options, const Surroundings& surroundings);

  struct Ask {
    std::string method = "GET";
    std::string target;
    std::optional<json::object> body;
    std::vector<std::string> headers;
    std::FILE* into = nullptr;
    std::string script;  // what to call the script in its errors
    std::function<bool()> tick;
  };
  /// Nothing when it was refused or unreachable: then status() says how, and the user knows.
  [[nodiscard]] std::optional<HttpAnswer> ask(const Ask& ask);
  /// Its answer, which is JSON.
  [[nodiscard]] std::optional<json::value> value(const Ask& ask);
  [[nodiscard]] std::optional<json::value> get(const std::string& target);
  /// Says `text` and what it means for the exit status; returns that.
  int fail(Exit status, const std::string& text);
  /// Says what a problem (an error's object) means; returns the exit status.
  int fail_problem(const json::object& problem, const std::string& script);

  /// A session's object by its id, or by a name that fits one only. Nothing: it was said.
  [[nodiscard]] std::optional<json::object> session(const std::string& id_or_name);

  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] bool json_wanted() const { return options_.json; }
  /// A second connection, for looking on while a call runs.
  [[nodiscard]] HttpClient another() const;

 private:
  ClientOptions options_;
  Place place_;
  HttpClient http_;
  int status_ = done;
};

/// Members of a server's objects; a default where they are absent or of another type.
[[nodiscard]] std::string text_of(const json::object& object, std::string_view key, std::string_view fallback = "");
[[nodiscard]] double number_of(const json::object& object, std::string_view key, double fallback = 0);
[[nodiscard]] const json::object* object_of(const json::object& object, std::string_view key);
[[nodiscard]] std::vector<json::object> objects_of(const json::value& value, std::string_view key);
/// JSON of any sensible depth; nothing if it is none.
[[nodiscard]] std::optional<json::value> parsed(const std::string& text);
/// Compact JSON and a line break, numbers as a script would write them.
void print_json(const json::value& value);
/// "430 of 1000 ms" of a progress object.
[[nodiscard]] std::string progress_text(const json::object& progress);

/// Adds all of them. `status` is set when one has run.
void add_client_commands(CLI::App& app, const Surroundings& surroundings, int& status);
void add_call_commands(CLI::App& app, ClientOptions& options, const Surroundings& surroundings, int& status);
void add_function_commands(CLI::App& app, ClientOptions& options, const Surroundings& surroundings, int& status);
void add_list_commands(CLI::App& app, ClientOptions& options, const Surroundings& surroundings, int& status);
/// Waits for a job with a progress line; its last object. Ctrl-C cancels it, the second leaves it running.
[[nodiscard]] std::optional<json::object> wait_for_job(Remote& remote, const std::string& id);
/// The group of that name, made if it is not there yet.
CLI::App* group(CLI::App& app, const std::string& name, const std::string& help);
void add_client_options(CLI::App* command, ClientOptions& options);

}  // namespace myelin::cli
