#pragma once
// Bodies made on pool threads from stored files: arrays as JSON, CBOR, .npy, CSV; and zips of them. Each
// make() does a bounded amount of work. One thread at a time.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "codec/encode.hpp"
#include "codec/zip.hpp"
#include "run/files.hpp"
#include "run/layout.hpp"

namespace myelin::run {

struct Maker {
  virtual ~Maker() = default;
  /// Appends a piece; false at the end.
  virtual Result<bool> make(std::string& out) = 0;
  [[nodiscard]] virtual std::optional<std::uint64_t> length() const { return std::nullopt; }
};

/// Where a run's files are, and its id for errors.
struct Place {
  std::filesystem::path directory;
  std::string id;
  [[nodiscard]] CheckedFile open(const std::string& file, std::uint64_t bytes, std::string sha256) const;
  [[nodiscard]] CheckedFile open(const Dataset& dataset) const;  // with its head
};

/// Texts and stored arrays as one rope, whose reader finds each in its file.
class StoredRope {
 public:
  explicit StoredRope(Place place);
  void text(std::string text);
  /// A checked text with arrays in its holes. Reads it through once.
  Result<void> text_file(const std::string& name, const TextFile& file,
                         const std::vector<const Dataset*>& arrays);
  void array(const Dataset& dataset);
  struct Parts {
    codec::Rope rope;
    codec::Reader reader;
  };
  Result<Parts> finish();

 private:
  struct Segments;
  Place place_;
  std::vector<codec::Piece> pieces_;
  std::shared_ptr<Segments> segments_;
};

std::unique_ptr<Maker> make_encoded(StoredRope::Parts parts, codec::Format format,
                                    codec::Nonfinite nonfinite);
std::unique_ptr<Maker> make_file(CheckedFile file);
/// Columns are one-dimensional and equally long, or one dataset of any shape: of two dimensions a table, of
/// more (or with very many columns) one line an element. The first line has names with units.
std::unique_ptr<Maker> make_csv(const Place& place, std::vector<Dataset> columns);
std::unique_ptr<Maker> make_text(std::string text);

/// One file of a zip: stored as it is when its facts are known, else deflated.
struct ZipPart {
  std::string name;
  std::function<std::unique_ptr<Maker>()> open;
  std::optional<codec::ZipKnown> known;
};
/// `last`, if set, makes one more entry from what the others were.
struct ZipLast {
  std::string name;
  std::function<std::string(const std::vector<std::pair<std::string, FileFacts>>&)> make;
};
std::unique_ptr<Maker> make_zip(std::vector<ZipPart> parts, std::optional<ZipLast> last,
                                std::chrono::system_clock::time_point when);

/// Which datasets share a CSV file: one-dimensional ones of one parent ("events.times", "events.senders") and
/// length.
struct CsvFile {
  std::string name;  // without ".csv"
  std::vector<Dataset> columns;
};
[[nodiscard]] std::vector<CsvFile> csv_files(const std::vector<Dataset>& datasets);

}  // namespace myelin::run
