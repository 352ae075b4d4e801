#include "api/nest/reset_scan.hpp"

#include <gtest/gtest.h>

using myelin::api::nest::calls_reset_kernel;

TEST(ResetScan, FindsTheCall) {
  EXPECT_TRUE(calls_reset_kernel("import nest\nnest.ResetKernel()\n"));
  EXPECT_TRUE(calls_reset_kernel("nest . ResetKernel (\n)"));
  EXPECT_TRUE(calls_reset_kernel("a = 'it''s'; ResetKernel()"));
  EXPECT_TRUE(calls_reset_kernel("f'{1}' + nest.ResetKernel()"));
}

TEST(ResetScan, IgnoresCommentsStringsAndOtherNames) {
  EXPECT_FALSE(calls_reset_kernel(""));
  EXPECT_FALSE(calls_reset_kernel("# nest.ResetKernel()"));
  EXPECT_FALSE(calls_reset_kernel("a = 'nest.ResetKernel()'"));
  EXPECT_FALSE(calls_reset_kernel("\"\"\"\nnest.ResetKernel()\n\"\"\""));
  EXPECT_FALSE(calls_reset_kernel("MyResetKernel()"));
  EXPECT_FALSE(calls_reset_kernel("ResetKernels()"));
  EXPECT_FALSE(calls_reset_kernel("f = nest.ResetKernel"));
  EXPECT_FALSE(calls_reset_kernel("'unclosed ResetKernel("));
}
