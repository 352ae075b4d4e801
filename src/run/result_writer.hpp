#pragma once
// From a rope to the files of layout.hpp, a few MiB a step, in a directory of its own that becomes the run's
// by one rename. For pool threads; one at a time.
//
// Datasets are named by their path in `data` ("v", "events.times", "0.times"; "data" for the whole of it).
// What is not a letter, digit, '-', '_' or '.' becomes '_'; a name that was taken, whatever its case, gets
// "_2". The text's lists of numbers that are rectangular become datasets too (int64, float64, bool), at most
// 1,024 of them; their text stays in result.json.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "codec/rope.hpp"
#include "os/fd.hpp"
#include "run/files.hpp"
#include "run/layout.hpp"

namespace myelin::run {

struct Written {
  std::vector<Dataset> datasets;
  Layout layout;                           // without the record's checksum
  std::optional<std::string> stdout_text;  // the result's member "stdout"
};

class ResultWriter {
 public:
  /// Writes into `directory`, which must not exist; its parent must.
  ResultWriter(std::filesystem::path directory, codec::Rope rope, std::shared_ptr<os::UniqueFd> memfd,
               WriteContext context, Expected expected = {});
  ~ResultWriter();
  ResultWriter(const ResultWriter&) = delete;
  ResultWriter& operator=(const ResultWriter&) = delete;

  /// True while there is more to do. worker_lost when the result is not JSON or its memory file too short;
  /// quota.
  Result<bool> step();
  /// After the last step.
  [[nodiscard]] Written& written();
  /// Adds the record, syncs, renames to `target` and syncs its parent. Sets the layout's record checksum. The
  /// bytes of all files.
  Result<std::uint64_t> commit(const std::string& record, const std::filesystem::path& target);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace myelin::run
