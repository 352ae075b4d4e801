#pragma once
// What the client's commands print: aligned tables, a progress line, times and sizes for people. Nothing that a server sends
// reaches the terminal as a control character.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace myelin::cli {

/// Columns that `text` (UTF-8) takes on a terminal.
[[nodiscard]] std::size_t display_width(std::string_view text);
/// One line: control characters become spaces, and what is wider than `width` columns ends in "…".
[[nodiscard]] std::string shortened(std::string_view text, std::size_t width);

class Table {
 public:
  /// A title that begins with '>' makes a column that is aligned to the right.
  explicit Table(std::vector<std::string> titles);
  void add(std::vector<std::string> cells);  // as many as titles
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::string> titles_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

/// "2025-01-31 13:05" in this host's time zone, of ISO 8601 UTC; what can't be read comes back as it is.
[[nodiscard]] std::string local_time(std::string_view iso);
/// "512 B", "1.5 MiB".
[[nodiscard]] std::string size_text(double bytes);
/// "12 s", "3 min 5 s", "2 h 10 min".
[[nodiscard]] std::string duration_text(double seconds);

/// A line on stderr that is drawn again and again, and only on a terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  [[nodiscard]] bool on() const { return on_; }
  /// `done` 0 to 1, or below 0 when it is not known.
  void draw(double done, const std::string& text);
  void clear();
  [[nodiscard]] double seconds() const;

 private:
  bool on_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// "█████░░░░░  50 %".
[[nodiscard]] std::string bar(double done, std::size_t width);

}  // namespace myelin::cli
