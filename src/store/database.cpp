#include "store/database.hpp"

#include <algorithm>
#include <stdexcept>

#include "store/backend.hpp"

namespace myelin::store {

Time now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

Database::Database(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

Result<Database> Database::open(const std::filesystem::path& file) {
  auto backend = open_sqlite(file, false);
  if (!backend) return backend.take_error();
  return Database(std::move(*backend));
}

Result<Database> Database::read(const std::filesystem::path& file) {
  auto backend = open_sqlite(file, true);
  if (!backend) return backend.take_error();
  return Database(std::move(*backend));
}

Result<Database> Database::connect(const std::string& url, Use use) {
  auto backend = open_postgres(url, use);
  if (!backend) return backend.take_error();
  return Database(std::move(*backend));
}

Result<std::int64_t> Database::run(std::string_view sql, std::initializer_list<Value> values) {
  return backend_->run(sql, {values.begin(), values.size()}, nullptr);
}

Result<std::int64_t> Database::run(std::string_view sql, std::span<const Value> values) { return backend_->run(sql, values, nullptr); }

Result<void> Database::query(std::string_view sql, std::initializer_list<Value> values,
                             const std::function<void(const Row&)>& each) {
  auto ran = backend_->run(sql, {values.begin(), values.size()}, &each);
  if (!ran) return ran.take_error();
  return {};
}

Result<void> Database::script(const char* sql) { return backend_->script(sql); }

namespace {

/// Ends what was begun, unless it was committed.
struct Open {
  Backend& backend;
  bool committed = false;
  explicit Open(Backend& b) : backend(b) { backend.in_transaction = true; }
  ~Open() {
    backend.in_transaction = false;
    if (!committed) backend.rollback();
  }
};

}  // namespace

Result<void> Database::transaction(const std::function<Result<void>()>& body) {
  if (backend_->in_transaction) throw std::logic_error("Database: transactions do not nest");
  if (auto begun = backend_->begin(); !begun) return begun;
  Open open(*backend_);
  if (auto done = body(); !done) return done;
  if (auto committed = backend_->commit(); !committed) return committed;
  open.committed = true;
  return {};
}

Result<void> Database::snapshot(const std::function<Result<void>()>& body) {
  if (backend_->in_transaction) throw std::logic_error("Database: transactions do not nest");
  if (auto begun = backend_->begin_reading(); !begun) return begun;
  Open open(*backend_);
  return body();
}

Result<std::int64_t> Database::data_version() { return backend_->data_version(); }
Result<std::vector<std::string>> Database::tables() { return backend_->tables(); }
Result<void> Database::copy_to(const std::filesystem::path& file) { return backend_->copy_to(file); }
const std::string& Database::name() const { return backend_->name; }
const std::filesystem::path& Database::file() const { return backend_->file; }
bool Database::is_postgres() const { return backend_->file.empty(); }

std::string pattern_containing(std::string_view text) {
  std::string pattern = "%";
  for (char c : text) {
    if (c == '%' || c == '_' || c == '\\') pattern += '\\';
    pattern += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return pattern + "%";
}

}  // namespace myelin::store
