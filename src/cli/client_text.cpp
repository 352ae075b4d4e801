#include "cli/client_text.hpp"

#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace myelin::cli {
namespace {

// The next character; what is not UTF-8 counts as one byte each, U+FFFD.
char32_t next_character(std::string_view& text) {
  auto first = static_cast<unsigned char>(text.front());
  std::size_t length = first < 0x80 ? 1 : first >= 0xf0 && first < 0xf8 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (first >= 0xf8 || length == 0 || length > text.size()) return text.remove_prefix(1), U'\ufffd';
  char32_t value = length == 1 ? first : first & (0xff >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    if ((c & 0xc0) != 0x80) return text.remove_prefix(1), U'\ufffd';
    value = value << 6 | (c & 0x3f);
  }
  text.remove_prefix(length);
  return value;
}

std::size_t width_of(char32_t c) {
  static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (c < 0x7f) return 1;
  if (!utf8) return 1;
  locale_t before = ::uselocale(utf8);
  int width = ::wcwidth(static_cast<wchar_t>(c));
  ::uselocale(before);
  return width < 0 ? 1 : static_cast<std::size_t>(width);
}

bool is_control(char32_t c) {
  // C0, DEL, C1, and the marks that turn the direction of what follows.
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029;
}

std::string padded(const std::string& text, std::size_t width, bool right) {
  std::size_t used = display_width(text);
  std::string space(width > used ? width - used : 0, ' ');
  return right ? space + text : text + space;
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) width += width_of(next_character(text));
  return width;
}

std::string shortened(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t used = 0, fits = 0;  // `fits`: bytes of `out` that leave room for the ellipsis
  while (!text.empty()) {
    std::string_view before = text;
    char32_t c = next_character(text);
    bool control = is_control(c);
    std::size_t wide = control ? 1 : width_of(c);
    if (used + wide > width) {
      out.resize(fits);
      return out + "…";
    }
    used += wide;
    if (control) out += ' ';
    else if (c == U'\ufffd') out += "\xef\xbf\xbd";
    else out.append(before.substr(0, before.size() - text.size()));
    if (used < width) fits = out.size();
  }
  return out;
}

Table::Table(std::vector<std::string> titles) : titles_(std::move(titles)) {
  for (auto& title : titles_) {
    right_.push_back(title.front() == '>');
    if (right_.back()) title.erase(0, 1);
  }
}

void Table::add(std::vector<std::string> cells) {
  for (auto& cell : cells) cell = cell.empty() ? "–" : shortened(cell, 60);
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < titles_.size(); ++i) {
    std::size_t width = display_width(titles_[i]);
    for (const auto& row : rows_) width = std::max(width, display_width(row[i]));
    widths.push_back(width);
  }
  std::string out;
  auto line = [&](const std::vector<std::string>& cells) {
    std::string made;
    for (std::size_t i = 0; i < cells.size(); ++i) made += (i ? "  " : "") + padded(cells[i], widths[i], right_[i]);
    while (!made.empty() && made.back() == ' ') made.pop_back();
    out += made + '\n';
  };
  line(titles_);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string local_time(std::string_view iso) {
  std::tm parts{};
  std::string text(iso);
  if (!::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts)) return text;
  std::time_t seconds = ::timegm(&parts);
  ::localtime_r(&seconds, &parts);
  char out[32];
  std::strftime(out, sizeof out, "%Y-%m-%d %H:%M", &parts);
  return out;
}

std::string size_text(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1023.95 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  char out[32];
  std::snprintf(out, sizeof out, unit == 0 || bytes >= 99.95 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return out;
}

std::string duration_text(double seconds) {
  auto whole = static_cast<long long>(std::max(0.0, seconds));
  char out[48];
  if (whole < 60) std::snprintf(out, sizeof out, "%lld s", whole);
  else if (whole < 3600) std::snprintf(out, sizeof out, "%lld min %lld s", whole / 60, whole % 60);
  else std::snprintf(out, sizeof out, "%lld h %lld min", whole / 3600, whole / 60 % 60);
  return out;
}

std::string bar(double done, std::size_t width) {
  done = std::clamp(done, 0.0, 1.0);
  auto full = static_cast<std::size_t>(done * static_cast<double>(width));
  std::string out;
  for (std::size_t i = 0; i < width; ++i) out += i < full ? "█" : "░";
  char percent[16];
  std::snprintf(percent, sizeof percent, " %3d %%", static_cast<int>(done * 100));
  return out + percent;
}

ProgressLine::ProgressLine() : on_(::isatty(2) == 1) {}

double ProgressLine::seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

void ProgressLine::draw(double done, const std::string& text) {
  if (!on_) return;
  winsize size{};
  std::size_t columns = ::ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  std::string line = (done >= 0 ? bar(done, 20) + "  " : "") + text;
  std::fprintf(stderr, "\r%s\x1b[K", shortened(line, columns - 1).c_str());
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace myelin::cli
