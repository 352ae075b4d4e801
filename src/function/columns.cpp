#include "function/columns.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/json_value.hpp"
#include "function/check.hpp"
#include "os/memfd.hpp"

namespace myelin::function {
namespace {

constexpr std::string_view mark = "\x01" "array:";
constexpr std::size_t most_text = 64 << 20, most_columns = 1000;
constexpr std::size_t most_cells_bytes = 64 << 20;   // of all columns
constexpr std::size_t short_text = 32;               // longer ones are in the file
constexpr std::size_t piece_text = 1 << 20;
constexpr std::uint64_t most_apart = 256ull << 20;   // of a look at a sweep that runs
constexpr char between = '\x1f';

Result<std::string> bytes_of(const session::Answer& answer, const codec::Piece& piece) {
  if (piece.where == codec::Where::inline_data) return std::string(answer.rope.inline_data(piece));
  std::string bytes(piece.bytes, '\0');
  if (!answer.memfd || !os::read_exactly_at(answer.memfd->get(), bytes.data(), bytes.size(), piece.offset))
    return Error{Code::worker_lost, "the result's memory file is shorter than it says", ""};
  return bytes;
}

// A list of numbers, nested evenly: its shape and values. False for anything else.
bool numbers(const json::value& value, std::size_t depth, std::vector<std::uint64_t>& shape, std::string& data) {
  if (!value.is_array() || depth >= 7) return false;
  auto& list = value.get_array();
  if (list.empty()) return false;
  if (shape.size() == depth) shape.push_back(list.size());
  else if (shape[depth] != list.size()) return false;
  for (auto& item : list) {
    if (item.is_number()) {
      if (shape.size() != depth + 1) return false;
      double number = item.to_number<double>();
      data.append(reinterpret_cast<const char*>(&number), sizeof number);
    } else if (!numbers(item, depth + 1, shape, data)) {
      return false;
    }
  }
  return true;
}

}  // namespace

Columns::Columns(std::string directory, std::vector<std::uint64_t> shape, std::uint64_t most_bytes)
    : directory_(std::move(directory)), shape_(std::move(shape)), most_bytes_(most_bytes) {
  for (auto length : shape_) points_ *= length;
}

Columns::Column& Columns::column_of(const std::string& path) {
  auto& column = columns_[path];
  if (column.cells.empty()) column.cells.resize(points_);
  return column;
}

Result<void> Columns::make(File& file) const {
  if (file.fd) return {};
  int fd = ::open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return Error{Code::insufficient_storage, "can't keep the sweep's results: " + std::string(std::strerror(errno)), ""};
  file.fd = std::make_shared<os::UniqueFd>(fd);
  return {};
}

Result<std::uint64_t> Columns::extend(File& file, std::uint64_t bytes) {
  auto at = file.end;
  file.end += (bytes + 7) / 8 * 8;
  if (::ftruncate(file.fd->get(), static_cast<off_t>(file.end)) != 0) return Error{Code::insufficient_storage, "can't keep the sweep's results: " + std::string(std::strerror(errno)), ""};
  return at;
}

Result<std::uint64_t> Columns::reserve(std::uint64_t bytes) {
  if (auto made = make(file_); !made) return made.take_error();
  if (bytes > most_bytes_ || file_.end + bytes > most_bytes_)
    return Error{Code::too_large, "the results of all points together are more than " + std::to_string(most_bytes_ >> 20) + " MiB: return less of each", ""};
  return extend(file_, bytes);
}

Result<void> Columns::write(const File& file, std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    auto put = ::pwrite(file.fd->get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return Error{Code::insufficient_storage, "can't keep the sweep's results: " + std::string(std::strerror(errno)), ""};
    offset += static_cast<std::uint64_t>(put);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> Columns::put_array(std::size_t point, Column& column, codec::Dtype dtype, std::vector<std::uint64_t> shape, std::string_view data) {
  auto& cell = column.cells[point];
  cell.kind = Cell::Kind::array;
  cell.bytes = data.size();
  if (!column.arrays && shape.size() + shape_.size() <= codec::max_dimensions && !data.empty()) {
    auto region = reserve(data.size() * points_);
    if (!region) {
      // No room for all of that shape: only for those that come.
      if (region.error().code != Code::too_large) return region.take_error();
    } else {
      column.arrays = true;
      column.dtype = dtype;
      column.shape = shape;
      column.region = *region;
      column.item_bytes = data.size();
    }
  }
  if (column.arrays && column.dtype == dtype && column.shape == shape) {
    cell.offset = column.region + point * column.item_bytes;
    cell.number = -1;
    return write(cell.offset, data);
  }
  auto at = reserve(data.size());
  if (!at) return at.take_error();
  cell.offset = *at;
  cell.number = static_cast<double>(column.odd.size());
  column.odd.emplace_back(dtype, std::move(shape));
  return write(cell.offset, data);
}

Result<void> Columns::take(std::size_t point, const std::string& path, const void* opaque, const std::vector<std::string>& arrays, const std::vector<codec::Piece>& pieces) {
  auto& value = *static_cast<const json::value*>(opaque);
  if (value.is_object()) {
    for (auto& [key, item] : value.get_object()) {
      std::string below = path.empty() ? std::string(key) : path + between + std::string(key);
      if (auto done = take(point, below, &item, arrays, pieces); !done) return done;
    }
    return {};
  }
  // A result like a dictionary: the first names count.
  if (!columns_.count(path) && !columns_.empty() && (columns_.size() >= most_columns || (columns_.size() + 1) * points_ * sizeof(Cell) > most_cells_bytes)) return {};
  auto& column = column_of(path);
  auto& cell = column.cells[point];
  if (value.is_string() && std::string_view(value.get_string()).starts_with(mark)) {
    // A text of the result's own may begin so, too: only a number of an array that is there is one.
    std::size_t index = arrays.size();
    auto digits = std::string_view(value.get_string()).substr(mark.size());
    std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (index >= arrays.size()) return {};
    auto& piece = pieces[index];
    return put_array(point, column, piece.dtype, {piece.shape.begin(), piece.shape.begin() + piece.ndim}, arrays[index]);
  }
  if (value.is_number()) {
    cell.kind = Cell::Kind::number;
    cell.number = value.to_number<double>();
    cell.json = json::serialize(value);
    return {};
  }
  if (value.is_string()) {
    auto text = value.get_string();
    for (auto [word, number] : {std::pair{"NaN", std::numeric_limits<double>::quiet_NaN()}, {"Infinity", std::numeric_limits<double>::infinity()},
                                {"-Infinity", -std::numeric_limits<double>::infinity()}})
      if (text == word) {
        cell.kind = Cell::Kind::number;
        cell.number = number;
        cell.json = word;
        return {};
      }
  }
  std::vector<std::uint64_t> shape;
  std::string data;
  if (numbers(value, 0, shape, data)) return put_array(point, column, codec::Dtype::f64, std::move(shape), data);
  std::string text;
  codec::append_json(text, value);
  cell.bytes = 0;
  if (text.size() > short_text) {
    auto at = reserve(text.size());
    if (!at) return at.take_error();
    if (auto done = write(*at, text); !done) return done;
    cell.offset = *at;
    cell.bytes = text.size();
    text.clear();
  }
  cell.kind = Cell::Kind::json;
  cell.json = std::move(text);
  return {};
}

Result<void> Columns::put(std::size_t point, const session::Answer& answer, std::string_view member) {
  std::string text;
  std::vector<std::string> arrays;
  std::vector<codec::Piece> pieces;
  for (auto& piece : answer.rope.pieces()) {
    auto bytes = bytes_of(answer, piece);
    if (!bytes) return bytes.take_error();
    if (piece.kind == codec::PieceKind::text) {
      text += with_quoted_nonfinite(*bytes);
      if (text.size() > most_text) return Error{Code::too_large, "the result of one point is too large", ""};
    } else {
      // No bare control character is valid in JSON text, so it is written as an escape and read back as itself.
      text += "\"\\u0001array:" + std::to_string(arrays.size()) + "\"";
      arrays.push_back(std::move(*bytes));
      pieces.push_back(piece);
    }
  }
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 128;
  auto value = json::parse(text, failed, {}, options);
  if (failed) return Error{Code::worker_lost, "a point's result is no JSON", ""};
  if (!member.empty()) {
    if (!value.is_object() || !value.get_object().contains(member)) return Error{Code::worker_lost, "a point's result has no " + std::string(member), ""};
    json::value inner = value.get_object().at(member);
    value = std::move(inner);
  }
  std::lock_guard lock(mutex_);
  return take(point, "", &value, arrays, pieces);
}

Result<session::Answer> Columns::assemble(std::string_view before, std::string_view after, bool bare, bool apart) {
  std::lock_guard lock(mutex_);
  File own;
  File& out = apart ? own : file_;
  if (auto made = make(out); !made) return made.take_error();
  if (apart && file_.end > most_apart)
    return Error{Code::too_large, "what there is so far is more than " + std::to_string(most_apart >> 20) + " MiB: wait for the end of the sweep", ""};
  // Bytes of the points' file in the answer's.
  auto placed = [&](std::uint64_t offset, std::uint64_t bytes) -> Result<std::uint64_t> {
    if (!apart) return offset;
    auto at = extend(out, bytes);
    if (!at) return at;
    std::string part;
    for (std::uint64_t done = 0; done < bytes; done += part.size()) {
      part.resize(std::min<std::uint64_t>(piece_text, bytes - done));
      if (!os::read_exactly_at(file_.fd->get(), part.data(), part.size(), offset + done)) return Error{Code::internal, "the sweep's results can't be read", ""};
      if (auto written = write(out, *at + done, part); !written) return written.take_error();
    }
    return at;
  };
  std::vector<codec::Piece> pieces;
  std::string text(before);
  auto flush = [&]() -> Result<void> {
    if (text.empty()) return {};
    auto at = extend(out, text.size());
    if (!at) return at.take_error();
    if (auto done = write(out, *at, text); !done) return done;
    codec::Piece piece;
    piece.kind = codec::PieceKind::text;
    piece.bytes = text.size();
    piece.offset = *at;
    pieces.push_back(piece);
    text.clear();
    return {};
  };
  auto add = [&](codec::Dtype dtype, const std::vector<std::uint64_t>& shape, std::uint64_t offset, std::uint64_t bytes) -> Result<void> {
    if (auto done = flush(); !done) return done;
    codec::Piece piece;
    piece.kind = codec::PieceKind::array;
    piece.dtype = dtype;
    piece.ndim = static_cast<std::uint8_t>(shape.size());
    std::copy(shape.begin(), shape.end(), piece.shape.begin());
    piece.bytes = bytes;
    piece.offset = offset;
    pieces.push_back(piece);
    return {};
  };
  auto one = [&](Column& column) -> Result<void> {
    bool all_numbers = true, all_regular = column.arrays, missing = false;
    for (auto& cell : column.cells) {
      if (cell.kind == Cell::Kind::none) missing = true;
      else {
        all_numbers = all_numbers && cell.kind == Cell::Kind::number;
        all_regular = all_regular && cell.kind == Cell::Kind::array && cell.number < 0;
      }
    }
    const bool floats = column.dtype == codec::Dtype::f64 || column.dtype == codec::Dtype::f32;
    if (all_numbers) {
      std::string data;
      for (auto& cell : column.cells) {
        double number = cell.kind == Cell::Kind::number ? cell.number : std::numeric_limits<double>::quiet_NaN();
        data.append(reinterpret_cast<const char*>(&number), sizeof number);
      }
      auto at = extend(out, data.size());
      if (!at) return at.take_error();
      if (auto done = write(out, *at, data); !done) return done;
      return add(codec::Dtype::f64, shape_, *at, data.size());
    }
    if (all_regular && (!missing || floats)) {
      for (std::size_t point = 0; missing && point < points_; ++point) {
        if (column.cells[point].kind != Cell::Kind::none) continue;
        std::string gap;
        const double nan64 = std::numeric_limits<double>::quiet_NaN();
        const float nan32 = std::numeric_limits<float>::quiet_NaN();
        while (gap.size() < column.item_bytes)
          if (column.dtype == codec::Dtype::f64) gap.append(reinterpret_cast<const char*>(&nan64), sizeof nan64);
          else gap.append(reinterpret_cast<const char*>(&nan32), sizeof nan32);
        if (auto done = write(column.region + point * column.item_bytes, gap); !done) return done;
      }
      auto shape = shape_;
      shape.insert(shape.end(), column.shape.begin(), column.shape.end());
      auto at = placed(column.region, column.item_bytes * points_);
      if (!at) return at.take_error();
      return add(column.dtype, shape, *at, column.item_bytes * points_);
    }
    text += '[';
    for (std::size_t point = 0; point < points_; ++point) {
      auto& cell = column.cells[point];
      if (point > 0) text += ',';
      if (cell.kind == Cell::Kind::none) text += "null";
      else if (cell.kind == Cell::Kind::json && cell.bytes > 0) {
        const std::size_t had = text.size();
        text.resize(had + cell.bytes);
        if (!os::read_exactly_at(file_.fd->get(), text.data() + had, cell.bytes, cell.offset)) return Error{Code::internal, "the sweep's results can't be read", ""};
      } else if (cell.kind != Cell::Kind::array) text += cell.kind == Cell::Kind::number && !std::isfinite(cell.number) && !bare ? "null" : cell.json;
      else {
        auto& dtype = cell.number < 0 ? column.dtype : column.odd[static_cast<std::size_t>(cell.number)].first;
        auto& shape = cell.number < 0 ? column.shape : column.odd[static_cast<std::size_t>(cell.number)].second;
        auto at = placed(cell.offset, cell.bytes);
        if (!at) return at.take_error();
        if (auto done = add(dtype, shape, *at, cell.bytes); !done) return done;
      }
      if (text.size() > piece_text)
        if (auto done = flush(); !done) return done;
    }
    text += ']';
    return {};
  };

  // The columns as the nested object that their paths are, in order.
  std::vector<std::string> open;
  bool first = true;
  if (columns_.empty()) {
    text += "null";
  } else if (columns_.size() == 1 && columns_.begin()->first.empty()) {
    if (auto done = one(columns_.begin()->second); !done) return done.take_error();
  } else {
    text += '{';
    for (auto& [path, column] : columns_) {
      std::vector<std::string> names;
      for (std::size_t begin = 0; begin <= path.size();) {
        auto end = std::min(path.find(between, begin), path.size());
        names.push_back(path.substr(begin, end - begin));
        begin = end + 1;
      }
      // Where some points have a value and others an object: the object's members beside it, by their whole names.
      std::string above;
      for (std::size_t i = 0; i + 1 < names.size(); ++i) {
        above += (i > 0 ? std::string(1, between) : "") + names[i];
        if (!columns_.count(above)) continue;
        for (std::size_t below = i + 1; below < names.size(); ++below) names[i] += "." + names[below];
        names.resize(i + 1);
      }
      std::size_t common = 0;
      while (common < open.size() && common + 1 < names.size() && open[common] == names[common]) ++common;
      while (open.size() > common) {
        text += '}';
        open.pop_back();
      }
      for (std::size_t i = common; i < names.size(); ++i) {
        if (!first) text += ',';
        first = false;
        codec::append_quoted(text, names[i]);
        text += ':';
        if (i + 1 < names.size()) {
          text += '{';
          open.push_back(names[i]);
          first = true;
        }
      }
      if (auto done = one(column); !done) return done.take_error();
    }
    text += std::string(open.size(), '}');
    text += '}';
  }
  text += after;
  if (auto done = flush(); !done) return done.take_error();
  for (auto& piece : pieces) piece.where = codec::Where::memfd;
  auto rope = codec::make_rope(std::move(pieces), out.end);
  if (!rope) return rope.take_error();
  session::Answer answer;
  answer.rope = std::move(*rope);
  answer.memfd = out.fd;
  return answer;
}

}  // namespace myelin::function
