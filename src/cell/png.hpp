#pragma once
// A small PNG writer for drawings: few colours, large flat areas, and speed before size.

#include <cstdint>
#include <string>

namespace myelin::cell {

/// `pixels`: rows of 0x00RRGGBB, `stride` pixels apart. Colours are rounded to 16 levels a channel; up to 256
/// of them make a palette, else the file has true colours.
[[nodiscard]] std::string encode_png(const std::uint32_t* pixels, std::uint32_t width, std::uint32_t height,
                                     std::size_t stride);

}  // namespace myelin::cell
