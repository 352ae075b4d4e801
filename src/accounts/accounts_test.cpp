#include "accounts/accounts.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "store/test_support.hpp"

using namespace myelin;
using namespace myelin::accounts;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path;
  Folder() {
    std::string pattern = fs::temp_directory_path() / "myelin-accounts-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
};

const Secret secret(32, 'k');
const Actor actor{"operator", "test", ""};

/// Runs `body` with a connection of its own in another process, as `myelin user …` does.
void in_other_process(const fs::path& dir, const std::function<bool(Book&)>& body) {
  pid_t pid = ::fork();
  if (pid == 0) {
    auto db = store::open_state(store::test::place_in(dir));
    if (!db) ::_exit(1);
    Book book(*db);
    ::_exit(body(book) ? 0 : 2);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

struct AccountsTest : ::testing::Test {
  Folder folder;
  store::Database database = store::open_state(store::test::place_in(folder.path)).value();
  store::Database loop_database = store::open_connection(store::test::place_in(folder.path), store::Use::watcher).value();
  Book book{database};

  store::UserRecord user(const std::string& name, const std::string& role = "member") {
    NewUser wanted;
    wanted.username = name;
    wanted.role = role;
    return book.add_user(actor, wanted).value();
  }
};

}  // namespace

TEST(Grants, AreReadAndCover) {
  auto grant = Grant::parse("use:session:s_1");
  ASSERT_TRUE(grant);
  EXPECT_TRUE(grant->covers("view", "session", "s_1"));
  EXPECT_TRUE(grant->covers("use", "session", "s_1"));
  EXPECT_FALSE(grant->covers("edit", "session", "s_1"));
  EXPECT_FALSE(grant->covers("use", "session", "s_2"));
  EXPECT_FALSE(grant->covers("use", "run", "s_1"));
  EXPECT_TRUE(Grant::parse("edit:*")->covers("view", "audit", "*"));
  EXPECT_TRUE(Grant::parse("view:run")->covers("view", "run", "r_7"));
  for (const char* bad : {"", "use", "use:", "fly:session:*", "use:sessions:*", "use:session:", "use:*:s_1"}) EXPECT_FALSE(Grant::parse(bad)) << bad;
}

TEST(Grants, DecideByRoleOwnerAndScope) {
  Identity member;
  member.user_id = "u_1";
  member.role = Role::member;
  EXPECT_TRUE(allows(member, "edit", "session", "s_1", "u_1"));
  EXPECT_FALSE(allows(member, "view", "session", "s_1", "u_2"));
  EXPECT_FALSE(allows(member, "view", "user", "*", ""));
  member.grants = std::make_shared<const Grants>(Grants{{"view", "session", "s_1"}});
  EXPECT_TRUE(allows(member, "view", "session", "s_1", "u_2"));
  EXPECT_FALSE(allows(member, "use", "session", "s_1", "u_2"));
  member.scopes = Grants{{"view", "run", "*"}};
  EXPECT_FALSE(allows(member, "view", "session", "s_1", "u_1"));
  EXPECT_TRUE(allows(member, "view", "run", "r_1", "u_1"));
  Identity guest = member;
  guest.role = Role::guest;
  guest.scopes.reset();
  EXPECT_FALSE(allows(guest, "use", "session", "*", "u_1"));
  EXPECT_TRUE(allows(guest, "view", "session", "s_1", "u_2"));
  Identity admin = operator_identity();
  EXPECT_TRUE(allows(admin, "edit", "user", "u_1", ""));
  admin.must_change = true;
  EXPECT_FALSE(allows(admin, "view", "user", "u_1", ""));
  EXPECT_FALSE(allows(anonymous_identity(), "view", "session", "*", "anonymous"));
}

TEST_F(AccountsTest, NamesAreChecked) {
  for (const char* good : {"a", "Anna.B-c_9", "Günther Łódź", "anna@lab"}) EXPECT_TRUE(check_username(good)) << good;
  for (const char* bad : {"", " a", "a ", "operator", "local", "anonymous", "a\n", "a\x7f"}) EXPECT_FALSE(check_username(bad)) << bad;
  EXPECT_TRUE(check_username(std::string(80, 'x')));
  EXPECT_FALSE(check_username(std::string(81, 'x')));
  (void)user("anna");
  NewUser same;
  same.username = "anna";
  EXPECT_EQ(book.add_user(actor, same).error().code, Code::conflict);
  same.username = "bob";
  same.role = "king";
  EXPECT_EQ(book.add_user(actor, same).error().code, Code::bad_request);
}

TEST_F(AccountsTest, ADeletedUsersNameIsFreeButNotTheNumber) {
  auto first = user("anna");
  ASSERT_TRUE(book.remove_user(actor, first.id));
  auto second = user("anna");
  EXPECT_NE(first.id, second.id);
  EXPECT_GT(second.number, first.number);
  EXPECT_EQ(book.remove_user(actor, first.id).error().code, Code::not_found);
}

TEST_F(AccountsTest, TheLastAdminStays) {
  auto root = user("root", "admin");
  UserChange demote;
  demote.role = "member";
  EXPECT_EQ(book.change_user(actor, root.id, demote).error().code, Code::conflict);
  UserChange off;
  off.active = false;
  EXPECT_EQ(book.change_user(actor, root.id, off).error().code, Code::conflict);
  EXPECT_EQ(book.remove_user(actor, root.id).error().code, Code::conflict);
  (void)user("root2", "admin");
  EXPECT_TRUE(book.remove_user(actor, root.id));
}

TEST_F(AccountsTest, AFirstAdminNeverTakesOverATokensUser) {
  (void)book.add_token_for(actor, "admin", "admin").value();
  auto made = book.make_admin("hash", false);
  ASSERT_TRUE(made);
  EXPECT_EQ(*made, "administrator");
  EXPECT_EQ(book.records().user_by_name("admin").value()->role, "member");
  EXPECT_EQ(book.make_admin("hash", false).value(), std::nullopt);
}

TEST_F(AccountsTest, TokensAreKnownAndARevokedOneIsRefusedAtTheNextRequest) {
  auto made = book.add_token_for(actor, "anna", "anna").value();
  Snapshot who(loop_database, secret);
  who.set_operator_token("the operator's");
  EXPECT_EQ(who.identify("the operator's")->user_id, "operator");
  auto known = who.identify(made.token);
  ASSERT_TRUE(known);
  EXPECT_EQ(known->user_id, made.user_id);
  EXPECT_EQ(known->client, "");
  EXPECT_FALSE(who.identify(""));
  EXPECT_FALSE(who.identify(made.token + "0"));
  EXPECT_FALSE(who.identify(std::string(5000, 'a')));
  EXPECT_EQ(who.take_uses().size(), 1u);
  in_other_process(folder.path, [](Book& theirs) { return theirs.revoke_tokens_of_name(actor, "anna").ok(); });
  for (int i = 0; i < 100 && who.identify(made.token); ++i) ::usleep(100'000);  // with PostgreSQL a moment later
  EXPECT_FALSE(who.identify(made.token));
  auto ended = who.take_ended();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].id, made.id);
  auto again = book.add_token_for(actor, "anna", "anna").value();
  EXPECT_EQ(again.user_id, made.user_id);
  EXPECT_TRUE(who.identify(again.token));
}

TEST_F(AccountsTest, ScopesAndExpiryBoundAToken) {
  auto root = user("root", "admin");
  auto bounded = book.add_token(actor, root.id, "share", Grants{{"view", "session", "s_1"}}, std::chrono::seconds(3)).value();
  Snapshot who(loop_database, secret);
  auto known = who.identify(bounded.token);
  ASSERT_TRUE(known);
  EXPECT_FALSE(known->is_operator);
  EXPECT_EQ(known->client, "share");
  EXPECT_TRUE(allows(*known, "view", "session", "s_1", "u_x"));
  EXPECT_FALSE(allows(*known, "view", "session", "s_2", root.id));
  ::usleep(3'100'000);
  EXPECT_FALSE(who.identify(bounded.token));
}

TEST_F(AccountsTest, WhoIsNoMoreIsTold) {
  auto anna = user("anna"), bob = user("bob");
  auto token = book.add_token(actor, anna.id, "one", std::nullopt, std::nullopt).value();
  Snapshot who(loop_database, secret);
  ASSERT_TRUE(who.identify(token.token));
  const std::string id = anna.id;
  in_other_process(folder.path, [id](Book& theirs) {
    UserChange off;
    off.active = false;
    return theirs.change_user(actor, id, off).ok();
  });
  EXPECT_FALSE(who.identify(token.token));
  auto ended = who.take_ended();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].what, Ended::What::user);
  EXPECT_EQ(ended[0].id, anna.id);
}

TEST_F(AccountsTest, GroupsCarryGrants) {
  auto anna = user("anna", "guest");
  auto token = book.add_token(actor, anna.id, "one", std::nullopt, std::nullopt).value();
  auto group = book.add_group(actor, "teaching").value();
  ASSERT_TRUE(book.set_member(actor, group.id, anna.id, true));
  ASSERT_TRUE(book.add_grant(actor, group.id, {"view", "session", "s_1"}));
  EXPECT_EQ(book.add_grant(actor, group.id, {"view", "session", "s_1"}).error().code, Code::conflict);
  EXPECT_EQ(book.add_grant(actor, "g_none", {"view", "session", "s_1"}).error().code, Code::not_found);
  Snapshot who(loop_database, secret);
  EXPECT_TRUE(allows(*who.identify(token.token), "view", "session", "s_1", "u_9"));
  ASSERT_TRUE(book.set_member(actor, group.id, anna.id, false));
  EXPECT_FALSE(allows(*who.identify(token.token), "view", "session", "s_1", "u_9"));
}

TEST_F(AccountsTest, AResetWorksOnce) {
  auto anna = user("anna");
  auto first = book.make_reset(actor, anna.id).value(), second = book.make_reset(actor, anna.id).value();
  EXPECT_FALSE(book.take_reset(first, "h", ""));  // a newer link ended it
  EXPECT_EQ(book.user_of_reset(second).value().id, anna.id);
  EXPECT_TRUE(book.take_reset(second, "h", ""));
  EXPECT_FALSE(book.take_reset(second, "h", ""));
  // A new password ends it, and so does the end of the account.
  for (int way = 0; way < 3; ++way) {
    auto other = book.make_reset(actor, anna.id).value();
    accounts::UserChange inactive;
    inactive.active = false;
    const bool done = way == 0 ? book.set_password(actor, anna.id, "h2", false, "").ok() : way == 1 ? book.change_user(actor, anna.id, inactive).ok() : book.remove_user(actor, anna.id).ok();
    ASSERT_TRUE(done);
    EXPECT_EQ(book.user_of_reset(other).error().code, Code::unauthorized);
  }
}

TEST_F(AccountsTest, AChangeIsWholeOrNotAtAll) {
  auto anna = user("anna"), ben = user("ben");
  accounts::UserChange change;
  change.issuer = "https://sso.example";
  change.subject = "ben";
  change.username = "anna";
  EXPECT_EQ(book.change_user(actor, ben.id, change).error().code, Code::conflict);
  EXPECT_EQ(book.records().user_by_id(ben.id).value()->subject, "");
}

TEST_F(AccountsTest, WhoHasFewerRightsIsTold) {
  auto anna = user("anna"), ben = user("ben");
  auto kept = book.add_grant(actor, anna.id, {"view", "session", "s_1"}).value(), lost = book.add_grant(actor, anna.id, {"view", "session", "s_2"}).value();
  auto token = book.add_token(actor, ben.id, "short", std::nullopt, std::chrono::seconds(60)).value();
  Snapshot who(loop_database, secret);
  who.refresh();
  EXPECT_TRUE(who.take_ended().empty());
  ASSERT_TRUE(book.remove_grant(actor, lost.id));
  who.refresh();
  auto ended = who.take_ended();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_TRUE(ended[0].what == accounts::Ended::What::rights && ended[0].id == anna.id);
  accounts::UserChange guest;
  guest.role = "guest";
  ASSERT_TRUE(book.change_user(actor, ben.id, guest));
  who.refresh();
  ended = who.take_ended();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_TRUE(ended[0].what == accounts::Ended::What::rights && ended[0].id == ben.id);
  who.end_expired(store::now(), store::now() + std::chrono::seconds(120));
  ended = who.take_ended();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_TRUE(ended[0].what == accounts::Ended::What::credential && ended[0].id == token.id);
}

namespace {

/// Runs one task on a loop of its own with the accounts of the fixture.
template <class F>
void on_loop(AccountsTest& fixture, F body, GuardLimits guard = {}) {
  async::Loop loop;
  async::Pool pool(loop, 1);
  Options options;
  options.secret = secret;
  options.guard = guard;
  accounts::Accounts accounts(loop, pool, fixture.database, fixture.loop_database, std::move(options));
  bool finished = false;
  async::spawn(loop, body(&accounts, &loop, &finished), "test");
  loop.run();
  EXPECT_TRUE(finished);
}

Task<void> sign_in_and_refresh(accounts::Accounts* accounts, async::Loop* loop, bool* finished) {
  accounts::Accounts::SignInRequest request;
  request.username = "anna";
  request.password = "wrong";
  request.address = "192.0.2.1";
  auto copy = request;
  auto wrong = co_await accounts->sign_in(std::move(copy));
  EXPECT_EQ(wrong.error().code, Code::unauthorized);
  copy = request;
  copy.username = "nobody";
  auto unknown = co_await accounts->sign_in(std::move(copy));
  EXPECT_EQ(unknown.error().message, wrong.error().message);
  request.password = "correct horse battery";
  copy = request;
  auto in = co_await accounts->sign_in(std::move(copy));
  EXPECT_TRUE(in);
  auto who = accounts->who().identify(in->access_token);
  EXPECT_TRUE(who && who->name == "anna");
  EXPECT_FALSE(accounts->who().identify(in->refresh_token));  // of the wrong kind
  std::string first_refresh = in->refresh_token;
  auto next = co_await accounts->refresh(std::move(first_refresh), Style::native);
  EXPECT_TRUE(next && accounts->who().identify(next->access_token));
  first_refresh = in->refresh_token;
  auto reused = co_await accounts->refresh(std::move(first_refresh), Style::native);
  EXPECT_EQ(reused.error().detail, "token_reused");
  EXPECT_FALSE(accounts->who().identify(next->access_token));
  EXPECT_FALSE(accounts->who().identify(in->access_token));
  *finished = true;
  loop->stop();
}

}  // namespace

TEST_F(AccountsTest, SignInRefreshAndReuse) {
  auto anna = user("anna");
  ASSERT_TRUE(book.set_password(actor, anna.id, hash_password("correct horse battery").value(), false, ""));
  on_loop(*this, sign_in_and_refresh);
}

namespace {

Task<void> sign_in_once(accounts::Accounts* accounts, async::Loop* loop, bool* finished) {
  accounts::Accounts::SignInRequest request;
  request.username = "anna";
  request.password = "correct horse battery";
  request.address = "192.0.2.1";
  auto in = co_await accounts->sign_in(std::move(request));
  EXPECT_TRUE(in);
  *finished = true;
  loop->stop();
}

}  // namespace

TEST_F(AccountsTest, AnImportedHashIsRenewedAtSignIn) {
  auto anna = user("anna");
  ASSERT_TRUE(book.set_password(actor, anna.id, "$2b$06$abcdefghijklmnopqrstuu50eFBEC8vQwBnuFXMHE45jBnqvQ8xz.", false, ""));
  on_loop(*this, sign_in_once);
  auto now = book.records().user_by_id(anna.id).value();
  EXPECT_TRUE(now->password.starts_with("$argon2id$"));
  EXPECT_TRUE(verify_password(now->password, "correct horse battery").right);
}

namespace {

struct Rush {
  int left = 150, turned_away = 0, wrong = 0;
};

Task<void> one_of_many(accounts::Accounts* accounts, Rush* rush, int i) {
  accounts::Accounts::SignInRequest request;
  request.username = "nobody" + std::to_string(i);
  request.password = "guess";
  request.address = "192.0.2." + std::to_string(i);
  auto in = co_await accounts->sign_in(std::move(request));
  EXPECT_FALSE(in);
  if (in.error().code == Code::unavailable) ++rush->turned_away;
  else if (in.error().code == Code::unauthorized) ++rush->wrong;
  --rush->left;
}

Task<void> sign_in_after_a_rush(accounts::Accounts* accounts, async::Loop* loop, bool* finished) {
  Rush rush;
  for (int i = 0; i < 150; ++i) async::spawn(*loop, one_of_many(accounts, &rush, i), "one of many");
  while (rush.left > 0) co_await async::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GT(rush.turned_away, 0);
  EXPECT_GE(rush.wrong, 64);
  EXPECT_EQ(rush.turned_away + rush.wrong, 150);
  co_await sign_in_once(accounts, loop, finished);
}

}  // namespace

TEST_F(AccountsTest, OnlySoManySignInAtOnce) {
  auto anna = user("anna");
  ASSERT_TRUE(book.set_password(actor, anna.id, hash_password("correct horse battery").value(), false, ""));
  on_loop(*this, sign_in_after_a_rush);
}
