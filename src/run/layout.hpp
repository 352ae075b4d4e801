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
  std::vector<std::string> dims;         // names of its dimensions, as many
  std::vector<std::string> coordinates;  // names of datasets that say where its values lie along them
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

/// What is known of a result's values before they are there.
struct Expected {
  struct Value {
    std::optional<std::string> unit;
    std::vector<std::string> dims;  // may be fewer than it has
  };
  std::map<std::string, Value, std::less<>> values;  // by path in `data`
  bool nest = false;  // dictionaries with `times` and `senders` are what NEST's recorders give
};

/// Where a dataset stood in the result.
struct Origin {
  std::string path;
  std::uint64_t object = 0;  // which object it is a member of; 0: none
  std::string key;           // there
};

/// Gives the datasets their dims, units and coordinates: those that are expected, and those of NEST's recorders. Nothing is guessed by
/// a name alone. `origins`: one of each.
void describe_datasets(std::vector<Dataset>& datasets, const std::vector<Origin>& origins, const Expected& expected);

}  // namespace myelin::run
