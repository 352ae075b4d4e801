#include "run/maker.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "codec/npy.hpp"
#include "codec/number.hpp"

namespace myelin::run {
namespace {

using codec::Dtype;

constexpr std::size_t piece_bytes = 256 * 1024;
constexpr std::size_t window_bytes = 64 * 1024;  // of each column; a multiple of every item size
constexpr std::size_t most_columns = 64;         // of one CSV file, each with a descriptor and a window
constexpr std::size_t most_packed = 4 << 20;     // deflated in one piece of work
constexpr std::uint64_t widest_table = 4096;     // columns of a two-dimensional dataset

}  // namespace

CheckedFile Place::open(const std::string& file, std::uint64_t bytes, std::string sha256) const {
  return {directory / file, file + " of run " + id, bytes, std::move(sha256)};
}
CheckedFile Place::open(const Dataset& d) const {
  return open(d.file(), d.bytes + codec::npy_head_bytes, d.sha256);
}

// ---- ropes of stored files
// -----------------------------------------------------------------------------------------

struct StoredRope::Segments {
  struct Segment {
    std::uint64_t base = 0, bytes = 0;
    std::string text;
    std::optional<CheckedFile> file;
    bool array = false;
  };
  std::vector<Segment> list;
  [[nodiscard]] std::uint64_t end() const { return list.empty() ? 0 : list.back().base + list.back().bytes; }

  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) {
    auto after = std::upper_bound(list.begin(), list.end(), offset,
                                  [](std::uint64_t at, const Segment& s) { return at < s.base; });
    // Empty segments share their base with the next one, which then comes last.
    if (after == list.begin() || into.empty()) return std::size_t{0};
    Segment& s = *std::prev(after);
    const std::uint64_t from = offset - s.base;
    if (from >= s.bytes) return std::size_t{0};
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), s.bytes - from));
    if (!s.file) {
      std::memcpy(into.data(), s.text.data() + from, size);
      return size;
    }
    if (s.array && from == 0) {
      char head[codec::npy_head_bytes];
      if (auto got = s.file->read(0, head); !got) return got.take_error();
    }
    auto got = s.file->read(from + (s.array ? codec::npy_head_bytes : 0), into.subspan(0, size));
    if (!got) return got.take_error();
    return size;
  }
};

StoredRope::StoredRope(Place place) : place_(std::move(place)), segments_(std::make_shared<Segments>()) {}

void StoredRope::text(std::string text) {
  codec::Piece piece;
  piece.bytes = text.size();
  piece.offset = segments_->end();
  segments_->list.push_back({piece.offset, piece.bytes, std::move(text), std::nullopt, false});
  pieces_.push_back(piece);
}

void StoredRope::array(const Dataset& d) {
  codec::Piece piece;
  piece.kind = codec::PieceKind::array;
  piece.dtype = d.dtype;
  piece.ndim = static_cast<std::uint8_t>(d.shape.size());
  std::copy_n(d.shape.begin(), std::min(d.shape.size(), codec::max_dimensions), piece.shape.begin());
  piece.bytes = d.bytes;
  piece.offset = segments_->end();
  segments_->list.push_back({piece.offset, d.bytes, "", place_.open(d), true});
  pieces_.push_back(piece);
}

Result<void> StoredRope::text_file(const std::string& name, const TextFile& file,
                                   const std::vector<const Dataset*>& arrays) {
  CheckedFile stored = place_.open(name, file.bytes, file.sha256);
  std::string part(piece_bytes, '\0');
  for (std::uint64_t at = 0; at < file.bytes;) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), file.bytes - at));
    if (auto got = stored.read(at, {part.data(), size}); !got) return got;
    at += size;
  }
  const std::uint64_t base = segments_->end();
  segments_->list.push_back({base, file.bytes, "", std::move(stored), false});
  std::uint64_t at = 0;
  const auto text_until = [&](std::uint64_t to) {
    if (to == at) return;
    codec::Piece piece;
    piece.bytes = to - at;
    piece.offset = base + at;
    pieces_.push_back(piece);
  };
  for (std::size_t i = 0; i < file.holes.size(); ++i) {
    text_until(file.holes[i].first);
    array(*arrays[i]);
    at = file.holes[i].first + file.holes[i].second;
  }
  text_until(file.bytes);
  return {};
}

Result<StoredRope::Parts> StoredRope::finish() {
  auto rope = codec::make_rope(std::move(pieces_), segments_->end());
  if (!rope) return rope.take_error();
  codec::Reader reader = [segments = segments_](std::uint64_t offset, std::span<char> into) {
    return segments->read(offset, into);
  };
  return Parts{std::move(*rope), std::move(reader)};
}

// ---- single files
// --------------------------------------------------------------------------------------------------

namespace {

class Encoded : public Maker {
 public:
  Encoded(StoredRope::Parts parts, codec::Format format, codec::Nonfinite nonfinite)
      : parts_(std::move(parts)), encoder_(parts_.rope, format, nonfinite) {}
  Result<bool> make(std::string& out) override {
    auto done = encoder_.next(out, piece_bytes, parts_.reader);
    if (!done) return done.take_error();
    return !encoder_.done();
  }

 private:
  StoredRope::Parts parts_;
  codec::Encoder encoder_;
};

class Plain : public Maker {
 public:
  explicit Plain(CheckedFile file) : file_(std::move(file)) {}
  Result<bool> make(std::string& out) override {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(piece_bytes, file_.bytes() - at_));
    const std::size_t before = out.size();
    out.resize(before + size);
    if (auto got = file_.read(at_, {out.data() + before, size}); !got) return got.take_error();
    at_ += size;
    return at_ < file_.bytes();
  }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return file_.bytes(); }

 private:
  CheckedFile file_;
  std::uint64_t at_ = 0;
};

class Text : public Maker {
 public:
  explicit Text(std::string text) : text_(std::move(text)) {}
  Result<bool> make(std::string& out) override {
    out += text_;
    return false;
  }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return text_.size(); }

 private:
  std::string text_;
};

template <class T>
char* write_as(char* p, const char* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  if constexpr (std::is_floating_point_v<T>) {
    const double v = value;
    if (std::isfinite(v)) return codec::write_double(p, v);
    const std::string_view name = std::isnan(v) ? "nan"
                                  : v > 0       ? "inf"
                                                : "-inf";  // what pandas and NumPy read
    return std::copy(name.begin(), name.end(), p);
  } else {
    return codec::write_integer(p, value);
  }
}

char* write_element(char* p, Dtype dtype, const char* data) {
  switch (dtype) {
    case Dtype::i8:
      return write_as<std::int8_t>(p, data);
    case Dtype::i16:
      return write_as<std::int16_t>(p, data);
    case Dtype::i32:
      return write_as<std::int32_t>(p, data);
    case Dtype::i64:
      return write_as<std::int64_t>(p, data);
    case Dtype::u16:
      return write_as<std::uint16_t>(p, data);
    case Dtype::u32:
      return write_as<std::uint32_t>(p, data);
    case Dtype::u64:
      return write_as<std::uint64_t>(p, data);
    case Dtype::f32:
      return write_as<float>(p, data);
    case Dtype::f64:
      return write_as<double>(p, data);
    default:
      return write_as<std::uint8_t>(p, data);  // booleans are 0 and 1
  }
}

class Csv : public Maker {
 public:
  Csv(const Place& place, std::vector<Dataset> sets) {
    for (auto& set : sets) {
      CheckedFile file = place.open(set);
      columns_.push_back({std::move(set), std::move(file), {}, 0, 0});
    }
    const Dataset& first = columns_[0].set;
    elements_ = first.elements();
    if (first.shape.size() == 1)
      width_ = 1;
    else if (first.shape.size() == 2 && first.shape[1] <= widest_table)
      width_ = first.shape[1];
    else
      long_ = true;
  }

  Result<bool> make(std::string& out) override {
    const std::size_t before = out.size();
    if (!begun_) head(out);
    while (at_ < elements_ && out.size() - before < piece_bytes) {
      const std::uint64_t stop = std::min(elements_, at_ + 1024);
      for (; at_ < stop; ++at_)
        if (auto row = line(out); !row) return row.take_error();
    }
    return at_ < elements_;
  }

 private:
  struct Column {
    Dataset set;
    CheckedFile file;
    std::string window;
    std::uint64_t window_at = 0;  // element
    std::uint64_t window_end = 0;
  };

  static std::string title(const Column& c, const std::string& place) {
    return csv_text(c.set.name + place + (c.set.unit ? " [" + *c.set.unit + "]" : ""));
  }

  // Units and dimensions are texts of a function's author.
  static std::string csv_text(std::string text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    for (std::size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2) text.insert(at, 1, '"');
    return '"' + text + '"';
  }

  void head(std::string& out) {
    begun_ = true;
    if (long_) {
      for (std::size_t i = 0; i < columns_[0].set.shape.size(); ++i)
        out += (i < columns_[0].set.dims.size() ? csv_text(columns_[0].set.dims[i]) : "dim_" + std::to_string(i)) + ",";
      out += title(columns_[0], "");
    } else if (columns_[0].set.shape.size() == 2) {
      for (std::uint64_t i = 0; i < width_; ++i)
        out += (i ? "," : "") + title(columns_[0], "[" + std::to_string(i) + "]");
    } else {
      for (std::size_t i = 0; i < columns_.size(); ++i) out += (i ? "," : "") + title(columns_[i], "");
    }
    out += '\n';
  }

  Result<void> element(std::string& out, Column& c) {
    const std::size_t item = codec::item_size(c.set.dtype);
    if (at_ >= c.window_end) {
      if (at_ == 0) {
        char head_bytes[codec::npy_head_bytes];
        if (auto got = c.file.read(0, head_bytes); !got) return got;
      }
      c.window.resize(
          static_cast<std::size_t>(std::min<std::uint64_t>(window_bytes, c.set.bytes - at_ * item)));
      if (auto got = c.file.read(codec::npy_head_bytes + at_ * item, {c.window.data(), c.window.size()});
          !got)
        return got;
      c.window_at = at_;
      c.window_end = at_ + c.window.size() / item;
    }
    char text[codec::max_number_chars];
    out.append(text, write_element(text, c.set.dtype, c.window.data() + (at_ - c.window_at) * item));
    return {};
  }

  Result<void> line(std::string& out) {  // or, in a table, one field
    if (long_) {
      const auto& shape = columns_[0].set.shape;
      std::uint64_t block = elements_, rest = at_;
      for (const std::uint64_t n : shape) {
        block /= n;
        out += std::to_string(rest / block) + ",";
        rest %= block;
      }
    }
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (i != 0) out += ',';
      if (auto done = element(out, columns_[i]); !done) return done;
    }
    out += !long_ && width_ > 1 && (at_ + 1) % width_ != 0 ? ',' : '\n';
    return {};
  }

  std::vector<Column> columns_;
  std::uint64_t elements_ = 0, at_ = 0, width_ = 1;
  bool long_ = false, begun_ = false;
};

// ---- zips
// ----------------------------------------------------------------------------------------------------------

class Zip : public Maker {
 public:
  Zip(std::vector<ZipPart> parts, std::optional<ZipLast> last, std::chrono::system_clock::time_point when)
      : parts_(std::move(parts)), last_(std::move(last)), writer_(when) {
    if (last_ || std::any_of(parts_.begin(), parts_.end(), [](const ZipPart& p) { return !p.known; })) return;
    std::vector<std::pair<std::size_t, std::uint64_t>> sizes;
    for (const auto& part : parts_) sizes.emplace_back(part.name.size(), part.known->bytes);
    length_ = codec::ZipWriter::stored_size(sizes);
  }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return length_; }

  Result<bool> make(std::string& out) override {
    const std::size_t before = out.size();
    std::size_t read = 0;  // what packs well gives little
    while (out.size() - before < piece_bytes && read < most_packed) {
      if (!maker_) {
        if (index_ == parts_.size() && last_) {
          std::string text = last_->make(facts_);
          ZipPart part{last_->name, [text] { return make_text(text); }, std::nullopt};
          parts_.push_back(std::move(part));
          last_.reset();
        }
        if (index_ == parts_.size()) {
          writer_.finish(out);
          return false;
        }
        const ZipPart& part = parts_[index_];
        if (part.known)
          writer_.begin_stored(out, part.name, *part.known);
        else
          writer_.begin_deflated(out, part.name);
        maker_ = part.open();
        sha_ = {};
        bytes_ = 0;
      }
      const ZipPart& part = parts_[index_];
      buffer_.clear();
      auto more = maker_->make(part.known ? out : buffer_);
      if (!more) return more.take_error();
      if (!part.known) {
        sha_.update(buffer_);
        bytes_ += buffer_.size();
        read += buffer_.size();
        if (!buffer_.empty()) writer_.deflate(out, buffer_);
      }
      if (*more) continue;
      if (part.known) {
        writer_.stored();
      } else {
        writer_.end_deflated(out);
        facts_.emplace_back(part.name, FileFacts{bytes_, sha_.hex(), 0});
      }
      maker_.reset();
      ++index_;
    }
    return true;
  }

 private:
  std::vector<ZipPart> parts_;
  std::optional<ZipLast> last_;
  codec::ZipWriter writer_;
  std::optional<std::uint64_t> length_;
  std::size_t index_ = 0;
  std::unique_ptr<Maker> maker_;
  std::string buffer_;
  Sha256 sha_;
  std::uint64_t bytes_ = 0;
  std::vector<std::pair<std::string, FileFacts>> facts_;
};

}  // namespace

std::unique_ptr<Maker> make_encoded(StoredRope::Parts parts, codec::Format format,
                                    codec::Nonfinite nonfinite) {
  return std::make_unique<Encoded>(std::move(parts), format, nonfinite);
}
std::unique_ptr<Maker> make_file(CheckedFile file) { return std::make_unique<Plain>(std::move(file)); }
std::unique_ptr<Maker> make_csv(const Place& place, std::vector<Dataset> columns) {
  return std::make_unique<Csv>(place, std::move(columns));
}
std::unique_ptr<Maker> make_text(std::string text) { return std::make_unique<Text>(std::move(text)); }
std::unique_ptr<Maker> make_zip(std::vector<ZipPart> parts, std::optional<ZipLast> last,
                                std::chrono::system_clock::time_point when) {
  return std::make_unique<Zip>(std::move(parts), std::move(last), when);
}

std::vector<CsvFile> csv_files(const std::vector<Dataset>& datasets) {
  std::map<std::pair<std::string, std::uint64_t>, std::size_t> group_of;
  std::vector<CsvFile> files;
  for (const auto& d : datasets) {
    if (d.shape.size() != 1) {
      files.push_back({d.name, {d}});
      continue;
    }
    const auto dot = d.name.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : d.name.substr(0, dot);
    auto [known, fresh] = group_of.try_emplace({parent, d.shape[0]}, files.size());
    if (!fresh && files[known->second].columns.size() == most_columns) {
      known->second = files.size();
      fresh = true;
    }
    if (fresh) {
      files.push_back({d.name, {d}});
      continue;
    }
    CsvFile& file = files[known->second];
    file.columns.push_back(d);
    file.name = parent.empty() ? "data" : parent;
  }
  UniqueNames names;
  for (auto& file : files) file.name = names.take(file.name);
  return files;
}

}  // namespace myelin::run
