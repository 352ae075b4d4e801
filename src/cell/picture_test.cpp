#include "cell/picture.hpp"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <vector>

#include "cell/png.hpp"

using namespace myelin;
using namespace myelin::cell;

// fontconfig keeps what it read about fonts, in a way that the leak sanitizer can't follow.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libfontconfig"; }

namespace {

std::uint32_t read32(const std::string& s, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<unsigned char>(s.at(at + i));
  return v;
}

// Checks every chunk's checksum; gives width, height and the unpacked data's length.
struct Read {
  std::uint32_t width = 0, height = 0, colour_type = 0;
  std::vector<Bytef> data;
};
Read read_png(const std::string& png) {
  Read out;
  EXPECT_EQ(png.substr(0, 8), std::string("\x89PNG\r\n\x1a\n", 8));
  std::string packed, last;
  for (std::size_t at = 8; at < png.size();) {
    const std::uint32_t length = read32(png, at);
    last = png.substr(at + 4, 4);
    EXPECT_EQ(read32(png, at + 8 + length),
              crc32(0, reinterpret_cast<const Bytef*>(png.data()) + at + 4, length + 4));
    if (last == "IHDR") {
      out.width = read32(png, at + 8);
      out.height = read32(png, at + 12);
      out.colour_type = static_cast<unsigned char>(png[at + 17]);
    }
    if (last == "IDAT") packed += png.substr(at + 8, length);
    at += 12 + length;
  }
  EXPECT_EQ(last, "IEND");
  out.data.resize(std::size_t{out.height} * (out.width * 3 + 1) + 1);
  uLongf size = out.data.size();
  EXPECT_EQ(uncompress(out.data.data(), &size, reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
            Z_OK);
  out.data.resize(size);
  return out;
}

std::string picture_of(const Parameters& p, PictureFormat format) {
  const auto runs = runs_of(p);
  const auto outcomes = simulate(runs).value();
  std::vector<FiPoint> fi;
  if (p.amp > 0)
    for (std::size_t i = 0; i < runs.size(); ++i) fi.push_back(fi_point(runs[i], outcomes[i]));
  return draw({runs.back(), outcomes.back(), fi}, format);
}

}  // namespace

TEST(Picture, HasTheOriginalsSizes) {
  Parameters p;
  const Read curve = read_png(picture_of(p, PictureFormat::png));
  EXPECT_EQ(curve.width, 1600U);
  EXPECT_EQ(curve.height, 1400U);
  EXPECT_EQ(curve.colour_type, 3U);  // a palette: small and fast
  EXPECT_EQ(curve.data.size(), 1601U * 1400U);
  for (const double amp : {-0.1, 0.0}) {
    p.amp = amp;
    const Read one = read_png(picture_of(p, PictureFormat::png));
    EXPECT_EQ(one.width, 1000U);
    EXPECT_EQ(one.height, 600U);
  }
}

TEST(Picture, SvgIsWholeXml) {
  const std::string svg = picture_of({}, PictureFormat::svg);
  EXPECT_EQ(svg.rfind("<?xml", 0), 0U);
  EXPECT_NE(svg.find("</svg>"), svg.npos);
  EXPECT_LT(svg.size(), 2'000'000U);
}

TEST(Picture, OddRunsCanBeDrawn) {
  Parameters p;
  p.tstop = 20;
  p.dur_start = 5;
  p.dur_end = 1000;  // beyond the end
  const auto fine = [&] {
    for (const double amp : {-1.0, 0.0, 1.0}) {
      p.amp = amp;
      EXPECT_EQ(read_png(picture_of(p, PictureFormat::png)).height, amp > 0 ? 1400U : 600U);
    }
  };
  fine();
  p.gl = -1e5;  // blows up
  fine();
  p = {};
  p.tstop = 0.01;  // one sample
  fine();
  p = {};
  p.tstop = 20;
  p.diam = 1e-3;
  fine();
  p.mk = p.kn = p.hk = 0;
  p.multiply = 1e300;
  fine();
}

TEST(Png, ManyColoursAreKept) {
  std::vector<std::uint32_t> pixels(64 * 64);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint32_t>(i * 2654435761U) & 0xffffff;
  const Read read = read_png(encode_png(pixels.data(), 64, 64, 64));
  EXPECT_EQ(read.colour_type, 2U);
  ASSERT_EQ(read.data.size(), 64U * (64 * 3 + 1));
  EXPECT_EQ(read.data[1], pixels[0] >> 16);
  EXPECT_EQ(read.data[4], pixels[1] >> 16);
}
