#pragma once
// One line a message on stderr: time, level, text. Text is escaped (no raw control characters), so that nothing a user
// sends can forge a line. Never pass a secret. Thread-safe.

#include <string_view>

namespace myelin::log {

enum class Level { debug, info, warning, error, off };

void set_level(Level level);
void write(Level level, std::string_view text);
inline void debug(std::string_view text) { write(Level::debug, text); }
inline void info(std::string_view text) { write(Level::info, text); }
inline void warning(std::string_view text) { write(Level::warning, text); }
inline void error(std::string_view text) { write(Level::error, text); }

}  // namespace myelin::log
