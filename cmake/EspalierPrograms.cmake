# The programs around the library: tests, examples, benchmarks.  Each is configured once its sources exist.
#
#   tests/<folder>/*_test.cpp       <folder>_test, its cases discovered by ctest; *_slow_test.cpp: <folder>_slow_test, label slow
#   tests/<folder>/other .cpp       linked into both
#   tests/golden/                   espalier-golden
#   examples/<name>.cpp             <name>; so is examples/<name>/ with a main.cpp
#   bench/*_bench.cpp               one Google Benchmark program each, target micro_benchmarks; the other .cpp files:
#                                   espalier-bench
#   bench/*_by_hand.cpp             yardsticks, linked into all of these
#   results/                        espalier-results
#
# A file shared within one of these trees is included by its path from the top: `#include "tests/autograd/op_table.h"`.

function(espalier_program_settings target)
  target_link_libraries(${target} PRIVATE espalier::espalier)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE ESPALIER_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  espalier_warnings(${target})
endfunction()

# Tests and what only they link: most of their time is spent on compiling them, so they are optimised but little, and
# what all of them include is compiled once.
function(espalier_test_settings target)
  espalier_program_settings(${target})
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU,Clang>>:-O1>
    $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  target_link_libraries(${target} PRIVATE GTest::gtest rapidcheck CLI11::CLI11 nlohmann_json::nlohmann_json)
  if(NOT TARGET espalier_test_prelude)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/tests/prelude.cpp CONTENT "// Carries the precompiled header of the tests.\n")
    add_library(espalier_test_prelude OBJECT ${PROJECT_BINARY_DIR}/tests/prelude.cpp)
    espalier_test_settings(espalier_test_prelude)
    target_precompile_headers(espalier_test_prelude PRIVATE <gtest/gtest.h> <algorithm> <cmath> <functional> <map> <memory>
      <set> <sstream> <string> <vector>)
  elseif(NOT target STREQUAL espalier_test_prelude)
    target_precompile_headers(${target} REUSE_FROM espalier_test_prelude)
  endif()
endfunction()

# Sources that several test programs link are compiled once.
function(espalier_test_helpers name)
  add_library(${name} OBJECT ${ARGN})
  espalier_test_settings(${name})
endfunction()

function(espalier_program name)
  add_executable(${name} ${ARGN})
  espalier_program_settings(${name})
  target_link_libraries(${name} PRIVATE CLI11::CLI11 nlohmann_json::nlohmann_json)
endfunction()

function(espalier_test name label)
  add_executable(${name} ${ARGN})
  espalier_test_settings(${name})
  target_link_libraries(${name} PRIVATE GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  gtest_discover_tests(${name} TEST_FILTER -Ops/* DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT 900 LABELS ${label})
endfunction()

set(examples)
if(ESPALIER_BUILD_EXAMPLES)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    espalier_program(${name} ${source})
    list(APPEND examples ${name})
  endforeach()
  file(GLOB mains CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*/main.cpp)
  list(FILTER mains EXCLUDE REGEX "/examples/external/")
  foreach(main IN LISTS mains)
    cmake_path(GET main PARENT_PATH folder)
    cmake_path(GET folder FILENAME name)
    file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp)
    espalier_program(${name} ${sources})
    list(APPEND examples ${name})
  endforeach()
endif()

if(ESPALIER_BUILD_BENCHMARKS)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.cpp)
  set(micro ${sources})
  list(FILTER micro INCLUDE REGEX "_bench\\.cpp$")
  set(yardsticks ${sources})
  list(FILTER yardsticks INCLUDE REGEX "_by_hand\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_(bench|by_hand)\\.cpp$")
  add_library(espalier_by_hand STATIC ${yardsticks})
  espalier_program_settings(espalier_by_hand)
  espalier_program(espalier-bench ${sources})
  target_link_libraries(espalier-bench PRIVATE espalier_by_hand)
  add_custom_target(micro_benchmarks)  # asked for by name: they take minutes to compile, and no test runs them
  foreach(source IN LISTS micro)
    cmake_path(GET source STEM name)
    espalier_program(${name} ${source})
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    add_dependencies(micro_benchmarks ${name})
    target_link_libraries(${name} PRIVATE espalier_by_hand benchmark::benchmark benchmark::benchmark_main hwy::hwy)
  endforeach()
endif()

if(ESPALIER_BUILD_EXAMPLES)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/results/*.cpp)
  espalier_program(espalier-results ${sources})
endif()

find_package(Doxygen QUIET)
if(Doxygen_FOUND)
  configure_file(${PROJECT_SOURCE_DIR}/docs/Doxyfile.in ${PROJECT_BINARY_DIR}/Doxyfile @ONLY)
  add_custom_target(docs COMMAND Doxygen::doxygen ${PROJECT_BINARY_DIR}/Doxyfile WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    VERBATIM)
endif()

if(NOT ESPALIER_BUILD_TESTS)
  return()
endif()
enable_testing()
include(GoogleTest)

file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/golden/*.cpp)
list(FILTER sources EXCLUDE REGEX "_test\\.cpp$|/main\\.cpp$")
if(sources)
  espalier_test_helpers(golden_helpers ${sources})
  espalier_program(espalier-golden ${PROJECT_SOURCE_DIR}/tests/golden/main.cpp $<TARGET_OBJECTS:golden_helpers>)
  if(EXISTS ${PROJECT_SOURCE_DIR}/tests/golden/cases)
    add_test(NAME golden COMMAND espalier-golden ${PROJECT_SOURCE_DIR}/tests/golden/cases)
    set_tests_properties(golden PROPERTIES TIMEOUT 900 LABELS golden)
  endif()
  add_test(NAME golden_shared COMMAND bash ${PROJECT_SOURCE_DIR}/tests/golden/run_shared.sh $<TARGET_FILE:espalier-golden>)
  set_tests_properties(golden_shared PROPERTIES TIMEOUT 900 LABELS golden SKIP_RETURN_CODE 77)
endif()

if(TARGET espalier-bench)
  add_test(NAME bench_program COMMAND bash ${PROJECT_SOURCE_DIR}/tests/bench/program.sh $<TARGET_FILE:espalier-bench>)
  set_tests_properties(bench_program PROPERTIES TIMEOUT 900 LABELS bench)
endif()

if(TARGET espalier-results)
  add_test(NAME results_program COMMAND bash ${PROJECT_SOURCE_DIR}/tests/results/program.sh $<TARGET_FILE:espalier-results>)
  set_tests_properties(results_program PROPERTIES TIMEOUT 900 LABELS results)
endif()

file(GLOB folders CONFIGURE_DEPENDS LIST_DIRECTORIES true RELATIVE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/tests/*)
foreach(folder IN LISTS folders)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${folder}/*.cpp)
  set(fast ${sources})
  list(FILTER fast INCLUDE REGEX "_test\\.cpp$")
  set(slow ${fast})
  list(FILTER slow INCLUDE REGEX "_slow_test\\.cpp$")
  list(FILTER fast EXCLUDE REGEX "_slow_test\\.cpp$")
  set(helpers ${sources})
  list(FILTER helpers EXCLUDE REGEX "_test\\.cpp$|/tests/golden/main\\.cpp$")
  if(helpers)
    if(NOT TARGET ${folder}_helpers)
      espalier_test_helpers(${folder}_helpers ${helpers})
    endif()
    set(helpers $<TARGET_OBJECTS:${folder}_helpers>)
  endif()
  if(fast)
    espalier_test(${folder}_test ${folder} ${fast} ${helpers})
  endif()
  if(slow)
    espalier_test(${folder}_slow_test slow ${slow} ${helpers})
  endif()
endforeach()

# The table of ops has thousands of cases; a process for each would take longer to start than to run.
if(TARGET autograd_test)
  foreach(shard RANGE 3)
    add_test(NAME autograd_ops_${shard} COMMAND autograd_test --gtest_filter=Ops/* --gtest_brief=1)
    set_tests_properties(autograd_ops_${shard} PROPERTIES TIMEOUT 900 LABELS autograd
      ENVIRONMENT "GTEST_TOTAL_SHARDS=4;GTEST_SHARD_INDEX=${shard}")
  endforeach()
endif()

# Every public header compiles alone, with the include roots of its own module only.
add_test(NAME headers_stand_alone
  COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target all_verify_interface_header_sets --parallel 2)
set_tests_properties(headers_stand_alone PROPERTIES TIMEOUT 1200 LABELS slow RESOURCE_LOCK build_tree)

# The installed package, as a user meets it; the slow test builds Espalier anew as shared libraries.
set(package_arguments -DSOURCE=${PROJECT_SOURCE_DIR} -DCOMPILER=${CMAKE_CXX_COMPILER} -DGENERATOR=${CMAKE_GENERATOR}
  -DCONFIG=${CMAKE_BUILD_TYPE} "-DFLAGS=${CMAKE_CXX_FLAGS}")
set(package ${PROJECT_SOURCE_DIR}/tests/package)
if(ESPALIER_INSTALL)
  add_test(NAME package_installed COMMAND ${CMAKE_COMMAND} ${package_arguments} -DBUILD=${PROJECT_BINARY_DIR}
    -DWORK=${PROJECT_BINARY_DIR}/package/installed -P ${package}/consume.cmake)
  set_tests_properties(package_installed PROPERTIES TIMEOUT 600 LABELS build RESOURCE_LOCK build_tree)
  if(NOT BUILD_SHARED_LIBS)
    add_test(NAME package_shared COMMAND ${CMAKE_COMMAND} ${package_arguments} -DSHARED=ON
      -DWORK=${PROJECT_BINARY_DIR}/package/shared -P ${package}/consume.cmake)
    set_tests_properties(package_shared PROPERTIES TIMEOUT 3600 LABELS slow)
  endif()
endif()
add_test(NAME package_subproject COMMAND ${CMAKE_COMMAND} ${package_arguments}
  -DWORK=${PROJECT_BINARY_DIR}/package/subproject -P ${package}/subproject.cmake)
set_tests_properties(package_subproject PROPERTIES TIMEOUT 300 LABELS build)

# The house rules: modules do not see what they may not include, and the lint script finds what it should.
get_property(headers GLOBAL PROPERTY ESPALIER_HEADERS)
function(espalier_cannot_include module other)
  set(own ${headers})
  set(foreign ${headers})
  list(FILTER own INCLUDE REGEX "^espalier/${module}/")
  list(FILTER foreign INCLUDE REGEX "^espalier/${other}/")
  if(own AND foreign)
    list(GET own 0 own)
    list(GET foreign 0 foreign)
    set(name ${module}_cannot_include_${other})
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/forbidden/${name}.cpp @ONLY
      CONTENT "#if !__has_include(\"${own}\") || __has_include(\"${foreign}\")\n#error \"include roots are wrong\"\n#endif\n")
    add_library(${name} OBJECT ${PROJECT_BINARY_DIR}/forbidden/${name}.cpp)
    target_link_libraries(${name} PRIVATE espalier::${module})
  endif()
endfunction()
espalier_cannot_include(core autograd)
espalier_cannot_include(nn optim)
espalier_cannot_include(nn prune)
espalier_cannot_include(optim nn)
espalier_cannot_include(io nn)
add_test(NAME lint COMMAND bash ${PROJECT_SOURCE_DIR}/tests/lint/lint.sh)
add_test(NAME lint_finds_breaches COMMAND bash ${PROJECT_SOURCE_DIR}/tests/lint/lint_test.sh)
set_tests_properties(lint lint_finds_breaches PROPERTIES TIMEOUT 120 LABELS lint)

# The examples run as they stand, those that take long in a small setting.
set(choose_clip_arguments --epochs 2 --values 3 --folds 3)
set(prune_digits_arguments --epochs 1 --out ${PROJECT_BINARY_DIR}/prune_digits)
set(temporal_order_arguments --length 20 --init basic --lr 0.1 --seeds 1 --updates 2000 --test 1000
  --plot ${PROJECT_BINARY_DIR}/temporal_order.svg)
foreach(example IN LISTS examples)
  add_test(NAME example_${example} COMMAND ${example} ${${example}_arguments} WORKING_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  set_tests_properties(example_${example} PROPERTIES TIMEOUT 600 LABELS example)
endforeach()
