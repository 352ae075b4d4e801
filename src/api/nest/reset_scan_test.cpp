#include "api/nest/reset_scan.hpp"

#include <gtest/gtest.h>

using myelin::api::nest::names_reset_kernel;

TEST(ResetScan, FindsTheName) {
  EXPECT_TRUE(names_reset_kernel("import nest\nnest.ResetKernel()\n"));
  EXPECT_TRUE(names_reset_kernel("nest . ResetKernel (\n)"));
  EXPECT_TRUE(names_reset_kernel("a = 'it''s'; ResetKernel()"));
  EXPECT_TRUE(names_reset_kernel("f'{1}' + nest.ResetKernel()"));
  EXPECT_TRUE(names_reset_kernel("f = nest.ResetKernel\nf()"));
  EXPECT_TRUE(names_reset_kernel("from nest import ResetKernel as again"));
}

TEST(ResetScan, IgnoresCommentsStringsAndOtherNames) {
  EXPECT_FALSE(names_reset_kernel(""));
  EXPECT_FALSE(names_reset_kernel("# nest.ResetKernel()"));
  EXPECT_FALSE(names_reset_kernel("a = 'nest.ResetKernel()'"));
  EXPECT_FALSE(names_reset_kernel("\"\"\"\nnest.ResetKernel()\n\"\"\""));
  EXPECT_FALSE(names_reset_kernel("MyResetKernel()"));
  EXPECT_FALSE(names_reset_kernel("ResetKernels()"));
  EXPECT_FALSE(names_reset_kernel("'unclosed ResetKernel("));
}
