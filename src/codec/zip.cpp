#include "codec/zip.hpp"

#include <zlib.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <stdexcept>

namespace myelin::codec {
namespace {

constexpr std::uint64_t most32 = 0xFFFFFFFF;
constexpr std::uint16_t most16 = 0xFFFF;
// Appendix 4.4 of PKWARE's APPNOTE: bit 3, sizes follow the data; bit 11, the name is UTF-8.
constexpr std::uint16_t sizes_follow = 1 << 3, utf8 = 1 << 11;

template <class T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i)
    out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
}

std::uint32_t clipped(std::uint64_t value) { return static_cast<std::uint32_t>(std::min(value, most32)); }

// Entries whose size is not known ahead always have zip64 fields: nobody knows how large they become.
bool wide_head(bool deflated, std::uint64_t bytes) { return deflated || bytes >= most32; }

std::size_t central_extra(std::uint64_t offset, std::uint64_t packed, std::uint64_t bytes) {
  const std::size_t fields = (bytes >= most32) + (packed >= most32) + (offset >= most32);
  return fields == 0 ? 0 : 4 + 8 * fields;
}

bool wide_end(std::uint64_t count, std::uint64_t directory_at, std::uint64_t directory_bytes) {
  return count >= most16 || directory_at >= most32 || directory_bytes >= most32;
}

}  // namespace

struct ZipWriter::Deflater {
  z_stream stream{};
  Deflater() {
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~Deflater() { deflateEnd(&stream); }
};

ZipWriter::ZipWriter(std::chrono::system_clock::time_point when) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(when);
  std::tm t{};
  gmtime_r(&seconds, &t);
  const int year = std::clamp(t.tm_year - 80, 0, 127);  // since 1980
  date_ = static_cast<std::uint16_t>(year << 9 | (t.tm_mon + 1) << 5 | t.tm_mday);
  time_ = static_cast<std::uint16_t>(t.tm_hour << 11 | t.tm_min << 5 | t.tm_sec / 2);
}

ZipWriter::~ZipWriter() = default;

void ZipWriter::local_head(std::string& out, const Entry& e) {
  const std::size_t start = out.size();
  const bool wide = wide_head(e.deflated, e.bytes);
  put<std::uint32_t>(out, 0x04034b50);
  put<std::uint16_t>(out, wide ? 45 : 20);
  put<std::uint16_t>(out, e.deflated ? utf8 | sizes_follow : utf8);
  put<std::uint16_t>(out, e.deflated ? Z_DEFLATED : 0);
  put(out, time_);
  put(out, date_);
  put<std::uint32_t>(out, e.crc32);
  put<std::uint32_t>(out, wide ? most32 : clipped(e.packed));
  put<std::uint32_t>(out, wide ? most32 : clipped(e.bytes));
  put(out, static_cast<std::uint16_t>(e.name.size()));
  put<std::uint16_t>(out, wide ? 20 : 0);
  out += e.name;
  if (wide) {
    put<std::uint16_t>(out, 1);
    put<std::uint16_t>(out, 16);
    put(out, e.bytes);
    put(out, e.packed);
  }
  at_ += out.size() - start;
}

void ZipWriter::begin_stored(std::string& out, std::string name, ZipKnown known) {
  Entry entry{std::move(name), at_, known.bytes, known.bytes, known.crc32, false};
  local_head(out, entry);
  entries_.push_back(std::move(entry));
}

void ZipWriter::stored() { at_ += entries_.back().bytes; }

void ZipWriter::begin_deflated(std::string& out, std::string name) {
  Entry entry{std::move(name), at_, 0, 0, 0, true};
  local_head(out, entry);
  entries_.push_back(std::move(entry));
  deflater_ = std::make_unique<Deflater>();
}

void ZipWriter::deflate(std::string& out, std::string_view bytes) {
  Entry& e = entries_.back();
  const bool last = bytes.data() == nullptr;
  e.crc32 = last ? e.crc32 : crc32_of(e.crc32, bytes);
  e.bytes += bytes.size();
  z_stream& z = deflater_->stream;
  char buffer[32 * 1024];
  std::size_t given = 0;
  do {
    const std::size_t part = std::min<std::size_t>(bytes.size() - given, 1 << 30);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + given));
    z.avail_in = static_cast<uInt>(part);
    given += part;
    do {
      z.next_out = reinterpret_cast<Bytef*>(buffer);
      z.avail_out = sizeof buffer;
      ::deflate(&z, last ? Z_FINISH : Z_NO_FLUSH);
      const std::size_t made = sizeof buffer - z.avail_out;
      out.append(buffer, made);
      e.packed += made;
      at_ += made;
    } while (z.avail_out == 0);
  } while (given < bytes.size());
}

void ZipWriter::end_deflated(std::string& out) {
  deflate(out, std::string_view());
  deflater_.reset();
  const Entry& e = entries_.back();
  const std::size_t start = out.size();
  put<std::uint32_t>(out, 0x08074b50);
  put<std::uint32_t>(out, e.crc32);
  put(out, e.packed);
  put(out, e.bytes);
  at_ += out.size() - start;
}

void ZipWriter::finish(std::string& out) {
  const std::uint64_t directory_at = at_;
  const std::size_t start = out.size();
  for (const Entry& e : entries_) {
    const std::size_t extra = central_extra(e.offset, e.packed, e.bytes);
    const std::uint16_t version = extra != 0 || wide_head(e.deflated, e.bytes) ? 45 : 20;
    put<std::uint32_t>(out, 0x02014b50);
    put<std::uint16_t>(out, static_cast<std::uint16_t>(3 << 8 | version));  // made on Unix
    put(out, version);
    put<std::uint16_t>(out, e.deflated ? utf8 | sizes_follow : utf8);
    put<std::uint16_t>(out, e.deflated ? Z_DEFLATED : 0);
    put(out, time_);
    put(out, date_);
    put(out, e.crc32);
    put(out, clipped(e.packed));
    put(out, clipped(e.bytes));
    put(out, static_cast<std::uint16_t>(e.name.size()));
    put(out, static_cast<std::uint16_t>(extra));
    put<std::uint16_t>(out, 0);               // comment
    put<std::uint16_t>(out, 0);               // disk
    put<std::uint16_t>(out, 0);               // internal attributes
    put<std::uint32_t>(out, 0100644U << 16);  // a plain file
    put(out, clipped(e.offset));
    out += e.name;
    if (extra != 0) {
      put<std::uint16_t>(out, 1);
      put(out, static_cast<std::uint16_t>(extra - 4));
      if (e.bytes >= most32) put(out, e.bytes);
      if (e.packed >= most32) put(out, e.packed);
      if (e.offset >= most32) put(out, e.offset);
    }
  }
  const std::uint64_t directory_bytes = out.size() - start;
  const std::uint64_t count = entries_.size();
  if (wide_end(count, directory_at, directory_bytes)) {
    put<std::uint32_t>(out, 0x06064b50);
    put<std::uint64_t>(out, 44);
    put<std::uint16_t>(out, 3 << 8 | 45);
    put<std::uint16_t>(out, 45);
    put<std::uint32_t>(out, 0);
    put<std::uint32_t>(out, 0);
    put(out, count);
    put(out, count);
    put(out, directory_bytes);
    put(out, directory_at);
    put<std::uint32_t>(out, 0x07064b50);
    put<std::uint32_t>(out, 0);
    put(out, directory_at + directory_bytes);
    put<std::uint32_t>(out, 1);
  }
  put<std::uint32_t>(out, 0x06054b50);
  put<std::uint16_t>(out, 0);
  put<std::uint16_t>(out, 0);
  const auto short_count = static_cast<std::uint16_t>(std::min<std::uint64_t>(count, most16));
  put(out, short_count);
  put(out, short_count);
  put(out, clipped(directory_bytes));
  put(out, clipped(directory_at));
  put<std::uint16_t>(out, 0);
  at_ += out.size() - start;
}

std::uint64_t ZipWriter::stored_size(const std::vector<std::pair<std::size_t, std::uint64_t>>& entries) {
  std::uint64_t at = 0, directory = 0;
  for (const auto& [name, bytes] : entries) {
    directory += 46 + name + central_extra(at, bytes, bytes);
    at += 30 + name + (wide_head(false, bytes) ? 20 : 0) + bytes;
  }
  return at + directory + (wide_end(entries.size(), at, directory) ? 56 + 20 : 0) + 22;
}

std::uint32_t crc32_of(std::uint32_t crc, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.substr(0, 1 << 30);
    crc = static_cast<std::uint32_t>(
        ::crc32(crc, reinterpret_cast<const Bytef*>(part.data()), static_cast<uInt>(part.size())));
    bytes.remove_prefix(part.size());
  }
  return crc;
}

}  // namespace myelin::codec
