#include "codec/npy.hpp"

#include <gtest/gtest.h>

#include "codec/zip.hpp"

using namespace myelin::codec;

TEST(Npy, HeadsAreWhatNumpyReads) {
  const std::string head = npy_head(Dtype::f64, std::vector<std::uint64_t>{3});
  ASSERT_EQ(head.size(), npy_head_bytes);
  EXPECT_EQ(head.substr(0, 10), std::string("\x93NUMPY\x01\x00\xf6\x00", 10));
  EXPECT_EQ(head.substr(10, 60), "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }   ");
  EXPECT_EQ(head.back(), '\n');
  EXPECT_NE(npy_head(Dtype::boolean, std::vector<std::uint64_t>{2, 3})
                .find("'|b1', 'fortran_order': False, 'shape': (2, 3), }"),
            head.npos);
  const std::string widest = npy_head(Dtype::u64, std::vector<std::uint64_t>(8, UINT64_MAX));
  ASSERT_EQ(widest.size(), npy_head_bytes);
  EXPECT_NE(widest.find("), }"), widest.npos);
}

TEST(Npy, NamesGoBothWays) {
  for (int i = 1; i <= static_cast<int>(Dtype::boolean); ++i)
    EXPECT_EQ(dtype_of(name_of(static_cast<Dtype>(i))), static_cast<Dtype>(i));
  EXPECT_FALSE(dtype_of("float16"));
}

TEST(Zip, TheLengthOfStoredEntriesIsKnownAhead) {
  ZipWriter zip{std::chrono::system_clock::now()};
  std::string out;
  std::vector<std::pair<std::size_t, std::uint64_t>> sizes;
  for (const std::string& name : {std::string("a"), std::string("folder/b.npy"), std::string("")}) {
    zip.begin_stored(out, name, {5, crc32_of(0, "hello")});
    out += "hello";
    zip.stored();
    sizes.emplace_back(name.size(), 5);
  }
  zip.finish(out);
  EXPECT_EQ(ZipWriter::stored_size(sizes), out.size());
}

TEST(Zip, LargeEntriesHaveWideFields) {
  // The data itself (zeros) is left out: only the heads matter here.
  ZipWriter zip{std::chrono::system_clock::now()};
  std::string out;
  const std::uint64_t large = 5ULL << 30;
  zip.begin_stored(out, "large", {large, 0});
  zip.stored();
  zip.begin_stored(out, "after", {1, 0});
  zip.stored();
  zip.finish(out);
  EXPECT_EQ(ZipWriter::stored_size({{5, large}, {5, 1}}), out.size() + large + 1);
  EXPECT_NE(out.find(std::string("PK\x06\x06", 4)), out.npos);  // zip64 end of directory
  EXPECT_NE(out.find(std::string("PK\x06\x07", 4)), out.npos);
}
