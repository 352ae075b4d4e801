#include "cell/png.hpp"

#include <zlib.h>

#include <array>
#include <stdexcept>
#include <vector>

namespace myelin::cell {
namespace {

void put32(std::string& out, std::uint32_t v) {
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(v >> shift);
}

void put_chunk(std::string& out, const char* type, const std::string& data) {
  put32(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t begin = out.size();
  out.append(type, 4);
  out += data;
  put32(out, static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(out.data() + begin),
                                              static_cast<uInt>(out.size() - begin))));
}

std::string deflate_fast(const std::vector<std::uint8_t>& raw) {
  std::string out(compressBound(raw.size()), '\0');
  uLongf size = out.size();
  if (compress2(reinterpret_cast<Bytef*>(out.data()), &size, raw.data(), raw.size(), 1) != Z_OK)
    throw std::logic_error("encode_png: deflate");
  out.resize(size);
  return out;
}

// 12 bits: four a channel, rounded.
std::uint32_t key_of(std::uint32_t rgb) {
  const auto level = [](std::uint32_t c) { return ((c & 0xff) * 15 + 127) / 255; };
  return level(rgb >> 16) << 8 | level(rgb >> 8) << 4 | level(rgb);
}

// The colours of a drawing, and for each of the 4,096 keys its place among them. Shades that come when the
// palette is full take a neighbour that can't be told apart.
class Palette {
 public:
  Palette() { index_.fill(-1); }
  const std::vector<std::uint32_t>& colours() const { return colours_; }

  /// −1: full, and nothing is near.
  int find(std::uint32_t key) {
    std::int16_t& known = index_[key];
    if (known < 0 && colours_.size() < 256) {
      known = static_cast<std::int16_t>(colours_.size());
      colours_.push_back(key);
    } else if (known < 0) {
      known = nearest(key);
    }
    return known;
  }

 private:
  std::int16_t nearest(std::uint32_t key) const {
    constexpr int most = 5;  // squared, in sixteenths
    int best = most + 1;
    std::int16_t found = -1;
    for (std::size_t i = 0; i < colours_.size(); ++i) {
      int distance = 0;
      for (const int shift : {8, 4, 0}) {
        const int d = static_cast<int>(key >> shift & 15) - static_cast<int>(colours_[i] >> shift & 15);
        distance += d * d;
      }
      if (distance < best) {
        best = distance;
        found = static_cast<std::int16_t>(i);
      }
    }
    return found;
  }
  std::array<std::int16_t, 4096> index_;
  std::vector<std::uint32_t> colours_;
};

}  // namespace

std::string encode_png(const std::uint32_t* pixels, std::uint32_t width, std::uint32_t height,
                       std::size_t stride) {
  Palette palette;
  std::vector<std::uint8_t> raw(std::size_t{height} * (std::size_t{width} + 1));
  bool fits = true;
  for (std::uint32_t y = 0; y < height && fits; ++y) {
    const std::uint32_t* row = pixels + y * stride;
    std::uint8_t* to = raw.data() + y * (std::size_t{width} + 1) + 1;  // after the byte for "no filter"
    std::uint32_t last = ~0U;
    int of_last = 0;
    for (std::uint32_t x = 0; x < width; ++x) {
      const std::uint32_t rgb = row[x] & 0xffffff;
      if (rgb != last) {
        of_last = palette.find(key_of(rgb));
        if (of_last < 0) fits = false;
        last = rgb;
      }
      to[x] = static_cast<std::uint8_t>(of_last);
    }
  }
  if (!fits) {
    raw.clear();
    raw.reserve(std::size_t{height} * (3 * std::size_t{width} + 1));
    for (std::uint32_t y = 0; y < height; ++y) {
      raw.push_back(0);
      for (std::uint32_t x = 0; x < width; ++x)
        for (const int shift : {16, 8, 0})
          raw.push_back(static_cast<std::uint8_t>(pixels[y * stride + x] >> shift));
    }
  }

  std::string out("\x89PNG\r\n\x1a\n", 8), head, table;
  put32(head, width);
  put32(head, height);
  head += static_cast<char>(8);
  head += static_cast<char>(fits ? 3 : 2);
  head.append(3, '\0');
  put_chunk(out, "IHDR", head);
  if (fits) {
    for (const std::uint32_t key : palette.colours())
      for (const int shift : {8, 4, 0}) table += static_cast<char>((key >> shift & 15) * 17);
    put_chunk(out, "PLTE", table);
  }
  put_chunk(out, "IDAT", deflate_fast(raw));
  put_chunk(out, "IEND", {});
  return out;
}

}  // namespace myelin::cell
