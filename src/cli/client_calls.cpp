// exec and call: they run something, wait for it with a progress line, and interrupt it on Ctrl-C.

#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <iostream>
#include <iterator>

#include "cli/client.hpp"

namespace myelin::cli {
namespace {

constexpr double look_every_s = 0.25;

struct CallOptions {
  std::string file, engine = "nest", session, title;
  std::vector<std::string> wanted, inputs;
  bool keep = false, background = false, fresh = false;
  double timeout_s = 0;
};

struct Chosen {
  std::string id, name;
  bool ours = false;  // made for this call, ended after it
};

std::optional<Chosen> choose_session(Remote& remote, const CallOptions& options) {
  if (!options.session.empty()) {
    auto all = remote.get("/v1/sessions");
    if (!all) return std::nullopt;
    bool known = options.session.rfind("s_", 0) == 0;
    for (auto& one : objects_of(*all, "sessions")) known = known || text_of(one, "name") == options.session;
    if (known) {
      auto session = remote.session(options.session);
      if (!session) return std::nullopt;
      return Chosen{text_of(*session, "id"), text_of(*session, "name"), false};
    }
  }
  Remote::Ask make;
  make.method = "POST";
  make.target = "/v1/sessions";
  make.body = json::object{{"engine", options.engine}};
  if (!options.session.empty()) (*make.body)["name"] = options.session;
  auto made = remote.value(make);
  if (!made || !made->is_object()) return std::nullopt;
  return Chosen{text_of(made->get_object(), "id"), text_of(made->get_object(), "name"), options.session.empty() && !options.background};
}

void end_session(Remote& remote, const std::string& id) {
  HttpRequest end;
  end.method = "DELETE";
  end.target = "/v1/sessions/" + percent_encoded(id);
  auto give_up = [] { return Interrupts::count() < 2; };
  auto ended = remote.another().send(end, give_up);
  (void)ended;  // it ends by itself when it has been idle
}

// Runs `ask` with progress on stderr; the first Ctrl-C interrupts the call, the second leaves.
std::optional<HttpAnswer> watch(Remote& remote, Remote::Ask ask, const Chosen& session) {
  ProgressLine line;
  HttpClient side = remote.another();
  bool interrupted = false;
  double looked = 0;
  auto patience = [] { return Interrupts::count() < 2; };
  std::string path = "/v1/sessions/" + percent_encoded(session.id);
  ask.tick = [&]() -> bool {
    if (Interrupts::count() >= 2) return false;
    if (Interrupts::count() == 1 && !interrupted) {
      interrupted = true;
      line.clear();
      std::fprintf(stderr, "myelin: interrupting the call; Ctrl-C again leaves at once\n");
      HttpRequest request;
      request.method = "POST";
      request.target = path + "/interrupt";
      auto sent = side.send(request, patience);
      if (sent && !sent->ok() && sent->status != 409) std::fprintf(stderr, "myelin: the server did not interrupt it (%ld)\n", sent->status);
    }
    if (!line.on() || line.seconds() - looked < look_every_s) return true;
    HttpRequest look;
    look.target = path;
    auto state = side.send(look, patience);
    looked = line.seconds();
    double done = -1;
    std::string text = duration_text(looked);
    if (state && state->ok()) {
      auto value = parsed(state->body);
      if (value && value->is_object())
        if (auto* progress = object_of(value->get_object(), "progress")) {
          done = number_of(*progress, "done", -1);
          if (auto more = progress_text(*progress); !more.empty()) text = more + "  " + text;
        }
    }
    if (looked >= 0.5) line.draw(done, text);
    return true;
  };
  auto answer = remote.ask(ask);
  line.clear();
  if (!answer && remote.status() == left)
    std::fprintf(stderr, "myelin: left; the call may still run in session %s: `myelin sessions interrupt %s`\n", session.id.c_str(), session.id.c_str());
  return answer;
}

void print_text(std::FILE* to, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

int run_call(Remote& remote, const CallOptions& options, const std::string& verb, json::object body, const std::string& script, bool bare) {
  Interrupts counting;
  auto session = choose_session(remote, options);
  if (!session) return remote.status();
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = "/v1/sessions/" + percent_encoded(session->id) + "/" + verb;
  ask.body = std::move(body);
  ask.script = script;
  ask.headers = {"Accept: application/json;nonfinite=null"};
  if (options.background) ask.headers.emplace_back("Prefer: respond-async");
  auto answer = watch(remote, std::move(ask), *session);
  if (session->ours) {
    if (remote.status() != left) end_session(remote, session->id);
  } else if (options.background && options.session.empty() && answer) {
    std::fprintf(stderr, "myelin: the job runs in session %s, which stays: `myelin sessions end %s`\n", session->id.c_str(), session->id.c_str());
  }
  if (!answer) return remote.status();
  if (auto run = answer->header("myelin-run"); !run.empty() && !remote.json_wanted()) std::fprintf(stderr, "myelin: kept as run %s\n", run.c_str());
  if (remote.json_wanted()) {
    print_text(stdout, answer->body);
    if (answer->body.empty() || answer->body.back() != '\n') std::putchar('\n');
    return done;
  }
  auto value = parsed(answer->body);
  if (!value || !value->is_object()) return remote.fail(unreachable, "the server did not answer in JSON; is it a Myelin server?");
  auto& object = value->get_object();
  if (answer->status == 202) {
    std::printf("%s\n", text_of(object, "id").c_str());
    return done;
  }
  // With results wanted, they alone are on stdout, for a pipe.
  print_text(bare ? stderr : stdout, text_of(object, "stdout"));
  if (auto* data = object.if_contains("data"); data && bare) print_json(*data);
  return done;
}

std::optional<std::string> read_source(Remote& remote, const std::string& file) {
  if (file == "-") {
    if (::isatty(0)) std::fprintf(stderr, "myelin: reading the script from the terminal; Ctrl-D ends it\n");
    return std::string(std::istreambuf_iterator<char>(std::cin), {});
  }
  std::ifstream stream(file, std::ios::binary);
  std::error_code error;
  if (!stream || std::filesystem::is_directory(file, error)) {
    remote.fail(usage, file + " can't be read; give a Python file, or - for standard input");
    return std::nullopt;
  }
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

int exec(const ClientOptions& client, const Surroundings& surroundings, const CallOptions& options) {
  Remote remote(client, surroundings);
  auto source = read_source(remote, options.file);
  if (!source) return remote.status();
  json::object body{{"source", *source}};
  if (options.wanted.size() == 1) body["return"] = options.wanted.front();
  if (options.wanted.size() > 1) body["return"] = json::value_from(options.wanted);
  if (options.fresh) body["fresh"] = true;
  if (options.keep) body["keep"] = true;
  if (!options.inputs.empty()) body["inputs"] = json::value_from(options.inputs);
  if (!options.title.empty()) body["title"] = options.title;
  if (options.timeout_s > 0) body["timeout_s"] = options.timeout_s;
  return run_call(remote, options, "exec", std::move(body), options.file == "-" ? "<stdin>" : options.file, !options.wanted.empty());
}

// 3, 2.5, [1,2], {"a":1}, true, null, "text" as JSON; anything else is a text.
json::value argument(const std::string& text) {
  return parsed(text).value_or(json::value(text));
}

bool is_name(std::string_view text) {
  if (text.empty() || (text.front() >= '0' && text.front() <= '9')) return false;
  for (unsigned char c : text)
    if (!std::isalnum(c) && c != '_' && c < 0x80) return false;
  return true;
}

int call(const ClientOptions& client, const Surroundings& surroundings, const CallOptions& options, const std::vector<std::string>& words) {
  Remote remote(client, surroundings);
  if (words.empty() || words.front().rfind("-", 0) == 0)
    return remote.fail(usage, words.empty() ? "say which function: myelin call GetKernelStatus" : "unknown option " + words.front() + "; `myelin call --help` lists them");
  json::array args;
  json::object kwargs;
  for (std::size_t i = 1; i < words.size(); ++i) {
    auto equals = words[i].find('=');
    if (equals != std::string::npos && is_name(std::string_view(words[i]).substr(0, equals)))
      kwargs[words[i].substr(0, equals)] = argument(words[i].substr(equals + 1));
    else args.push_back(argument(words[i]));
  }
  json::object body{{"function", words.front()}, {"args", std::move(args)}, {"kwargs", std::move(kwargs)}};
  if (options.keep) body["keep"] = true;
  return run_call(remote, options, "call", std::move(body), words.front(), true);
}

}  // namespace

std::optional<json::object> wait_for_job(Remote& remote, const std::string& id) {
  Interrupts counting;
  ProgressLine line;
  bool cancelled = false;
  useconds_t pause_us = 50'000;
  std::string path = "/v1/jobs/" + percent_encoded(id);
  for (;;) {
    auto job = remote.get(path);
    if (!job || !job->is_object()) return std::nullopt;
    auto& object = job->get_object();
    std::string state = text_of(object, "state");
    if (state != "queued" && state != "running") return object;
    if (Interrupts::count() >= 2) {
      line.clear();
      remote.fail(left, "left; the job goes on: `myelin jobs wait " + id + "`");
      return std::nullopt;
    }
    if (Interrupts::count() == 1 && !cancelled) {
      cancelled = true;
      line.clear();
      std::fprintf(stderr, "myelin: cancelling the job; Ctrl-C again leaves at once\n");
      Remote::Ask cancel;
      cancel.method = "POST";
      cancel.target = path + "/cancel";
      if (!remote.ask(cancel)) return std::nullopt;
    }
    auto* progress = object_of(object, "progress");
    std::string text = progress ? progress_text(*progress) : "";
    line.draw(progress ? number_of(*progress, "done", -1) : -1, (text.empty() ? state : text) + "  " + duration_text(line.seconds()));
    ::usleep(pause_us);  // a signal ends it
    pause_us = std::min<useconds_t>(pause_us * 3 / 2, 500'000);
  }
}

void add_call_commands(CLI::App& app, ClientOptions& client, const Surroundings& surroundings, int& status) {
  static CallOptions options;
  auto common = [&](CLI::App* command) {
    add_client_options(command, client);
    command->add_option("--engine", options.engine, "of a new session (nest)");
    command->add_option("--session", options.session, "name or id; a name that is not there yet is made and stays (else: a session for this call only)");
    command->add_flag("--keep", options.keep, "keep what it returns as a run");
    command->add_flag("--async", options.background, "don't wait: print the job's id");
  };
  auto* exec_command = app.add_subcommand("exec", "run a script in a session");
  common(exec_command);
  exec_command->add_option("FILE", options.file, "a Python file, or - for standard input")->required();
  exec_command->add_option("--return", options.wanted, "a variable to print as JSON; several: a,b")->delimiter(',')->allow_extra_args(false);
  exec_command->add_flag("--fresh", options.fresh, "forget the session's variables first");
  exec_command->add_option("--title", options.title, "of the run");
  exec_command->add_option("--input", options.inputs, "id of a run that it was made from; several: a,b")->delimiter(',')->allow_extra_args(false);
  exec_command->add_option("--timeout", options.timeout_s, "seconds after which the server interrupts it")->check(CLI::PositiveNumber);
  exec_command->callback([&] { status = exec(client, surroundings, options); });

  auto* call_command = app.add_subcommand("call", "call a function of an engine or a session: [OPTIONS] FUNCTION [VALUE …] [NAME=VALUE …]");
  common(call_command);
  call_command->prefix_command();  // after FUNCTION all belongs to it, "-70.0" too
  call_command->callback([&, call_command] { status = call(client, surroundings, options, call_command->remaining()); });
}

}  // namespace myelin::cli
