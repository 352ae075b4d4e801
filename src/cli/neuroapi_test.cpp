#include "cli/neuroapi.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "accounts/book.hpp"
#include "accounts/passwords.hpp"
#include "store/migrate.hpp"

using namespace myelin;
using namespace myelin::cli;
namespace fs = std::filesystem;

namespace {

class NeuroapiTest : public ::testing::Test {
 protected:
  NeuroapiTest() {
    std::string pattern = fs::temp_directory_path() / "myelin-neuroapi-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
  }
  ~NeuroapiTest() override { fs::remove_all(dir_); }

  store::Database old() {
    auto made = store::Database::open(dir_ / "neuroapi.db");
    EXPECT_TRUE(made);
    EXPECT_TRUE(made->script("CREATE TABLE user (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(80) NOT NULL UNIQUE, email VARCHAR(80) NOT NULL UNIQUE, "
                             "password VARCHAR(255) NOT NULL, active BOOLEAN)"));
    return std::move(*made);
  }
  void add(store::Database& database, std::int64_t id, const char* name, const std::string& password, std::int64_t active = 1) {
    EXPECT_TRUE(database.run("INSERT INTO user VALUES (?, ?, ?, ?, ?)", {id, name, std::string(name) + "@x.org", password, active}));
  }

  fs::path dir_;
};

// passlib's pbkdf2_sha256 of "correct horse battery" and of "admin".
constexpr const char* good = "$pbkdf2-sha256$29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw.qxtasIBS/3PnV5Q49G0";
constexpr const char* known = "$pbkdf2-sha256$29000$AAECAwQFBgcICQoLDA0ODw$5EJZlrUPCwAmv8JIxB7YNaW2ZjsgVO/AslumxSB26h4";

}  // namespace

TEST_F(NeuroapiTest, UsersAreTakenOverWithTheirNumbersAndHashes) {
  auto from = old();
  add(from, 1, "admin", good);
  add(from, 7, "anna", good);
  add(from, 8, "bob", "in clear text");
  add(from, 9, "carl", good, 0);
  add(from, 10, "local", good);
  auto to = store::open_state(dir_);
  ASSERT_TRUE(to);
  auto done = import_neuroapi_users(from, *to);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->users, 4u);
  EXPECT_EQ(done->cleartext, std::vector<std::string>{"bob"});
  EXPECT_EQ(done->refused.size(), 1u);
  EXPECT_FALSE(done->password);
  accounts::Book book(*to);
  auto anna = book.records().user_by_number(7).value().value();
  EXPECT_EQ(anna.username, "anna");
  EXPECT_EQ(anna.role, "member");
  EXPECT_EQ(anna.password, good);
  EXPECT_TRUE(accounts::verify_password(anna.password, "correct horse battery").outdated);
  EXPECT_EQ(book.records().user_by_name("admin").value()->role, "admin");
  EXPECT_EQ(book.records().user_by_name("bob").value()->password, "");
  EXPECT_FALSE(book.records().user_by_name("carl").value()->active);
  auto again = import_neuroapi_users(from, *to);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->users, 0u);
  EXPECT_EQ(again->known, 4u);
}

TEST_F(NeuroapiTest, ThePasswordThatEverybodyKnowsIsReplaced) {
  auto from = old();
  add(from, 1, "admin", known);
  auto to = store::open_state(dir_);
  ASSERT_TRUE(to);
  auto done = import_neuroapi_users(from, *to);
  ASSERT_TRUE(done);
  ASSERT_TRUE(done->password);
  accounts::Book book(*to);
  auto admin = book.records().user_by_name("admin").value().value();
  EXPECT_TRUE(admin.must_change);
  EXPECT_FALSE(accounts::verify_password(admin.password, "admin").right);
  EXPECT_TRUE(accounts::verify_password(admin.password, *done->password).right);
}

TEST_F(NeuroapiTest, ANumberThatWasGivenIsNotGivenAgain) {
  auto to = store::open_state(dir_);
  ASSERT_TRUE(to);
  accounts::Book book(*to);
  accounts::NewUser user;
  user.username = "first";
  auto first = book.add_user({}, user);
  ASSERT_TRUE(first);
  ASSERT_TRUE(book.remove_user({}, first->id));
  auto from = old();
  add(from, first->number, "anna", good);
  ASSERT_TRUE(import_neuroapi_users(from, *to));
  EXPECT_GT(book.records().user_by_name("anna").value()->number, first->number);
}

TEST_F(NeuroapiTest, WhatIsNoDatabaseOfItsIsSaidSo) {
  auto to = store::open_state(dir_);
  auto done = import_neuroapi_users(*to, *to);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("no database of NeuroAPI"), std::string::npos);
}

TEST(Neuroapi, DatabaseAddresses) {
  EXPECT_EQ(sqlite_file_of("sqlite:///neuroapi.db").value(), fs::path("neuroapi.db"));
  EXPECT_EQ(sqlite_file_of("sqlite:////var/x.db?timeout=5").value(), fs::path("/var/x.db"));
  EXPECT_EQ(sqlite_file_of("sqlite://").value(), std::nullopt);
  EXPECT_EQ(sqlite_file_of("sqlite:///:memory:").value(), std::nullopt);
  EXPECT_FALSE(sqlite_file_of("postgresql://u:p@host/db"));
}

TEST(Neuroapi, Flaskenv) {
  auto read = parse_flaskenv("# a comment\nFLASK_ENV=development\nexport SECRET_KEY = \"a # b\" # more\n\nDATABASE_URI='sqlite:///x.db'\r\nPLAIN=a b # c\nnothing\n");
  EXPECT_EQ(read.size(), 4u);
  EXPECT_EQ(read["FLASK_ENV"], "development");
  EXPECT_EQ(read["SECRET_KEY"], "a # b");
  EXPECT_EQ(read["DATABASE_URI"], "sqlite:///x.db");
  EXPECT_EQ(read["PLAIN"], "a b");
}
