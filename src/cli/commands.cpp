#include "cli/commands.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "accounts/tokens.hpp"
#include "cli/client.hpp"
#include "cli/config.hpp"
#include "cli/engine_commands.hpp"
#include "cli/nest_server.hpp"
#include "cli/serve.hpp"
#include "os/host.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {
namespace {

int complain(const Error& error) {
  std::fprintf(stderr, "myelin: %s\n", error.message.c_str());
  return 1;
}

std::string day(store::Time time) {
  std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  char text[32];
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

Result<store::Database> open_data(const Flags& flags, const Surroundings& surroundings) {
  auto config = load(flags, surroundings);
  if (!config) return config.take_error();
  std::error_code error;
  bool made = std::filesystem::create_directories(config->data, error);
  if (error) return Error{Code::internal, "can't make " + config->data.string() + ": " + error.message(), ""};
  if (made) std::filesystem::permissions(config->data, std::filesystem::perms::owner_all, error);
  return store::open_state(config->data);
}

int token_add(const Flags& flags, const Surroundings& surroundings, const std::string& name) {
  auto database = open_data(flags, surroundings);
  if (!database) return complain(database.error());
  auto made = accounts::Tokens(*database).add(name);
  if (!made) return complain(made.error());
  std::printf("%s\n", made->token.c_str());
  std::fprintf(stderr, "This is the only time that the token of %s is shown.\n", name.c_str());
  return 0;
}

int token_list(const Flags& flags, const Surroundings& surroundings) {
  auto database = open_data(flags, surroundings);
  if (!database) return complain(database.error());
  auto all = accounts::Tokens(*database).list();
  if (!all) return complain(all.error());
  std::printf("%-24s %-17s %-17s %s\n", "NAME", "MADE", "LAST USED", "STATE");
  for (auto& token : *all)
    std::printf("%-24s %-17s %-17s %s\n", token.name.c_str(), day(token.created).c_str(),
                token.last_used ? day(*token.last_used).c_str() : "-", token.revoked ? "revoked" : "valid");
  return 0;
}

int token_revoke(const Flags& flags, const Surroundings& surroundings, const std::string& name) {
  auto database = open_data(flags, surroundings);
  if (!database) return complain(database.error());
  auto revoked = accounts::Tokens(*database).revoke(name);
  if (!revoked) return complain(revoked.error());
  std::printf("The token of %s is no longer valid.\n", name.c_str());
  return 0;
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
  // `nest-server` keeps its own grammar, also when called by that name through a link.
  std::string called = std::filesystem::path(argv[0]).filename().string();
  if (called == "nest-server")
    return nest_server_main(std::vector<std::string>(argv + 1, argv + argc), surroundings.executable.string());
  if (argc > 1 && std::string(argv[1]) == "nest-server")
    return nest_server_main(std::vector<std::string>(argv + 2, argv + argc), surroundings.executable.string());

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
      if (spec.flag == "data" || spec.flag == "config") take(command, spec);
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

  std::string name;
  auto* token_command = app.add_subcommand("token", "tokens: who may use this server");
  token_command->require_subcommand(1);
  auto* add = token_command->add_subcommand("add", "make a token and print it once");
  add->add_option("NAME", name, "whose it is")->required();
  take_data(add);
  add->callback([&] { status = token_add(flags, surroundings, name); });
  auto* list = token_command->add_subcommand("list", "show names, never tokens");
  take_data(list);
  list->callback([&] { status = token_list(flags, surroundings); });
  auto* revoke = token_command->add_subcommand("revoke", "end a token, effective at once");
  revoke->add_option("NAME", name, "whose it is")->required();
  take_data(revoke);
  revoke->callback([&] { status = token_revoke(flags, surroundings, name); });

  add_client_commands(app, surroundings, status);
  add_engine_commands(*app.get_subcommand("engine"), surroundings, status);

  app.add_subcommand("nest-server", "NEST Server's own command line: start, stop, status, log, restart, pid");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage;  // 0: --help, --version
  }
  return status;
}

}  // namespace myelin::cli
