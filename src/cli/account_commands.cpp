#include "cli/account_commands.hpp"

#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>

#include "accounts/book.hpp"
#include "accounts/passwords.hpp"
#include "cli/backup.hpp"
#include "cli/client.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {
namespace {

int complain(const Error& error) {
  std::fprintf(stderr, "myelin: %s\n", error.message.c_str());
  return 1;
}

std::string day(store::Time time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  char text[32];
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

Result<store::Database> open_data(const Config& config) {
  if (auto whole = check_restored(config.data); !whole) return whole.take_error();
  std::error_code error;
  bool made = std::filesystem::create_directories(config.data, error);
  if (error) return Error{Code::internal, "can't make " + config.data.string() + ": " + error.message(), ""};
  if (made) std::filesystem::permissions(config.data, std::filesystem::perms::owner_all, error);
  return store::open_state({config.data, config.database});
}

accounts::Actor by_hand() { return {"operator", "command line", ""}; }

// What all of these do: the accounts of DIR, then `work`, then its error told.
int with_book(const Flags& flags, const Surroundings& surroundings, const std::function<Result<void>(accounts::Book&, const Config&)>& work) {
  auto config = load(flags, surroundings);
  if (!config) return complain(config.error());
  auto database = open_data(*config);
  if (!database) return complain(database.error());
  accounts::Book book(*database);
  auto done = work(book, *config);
  return done ? 0 : complain(done.error());
}

Result<store::UserRecord> find(accounts::Book& book, const std::string& name) {
  auto user = book.records().user_by_name(name);
  if (!user) return user.take_error();
  if (!*user) return Error{Code::not_found, "there is no user named \"" + name + "\"; `myelin user list` shows all", ""};
  return std::move(**user);
}

Result<void> token_add(accounts::Book& book, const std::string& name, const std::string& label) {
  auto made = book.add_token_for(by_hand(), name, label.empty() ? name : label);
  if (!made) return made.take_error();
  std::printf("%s\n", made->token.c_str());
  std::fprintf(stderr, "This is the only time that the token of %s is shown.\n", name.c_str());
  return {};
}

Result<void> token_list(accounts::Book& book) {
  auto all = book.records().tokens_of("");
  if (!all) return all.take_error();
  std::printf("%-24s %-24s %-17s %-17s %s\n", "USER", "NAME", "MADE", "LAST USED", "ENDS");
  for (auto& token : *all) {
    auto user = book.records().user_by_id(token.user_id);
    if (!user) return user.take_error();
    std::printf("%-24s %-24s %-17s %-17s %s\n", *user ? (*user)->username.c_str() : "-", token.name.c_str(), day(token.created).c_str(),
                token.last_used ? day(*token.last_used).c_str() : "-", token.expires ? day(*token.expires).c_str() : "-");
  }
  return {};
}

Result<void> user_list(accounts::Book& book) {
  std::printf("%-24s %-8s %-9s %-17s %-17s %s\n", "NAME", "ROLE", "STATE", "MADE", "SIGNED IN", "EMAIL");
  for (std::int64_t from = 0;; from += 500) {
    auto users = book.records().users(from, 500);
    if (!users) return users.take_error();
    for (auto& user : *users)
      std::printf("%-24s %-8s %-9s %-17s %-17s %s\n", user.username.c_str(), user.role.c_str(), user.active ? "active" : "inactive",
                  day(user.created).c_str(), user.last_sign_in ? day(*user.last_sign_in).c_str() : "-", user.email.value_or("").c_str());
    if (users->size() < 500) return {};
  }
}

Result<void> print_reset(accounts::Book& book, const Config& config, const store::UserRecord& user) {
  auto secret = book.make_reset(by_hand(), user.id);
  if (!secret) return secret.take_error();
  const std::string address = config.public_url.empty() ? "http://" + config.host + ":" + std::to_string(config.port) : config.public_url;
  std::printf("%s/app/#reset=%s\n", address.c_str(), secret->c_str());
  std::fprintf(stderr, "By this link %s sets a password, once, within a day.\n", user.username.c_str());
  return {};
}

Result<void> user_add(accounts::Book& book, const Config& config, const std::string& name, const std::string& email, const std::string& role, bool ask) {
  accounts::NewUser user;
  user.username = name;
  user.role = role;
  if (!email.empty()) user.email = email;
  if (ask) {
    std::string password;
    std::getline(std::cin, password);
    if (auto why = accounts::weakness(password, name, email)) return Error{Code::bad_request, *why, ""};
    auto hash = accounts::hash_password(password);
    if (!hash) return hash.take_error();
    user.password_hash = std::move(*hash);
  }
  auto made = book.add_user(by_hand(), user);
  if (!made) return made.take_error();
  if (ask) return {};
  return print_reset(book, config, *made);
}

// What a user leaves is moved by the server that serves it: beside it nobody could.
Result<void> user_delete_to(const Config& config, const Surroundings& surroundings, const std::string& name, const std::string& heir) {
  ClientOptions here;
  here.data = config.data.string();
  const Place place = find_server(here, surroundings);
  if (place.socket.empty())
    return Error{Code::unavailable, "only a running server passes on what a user leaves, and none listens on " + (config.data / "socket").string() + ": start it", ""};
  HttpClient server(place.url, place.socket, "");
  auto answer = server.send({.method = "DELETE", .target = "/v1/users/" + percent_encoded(name) + "?to=" + percent_encoded(heir), .body = "", .headers = {}, .into = nullptr});
  if (!answer) return answer.take_error();
  if (answer->ok()) return {};
  auto problem = parsed(answer->body);
  return Error{Code::conflict, problem && problem->is_object() ? text_of(problem->get_object(), "detail", answer->body) : "the server says " + std::to_string(answer->status), ""};
}

}  // namespace

void add_account_commands(CLI::App& app, Flags& flags, const Surroundings& surroundings, const std::function<void(CLI::App*)>& take_data, int& status) {
  struct Given {
    std::string name, label, email, issuer, subject, heir, role = "member";
    bool ask = false;
  };
  auto given = std::make_shared<Given>();
  auto run = [&flags, &surroundings, &status](CLI::App* command, std::function<Result<void>(accounts::Book&, const Config&)> work) {
    command->callback([&flags, &surroundings, &status, work] { status = with_book(flags, surroundings, work); });
  };

  auto* token = app.add_subcommand("token", "tokens: programs' way in");
  token->require_subcommand(1);
  auto* add = token->add_subcommand("add", "make a token for a user (who is made if there is none of that name) and print it once");
  add->add_option("USER", given->name, "whose it is")->required();
  add->add_option("--name", given->label, "what it is called (as the user)");
  take_data(add);
  run(add, [given](accounts::Book& book, const Config&) { return token_add(book, given->name, given->label); });
  auto* list = token->add_subcommand("list", "show names, never tokens");
  take_data(list);
  run(list, [](accounts::Book& book, const Config&) { return token_list(book); });
  auto* revoke = token->add_subcommand("revoke", "end a user's tokens, effective at once");
  revoke->add_option("USER", given->name, "whose they are")->required();
  revoke->add_option("--name", given->label, "only the one of this name");
  take_data(revoke);
  run(revoke, [given](accounts::Book& book, const Config&) -> Result<void> {
    if (given->label.empty()) {
      if (auto done = book.revoke_tokens_of_name(by_hand(), given->name); !done) return done;
      std::printf("The token of %s is no longer valid.\n", given->name.c_str());
      return {};
    }
    auto user = find(book, given->name);
    if (!user) return user.take_error();
    return book.revoke_token(by_hand(), user->id, given->label);
  });

  auto* user = app.add_subcommand("user", "users: who may sign in");
  user->require_subcommand(1);
  auto* make = user->add_subcommand("add", "make a user, and print the link by which they set their password");
  make->add_option("NAME", given->name)->required();
  make->add_option("--email", given->email);
  make->add_option("--role", given->role, "guest, member (default) or admin");
  make->add_flag("--password-stdin", given->ask, "the password is the first line of standard input; no link");
  take_data(make);
  run(make, [given](accounts::Book& book, const Config& config) {
    return user_add(book, config, given->name, given->email, given->role, given->ask);
  });
  auto* users = user->add_subcommand("list", "show all users");
  take_data(users);
  run(users, [](accounts::Book& book, const Config&) { return user_list(book); });
  auto* reset = user->add_subcommand("reset", "print a link to set a new password with, once, within a day");
  reset->add_option("NAME", given->name)->required();
  take_data(reset);
  run(reset, [given](accounts::Book& book, const Config& config) -> Result<void> {
    auto found = find(book, given->name);
    if (!found) return found.take_error();
    return print_reset(book, config, *found);
  });
  auto* role = user->add_subcommand("role", "make a user a guest, member or admin");
  role->add_option("NAME", given->name)->required();
  role->add_option("ROLE", given->role)->required();
  take_data(role);
  run(role, [given](accounts::Book& book, const Config&) -> Result<void> {
    auto found = find(book, given->name);
    if (!found) return found.take_error();
    accounts::UserChange change;
    change.role = given->role;
    auto changed = book.change_user(by_hand(), found->id, change);
    if (!changed) return changed.take_error();
    return {};
  });
  for (const bool active : {true, false}) {
    auto* one = active ? user->add_subcommand("activate", "let a user sign in again")
                       : user->add_subcommand("deactivate", "end all that a user has open, and let them in no more");
    one->add_option("NAME", given->name)->required();
    take_data(one);
    run(one, [given, active](accounts::Book& book, const Config&) -> Result<void> {
      auto found = find(book, given->name);
      if (!found) return found.take_error();
      accounts::UserChange change;
      change.active = active;
      auto changed = book.change_user(by_hand(), found->id, change);
      if (!changed) return changed.take_error();
      return {};
    });
  }
  auto* link = user->add_subcommand("link", "let a user sign in by the OpenID provider too, as whom it calls SUB");
  link->add_option("NAME", given->name)->required();
  link->add_option("--sub", given->subject, "their subject there; the audit log has those of refused sign-ins")->required();
  link->add_option("--issuer", given->issuer, "the provider (oidc.issuer of the settings)");
  take_data(link);
  run(link, [given](accounts::Book& book, const Config& config) -> Result<void> {
    const std::string issuer = given->issuer.empty() ? config.oidc.issuer : given->issuer;
    if (issuer.empty()) return Error{Code::bad_request, "the settings have no [oidc]: give --issuer", ""};
    auto found = find(book, given->name);
    if (!found) return found.take_error();
    auto linked = book.link_user(by_hand(), found->id, issuer, given->subject);
    if (!linked) return linked.take_error();
    return {};
  });
  auto* unlink = user->add_subcommand("unlink", "end that; they sign in by password again");
  unlink->add_option("NAME", given->name)->required();
  take_data(unlink);
  run(unlink, [given](accounts::Book& book, const Config&) -> Result<void> {
    auto found = find(book, given->name);
    if (!found) return found.take_error();
    auto unlinked = book.link_user(by_hand(), found->id, "", "");
    if (!unlinked) return unlinked.take_error();
    return {};
  });
  auto* remove = user->add_subcommand("delete", "delete a user; their runs and functions stay, for the admins");
  remove->add_option("NAME", given->name)->required();
  remove->add_option("--to", given->heir, "another user, who gets them (the server must be running)");
  take_data(remove);
  run(remove, [given, &surroundings](accounts::Book& book, const Config& config) -> Result<void> {
    if (!given->heir.empty()) return user_delete_to(config, surroundings, given->name, given->heir);
    auto found = find(book, given->name);
    if (!found) return found.take_error();
    auto removed = book.remove_user(by_hand(), found->id);
    if (!removed) return removed.take_error();
    return {};
  });
}

}  // namespace myelin::cli
