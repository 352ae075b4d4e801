#include "run/result_writer.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>

#include "codec/cbor.hpp"
#include "codec/json_walk.hpp"
#include "codec/npy.hpp"
#include "os/failure.hpp"
#include "os/memfd.hpp"

namespace myelin::run {
namespace {

namespace fs = std::filesystem;
using codec::Dtype;

constexpr std::size_t window_bytes = 256 * 1024;  // a multiple of every item size
constexpr std::size_t step_bytes = 4 << 20;
constexpr std::size_t spill_bytes = 1 << 20;  // of a list of numbers, before it goes to a file
constexpr std::size_t most_lists = 1024;      // that become datasets
constexpr std::size_t longest_name = 120;
constexpr std::size_t longest_stdout = 16 << 20;  // that is looked for in the result

double as_double(std::uint64_t word) { return static_cast<double>(static_cast<std::int64_t>(word)); }

// A list of numbers in the text while it is read.
struct Numbers {
  enum class Kind { unknown, boolean, integer, real };
  std::size_t base = 0;  // open containers around it
  Origin origin;
  std::size_t ndim = 0;  // 0: not known yet
  std::array<std::uint64_t, codec::max_dimensions> shape{}, counts{};
  std::array<bool, codec::max_dimensions> known{};
  Kind kind = Kind::unknown;
  std::string buffer;
  std::optional<FileWriter> spill;

  [[nodiscard]] Dtype dtype() const {
    return kind == Kind::boolean ? Dtype::boolean : kind == Kind::integer ? Dtype::i64 : Dtype::f64;
  }
};

struct Level {
  bool object = false;
  std::string key;          // of an object: the present one
  std::uint64_t index = 0;  // of an array: members begun
  std::uint64_t number = 0;  // of all objects and arrays
};

}  // namespace

struct ResultWriter::Impl : codec::JsonVisitor {
  fs::path directory;
  codec::Rope rope;
  std::shared_ptr<os::UniqueFd> memfd;
  WriteContext context;
  Expected expected;
  Written written;
  std::vector<Origin> origins;  // of the datasets

  // Where in the rope.
  std::size_t index = 0;
  std::uint64_t at = 0;
  bool begun = false, ended = false;
  std::optional<FileWriter> array;
  Dataset array_set;
  Origin array_origin;
  std::string window;

  // The text.
  std::optional<FileWriter> text, bare;
  codec::JsonWalk walk{*this};
  codec::CborTranscoder check;
  std::string check_out;
  std::vector<Level> levels;
  std::uint64_t containers = 0;  // begun
  std::optional<Error> error;    // of a visit
  Sha256 values;
  bool saw_data = false;
  bool capture = false;
  std::string captured;
  bool captured_all = true;

  std::optional<Numbers> numbers;
  std::size_t lists = 0;
  UniqueNames names;

  // ---- names
  // -------------------------------------------------------------------------------------------------------

  [[nodiscard]] bool in_data() const {
    return levels.empty() || !levels[0].object || levels[0].key == "data";
  }

  [[nodiscard]] std::string path() const {
    std::string path;
    for (std::size_t i = 0; i < levels.size() && path.size() <= longest_name; ++i) {
      const Level& level = levels[i];
      if (i == 0 && level.object && level.key == "data") continue;
      if (!path.empty()) path += '.';
      path += level.object ? level.key : std::to_string(level.index - 1);
    }
    return path.empty() ? "data" : path;
  }

  std::string unique_name(const std::string& path_text) {
    std::string name;
    for (const char c : path_text.substr(0, longest_name)) {
      const bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        c == '_' || c == '-' || c == '.';
      name += safe ? c : '_';
    }
    if (name.front() == '.' || name.front() == '-') name.insert(0, 1, '_');
    return names.take(name);
  }

  [[nodiscard]] Origin origin() const {  // of a value at the present place
    Origin here{path(), 0, ""};
    if (levels.empty() || !levels.back().object) return here;
    here.object = levels.back().number;
    here.key = levels.back().key;
    return here;
  }

  // ---- visits of the text
  // ------------------------------------------------------------------------------------------

  void keep(Result<void> result) {
    if (!result && !error) error = result.take_error();
  }

  void put(std::string_view plain, std::string_view exact) {
    if (error) return;
    keep(text->append(plain));
    if (bare && !error) keep(bare->append(exact));
  }

  void raw(std::string_view part) override {
    put(part, part);
    if (in_data()) values.update(part);
    if (capture) {
      if (captured.size() + part.size() > longest_stdout)
        captured_all = false;
      else
        captured += part;
    }
  }

  void begin_bare() {
    auto file = FileWriter::create(directory / "result.bare.json", context);
    if (!file) return keep(file.take_error());
    bare = std::move(*file);
    std::string part(window_bytes, '\0');
    for (std::uint64_t from = 0; from < text->size() && !error;) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), text->size() - from));
      keep(text->read(from, {part.data(), n}));
      if (!error) keep(bare->append({part.data(), n}));
      from += n;
    }
    written.layout.bare.emplace().holes = written.layout.text.holes;
  }

  void scalar(std::string_view token) override {
    value_begins();
    const bool nonfinite = token.find('N') != token.npos || token.find('I') != token.npos;
    if (nonfinite && !bare && !error) begin_bare();
    put(nonfinite ? "null" : token, token);
    if (in_data()) values.update(token);
    if (numbers && !error && !number(token)) drop_numbers();
  }

  void key(std::string_view name) override {
    if (levels.empty()) return;
    levels.back().key.assign(name);
    if (levels.size() == 1 && name == "data") saw_data = true;
  }

  void string_begin() override {
    value_begins();
    drop_numbers();
    capture = levels.size() == 1 && levels[0].object && levels[0].key == "stdout" && captured.empty();
  }
  void string_end() override { capture = false; }

  void begin(bool object) override {
    value_begins();
    if (object) {
      drop_numbers();
    } else if (numbers) {
      const std::size_t depth = levels.size() - numbers->base;
      if ((numbers->ndim != 0 && depth >= numbers->ndim) || depth >= codec::max_dimensions)
        drop_numbers();
      else
        numbers->counts[depth] = 0;
    } else if ((levels.empty() || levels.back().object) && lists < most_lists) {
      // A list in a list is part of that one, or nothing.
      numbers.emplace();
      numbers->base = levels.size();
      numbers->origin = origin();
    }
    levels.push_back({object, {}, 0, ++containers});
  }

  void end(bool object) override {
    if (levels.empty()) return;
    if (numbers && !object) {
      Numbers& n = *numbers;
      const std::size_t depth = levels.size() - 1 - n.base;
      const std::uint64_t count = n.counts[depth];
      if (count == 0 || (n.known[depth] && n.shape[depth] != count)) {
        drop_numbers();
      } else {
        n.known[depth] = true;
        n.shape[depth] = count;
      }
    }
    levels.pop_back();
    if (numbers && levels.size() == numbers->base) end_numbers();
  }

  void value_begins() {
    if (levels.empty() || levels.back().object) return;
    ++levels.back().index;
    if (numbers) ++numbers->counts[levels.size() - 1 - numbers->base];
  }

  // ---- lists of numbers
  // --------------------------------------------------------------------------------------------

  void drop_numbers() {
    if (!numbers) return;
    if (numbers->spill) {
      context.budget += numbers->spill->size();
      std::error_code ignored;
      fs::remove(numbers->spill->path(), ignored);
    }
    numbers.reset();
  }

  // False: the list is none of numbers.
  bool number(std::string_view token) {
    Numbers& n = *numbers;
    const std::size_t depth = levels.size() - n.base;
    if (n.ndim == 0) n.ndim = depth;
    if (n.ndim != depth || token.empty()) return false;
    const char first = token.front();
    if (first == 't' || first == 'f') {
      if (n.kind != Numbers::Kind::unknown && n.kind != Numbers::Kind::boolean) return false;
      n.kind = Numbers::Kind::boolean;
      n.buffer += first == 't' ? '\1' : '\0';
    } else {
      if (first == 'n' || n.kind == Numbers::Kind::boolean) return false;
      std::int64_t whole = 0;
      const char* const last = token.data() + token.size();
      std::uint64_t word = 0;
      const bool fits =
          n.kind != Numbers::Kind::real && token != "-0" &&
          std::from_chars(token.data(), last, whole) == std::from_chars_result{last, std::errc{}};
      if (fits) {
        n.kind = Numbers::Kind::integer;
        word = static_cast<std::uint64_t>(whole);
      } else {
        double value = 0;
        if (token == "NaN")
          value = std::numeric_limits<double>::quiet_NaN();
        else if (token == "Infinity")
          value = std::numeric_limits<double>::infinity();
        else if (token == "-Infinity")
          value = -std::numeric_limits<double>::infinity();
        else if (std::from_chars(token.data(), last, value).ptr != last)
          return false;
        if (n.kind == Numbers::Kind::integer) become_real();
        if (error) return false;
        n.kind = Numbers::Kind::real;
        word = std::bit_cast<std::uint64_t>(value);
      }
      n.buffer.append(reinterpret_cast<const char*>(&word), sizeof word);
    }
    if (n.buffer.size() >= spill_bytes) spill();
    return true;
  }

  static void widen(char* p, std::size_t bytes) {
    for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
      std::uint64_t word;
      std::memcpy(&word, p + i, 8);
      const double value = as_double(word);
      std::memcpy(p + i, &value, 8);
    }
  }

  void become_real() {
    Numbers& n = *numbers;
    widen(n.buffer.data(), n.buffer.size());
    if (!n.spill) return;
    std::string part(window_bytes, '\0');
    for (std::uint64_t from = codec::npy_head_bytes; from < n.spill->size() && !error;) {
      const auto size =
          static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), n.spill->size() - from));
      keep(n.spill->read(from, {part.data(), size}));
      widen(part.data(), size);
      if (!error) keep(n.spill->patch(from, {part.data(), size}));
      from += size;
    }
  }

  void spill() {
    Numbers& n = *numbers;
    if (!n.spill) {
      auto file = FileWriter::create(directory / "data" / ".list", context);
      if (!file) return keep(file.take_error());
      n.spill = std::move(*file);
      keep(n.spill->append(std::string(codec::npy_head_bytes, ' ')));
    }
    if (!error) keep(n.spill->append(n.buffer));
    n.buffer.clear();
  }

  void end_numbers() {
    Numbers& n = *numbers;
    if (!error) {
      if (n.spill) spill();
      keep(write_list(n));
    }
    ++lists;
    numbers.reset();
  }

  Result<void> write_list(Numbers& n) {
    Dataset set;
    set.name = unique_name(n.origin.path);
    set.dtype = n.dtype();
    set.shape.assign(n.shape.begin(), n.shape.begin() + static_cast<std::ptrdiff_t>(n.ndim));
    const std::string head = codec::npy_head(set.dtype, set.shape);
    if (!n.spill) {
      auto file = FileWriter::create(directory / set.file(), context);
      if (!file) return file.take_error();
      n.spill = std::move(*file);
      if (auto done = n.spill->append(head); !done) return done;
      if (auto done = n.spill->append(n.buffer); !done) return done;
    } else if (auto done = n.spill->patch(0, head); !done) {
      return done;
    }
    return add(*n.spill, std::move(set), std::move(n.origin));
  }

  // Ends the file and gives it the dataset's name.
  Result<void> add(FileWriter& file, Dataset set, Origin from) {
    auto facts = file.finish();
    if (!facts) return facts.take_error();
    set.bytes = facts->bytes - codec::npy_head_bytes;
    set.sha256 = facts->sha256;
    set.crc32 = facts->crc32;
    if (file.path() != directory / set.file()) {
      std::error_code failed;
      fs::rename(file.path(), directory / set.file(), failed);
      if (failed) return os::failure("can't rename a file of the run", failed.value());
    }
    written.datasets.push_back(std::move(set));
    origins.push_back(std::move(from));
    return {};
  }

  // ---- the rope
  // ----------------------------------------------------------------------------------------------------

  Result<std::string_view> part_of(const codec::Piece& piece, std::size_t most) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(most, piece.bytes - at));
    if (piece.where == codec::Where::inline_data) return rope.inline_data(piece).substr(at, size);
    window.resize(size);
    if (!memfd || !os::read_exactly_at(memfd->get(), window.data(), size, piece.offset + at))
      return Error{Code::worker_lost, "the result's memory file is shorter than it says", ""};
    return std::string_view(window);
  }

  Result<void> begin_files() {
    begun = true;
    if (auto allowed = context.step("mkdir"); !allowed) return allowed;
    for (const auto& each : {directory, directory / "data"})
      if (::mkdir(each.c_str(), 0700) != 0) return os::failure("can't make a directory for the run");
    auto file = FileWriter::create(directory / "result.json", context);
    if (!file) return file.take_error();
    text = std::move(*file);
    return {};
  }

  Result<void> text_part(const codec::Piece& piece, std::size_t& done) {
    auto part = part_of(piece, window_bytes);
    if (!part) return part.take_error();
    check_out.clear();
    if (auto valid = check.feed(*part, check_out); !valid) return valid;
    walk.feed(*part);
    if (error) return *error;
    at += part->size();
    done += part->size();
    if (at == piece.bytes) next_piece();
    return {};
  }

  Result<void> begin_array(const codec::Piece& piece) {
    walk.pause();
    check_out.clear();
    if (auto valid = check.value_follows(check_out); !valid) return valid;
    value_begins();
    drop_numbers();
    array_set = {};
    array_origin = origin();
    array_set.name = unique_name(array_origin.path);
    array_set.dtype = piece.dtype;
    array_set.shape.assign(piece.shape.begin(), piece.shape.begin() + piece.ndim);
    const std::string hole = "{\"$npy\":\"" + array_set.file() + "\"}";
    written.layout.text.holes.emplace_back(text->size(), hole.size());
    if (bare) written.layout.bare->holes.emplace_back(bare->size(), hole.size());
    written.layout.arrays.push_back(written.datasets.size());
    put(hole, hole);
    if (in_data()) values.update(hole);
    if (error) return *error;
    auto file = FileWriter::create(directory / array_set.file(), context);
    if (!file) return file.take_error();
    array = std::move(*file);
    return array->append(codec::npy_head(array_set.dtype, array_set.shape));
  }

  Result<void> array_part(const codec::Piece& piece, std::size_t& done) {
    if (!array)
      if (auto begun_now = begin_array(piece); !begun_now) return begun_now;
    if (at < piece.bytes) {
      auto part = part_of(piece, window_bytes);
      if (!part) return part.take_error();
      at += part->size();
      done += part->size();
      if (piece.dtype == Dtype::boolean) {  // NumPy's are 0 or 1
        std::string clean(*part);
        for (char& c : clean) c = c != 0 ? '\1' : '\0';
        if (auto put_now = array->append(clean); !put_now) return put_now;
      } else if (auto put_now = array->append(*part); !put_now) {
        return put_now;
      }
    }
    if (at < piece.bytes) return {};
    auto added = add(*array, std::move(array_set), std::move(array_origin));
    array.reset();
    next_piece();
    return added;
  }

  void next_piece() {
    ++index;
    at = 0;
  }

  Result<void> end_files() {
    ended = true;
    walk.pause();
    check_out.clear();
    if (auto valid = check.finish(check_out); !valid) return valid;
    if (error) return *error;
    auto facts = text->finish();
    if (!facts) return facts.take_error();
    written.layout.text.bytes = facts->bytes;
    written.layout.text.sha256 = facts->sha256;
    written.layout.values_sha256 = facts->sha256;
    if (bare) {
      facts = bare->finish();
      if (!facts) return facts.take_error();
      written.layout.bare->bytes = facts->bytes;
      written.layout.bare->sha256 = facts->sha256;
      written.layout.values_sha256 = facts->sha256;
    }
    if (saw_data) written.layout.values_sha256 = values.hex();
    describe_datasets(written.datasets, origins, expected);
    if (captured_all && !captured.empty()) {
      boost::system::error_code failed;
      auto value = boost::json::parse('"' + captured + '"', failed);
      if (!failed && value.is_string())
        written.stdout_text = std::string(value.get_string().c_str(), value.get_string().size());
    }
    return {};
  }

  Result<bool> step() {
    if (!begun)
      if (auto made = begin_files(); !made) return made.take_error();
    for (std::size_t done = 0, small = 0; index < rope.pieces().size(); ++small) {
      if (done >= step_bytes || small >= 64) return true;
      const codec::Piece& piece = rope.pieces()[index];
      auto result = piece.kind == codec::PieceKind::text ? text_part(piece, done) : array_part(piece, done);
      if (!result) return result.take_error();
    }
    if (!ended)
      if (auto result = end_files(); !result) return result.take_error();
    return false;
  }
};

ResultWriter::ResultWriter(fs::path directory, codec::Rope rope, std::shared_ptr<os::UniqueFd> memfd,
                           WriteContext context, Expected expected)
    : impl_(std::make_unique<Impl>()) {
  impl_->directory = std::move(directory);
  impl_->rope = std::move(rope);
  impl_->memfd = std::move(memfd);
  impl_->context = std::move(context);
  impl_->expected = std::move(expected);
}
ResultWriter::~ResultWriter() = default;

Result<bool> ResultWriter::step() { return impl_->step(); }
Written& ResultWriter::written() { return impl_->written; }

Result<std::uint64_t> ResultWriter::commit(const std::string& record, const fs::path& target) {
  Impl& self = *impl_;
  Written& w = self.written;
  std::uint64_t sum = w.layout.text.bytes + (w.layout.bare ? w.layout.bare->bytes : 0);
  std::string sums = w.layout.text.sha256 + "  result.json\n";
  if (w.layout.bare) sums += w.layout.bare->sha256 + "  result.bare.json\n";
  for (const auto& d : w.datasets) {
    sums += d.sha256 + "  " + d.file() + "\n";
    sum += d.bytes + codec::npy_head_bytes;
  }
  const auto write = [&](const char* name, const std::string& content) -> Result<FileFacts> {
    auto file = FileWriter::create(self.directory / name, self.context);
    if (!file) return file.take_error();
    if (auto done = file->append(content); !done) return done.take_error();
    return file->finish();
  };
  auto facts = write("run.json", record);
  if (!facts) return facts.take_error();
  w.layout.record_sha256 = facts->sha256;
  w.layout.record_bytes = facts->bytes;
  sum += facts->bytes;
  sums += facts->sha256 + "  run.json\n";
  facts = write("SHA256SUMS", sums);
  if (!facts) return facts.take_error();
  sum += facts->bytes;
  if (auto done = sync_all(self.directory, {self.directory / "data", self.directory}, self.context); !done)
    return done.take_error();
  if (auto allowed = self.context.step("rename"); !allowed) return allowed.take_error();
  std::error_code failed;
  fs::rename(self.directory, target, failed);
  if (failed) return os::failure("can't rename the directory of the run", failed.value());
  if (auto done = sync_directory(target.parent_path(), self.context); !done) return done.take_error();
  return sum;
}

}  // namespace myelin::run
