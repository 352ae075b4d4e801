#include "store/account_records.hpp"

namespace myelin::store {
namespace {

constexpr const char* user_columns =
    "number, id, username, email, role, active, password, must_change, created_ms, last_sign_in_ms, deleted_ms, issuer, subject";

UserRecord read_user(const Row& row) {
  UserRecord user;
  user.number = row.integer(0);
  user.id = row.text(1);
  user.username = row.text(2);
  if (!row.is_null(3)) user.email = row.text(3);
  user.role = row.text(4);
  user.active = row.integer(5) != 0;
  user.password = row.text(6);
  user.must_change = row.integer(7) != 0;
  user.created = row.time(8);
  user.last_sign_in = row.optional_time(9);
  user.deleted = row.optional_time(10);
  user.issuer = row.text(11);
  user.subject = row.text(12);
  return user;
}

constexpr const char* token_columns = "id, user_id, name, hash, scopes, created_ms, last_used_ms, expires_ms, revoked_ms";

ApiTokenRecord read_token(const Row& row) {
  ApiTokenRecord token{row.text(0), row.text(1), row.text(2), row.text(3), std::nullopt, row.time(5), row.optional_time(6),
                       row.optional_time(7), row.optional_time(8)};
  if (!row.is_null(4)) token.scopes = row.text(4);
  return token;
}

Value optional(const std::optional<std::string>& text) { return text ? Value(*text) : Value(nullptr); }
Value optional(const std::optional<Time>& time) { return time ? Value(*time) : Value(nullptr); }
Value flag(bool value) { return std::int64_t{value}; }

Result<void> only_done(Result<std::int64_t> ran) {
  if (!ran) return ran.take_error();
  return {};
}

Result<std::optional<UserRecord>> one_user(Database& database, const std::string& where, std::initializer_list<Value> values) {
  std::optional<UserRecord> found;
  auto asked = database.query("SELECT " + std::string(user_columns) + " FROM users WHERE " + where, values,
                              [&](const Row& row) { found = read_user(row); });
  if (!asked) return asked.take_error();
  return found;
}

Result<std::int64_t> one_number(Database& database, std::string_view sql, std::initializer_list<Value> values) {
  std::int64_t number = 0;
  auto asked = database.query(sql, values, [&](const Row& row) { number = row.integer(0); });
  if (!asked) return asked.take_error();
  return number;
}

}  // namespace

Result<Changes> AccountRecords::changes() {
  Changes changes;
  auto asked = database_.query("SELECT all_changes, grant_changes FROM account_changes", {}, [&](const Row& row) {
    changes.all = row.integer(0);
    changes.grants = row.integer(1);
  });
  if (!asked) return asked.take_error();
  return changes;
}

Result<void> AccountRecords::change(const std::function<Result<void>(std::int64_t version)>& body) {
  return database_.transaction([&]() -> Result<void> {
    auto counted = database_.run("UPDATE account_changes SET all_changes = all_changes + 1");
    if (!counted) return counted.take_error();
    auto now = changes();
    if (!now) return now.take_error();
    return body(now->all);
  });
}

Result<void> AccountRecords::change_grants(const std::function<Result<void>()>& body) {
  return database_.transaction([&]() -> Result<void> {
    auto counted = database_.run("UPDATE account_changes SET grant_changes = grant_changes + 1");
    if (!counted) return counted.take_error();
    return body();
  });
}

Result<void> AccountRecords::add_user(UserRecord& user, std::int64_t version) {
  auto added = database_.run(
      "INSERT INTO users (number, id, username, email, role, active, password, must_change, created_ms, last_sign_in_ms, deleted_ms, issuer, "
      "subject, version) VALUES (coalesce(?, (SELECT coalesce(max(number), 0) + 1 FROM users)), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {user.number > 0 ? Value(user.number) : Value(nullptr), user.id, user.username, optional(user.email), user.role, flag(user.active), user.password, flag(user.must_change), user.created,
       optional(user.last_sign_in), optional(user.deleted), user.issuer, user.subject, version});
  if (!added) return added.take_error();
  auto number = one_number(database_, "SELECT number FROM users WHERE id = ?", {user.id});
  if (!number) return number.take_error();
  user.number = *number;
  return {};
}

Result<void> AccountRecords::set_user(const UserRecord& user, std::int64_t version) {
  // A deleted user's name is free for another.
  const Value username = user.deleted ? Value(nullptr) : Value(user.username);
  return only_done(database_.run(
      "UPDATE users SET username = ?, former_name = ?, email = ?, role = ?, active = ?, password = ?, must_change = ?, "
      "last_sign_in_ms = ?, deleted_ms = ?, issuer = ?, subject = ?, version = ? WHERE id = ?",
      {username, user.username, user.deleted ? Value(nullptr) : optional(user.email), user.role, flag(user.active), user.password,
       flag(user.must_change), optional(user.last_sign_in), optional(user.deleted), user.issuer, user.subject, version, user.id}));
}

Result<void> AccountRecords::add_token(const ApiTokenRecord& token, std::int64_t version) {
  return only_done(database_.run(
      "INSERT INTO api_tokens (id, user_id, name, hash, scopes, created_ms, expires_ms, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      {token.id, token.user_id, token.name, Blob{token.hash}, optional(token.scopes), token.created, optional(token.expires), version}));
}

Result<std::int64_t> AccountRecords::revoke_token(std::string_view id, Time when, std::int64_t version) {
  return database_.run("UPDATE api_tokens SET revoked_ms = ?, version = ? WHERE id = ? AND revoked_ms IS NULL", {when, version, id});
}

Result<void> AccountRecords::revoke_tokens_of(std::string_view user_id, Time when, std::int64_t version) {
  return only_done(database_.run("UPDATE api_tokens SET revoked_ms = ?, version = ? WHERE user_id = ? AND revoked_ms IS NULL",
                                 {when, version, user_id}));
}

Result<void> AccountRecords::add_issued(const IssuedRecord& issued, std::int64_t version) {
  return only_done(database_.run(
      "INSERT INTO issued (jti, family, kind, user_id, scopes, client, created_ms, expires_ms, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {issued.jti, issued.family, issued.kind, issued.user_id, optional(issued.scopes), issued.client, issued.created, issued.expires, version}));
}

Result<bool> AccountRecords::use_issued(std::string_view jti, Time when, std::int64_t version) {
  auto changed = database_.run("UPDATE issued SET used_ms = ?, version = ? WHERE jti = ? AND used_ms IS NULL AND revoked_ms IS NULL",
                               {when, version, jti});
  if (!changed) return changed.take_error();
  return *changed > 0;
}

Result<bool> AccountRecords::is_issued(std::string_view jti) {
  auto known = one_number(database_, "SELECT 1 FROM issued WHERE jti = ? AND revoked_ms IS NULL", {jti});
  if (!known) return known.take_error();
  return *known != 0;
}

Result<std::int64_t> AccountRecords::revoke_issued(std::string_view jti, Time when, std::int64_t version) {
  return database_.run("UPDATE issued SET revoked_ms = ?, version = ? WHERE jti = ? AND revoked_ms IS NULL", {when, version, jti});
}

Result<void> AccountRecords::revoke_family(std::string_view family, Time when, std::int64_t version) {
  return only_done(database_.run("UPDATE issued SET revoked_ms = ?, version = ? WHERE family = ? AND revoked_ms IS NULL",
                                 {when, version, family}));
}

Result<void> AccountRecords::revoke_families_of(std::string_view user_id, std::string_view except, Time when, std::int64_t version) {
  return only_done(database_.run(
      "UPDATE issued SET revoked_ms = ?, version = ? WHERE user_id = ? AND family <> ? AND revoked_ms IS NULL",
      {when, version, user_id, except}));
}

Result<std::optional<UserRecord>> AccountRecords::user_by_id(std::string_view id) {
  return one_user(database_, "id = ? AND deleted_ms IS NULL", {id});
}
Result<std::optional<UserRecord>> AccountRecords::user_by_name(std::string_view username) {
  return one_user(database_, "username = ? AND deleted_ms IS NULL", {username});
}
Result<std::optional<UserRecord>> AccountRecords::user_by_email(std::string_view email) {
  return one_user(database_, "email = ? AND deleted_ms IS NULL", {email});
}
Result<std::optional<UserRecord>> AccountRecords::user_by_number(std::int64_t number) {
  return one_user(database_, "number = ? AND deleted_ms IS NULL", {number});
}
Result<std::optional<UserRecord>> AccountRecords::user_by_subject(std::string_view issuer, std::string_view subject) {
  return one_user(database_, "issuer = ? AND subject = ? AND deleted_ms IS NULL", {issuer, subject});
}
Result<std::optional<std::pair<std::string, std::string>>> AccountRecords::known_by(std::string_view id_or_name) {
  std::optional<std::pair<std::string, std::string>> found;
  auto asked = database_.query(
      "SELECT id, coalesce(username, former_name, id) FROM users WHERE id = ? OR username = ? OR (deleted_ms IS NOT NULL AND former_name = ?) "
      "ORDER BY CASE WHEN id = ? THEN 0 ELSE 1 END, coalesce(deleted_ms, 9223372036854775807) DESC LIMIT 1",
      {id_or_name, id_or_name, id_or_name, id_or_name}, [&](const Row& row) { found.emplace(row.text(0), row.text(1)); });
  if (!asked) return asked.take_error();
  return found;
}

namespace {

constexpr std::string_view is_containing = "deleted_ms IS NULL AND (lower(username) LIKE ? ESCAPE '\\' OR lower(coalesce(email, '')) LIKE ? ESCAPE '\\')";

}  // namespace

Result<std::vector<UserRecord>> AccountRecords::users(std::int64_t offset, std::int64_t limit, std::string_view containing) {
  std::vector<UserRecord> users;
  const std::string like = pattern_containing(containing);
  auto asked = database_.query("SELECT " + std::string(user_columns) + " FROM users WHERE " + std::string(is_containing) + " ORDER BY number LIMIT ? OFFSET ?",
                               {like, like, limit, offset}, [&](const Row& row) { users.push_back(read_user(row)); });
  if (!asked) return asked.take_error();
  return users;
}

Result<std::int64_t> AccountRecords::count_users(std::string_view containing) {
  const std::string like = pattern_containing(containing);
  return one_number(database_, "SELECT count(*) FROM users WHERE " + std::string(is_containing), {like, like});
}

Result<bool> AccountRecords::was_number(std::int64_t number) {
  auto found = one_number(database_, "SELECT count(*) FROM users WHERE number = ?", {number});
  if (!found) return found.take_error();
  return *found > 0;
}

Result<std::int64_t> AccountRecords::count_admins() {
  return one_number(database_, "SELECT count(*) FROM users WHERE deleted_ms IS NULL AND role = 'admin' AND active = 1", {});
}

Result<void> AccountRecords::signed_in(std::string_view user_id, Time when) {
  return only_done(database_.run("UPDATE users SET last_sign_in_ms = ? WHERE id = ?", {when, user_id}));
}

Result<void> AccountRecords::users_since(std::int64_t version, const std::function<void(UserRecord)>& each) {
  return database_.query("SELECT " + std::string(user_columns) + " FROM users WHERE version > ?", {version},
                         [&](const Row& row) { each(read_user(row)); });
}

Result<void> AccountRecords::tokens_since(std::int64_t version, const std::function<void(ApiTokenRecord)>& each) {
  return database_.query("SELECT " + std::string(token_columns) + " FROM api_tokens WHERE version > ?", {version},
                         [&](const Row& row) { each(read_token(row)); });
}

Result<void> AccountRecords::issued_since(std::int64_t version, const std::function<void(IssuedRecord)>& each) {
  return database_.query(
      "SELECT jti, family, kind, user_id, scopes, client, created_ms, expires_ms, used_ms, revoked_ms FROM issued WHERE version > ?",
      {version}, [&](const Row& row) {
        IssuedRecord issued{row.text(0), row.text(1), row.text(2), row.text(3), std::nullopt, row.text(5), row.time(6), row.time(7),
                            row.optional_time(8), row.optional_time(9)};
        if (!row.is_null(4)) issued.scopes = row.text(4);
        each(std::move(issued));
      });
}

Result<std::vector<ApiTokenRecord>> AccountRecords::tokens_of(std::string_view user_id) {
  std::vector<ApiTokenRecord> tokens;
  auto asked = database_.query("SELECT " + std::string(token_columns) +
                                   " FROM api_tokens WHERE revoked_ms IS NULL AND (? = '' OR user_id = ?) ORDER BY name, created_ms",
                               {user_id, user_id}, [&](const Row& row) { tokens.push_back(read_token(row)); });
  if (!asked) return asked.take_error();
  return tokens;
}

Result<void> AccountRecords::token_used(std::string_view id, Time when) {
  return only_done(database_.run("UPDATE api_tokens SET last_used_ms = ? WHERE id = ? AND coalesce(last_used_ms, 0) < ?", {when, id, when}));
}

Result<void> AccountRecords::add_group(const GroupRecord& group) {
  return only_done(database_.run("INSERT INTO user_groups (id, name, created_ms) VALUES (?, ?, ?)", {group.id, group.name, now()}));
}

Result<std::int64_t> AccountRecords::remove_group(std::string_view id) {
  if (auto gone = database_.run("DELETE FROM group_members WHERE group_id = ?", {id}); !gone) return gone;
  if (auto gone = database_.run("DELETE FROM grants WHERE holder = ?", {id}); !gone) return gone;
  return database_.run("DELETE FROM user_groups WHERE id = ?", {id});
}

Result<void> AccountRecords::add_member(std::string_view group, std::string_view user) {
  return only_done(database_.run("INSERT INTO group_members (group_id, user_id) VALUES (?, ?) ON CONFLICT DO NOTHING", {group, user}));
}

Result<std::int64_t> AccountRecords::remove_member(std::string_view group, std::string_view user) {
  return database_.run("DELETE FROM group_members WHERE group_id = ? AND user_id = ?", {group, user});
}

Result<void> AccountRecords::add_grant(const GrantRecord& grant) {
  return only_done(database_.run(
      "INSERT INTO grants (id, holder, action, kind, object, granted_by, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
      {grant.id, grant.holder, grant.action, grant.kind, grant.object, grant.granted_by, grant.created}));
}

Result<std::int64_t> AccountRecords::remove_grant(std::string_view id) { return database_.run("DELETE FROM grants WHERE id = ?", {id}); }

Result<void> AccountRecords::remove_grants_of(std::string_view holder) {
  if (auto gone = database_.run("DELETE FROM group_members WHERE user_id = ?", {holder}); !gone) return gone.take_error();
  return only_done(database_.run("DELETE FROM grants WHERE holder = ?", {holder}));
}

Result<std::vector<GroupRecord>> AccountRecords::groups() {
  std::vector<GroupRecord> groups;
  auto asked = database_.query(
      "SELECT g.id, g.name, m.user_id FROM user_groups g LEFT JOIN group_members m ON m.group_id = g.id ORDER BY g.name, m.user_id", {},
      [&](const Row& row) {
        if (groups.empty() || groups.back().id != row.text(0)) groups.push_back({row.text(0), row.text(1), {}});
        if (!row.is_null(2)) groups.back().members.push_back(row.text(2));
      });
  if (!asked) return asked.take_error();
  return groups;
}

Result<std::vector<GrantRecord>> AccountRecords::grants() {
  std::vector<GrantRecord> grants;
  auto asked = database_.query("SELECT id, holder, action, kind, object, granted_by, created_ms FROM grants ORDER BY created_ms, id", {},
                               [&](const Row& row) {
                                 grants.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.text(5), row.time(6)});
                               });
  if (!asked) return asked.take_error();
  return grants;
}

Result<void> AccountRecords::saw_address(std::string_view user_id, std::string_view address, Time when, std::int64_t keep) {
  auto saw = database_.run(
      "INSERT INTO known_addresses (user_id, address, last_ms) VALUES (?, ?, ?) "
      "ON CONFLICT (user_id, address) DO UPDATE SET last_ms = excluded.last_ms",
      {user_id, address, when});
  if (!saw) return saw.take_error();
  return only_done(database_.run(
      "DELETE FROM known_addresses WHERE user_id = ? AND address NOT IN "
      "(SELECT address FROM known_addresses WHERE user_id = ? ORDER BY last_ms DESC LIMIT ?)",
      {user_id, user_id, keep}));
}

Result<bool> AccountRecords::knows_address(std::string_view user_id, std::string_view address, Time since) {
  auto known = one_number(database_, "SELECT 1 FROM known_addresses WHERE user_id = ? AND address = ? AND last_ms > ?", {user_id, address, since});
  if (!known) return known.take_error();
  return *known != 0;
}

Result<void> AccountRecords::add_reset(std::string_view hash, std::string_view user_id, Time expires) {
  return database_.transaction([&]() -> Result<void> {
    // A new link ends the older ones.
    if (auto gone = database_.run("DELETE FROM password_resets WHERE user_id = ?", {user_id}); !gone) return gone.take_error();
    return only_done(database_.run("INSERT INTO password_resets (hash, user_id, expires_ms) VALUES (?, ?, ?)", {Blob{hash}, user_id, expires}));
  });
}

Result<std::optional<std::string>> AccountRecords::reset_of(std::string_view hash, Time now) {
  std::optional<std::string> user;
  auto asked = database_.query("SELECT user_id FROM password_resets WHERE hash = ? AND expires_ms > ?", {Blob{hash}, now},
                               [&](const Row& row) { user = row.text(0); });
  if (!asked) return asked.take_error();
  return user;
}

Result<void> AccountRecords::remove_resets_of(std::string_view user_id) {
  return only_done(database_.run("DELETE FROM password_resets WHERE user_id = ?", {user_id}));
}

Result<void> AccountRecords::note(const AuditRecord& entry) {
  return only_done(database_.run(
      "INSERT INTO audit (at_ms, actor, actor_name, address, action, object, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
      {entry.when, entry.actor, entry.actor_name, entry.address, entry.action, entry.object, entry.detail}));
}

Result<std::vector<AuditRecord>> AccountRecords::audit(const AuditFilter& f) {
  std::vector<AuditRecord> entries;
  const Time never{}, always{std::chrono::milliseconds(INT64_MAX)};
  auto asked = database_.query(
      "SELECT seq, at_ms, actor, actor_name, address, action, object, detail FROM audit WHERE (? = '' OR actor = ? OR actor_name = ?) AND (? = '' OR action = ?) "
      "AND (? = '' OR object = ?) AND at_ms >= ? AND at_ms < ? AND seq < ? ORDER BY seq DESC LIMIT ?",
      {f.actor.value_or(""), f.actor.value_or(""), f.actor.value_or(""), f.action.value_or(""), f.action.value_or(""), f.object.value_or(""), f.object.value_or(""),
       f.since.value_or(never), f.until.value_or(always), f.before.value_or(INT64_MAX), f.limit},
      [&](const Row& row) {
        entries.push_back({row.integer(0), row.time(1), row.text(2), row.text(3), row.text(4), row.text(5), row.text(6), row.text(7)});
      });
  if (!asked) return asked.take_error();
  return entries;
}

Result<void> AccountRecords::purge(Time now, Time audit_before) {
  return database_.transaction([&]() -> Result<void> {
    if (auto gone = database_.run("DELETE FROM issued WHERE expires_ms < ?", {now}); !gone) return gone.take_error();
    if (auto gone = database_.run("DELETE FROM password_resets WHERE expires_ms < ?", {now}); !gone) return gone.take_error();
    return only_done(database_.run("DELETE FROM audit WHERE at_ms < ?", {audit_before}));
  });
}

}  // namespace myelin::store
