#pragma once
// What a run that is done can be downloaded as. Nothing is read here: the makers read when they make.

#include <memory>
#include <string>

#include "run/layout.hpp"
#include "run/maker.hpp"
#include "run/runs.hpp"

namespace myelin::run {

struct Export {
  std::unique_ptr<Maker> maker;
  std::string type, filename;
};

[[nodiscard]] Result<Export> export_dataset(const Place& place, const Dataset& set, DatasetFormat format);
[[nodiscard]] Result<Export> export_run(const Place& place, const Record& record, const Kept& kept,
                                        ExportFormat format);

}  // namespace myelin::run
