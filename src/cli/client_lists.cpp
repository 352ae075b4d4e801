// sessions, branch, jobs, runs, rerun, engine list: what is there, and what to do with it.

#include <fcntl.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "cli/client.hpp"
#include "codec/json_value.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

struct ListOptions {
  std::string id, other, dataset, file, format, title, engine, state, session, since, until;
  std::vector<std::string> ids, names;
  int count = 1, limit = 50;
  bool background = false;
};

std::string session_path(const json::object& session) { return "/v1/sessions/" + percent_encoded(text_of(session, "id")); }

std::string done_text(const json::object& object) {
  auto* progress = object_of(object, "progress");
  if (!progress || !progress->contains("done")) return "";
  return std::to_string(static_cast<int>(number_of(*progress, "done") * 100)) + " %";
}

void print_members(const json::object& object) {
  for (auto& [key, value] : object) {
    std::string text;
    if (value.is_string()) text = std::string(value.get_string());
    else if (!value.is_null()) text = codec::json_text(value);
    std::string name(key);
    bool time = name.size() > 3 && name.compare(name.size() - 3, 3, "_at") == 0;
    if (name == "memory_bytes" || name == "bytes") text = size_text(number_of(object, name));
    std::printf("%-16s %s\n", name.c_str(), value.is_null() ? "–" : time ? local_time(text).c_str() : shortened(text, 2000).c_str());
  }
}

int show(Remote& remote, const json::object& object) {
  if (remote.json_wanted()) print_json(object);
  else print_members(object);
  return done;
}

std::optional<json::object> object_at(Remote& remote, const std::string& target) {
  auto value = remote.get(target);
  if (!value || !value->is_object()) return std::nullopt;
  return value->get_object();
}

// ---- sessions

int print_sessions(Remote& remote, const json::value& value, const char* none) {
  if (remote.json_wanted()) return print_json(value), done;
  Table table({"ID", "NAME", "ENGINE", "USER", "STATE", ">DONE", ">MEMORY", "LAST USED"});
  for (auto& s : objects_of(value, "sessions")) {
    std::string state = text_of(s, "state");
    if (auto queued = static_cast<int>(number_of(s, "queued")); queued > 0) state += " +" + std::to_string(queued);
    table.add({text_of(s, "id"), text_of(s, "name"), text_of(s, "engine"), text_of(s, "user"), state, done_text(s),
               size_text(number_of(s, "memory_bytes")), local_time(text_of(s, "last_used_at"))});
  }
  if (table.empty()) std::fprintf(stderr, "%s\n", none);
  else std::fputs(table.text().c_str(), stdout);
  return done;
}

int sessions_list(Remote& remote) {
  auto value = remote.get("/v1/sessions");
  return value ? print_sessions(remote, *value, "no sessions; `myelin exec FILE --session NAME` makes one") : remote.status();
}

int sessions_show(Remote& remote, const ListOptions& o) {
  auto session = remote.session(o.id);
  return session ? show(remote, *session) : remote.status();
}

int sessions_end(Remote& remote, const ListOptions& o) {
  for (auto& id : o.ids) {
    auto session = remote.session(id);
    if (!session) continue;
    Remote::Ask end;
    end.method = "DELETE";
    end.target = session_path(*session);
    if (remote.ask(end) && !remote.json_wanted()) std::printf("%s has ended\n", text_of(*session, "id").c_str());
  }
  return remote.status();
}

int sessions_interrupt(Remote& remote, const ListOptions& o) {
  auto session = remote.session(o.id);
  if (!session) return remote.status();
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = session_path(*session) + "/interrupt";
  auto answer = remote.value(ask);
  if (!answer) return remote.status();
  if (remote.json_wanted()) print_json(*answer);
  else std::printf("interrupting the call of %s\n", text_of(*session, "id").c_str());
  return done;
}

int sessions_output(Remote& remote, const ListOptions& o) {
  auto session = remote.session(o.id);
  if (!session) return remote.status();
  Remote::Ask ask;
  ask.target = session_path(*session) + "/output";
  auto answer = remote.ask(ask);
  if (!answer) return remote.status();
  if (remote.json_wanted()) print_json(json::object{{"output", answer->body}});
  else std::fwrite(answer->body.data(), 1, answer->body.size(), stdout);
  return done;
}

int branch(Remote& remote, const ListOptions& o) {
  auto session = remote.session(o.id);
  if (!session) return remote.status();
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = session_path(*session) + "/branch";
  ask.body = json::object{{"count", o.names.empty() ? o.count : std::max<int>(o.count, static_cast<int>(o.names.size()))}};
  if (!o.names.empty()) (*ask.body)["names"] = json::value_from(o.names);
  auto made = remote.value(ask);
  if (!made) return remote.status();
  print_sessions(remote, *made, "no branch was made");
  for (auto& gone : objects_of(*made, "evicted"))
    std::fprintf(stderr, "myelin: the checkpoint %s was dropped to make room\n", text_of(gone, "name", text_of(gone, "id")).c_str());
  return done;
}

// ---- jobs and runs

int print_runs(Remote& remote, const json::value& value, const char* key, const char* none) {
  if (remote.json_wanted()) return print_json(value), done;
  Table table({"ID", "TITLE", "KIND", "ENGINE", "STATE", ">DONE", "MADE", ">SIZE", "DATASETS"});
  for (auto& r : objects_of(value, key)) {
    std::string datasets;
    for (auto& d : objects_of(json::value(r), "datasets")) datasets += (datasets.empty() ? "" : ", ") + text_of(d, "name");
    table.add({text_of(r, "id"), text_of(r, "title"), text_of(r, "kind"), text_of(r, "engine"), text_of(r, "state"), done_text(r),
               local_time(text_of(r, "created_at")), size_text(number_of(r, "bytes")), datasets});
  }
  if (table.empty()) std::fprintf(stderr, "%s\n", none);
  else std::fputs(table.text().c_str(), stdout);
  if (auto next = value.is_object() ? text_of(value.get_object(), "next") : ""; !next.empty())
    std::fprintf(stderr, "there are more: --after %s\n", next.c_str());
  return done;
}

int jobs_list(Remote& remote) {
  auto value = remote.get("/v1/jobs");
  return value ? print_runs(remote, *value, "jobs", "no jobs; `myelin exec FILE --async` makes one") : remote.status();
}

int runs_list(Remote& remote, const ListOptions& o) {
  std::string target = "/v1/runs?limit=" + std::to_string(o.limit);
  for (auto& [key, text] : {std::pair{"engine", &o.engine}, {"state", &o.state}, {"session", &o.session}, {"title", &o.title}, {"since", &o.since}, {"until", &o.until}, {"after", &o.other}})
    if (!text->empty()) target += std::string("&") + key + "=" + percent_encoded(*text);
  auto value = remote.get(target);
  return value ? print_runs(remote, *value, "runs", "no runs fit; `myelin exec FILE --return v --keep` makes one") : remote.status();
}

int show_at(Remote& remote, const std::string& target) {
  auto object = object_at(remote, target);
  return object ? show(remote, *object) : remote.status();
}

int print_answer(Remote& remote, const std::string& target, const std::string& script) {
  Remote::Ask ask;
  ask.target = target;
  ask.headers = {"Accept: application/json;nonfinite=null"};
  ask.script = script;
  auto answer = remote.ask(ask);
  if (!answer) return remote.status();
  auto value = parsed(answer->body);
  if (!remote.json_wanted() && value && value->is_object()) {
    auto printed = text_of(value->get_object(), "stdout");
    std::fwrite(printed.data(), 1, printed.size(), stderr);
    if (auto* data = value->get_object().if_contains("data")) return print_json(*data), done;
  }
  std::fwrite(answer->body.data(), 1, answer->body.size(), stdout);
  if (answer->body.empty() || answer->body.back() != '\n') std::putchar('\n');
  return done;
}

// The state of a job that has ended, told; its exit status.
int tell_end(Remote& remote, const json::object& job) {
  std::string id = text_of(job, "id"), state = text_of(job, "state");
  if (remote.json_wanted()) print_json(job);
  if (state == "done") {
    if (!remote.json_wanted()) std::fprintf(stderr, "myelin: %s is done: `myelin runs get %s`\n", id.c_str(), id.c_str());
    return done;
  }
  if (auto* error = object_of(job, "error")) return remote.fail_problem(*error, id);
  return remote.fail(script_failed, id + " is " + state);
}

int jobs_wait(Remote& remote, const ListOptions& o) {
  auto job = wait_for_job(remote, o.id);
  return job ? tell_end(remote, *job) : remote.status();
}

int jobs_cancel(Remote& remote, const ListOptions& o) {
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = "/v1/jobs/" + percent_encoded(o.id) + "/cancel";
  auto answer = remote.ask(ask);
  if (!answer) return remote.status();
  if (!remote.json_wanted()) std::printf("cancelling %s\n", o.id.c_str());
  else std::fwrite(answer->body.data(), 1, answer->body.size(), stdout);
  return done;
}

// Writes beside and renames: a broken download never looks like a whole one.
int download(Remote& remote, const std::string& target, const std::string& file) {
  Remote::Ask ask;
  ask.target = target;
  if (file.empty() || file == "-") {
    ask.into = stdout;
    return remote.ask(ask) ? std::fflush(stdout), done : remote.status();
  }
  std::string beside = file + ".part";
  ask.into = std::fopen(beside.c_str(), "wbe");
  if (!ask.into) return remote.fail(usage, file + " can't be written; give another with --output");
  auto answer = remote.ask(ask);
  bool written = std::fclose(ask.into) == 0;
  if (!answer || !written || std::rename(beside.c_str(), file.c_str()) != 0) {
    std::remove(beside.c_str());
    return answer ? remote.fail(refused, file + " can't be written: is the disk full?") : remote.status();
  }
  std::error_code error;
  auto bytes = fs::file_size(file, error);
  if (remote.json_wanted()) print_json(json::object{{"file", file}, {"bytes", error ? 0 : bytes}});
  else std::fprintf(stderr, "%s: %s\n", file.c_str(), size_text(static_cast<double>(error ? 0 : bytes)).c_str());
  return done;
}

int runs_get(Remote& remote, const ListOptions& o) {
  std::string path = "/v1/runs/" + percent_encoded(o.id);
  if (o.dataset.empty()) {
    if (!o.format.empty() || !o.file.empty()) return remote.fail(usage, "say which dataset, or use `myelin runs export` for all; `myelin runs show " + o.id + "` lists them");
    return print_answer(remote, path + "/result", o.id);
  }
  std::string format = o.format;
  if (format.empty()) {
    std::string suffix = fs::path(o.file).extension().string();
    format = suffix == ".csv" ? "csv" : suffix == ".npy" ? "npy" : suffix == ".cbor" ? "cbor" : "json";
  }
  if (o.file.empty() && ::isatty(1) && (format == "npy" || format == "cbor")) return remote.fail(usage, format + " is not for a terminal: give --output FILE");
  return download(remote, path + "/datasets/" + percent_encoded(o.dataset) + "?format=" + format, o.file);
}

int runs_export(Remote& remote, const ListOptions& o) {
  std::string format = o.format.empty() ? "npz" : o.format;
  std::string file = o.file.empty() ? o.id + (format == "npz" ? ".npz" : format == "cbor" ? ".cbor" : "." + format + ".zip") : o.file;
  if (file == "-" && ::isatty(1)) return remote.fail(usage, "an export is not for a terminal: give --output FILE");
  return download(remote, "/v1/runs/" + percent_encoded(o.id) + "/export?format=" + format, file);
}

int tell_comparison(Remote& remote, const json::object& comparison) {
  if (remote.json_wanted()) return print_json(comparison), done;
  auto* same = comparison.if_contains("identical");
  bool identical = same && same->is_bool() && same->get_bool();
  Table table({"DATASET", "IDENTICAL", ">FIRST DIFFERENCE", ">LARGEST DIFFERENCE"});
  auto shown = [](const json::object& o, const char* key) {
    auto* value = o.if_contains(key);
    return value && !value->is_null() ? codec::json_text(*value) : std::string();
  };
  for (auto& d : objects_of(json::value(comparison), "datasets")) {
    auto* alike = d.if_contains("identical");
    table.add({text_of(d, "name"), alike && alike->is_bool() && alike->get_bool() ? "yes" : "no", shown(d, "first_difference"), shown(d, "max_abs_difference")});
  }
  std::printf("%s\n", identical ? "identical" : "not identical");
  if (!table.empty()) std::fputs(table.text().c_str(), stdout);
  if (auto* differs = comparison.if_contains("differs"); differs && differs->is_array())
    for (auto& line : differs->get_array())
      if (line.is_string()) std::printf("differs: %s\n", shortened(std::string(line.get_string()), 400).c_str());
  return done;
}

int runs_compare(Remote& remote, const ListOptions& o) {
  auto comparison = object_at(remote, "/v1/runs/compare?a=" + percent_encoded(o.id) + "&b=" + percent_encoded(o.other));
  return comparison ? tell_comparison(remote, *comparison) : remote.status();
}

int rerun(Remote& remote, const ListOptions& o) {
  Remote::Ask ask;
  ask.method = "POST";
  ask.target = "/v1/runs/" + percent_encoded(o.id) + "/rerun";
  auto job = remote.value(ask);
  if (!job || !job->is_object()) return remote.status();
  std::string id = text_of(job->get_object(), "id");
  if (o.background) {
    if (remote.json_wanted()) print_json(*job);
    else std::printf("%s\n", id.c_str());
    return done;
  }
  auto ended = wait_for_job(remote, id);
  if (!ended) return remote.status();
  if (text_of(*ended, "state") != "done" || remote.json_wanted()) return tell_end(remote, *ended);
  std::printf("%s reran %s: ", id.c_str(), o.id.c_str());
  if (auto* comparison = object_of(*ended, "comparison")) return tell_comparison(remote, *comparison);
  std::printf("no comparison\n");
  return done;
}

int runs_remove(Remote& remote, const ListOptions& o) {
  for (auto& id : o.ids) {
    Remote::Ask ask;
    ask.method = "DELETE";
    ask.target = "/v1/runs/" + percent_encoded(id);
    if (remote.ask(ask) && !remote.json_wanted()) std::printf("%s is removed\n", id.c_str());
  }
  return remote.status();
}

// ---- engines

int engine_list(Remote& remote) {
  auto value = remote.get("/v1/engines");
  if (!value) return remote.status();
  if (remote.json_wanted()) return print_json(*value), done;
  Table table({"NAME", "VERSION", "READY", "BRANCHES", "PYTHON", "WHY NOT"});
  auto yes = [](const json::object& o, const char* key) {
    auto* flag = o.if_contains(key);
    return flag && flag->is_bool() && flag->get_bool() ? "yes" : "no";
  };
  for (auto& e : objects_of(*value, "engines"))
    table.add({text_of(e, "name"), text_of(e, "version"), yes(e, "ready"), yes(e, "branches"), text_of(e, "python"), text_of(e, "why_not")});
  std::fputs(table.text().c_str(), stdout);
  return done;
}

}  // namespace

void add_list_commands(CLI::App& app, ClientOptions& client, const Surroundings& surroundings, int& status) {
  static ListOptions o;
  using Action = std::function<int(Remote&)>;
  auto run = [&client, &surroundings, &status](CLI::App* command, Action action) {
    command->callback([&client, &surroundings, &status, action = std::move(action)] {
      Remote remote(client, surroundings);
      status = action(remote);
    });
  };
  // A group whose name alone lists; its options may stand behind the subcommand too.
  auto listing = [&](const char* name, const char* help, Action list) {
    auto* made = app.add_subcommand(name, help);
    add_client_options(made, client);
    made->callback([&client, &surroundings, &status, made, list] {
      if (!made->get_subcommands().empty()) return;
      Remote remote(client, surroundings);
      status = list(remote);
    });
    return made;
  };
  auto sub = [&](CLI::App* in, const char* name, const char* help, Action action) {
    auto* made = in->add_subcommand(name, help);
    made->fallthrough();
    run(made, std::move(action));
    return made;
  };
  auto one_session = [](CLI::App* command) { command->add_option("SESSION", o.id, "its name or id")->required(); };
  auto one_run = [](CLI::App* command) { command->add_option("ID", o.id, "r_…")->required(); };

  auto list_sessions = [](Remote& r) { return sessions_list(r); };
  auto* sessions = listing("sessions", "sessions: list, show, end, interrupt, output", list_sessions);
  sub(sessions, "list", "all of yours (an operator's: everybody's)", list_sessions);
  one_session(sub(sessions, "show", "one in full, also one that has ended", [](Remote& r) { return sessions_show(r, o); }));
  sub(sessions, "end", "end them", [](Remote& r) { return sessions_end(r, o); })->add_option("SESSION", o.ids, "names or ids")->required();
  one_session(sub(sessions, "interrupt", "interrupt the running call", [](Remote& r) { return sessions_interrupt(r, o); }));
  one_session(sub(sessions, "output", "what it printed last", [](Remote& r) { return sessions_output(r, o); }));

  auto* branch_command = app.add_subcommand("branch", "sessions that continue from the state of one");
  add_client_options(branch_command, client);
  one_session(branch_command);
  branch_command->add_option("--count", o.count, "how many (1)")->check(CLI::Range(1, 10'000));
  branch_command->add_option("--name", o.names, "of a branch; several: a,b")->delimiter(',')->allow_extra_args(false);
  run(branch_command, [](Remote& r) { return branch(r, o); });

  auto list_jobs = [](Remote& r) { return jobs_list(r); };
  auto* jobs = listing("jobs", "calls that nobody waits for: list, show, wait, result, cancel", list_jobs);
  sub(jobs, "list", "those that run, and those whose result is still there", list_jobs);
  one_run(sub(jobs, "show", "one in full", [](Remote& r) { return show_at(r, "/v1/jobs/" + percent_encoded(o.id)); }));
  one_run(sub(jobs, "wait", "wait for its end, with its progress", [](Remote& r) { return jobs_wait(r, o); }));
  one_run(sub(jobs, "result", "what the call returned, as JSON", [](Remote& r) { return print_answer(r, "/v1/jobs/" + percent_encoded(o.id) + "/result", o.id); }));
  one_run(sub(jobs, "cancel", "interrupt it, or take it off the queue", [](Remote& r) { return jobs_cancel(r, o); }));

  auto list_runs = [](Remote& r) { return runs_list(r, o); };
  auto* runs = listing("runs", "what is kept: list, show, get, export, compare, rerun, remove", list_runs);
  auto filters = [](CLI::App* command) {
    command->add_option("--engine", o.engine, "of this engine only");
    command->add_option("--state", o.state, "queued, running, done, failed, cancelled or lost");
    command->add_option("--session", o.session, "of the session with this id");
    command->add_option("--title", o.title, "whose title holds this");
    command->add_option("--since", o.since, "made at or after (2025-01-31 or 2025-01-31T13:05:00Z)");
    command->add_option("--until", o.until, "made before");
    command->add_option("--limit", o.limit, "how many (50)")->check(CLI::Range(1, 1000));
    command->add_option("--after", o.other, "the list's next page");
  };
  filters(sub(runs, "list", "newest first", list_runs));
  one_run(sub(runs, "show", "one in full", [](Remote& r) { return show_at(r, "/v1/runs/" + percent_encoded(o.id)); }));
  auto* get = sub(runs, "get", "one dataset, or what the call returned", [](Remote& r) { return runs_get(r, o); });
  one_run(get);
  get->add_option("DATASET", o.dataset, "its name (else: the whole result as JSON)");
  get->add_option("--format", o.format, "json, csv, cbor, npy (by the file's ending, else json)")->check(CLI::IsMember({"json", "csv", "cbor", "npy"}));
  get->add_option("-o,--output", o.file, "the file to write (standard output)");
  auto* exported = sub(runs, "export", "all datasets and what they came from, in one file", [](Remote& r) { return runs_export(r, o); });
  one_run(exported);
  exported->add_option("--format", o.format, "npz, csv, cbor or rocrate (npz)")->check(CLI::IsMember({"npz", "csv", "cbor", "rocrate"}));
  exported->add_option("-o,--output", o.file, "the file to write (ID.npz …); - is standard output");
  auto* compare = sub(runs, "compare", "whether two hold the same data, and what differs", [](Remote& r) { return runs_compare(r, o); });
  one_run(compare);
  compare->add_option("OTHER", o.other, "r_…")->required();
  auto rerun_options = [&](CLI::App* command) {
    one_run(command);
    command->add_flag("--async", o.background, "don't wait: print the job's id");
  };
  rerun_options(sub(runs, "rerun", "run it again and compare", [](Remote& r) { return rerun(r, o); }));
  sub(runs, "remove", "delete them with their data", [](Remote& r) { return runs_remove(r, o); })->add_option("ID", o.ids, "r_…")->required();
  auto* again = app.add_subcommand("rerun", "run a kept run again and compare");
  add_client_options(again, client);
  rerun_options(again);
  run(again, [](Remote& r) { return rerun(r, o); });

  auto* engines = group(app, "engine", "engines: add, remove, list");
  auto* list = engines->add_subcommand("list", "what can be run here, and why not");
  add_client_options(list, client);
  run(list, [](Remote& r) { return engine_list(r); });
  engines->require_subcommand(1);
}

}  // namespace myelin::cli
