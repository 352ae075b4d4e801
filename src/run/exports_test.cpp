#include <limits>

#include "run/test_support.hpp"

using namespace myelin;
using namespace myelin::run;
using namespace myelin::run::test;
