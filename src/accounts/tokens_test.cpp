#include "accounts/identity.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>

#include "store/migrate.hpp"

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

/// Runs `body` with a connection of its own in another process and returns what it wrote, as `myelin token …`
/// does.
std::string in_other_process(const fs::path& dir, const std::function<std::string(Tokens&)>& body) {
  int pipe_fds[2];
  EXPECT_EQ(::pipe(pipe_fds), 0);
  pid_t pid = ::fork();
  if (pid == 0) {
    auto db = store::open_state(dir);
    if (!db) ::_exit(1);
    Tokens tokens(*db);
    auto said = body(tokens);
    if (::write(pipe_fds[1], said.data(), said.size()) < 0) ::_exit(1);
    ::_exit(0);
  }
  ::close(pipe_fds[1]);
  std::string said(200, '\0');
  auto size = ::read(pipe_fds[0], said.data(), said.size());
  said.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  ::close(pipe_fds[0]);
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  return said;
}

}  // namespace

TEST(Tokens, NamesAreCheckedAndSomeAreReserved) {
  for (const char* good : {"a", "Anna.B-c_9", "0", "..."}) EXPECT_TRUE(is_valid_name(good)) << good;
  for (const char* bad : {"", "a b", "ä", "a/b", "operator", "local", "a\n"})
    EXPECT_FALSE(is_valid_name(bad)) << bad;
  EXPECT_TRUE(is_valid_name(std::string(64, 'x')));
  EXPECT_FALSE(is_valid_name(std::string(65, 'x')));
  Folder dir;
  auto db = store::open_state(dir.path);
  ASSERT_TRUE(db);
  EXPECT_EQ(Tokens(*db).add("a b").error().code, Code::bad_request);
}

TEST(Tokens, AddIdentifyRevoke) {
  Folder dir;
  auto db = store::open_state(dir.path);
  ASSERT_TRUE(db);
  Tokens tokens(*db);
  auto anna = tokens.add("anna");
  auto ben = tokens.add("ben");
  ASSERT_TRUE(anna && ben);
  EXPECT_EQ(anna->token.size(), 48u);
  EXPECT_EQ(anna->token.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(anna->user_id.substr(0, 2), "u_");
  auto who = tokens.identify(anna->token);
  ASSERT_TRUE(who);
  EXPECT_EQ(who->name, "anna");
  EXPECT_EQ(who->user_id, anna->user_id);
  EXPECT_FALSE(who->is_operator);
  EXPECT_EQ(tokens.identify(ben->token)->name, "ben");
  for (std::string wrong : {std::string(), std::string(48, '0'), anna->token + "0", anna->token.substr(1),
                            std::string(1 << 20, 'a'), std::string("\0", 1)}) {
    EXPECT_FALSE(tokens.identify(wrong));
  }
  EXPECT_EQ(tokens.add("anna").error().code, Code::conflict);
  ASSERT_TRUE(tokens.revoke("anna"));
  EXPECT_FALSE(tokens.identify(anna->token));
  EXPECT_TRUE(tokens.identify(ben->token));
  EXPECT_EQ(tokens.revoke("anna").error().code, Code::not_found);
  auto again = tokens.add("anna");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->user_id, anna->user_id);
  EXPECT_NE(again->token, anna->token);
  EXPECT_FALSE(tokens.identify(anna->token));
  EXPECT_EQ(tokens.identify(again->token)->user_id, anna->user_id);
}

TEST(Tokens, TheOperatorIsApart) {
  Folder dir;
  auto db = store::open_state(dir.path);
  ASSERT_TRUE(db);
  Tokens tokens(*db);
  EXPECT_FALSE(tokens.identify("secret"));
  tokens.set_operator_token("secret");
  auto who = tokens.identify("secret");
  ASSERT_TRUE(who);
  EXPECT_TRUE(who->is_operator);
  EXPECT_EQ(who->user_id, "operator");
  EXPECT_FALSE(tokens.identify("Secret"));
  tokens.set_operator_token("");
  EXPECT_FALSE(tokens.identify("secret"));
  EXPECT_FALSE(tokens.identify(""));
  EXPECT_EQ(local_identity().user_id, "local");
}

TEST(Tokens, ChangesOfOtherProcessesAreInForceAtTheNextRequest) {
  Folder dir;
  auto db = store::open_state(dir.path);
  ASSERT_TRUE(db);
  Tokens tokens(*db);
  EXPECT_FALSE(tokens.identify(std::string(48, 'a')));
  for (int round = 0; round < 3; ++round) {
    auto token = in_other_process(dir.path, [](Tokens& t) { return t.add("anna")->token; });
    ASSERT_EQ(token.size(), 48u);
    auto who = tokens.identify(token);
    ASSERT_TRUE(who);
    EXPECT_EQ(who->name, "anna");
    EXPECT_EQ(in_other_process(dir.path, [](Tokens& t) { return t.revoke("anna") ? "done" : "failed"; }),
              "done");
    EXPECT_FALSE(tokens.identify(token));
  }
}

TEST(Tokens, NoPlainTokenIsOnDisk) {
  Folder dir;
  std::string token;
  {
    auto db = store::open_state(dir.path);
    ASSERT_TRUE(db);
    Tokens tokens(*db);
    tokens.set_operator_token("operator-secret");
    token = tokens.add("anna")->token;
    for (const auto& file : fs::directory_iterator(dir.path)) {
      std::ifstream in(file.path(), std::ios::binary);
      std::string content((std::istreambuf_iterator<char>(in)), {});
      EXPECT_EQ(content.find(token), std::string::npos) << file.path();
      EXPECT_EQ(content.find("operator-secret"), std::string::npos) << file.path();
    }
  }
}

TEST(Tokens, UsesAreCollectedAndWrittenLater) {
  Folder dir;
  auto db = store::open_state(dir.path);
  auto other = store::open_state(dir.path);
  ASSERT_TRUE(db && other);
  Tokens tokens(*db);
  auto anna = tokens.add("anna");
  ASSERT_TRUE(tokens.add("ben"));
  ASSERT_TRUE(tokens.identify(anna->token));
  ASSERT_TRUE(tokens.identify(anna->token));
  auto uses = tokens.take_uses();
  ASSERT_EQ(uses.size(), 1u);
  EXPECT_TRUE(tokens.take_uses().empty());
  ASSERT_TRUE(Tokens::record_uses(*other, uses));
  auto all = tokens.list();
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ(all->at(0).last_used, uses[0].when);
  EXPECT_FALSE(all->at(1).last_used);
}
