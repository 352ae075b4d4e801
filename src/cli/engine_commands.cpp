#include "cli/engine_commands.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "cli/client.hpp"
#include "cli/engine_files.hpp"
#include "cli/engine_options.hpp"
#include "cli/engine_try.hpp"

namespace myelin::cli {
namespace {

struct Options {
  Flags flags;
  EngineRequest request;
  bool force = false;
};

int complain(const Error& error, int status = 1) {
  std::fprintf(stderr, "myelin: %s\n", error.message.c_str());
  return status;
}

void print(const std::vector<Finding>& findings) {
  for (const auto& finding : findings) {
    const char* mark = finding.state == Finding::State::ok ? "ok" : finding.state == Finding::State::limited ? "--" : "NO";
    std::printf("%-4s %-12s %s\n", mark, finding.name.c_str(), finding.text.c_str());
    if (!finding.repair.empty()) std::printf("     %s\n", finding.repair.c_str());
  }
  std::fflush(stdout);
}

int add(const Options& options, const Surroundings& surroundings) {
  auto config = load(options.flags, surroundings);
  if (!config) return complain(config.error());
  const auto& request = options.request;
  auto engine = engine_from(request, *config);
  if (!engine) return complain(engine.error(), usage);
  config->engines[request.name] = *engine;

  auto findings = check_interpreter(engine->python, config->worker_uid);
  if (!blocked(findings)) {
    auto tried = try_engine(*config, request.name, surroundings);
    if (!tried) return complain(tried.error());
    findings.insert(findings.end(), tried->begin(), tried->end());
  }
  print(findings);
  bool works = !blocked(findings);
  if (!works && !options.force) {
    std::fprintf(stderr, "myelin: the engine %s was not added: see above (--force keeps it anyway)\n", request.name.c_str());
    return 1;
  }
  auto written = write_engine_file(config->data, request.name, *engine);
  if (!written) return complain(written.error());
  std::printf("\n%s is an engine now%s. A running server takes it up within seconds.\n", request.name.c_str(),
              works ? "" : ", though it does not work yet");
  return 0;
}

int remove(const Options& options, const Surroundings& surroundings) {
  auto config = load(options.flags, surroundings);
  if (!config) return complain(config.error());
  const auto& name = options.request.name;
  const auto& own = engine_names();
  if (std::find(own.begin(), own.end(), name) != own.end())
    return complain({Code::bad_request, name + " came with the server and stays", ""}, usage);
  auto removed = is_engine_name(name) ? remove_engine_file(config->data, name)
                                      : Error{Code::bad_request, "the name of an engine is " + std::string(engine_name_rule), ""};
  if (!removed) return complain(removed.error());
  std::printf("%s is no engine any more. A running server gives it no new sessions; those that run go on.\n", name.c_str());
  return 0;
}

}  // namespace

Result<EngineConfig> engine_from(const EngineRequest& request, const Config& config) {
  auto refuse = [](std::string text) { return Error{Code::bad_request, std::move(text), ""}; };
  if (!is_engine_name(request.name)) return refuse("\"" + request.name + "\" can't be an engine's name: " + std::string(engine_name_rule));
  if (auto known = config.engines.find(request.name); known != config.engines.end())
    return refuse(known->second.added ? "there is an engine " + request.name + " already; first: myelin engine remove " + request.name
                                      : "the engine " + request.name + " came with the server; another interpreter for it is set in myelin.toml, [engine." +
                                            request.name + "] python = \"PATH\"");
  const auto& kinds = engine_names();
  if (std::find(kinds.begin(), kinds.end(), request.kind) == kinds.end())
    return refuse("--kind is nest, neuron, jaxley or python, not \"" + request.kind + "\"");
  EngineConfig engine;
  engine.added = true;
  engine.kind = request.kind;
  engine.python = resolve_python(request.python);
  for (std::string_view list : request.preload) {
    while (!list.empty()) {
      auto end = std::min(list.find(','), list.size());
      std::string module(list.substr(0, end));
      list.remove_prefix(std::min(end + 1, list.size()));
      if (!is_module_name(module)) return refuse("--preload takes modules, such as numpy,scipy.signal, not \"" + module + "\"");
      engine.preload.push_back(module);
    }
  }
  for (const auto& variable : request.environment) {
    auto equals = variable.find('=');
    if (equals == 0 || equals == std::string::npos || variable.find('\n') != std::string::npos)
      return refuse("--env takes NAME=VALUE, not \"" + variable + "\"");
    engine.env[variable.substr(0, equals)] = variable.substr(equals + 1);
  }
  return engine;
}

void add_engine_commands(CLI::App& engine, const Surroundings& surroundings, int& status) {
  static Options options;
  auto common = [](CLI::App* command) {
    command->add_option("NAME", options.request.name, "the engine's name")->required();
    for (auto& spec : serve_flags())
      if (spec.flag == "data" || spec.flag == "config")
        command->add_option_function<std::string>("--" + spec.flag, [key = spec.key](const std::string& text) { options.flags[key] = text; }, spec.help);
  };
  auto* adding = engine.add_subcommand("add", "try an interpreter in the sandbox, and make it an engine if it works");
  common(adding);
  adding->add_option("--python", options.request.python, "its path: ENVIRONMENT/bin/python")->required();
  adding->add_option("--preload", options.request.preload, "modules to be imported ahead, separated by commas");
  adding->add_option("--kind", options.request.kind, "nest, neuron, jaxley: a simulator of your own build; python: all else (python)");
  adding->add_option("--env", options.request.environment, "NAME=VALUE, in the environment of its sessions; may be repeated")->allow_extra_args(false);
  adding->add_flag("--force", options.force, "keep it even if it does not work");
  adding->callback([&] { status = add(options, surroundings); });
  auto* removing = engine.add_subcommand("remove", "an engine that was added is one no more");
  common(removing);
  removing->callback([&] { status = remove(options, surroundings); });
}

}  // namespace myelin::cli
