#include "cli/commands.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/account_commands.hpp"
#include "cli/backup.hpp"
#include "cli/client.hpp"
#include "cli/config.hpp"
#include "cli/engine_commands.hpp"
#include "cli/nest_server.hpp"
#include "cli/neuroapi.hpp"
#include "cli/serve.hpp"
#include "os/host.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {
namespace {

int complain(const Error& error) {
  std::fprintf(stderr, "myelin: %s\n", error.message.c_str());
  return 1;
}

int doctor(const Flags& flags, const Surroundings& surroundings) {
  auto config = load(flags, surroundings);
  if (!config) return complain(config.error());
  auto host = os::probe_host({config->sandbox_binary.string(), config->worker_uid});
  std::printf("isolation: %s\n\n", os::name_of(host.level));
  for (auto& finding : host.findings) {
    std::printf("%-4s %-28s %s\n", finding.ok ? "ok" : "NO", finding.name.c_str(), finding.text.c_str());
    if (!finding.ok && !finding.repair.empty()) std::printf("     repair: %s\n", finding.repair.c_str());
  }
  return host.level == os::IsolationLevel::full ? 0 : 1;
}

}  // namespace

int run(int argc, char** argv) {
  auto surroundings = Surroundings::of_this_process();
  // `nest-server` and `neuroapi` keep their own grammar, also when called by that name through a link.
  std::string called = std::filesystem::path(argv[0]).filename().string();
  if (called == "nest-server")
    return nest_server_main(std::vector<std::string>(argv + 1, argv + argc), surroundings.executable.string());
  if (argc > 1 && std::string(argv[1]) == "nest-server")
    return nest_server_main(std::vector<std::string>(argv + 2, argv + argc), surroundings.executable.string());
  if (called == "neuroapi") return neuroapi_main(std::vector<std::string>(argv + 1, argv + argc), surroundings);
  if (argc > 1 && std::string(argv[1]) == "neuroapi") return neuroapi_main(std::vector<std::string>(argv + 2, argv + argc), surroundings);

  CLI::App app{"Myelin: a lab's simulators, experiments and recordings on one address"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "myelin " MYELIN_VERSION);
  app.set_help_flag("--help", "this help");

  Flags flags;
  auto take = [&flags](CLI::App* command, const FlagSpec& spec) {
    if (spec.is_switch)
      command->add_flag_callback("--" + spec.flag, [&flags, key = spec.key] { flags[key] = "true"; }, spec.help);
    else
      command->add_option_function<std::string>("--" + spec.flag, [&flags, key = spec.key](const std::string& text) { flags[key] = text; }, spec.help);
  };
  auto take_data = [&](CLI::App* command) {
    for (auto& spec : serve_flags())
      if (spec.flag == "data" || spec.flag == "config" || spec.flag == "database") take(command, spec);
  };

  int status = 0;
  bool show_link = false;
  auto* serve_command = app.add_subcommand("serve", "run the server in the foreground");
  for (auto& spec : serve_flags()) take(serve_command, spec);
  serve_command->add_flag("--show-link", show_link, "print the address with the token, to be opened in a browser");
  serve_command->callback([&] {
    auto config = load(flags, surroundings);
    status = config ? serve(std::move(*config), flags, surroundings, show_link) : complain(config.error());
  });

  auto* doctor_command = app.add_subcommand("doctor", "show what this host gives for isolation, and the repair of what it lacks");
  take_data(doctor_command);
  doctor_command->callback([&] { status = doctor(flags, surroundings); });

  add_account_commands(app, flags, surroundings, take_data, status);
  add_backup_commands(app, flags, surroundings, take_data, status);

  add_client_commands(app, surroundings, status);
  add_engine_commands(*app.get_subcommand("engine"), surroundings, status);

  app.add_subcommand("nest-server", "NEST Server's own command line: start, stop, status, log, restart, pid");
  app.add_subcommand("neuroapi", "NeuroAPI's own command line: init, run, routes");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage;  // 0: --help, --version
  }
  return status;
}

}  // namespace myelin::cli
