#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "store/migrate.hpp"
#include "store/portable_sql.hpp"
#include "store/test_support.hpp"
#include "store/session_records.hpp"
#include "store/account_records.hpp"

using namespace myelin;
using namespace myelin::store;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

using test::on_postgres;
using test::open_in;
using test::place_in;

#define FILES_ONLY \
  if (on_postgres()) GTEST_SKIP() << "of files"

struct Folder {
  fs::path path;
  Folder() {
    std::string pattern = fs::temp_directory_path() / "myelin-store-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
};

Time at(int seconds) { return Time(std::chrono::seconds(seconds)); }

std::int64_t number(Database& db, std::string_view sql) {
  std::int64_t value = -1;
  auto asked = db.query(sql, {}, [&](const Row& row) { value = row.integer(0); });
  EXPECT_TRUE(asked.ok()) << (asked ? "" : asked.error().message);
  return value;
}

std::set<std::string> tables(Database& db) {
  auto names = db.tables();
  EXPECT_TRUE(names);
  return {names->begin(), names->end()};
}

mode_t mode_of(const fs::path& file) {
  struct stat info {};
  EXPECT_EQ(::stat(file.c_str(), &info), 0) << file;
  return info.st_mode & 07777;
}

/// Runs `body` in a child process; its exit status.
int in_child(const std::function<int()>& body) {
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Migration sql(const char* text) {
  return [text](Database& db) { return db.script(text); };
}

}  // namespace

TEST(Database, FilesArePrivateWhateverTheUmask) {
  FILES_ONLY;
  Folder dir;
  auto old = ::umask(0);
  {
    auto db = Database::open(dir.path / "a.db");
    ASSERT_TRUE(db) << db.error().message;
    ASSERT_TRUE(db->script("CREATE TABLE t (x INTEGER)"));
    EXPECT_EQ(mode_of(dir.path / "a.db"), 0600u);
    EXPECT_EQ(mode_of(dir.path / "a.db-wal"), 0600u);
    EXPECT_EQ(mode_of(dir.path / "a.db-shm"), 0600u);
    EXPECT_EQ(number(*db, "PRAGMA synchronous"), 2);
    EXPECT_EQ(number(*db, "PRAGMA foreign_keys"), 1);
  }
  ::chmod((dir.path / "a.db").c_str(), 0644);
  ASSERT_TRUE(Database::open(dir.path / "a.db"));
  EXPECT_EQ(mode_of(dir.path / "a.db"), 0600u);
  ::umask(old);
}

TEST(Database, BindsAndReadsEveryType) {
  Folder dir;
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  ASSERT_TRUE(db->script("CREATE TABLE t (a INTEGER, b TEXT, c BLOB, d TEXT, e INTEGER, f TEXT)"));
  std::string bytes("\0\xff'; DROP TABLE t; --", 22);
  const std::string odd("na\0\xff", 4);
  auto changed = db->run("INSERT INTO t (a, b, c, d, e) VALUES (?, ?, ?, ?, ?)",
                         {std::int64_t{-5}, "naïve", Blob{bytes}, odd, at(7)});
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(*changed, 1);
  int rows = 0;
  ASSERT_TRUE(
      db->query("SELECT a, b, c, d, e, f FROM t WHERE b = ? AND d = ?", {std::string("naïve"), odd}, [&](const Row& row) {
        ++rows;
        EXPECT_EQ(row.integer(0), -5);
        EXPECT_EQ(row.text(1), "naïve");
        EXPECT_EQ(row.text(2), bytes);
        EXPECT_EQ(row.text(3), odd);
        EXPECT_TRUE(row.is_null(5));
        EXPECT_EQ(row.text(5), "");
        EXPECT_EQ(row.time(4), at(7));
        EXPECT_FALSE(row.optional_time(5));
        EXPECT_EQ(number(*db, "SELECT count(*) FROM t"), 1);  // another statement meanwhile
      }));
  EXPECT_EQ(rows, 1);
  EXPECT_THROW((void)db->run("INSERT INTO t (a) VALUES (?)", {}), std::logic_error);
  EXPECT_FALSE(db->run("INSERT INTO nowhere VALUES (1)"));
}

TEST(Database, TransactionsRollBackOnErrorAndOnException) {
  Folder dir;
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  ASSERT_TRUE(db->script("CREATE TABLE t (x INTEGER UNIQUE)"));
  auto failed = db->transaction([&]() -> Result<void> {
    EXPECT_TRUE(db->run("INSERT INTO t VALUES (1)"));
    auto twice = db->run("INSERT INTO t VALUES (1)");
    EXPECT_FALSE(twice);
    return twice.take_error();
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::conflict);
  EXPECT_EQ(number(*db, "SELECT count(*) FROM t"), 0);
  EXPECT_THROW((void)db->transaction([&]() -> Result<void> {
    EXPECT_TRUE(db->run("INSERT INTO t VALUES (1)"));
    throw std::runtime_error("bug");
  }),
               std::runtime_error);
  EXPECT_EQ(number(*db, "SELECT count(*) FROM t"), 0);
  ASSERT_TRUE(db->transaction([&]() -> Result<void> {
    EXPECT_TRUE(db->run("INSERT INTO t VALUES (1)"));
    return {};
  }));
  EXPECT_EQ(number(*db, "SELECT count(*) FROM t"), 1);
}

TEST(Database, SaysWhatIsWrongWithAFile) {
  FILES_ONLY;
  Folder dir;
  auto nowhere = Database::open(dir.path / "no" / "a.db");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, Code::unavailable);
  std::ofstream(dir.path / "b.db") << std::string(5000, 'x');
  auto garbage = Database::open(dir.path / "b.db");
  ASSERT_FALSE(garbage);
  EXPECT_NE(garbage.error().message.find("not a database"), std::string::npos) << garbage.error().message;
}

TEST(Database, DataVersionTellsOfOtherProcesses) {
  Folder dir;
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  ASSERT_TRUE(db->script("CREATE TABLE t (x INTEGER)"));
  auto before = *db->data_version();
  auto insert = [](Database& into) {
    return into.transaction([&]() -> Result<void> {
      auto done = into.run("INSERT INTO t VALUES (1)");
      if (!done) return done.take_error();
      return {};
    });
  };
  ASSERT_TRUE(insert(*db));
  EXPECT_EQ(*db->data_version(), before);  // one's own writes do not count
  {
    auto near = open_in(dir.path, "a");
    ASSERT_TRUE(near && insert(*near));
    EXPECT_NE(*db->data_version(), before);  // of this process: at once
  }
  ::usleep(on_postgres() ? 200'000 : 0);
  before = *db->data_version();
  ASSERT_EQ(in_child([&] {
              auto other = open_in(dir.path, "a");
              return other && insert(*other) ? 0 : 1;
            }),
            0);
  for (int i = 0; i < 200 && *db->data_version() == before; ++i) ::usleep(10'000);  // of another: when it is heard of
  EXPECT_NE(*db->data_version(), before);
}

TEST(PortableSql, OnlyWordsAreTranslated) {
  auto said = [](const char* sql) { return to_postgres(sql).sql; };
  EXPECT_EQ(said("SELECT ?, ?2, ? WHERE a = '?''?' -- ?\nAND \"x?\" = x'0aff'"), "SELECT $1, $2, $3 WHERE a = '?''?' \nAND \"x?\" = '\\x0aff'::bytea");
  EXPECT_EQ(to_postgres("?3 ?1 ?3").values, 3);
  EXPECT_EQ(said("CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, INTEGERS INTEGER, x BLOB DEFAULT x'') STRICT"),
            "CREATE TABLE t (seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, INTEGERS BIGINT, x BYTEA DEFAULT '\\x'::bytea) ");
}

TEST(PortableSql, EveryTextComesBack) {
  using namespace std::string_literals;
  for (const std::string& text : {""s, "plain"s, "naïve 𝄞"s, "a\0b"s, "\xff\xfe"s, "\xed\xa0\x80"s, "\xf3\xb0\x81\x81"s, "\xf3\xb0"s, "\xf3\xb0\x84\x80"s, "\xc3"s,
                                  "\xe0\x80\x80\xf3\xb0\x83\xbf\0"s}) {
    const auto kept = kept_text(text);
    EXPECT_EQ(text_from_kept(kept), text);
    EXPECT_EQ(kept.find('\0'), std::string::npos);
    EXPECT_EQ(kept_text("x" + text), "x" + kept);
  }
  EXPECT_EQ(kept_text("naïve 𝄞"), "naïve 𝄞");
  unsigned seed = 7;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += "\0\xf3\xb0\x80\x83\xbf\xe0\xa0""a\xc3\xed\xf4"[(seed = seed * 1103515245 + 12345) / 65536 % 12];
    EXPECT_EQ(text_from_kept(kept_text(text)), text);
  }
}

// The server goes and comes again under an open connection: errors meanwhile say so, and nothing is written twice or in half.
TEST(Postgres, AConnectionIsMadeAnew) {
  if (!on_postgres()) GTEST_SKIP() << "of PostgreSQL";
  Folder dir;
  auto place = place_in(dir.path);
  auto db = open_state(place, Use::server);
  auto watcher = open_connection(place, Use::watcher);
  ASSERT_TRUE(db && watcher);
  auto second = open_connection(place, Use::server);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::conflict);
  EXPECT_NE(second.error().message.find("another server"), std::string::npos);
  const auto before = *watcher->data_version();
  SessionRecords records(*db);
  ASSERT_TRUE(records.started("s_1", "u_1", "", "nest", at(1)));
  auto server = [](const char* command) {
    return std::system((std::string(MYELIN_SOURCE_DIR "/tests/postgres ") + command + " " + test::postgres_folder()).c_str());
  };
  auto failed = db->transaction([&]() -> Result<void> {
    EXPECT_TRUE(db->run("UPDATE sessions SET owner = 'u_2'"));
    EXPECT_EQ(server("kill"), 0);
    auto lost = db->run("UPDATE sessions SET owner = 'u_3'");
    EXPECT_FALSE(lost);
    EXPECT_EQ(server("run"), 0);
    EXPECT_EQ(db->run("UPDATE sessions SET owner = 'u_4'").error().code, Code::unavailable);  // not outside of its transaction
    return {};
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::unavailable);
  EXPECT_EQ((*records.find("s_1"))->owner, "u_1");
  bool again = false;
  for (int i = 0; i < 100 && !again; ++i, ::usleep(20'000)) again = watcher->data_version().ok();
  EXPECT_NE(*watcher->data_version(), before);
  EXPECT_EQ(server("stop"), 0);
  auto down = records.find("s_1");
  ASSERT_FALSE(down);
  EXPECT_EQ(down.error().code, Code::unavailable);
  EXPECT_EQ(server("run"), 0);
  ::usleep(400'000);
  EXPECT_TRUE(*records.find("s_1"));
  ASSERT_TRUE(records.started("s_2", "u_1", "", "nest", at(2)));
  EXPECT_EQ(server("stop"), 0);
  EXPECT_EQ(server("run"), 0);
  EXPECT_TRUE(*records.find("s_2"));  // it was idle: nothing is noticed
}

TEST(Postgres, NoPasswordIsShown) {
  for (const char* url : {"postgresql://anna:s3cret@127.0.0.1:1/lab", "postgresql://127.0.0.1:1/lab?user=anna&password=s3cret",
                          "postgresql://anna:s3cret@host:port:x/lab?nonsense=1", "postgresql://anna:s3cret@[x/lab"}) {
    auto refused = Database::connect(url);
    ASSERT_FALSE(refused);
    EXPECT_EQ((refused.error().message + refused.error().detail).find("s3cret"), std::string::npos) << refused.error().message;
  }
}

TEST(Migrate, StepsRunOnceInOrder) {
  Folder dir;
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  std::vector<Migration> steps = {sql("CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)")};
  ASSERT_TRUE(migrate(*db, steps));
  ASSERT_TRUE(migrate(*db, steps));
  steps.push_back(sql("ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 3"));
  steps.push_back(sql("UPDATE a SET x = x + y"));
  ASSERT_TRUE(migrate(*db, steps));
  ASSERT_TRUE(migrate(*db, steps));
  EXPECT_EQ(number(*db, "SELECT x FROM a"), 4);
  EXPECT_EQ(number(*db, "SELECT version FROM schema_version"), 3);
  EXPECT_EQ(number(*db, "SELECT count(*) FROM schema_version"), 1);
}

TEST(Migrate, SurvivesBeingKilledInTheMiddle) {
  Folder dir;
  const char* create = "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)";
  const char* half = "CREATE TABLE b (x INTEGER); UPDATE a SET x = 2";
  int status = in_child([&] {
    auto db = open_in(dir.path, "a");
    std::vector<Migration> steps = {sql(create), [&](Database& d) -> Result<void> {
                                      if (!d.script(half)) ::_exit(1);
                                      ::_exit(42);
                                    }};
    (void)migrate(*db, steps).ok();
    return 2;
  });
  ASSERT_EQ(status, 42);
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  EXPECT_EQ(number(*db, "SELECT version FROM schema_version"), 1);
  EXPECT_EQ(number(*db, "SELECT x FROM a"), 1);
  EXPECT_EQ(tables(*db).count("b"), 0u);
  ASSERT_TRUE(migrate(*db, {sql(create), sql(half)}));
  EXPECT_EQ(number(*db, "SELECT x FROM a"), 2);
}

TEST(Migrate, AFailingStepLeavesTheVersionBefore) {
  Folder dir;
  auto db = open_in(dir.path, "a");
  ASSERT_TRUE(db);
  EXPECT_FALSE(migrate(*db, {sql("CREATE TABLE a (x INTEGER)"), sql("CREATE TABLE b (x INTEGER); nonsense")}));
  EXPECT_EQ(number(*db, "SELECT version FROM schema_version"), 1);
  EXPECT_EQ(tables(*db).count("b"), 0u);
}

TEST(Migrate, ProcessesThatStartTogetherDoEachStepOnce) {
  Folder dir;
  std::vector<Migration> steps = {sql("CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (0)"), [](Database& d) {
                                    ::usleep(3'000);
                                    return d.script("UPDATE a SET x = x + 1");
                                  }};
  for (int round = 0; round < 20; ++round) {  // what one of them sees of another's first step is a matter of microseconds
    const std::string file = std::to_string(round);
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i) {
      pid_t pid = ::fork();
      if (pid == 0) {
        auto db = open_in(dir.path, file);
        ::_exit(db && migrate(*db, steps) ? 0 : 1);
      }
      children.push_back(pid);
    }
    for (pid_t pid : children) {
      int status = -1;
      ::waitpid(pid, &status, 0);
      EXPECT_EQ(status, 0);
    }
    auto db = open_in(dir.path, file);
    ASSERT_TRUE(db);
    EXPECT_EQ(number(*db, "SELECT x FROM a"), 1);
  }
}

TEST(Migrate, RefusesANewerFileAndAForeignOne) {
  Folder dir;
  {
    auto db = open_in(dir.path, "myelin");
    ASSERT_TRUE(db);
    auto steps = migrations();
    steps.push_back(sql("CREATE TABLE future (x INTEGER)"));
    ASSERT_TRUE(migrate(*db, steps));
  }
  auto newer = open_state(place_in(dir.path));
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code, Code::conflict);
  const auto known = migrations().size();
  EXPECT_NE(newer.error().message.find("newer Myelin (schema " + std::to_string(known + 1) + ", this one knows " +
                                       std::to_string(known) + ")"), std::string::npos)
      << newer.error().message;
  auto foreign = open_in(dir.path, "other");
  ASSERT_TRUE(foreign);
  ASSERT_TRUE(foreign->script("CREATE TABLE holiday_photos (x INTEGER)"));
  auto refused = migrate(*foreign, migrations());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("another program"), std::string::npos);
  EXPECT_EQ(tables(*foreign), (std::set<std::string>{"holiday_photos"}));
}

TEST(SessionRecords, KeepTheCauseUntilItWasTold) {
  Folder dir;
  auto db = open_state(place_in(dir.path));
  ASSERT_TRUE(db) << db.error().message;
  SessionRecords records(*db);
  EXPECT_FALSE(*records.latest_for("u_1", "", "nest"));
  ASSERT_TRUE(records.started("s_1", "u_1", "", "nest", at(10)));
  auto twice = records.started("s_1", "u_1", "", "nest", at(10));
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, Code::conflict);

  auto running = *records.latest_for("u_1", "", "nest");
  ASSERT_TRUE(running);
  EXPECT_FALSE(running->ended);
  EXPECT_FALSE(running->must_be_told());

  std::string tail("last words \xff\0!", 14);
  EXPECT_TRUE(*records.ended("s_1", {"signal", "killed by signal 11"}, tail, at(20)));
  EXPECT_FALSE(*records.ended("s_1", {"deleted", "too late"}, "", at(21)));  // the first cause stays
  EXPECT_FALSE(*records.ended("s_unknown", {"deleted", ""}, "", at(21)));
  auto ended = *records.find("s_1");
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->owner, "u_1");
  EXPECT_EQ(ended->started, at(10));
  EXPECT_EQ(ended->ended, at(20));
  EXPECT_EQ(ended->cause->code, "signal");
  EXPECT_EQ(ended->cause->text, "killed by signal 11");
  EXPECT_EQ(ended->tail, tail);
  EXPECT_TRUE(ended->must_be_told());

  EXPECT_TRUE(*records.acknowledge("s_1"));
  EXPECT_FALSE(*records.acknowledge("s_1"));
  EXPECT_FALSE((*records.latest_for("u_1", "", "nest"))->must_be_told());
}

TEST(SessionRecords, NamesOwnersAndEnginesAreApart) {
  Folder dir;
  auto db = open_state(place_in(dir.path));
  ASSERT_TRUE(db);
  SessionRecords records(*db);
  ASSERT_TRUE(records.started("s_1", "u_1", "", "nest", at(1)));
  ASSERT_TRUE(records.started("s_2", "u_2", "", "nest", at(1)));
  ASSERT_TRUE(records.started("s_3", "u_1", "b", "nest", at(1)));
  ASSERT_TRUE(records.started("s_4", "u_1", "", "neuron", at(1)));
  ASSERT_TRUE(
      records.started("s_5", "u_1", "", "nest", at(1)));  // same instant: the later row is the younger
  for (const char* id : {"s_1", "s_2", "s_3", "s_4"})
    ASSERT_TRUE(*records.ended(id, {"exit", "x"}, "", at(2)));
  EXPECT_EQ((*records.latest_for("u_1", "", "nest"))->id, "s_5");
  EXPECT_TRUE(*records.acknowledge("s_5"));  // runs on; s_1, older, is done with
  EXPECT_FALSE((*records.find("s_1"))->must_be_told());
  EXPECT_TRUE((*records.find("s_2"))->must_be_told());
  EXPECT_TRUE((*records.find("s_3"))->must_be_told());
  EXPECT_TRUE((*records.find("s_4"))->must_be_told());
  ASSERT_TRUE(*records.ended("s_5", {"exit", "x"}, "", at(3)));
  EXPECT_TRUE((*records.find("s_5"))->must_be_told());
}

TEST(SessionRecords, ARestartMarksWhatRanAndAWeekForgets) {
  Folder dir;
  {
    auto db = open_state(place_in(dir.path));
    ASSERT_TRUE(db);
    SessionRecords records(*db);
    ASSERT_TRUE(records.started("s_b", "u_1", "b", "nest", at(2)));
    ASSERT_TRUE(records.started("s_a", "u_1", "a", "nest", at(1)));
    ASSERT_TRUE(records.started("s_c", "u_1", "c", "nest", at(3)));
    ASSERT_TRUE(*records.ended("s_c", {"exit", "exit code 3"}, "", at(4)));
  }
  auto db = open_state(place_in(dir.path));
  ASSERT_TRUE(db);
  SessionRecords records(*db);
  auto lost = records.mark_all_running_as_lost("server restarted at noon", at(100));
  ASSERT_TRUE(lost);
  ASSERT_EQ(lost->size(), 2u);
  EXPECT_EQ((*lost)[0].id, "s_a");
  EXPECT_EQ((*lost)[1].id, "s_b");
  EXPECT_EQ((*lost)[0].cause->text, "server restarted at noon");
  EXPECT_EQ((*records.find("s_a"))->cause->code, "server_restarted");
  EXPECT_EQ((*records.find("s_c"))->cause->code, "exit");
  EXPECT_TRUE(records.mark_all_running_as_lost("again", at(200))->empty());

  ASSERT_TRUE(records.started("s_d", "u_1", "d", "nest", at(5)));
  EXPECT_EQ(*records.expire(at(100)), 1);  // s_c; s_d runs
  EXPECT_FALSE(*records.find("s_c"));
  EXPECT_TRUE(*records.find("s_d"));
  EXPECT_EQ(*records.expire(at(101)), 2);
}

TEST(AccountRecords, TokensOfAnOlderFileBecomeUsersWithTokens) {
  FILES_ONLY;
  Folder dir;
  const std::string hash("\0\x01hash", 6);
  {
    auto old = Database::open(dir.path / "myelin.db");
    ASSERT_TRUE(old);
    ASSERT_TRUE(migrate(*old, {migrations()[0], migrations()[1]}));
    ASSERT_TRUE(old->run("INSERT INTO tokens (name, hash, user_id, created_ms) VALUES ('anna', ?, 'u_1', 5)", {Blob{hash}}));
    ASSERT_TRUE(old->run("INSERT INTO tokens (name, hash, user_id, created_ms, revoked_ms) VALUES ('bob', x'68', 'u_2', 6, 7)"));
  }
  auto db = open_state(dir.path);
  ASSERT_TRUE(db);
  AccountRecords records(*db);
  auto anna = records.user_by_name("anna");
  ASSERT_TRUE(anna && *anna);
  EXPECT_EQ((*anna)->id, "u_1");
  EXPECT_EQ((*anna)->role, "member");
  EXPECT_EQ((*anna)->password, "");
  auto tokens = records.tokens_of("");
  ASSERT_TRUE(tokens);
  ASSERT_EQ(tokens->size(), 1u);
  EXPECT_EQ(tokens->at(0).hash, hash);
  EXPECT_EQ(tokens->at(0).user_id, "u_1");
}

TEST(AccountRecords, AChangeMarksItsRows) {
  Folder dir;
  auto db = open_state(place_in(dir.path));
  ASSERT_TRUE(db);
  AccountRecords records(*db);
  auto before = *records.changes();
  UserRecord anna;
  anna.id = "u_1";
  anna.username = "anna";
  ASSERT_TRUE(records.change([&](std::int64_t version) { return records.add_user(anna, version); }));
  EXPECT_EQ(anna.number, 1);
  EXPECT_EQ(records.changes()->all, before.all + 1);
  std::size_t seen = 0;
  ASSERT_TRUE(records.users_since(before.all, [&](UserRecord) { ++seen; }));
  EXPECT_EQ(seen, 1u);
  ASSERT_TRUE(records.users_since(before.all + 1, [&](UserRecord) { ++seen; }));
  EXPECT_EQ(seen, 1u);
  auto failed = records.change([&](std::int64_t) -> Result<void> { return Error{Code::conflict, "no", ""}; });
  EXPECT_FALSE(failed);
  EXPECT_EQ(records.changes()->all, before.all + 1);
}

TEST(AccountRecords, OfANamesUsersOnlyTheAskedAreFound) {
  Folder dir;
  auto db = open_state(place_in(dir.path));
  ASSERT_TRUE(db);
  AccountRecords records(*db);
  for (const char* name : {"anna", "100%", "a_b", "Bob"}) {
    UserRecord user;
    user.id = std::string("u_") + name;
    user.username = name;
    ASSERT_TRUE(records.change([&](std::int64_t version) { return records.add_user(user, version); }));
  }
  EXPECT_EQ(records.users(0, 10, "%")->size(), 1u);
  EXPECT_EQ(records.users(0, 10, "a_")->size(), 1u);
  EXPECT_EQ(records.users(0, 10, "bo")->size(), 1u);
  EXPECT_EQ(records.users(1, 2)->size(), 2u);
}
