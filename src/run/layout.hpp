#pragma once
// Which files hold a run's result. Kept in the store as JSON, beside the list of datasets; so a damaged
// directory can't mislead its reader.
//
//   run.json            the record, as it was when the run ended
//   result.json         the answer's text, RFC 8259; where an array was stands {"$npy":"data/NAME.npy"}
//   result.bare.json    the same with NaN, Infinity, -Infinity where result.json has null; only if there are
//   any data/NAME.npy       the arrays, and the lists of numbers in the text SHA256SUMS          of all the
//   others, for sha256sum -c

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "codec/rope.hpp"

namespace myelin::run {

struct Dataset {
  std::string name;  // safe as the name of a file
  codec::Dtype dtype = codec::Dtype::none;
  std::vector<std::uint64_t> shape;
  std::optional<std::string> unit;
  std::uint64_t bytes = 0;  // of the data
  std::string sha256;       // of the .npy file
  std::uint32_t crc32 = 0;  // of the .npy file
  [[nodiscard]] std::string file() const { return "data/" + name + ".npy"; }
  [[nodiscard]] std::uint64_t elements() const;
};

struct TextFile {
  std::string sha256;
  std::uint64_t bytes = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> holes;  // of the arrays' placeholders: offset, bytes
};

struct Layout {
  TextFile text;                    // result.json
  std::optional<TextFile> bare;     // result.bare.json
  std::vector<std::size_t> arrays;  // which dataset belongs to each hole
  std::string values_sha256;        // of the values of `data`, arrays by name: equal when equal
  std::string record_sha256;        // of run.json
  std::uint64_t record_bytes = 0;
};

[[nodiscard]] std::string datasets_text(const std::vector<Dataset>& datasets);
[[nodiscard]] std::string layout_text(const Layout& layout, const std::vector<Dataset>& datasets);

struct Kept {
  std::vector<Dataset> datasets;
  Layout layout;
};
/// Reads both back; internal when they are not what was written.
[[nodiscard]] Result<Kept> parse_layout(const std::string& datasets, const std::string& layout);

/// Gives each name once, whatever its case: the second "v" becomes "v_2".
class UniqueNames {
 public:
  [[nodiscard]] std::string take(const std::string& name);

 private:
  std::map<std::string, std::size_t> next_;
};

/// The unit that a field of this name has, by convention of the simulators; none if it is not known to have
/// one.
[[nodiscard]] std::optional<std::string> unit_of(std::string_view field);

}  // namespace myelin::run
