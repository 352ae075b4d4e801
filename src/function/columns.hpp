#pragma once
// The results of a sweep's points, put together: where all points give a number at a place of their results, the sweep has an array there;
// where all give an array of one shape, one more dimension. Arrays go to a file without a name as they come. Thread-safe.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "codec/rope.hpp"
#include "os/fd.hpp"
#include "session/session.hpp"

namespace myelin::function {

class Columns {
 public:
  /// `shape`: of the grid; its product is the number of points. `directory`: where the file is.
  Columns(std::string directory, std::vector<std::uint64_t> shape, std::uint64_t most_bytes);

  /// Takes a point's result: a value's rope; with `member`, the value is that member of an object. Blocks.
  Result<void> put(std::size_t point, const session::Answer& answer, std::string_view member);
  /// The answer so far: {"data":{BEFORE"results":…}}. Points that are not there are NaN, in arrays of whole numbers and lists null
  /// (such a column is a list of each point's). Blocks.
  /// `bare`: numbers that are not finite as they are in text, too, else null there.
  /// `apart`: in a file of its own, so that looking at what is there costs the sweep nothing; too_large where that is much. Else once, at the
  /// end.
  Result<session::Answer> assemble(std::string_view before, std::string_view after, bool bare, bool apart);

 private:
  struct Cell {
    enum class Kind { none, number, array, json } kind = Kind::none;
    double number = 0;
    std::string json;                     // where it is short
    std::uint64_t offset = 0, bytes = 0;  // in the file: an array, or a longer text
  };
  struct Column {
    std::vector<Cell> cells;
    bool arrays = false;                     // the first was one
    codec::Dtype dtype = codec::Dtype::f64;  // of its region
    std::vector<std::uint64_t> shape;
    std::uint64_t region = 0, item_bytes = 0;
    std::vector<std::pair<codec::Dtype, std::vector<std::uint64_t>>> odd;  // of cells outside of the region, by Cell::number
  };
  struct File {
    std::shared_ptr<os::UniqueFd> fd;
    std::uint64_t end = 0;
  };
  Result<void> make(File& file) const;
  static Result<void> write(const File& file, std::uint64_t offset, std::string_view bytes);
  static Result<std::uint64_t> extend(File& file, std::uint64_t bytes);
  Result<void> write(std::uint64_t offset, std::string_view bytes) { return write(file_, offset, bytes); }
  Result<std::uint64_t> reserve(std::uint64_t bytes);
  Result<void> take(std::size_t point, const std::string& path, const void* value, const std::vector<std::string>& arrays, const std::vector<codec::Piece>& pieces);
  Result<void> put_array(std::size_t point, Column& column, codec::Dtype dtype, std::vector<std::uint64_t> shape, std::string_view data);
  Column& column_of(const std::string& path);

  std::mutex mutex_;
  std::string directory_;
  std::vector<std::uint64_t> shape_;
  std::size_t points_ = 1;
  std::uint64_t most_bytes_;
  File file_;
  std::map<std::string, Column> columns_;  // by path; names joined by \x1f
};

}  // namespace myelin::function
