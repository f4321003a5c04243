# The libraries Espalier stands on: found, never fetched.
#
# Read by the build and by the installed package (a static espalier must be linked with them), so each is found in one
# place.  A missing one is collected in `espalier_missing`, with the Debian package that holds it.

# espalier_find(DEBIAN_PACKAGE TARGET find_package arguments...): makes sure that TARGET exists.
macro(espalier_find debian target)
  if(NOT TARGET ${target})
    find_package(${ARGN} QUIET)
    if(NOT TARGET ${target})
      list(APPEND espalier_missing ${debian})
    endif()
  endif()
endmacro()

# OpenBLAS by its own name: Debian's package has no CMake target, and FindBLAS may have been run for another vendor.
macro(espalier_find_openblas)
  if(NOT TARGET espalier_openblas)
    find_library(ESPALIER_OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-pthread)
    find_path(ESPALIER_OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-pthread openblas)
    mark_as_advanced(ESPALIER_OPENBLAS_LIBRARY ESPALIER_OPENBLAS_INCLUDE)
    if(ESPALIER_OPENBLAS_LIBRARY AND ESPALIER_OPENBLAS_INCLUDE)
      add_library(espalier_openblas UNKNOWN IMPORTED)
      set_target_properties(espalier_openblas PROPERTIES IMPORTED_LOCATION ${ESPALIER_OPENBLAS_LIBRARY}
        INTERFACE_INCLUDE_DIRECTORIES ${ESPALIER_OPENBLAS_INCLUDE})
    else()
      list(APPEND espalier_missing libopenblas-pthread-dev)
    endif()
  endif()
endmacro()

# What a program linked with a static espalier needs, too.
macro(espalier_find_link_dependencies threads_backend)
  espalier_find_openblas()
  if("${threads_backend}" STREQUAL "tbb")
    espalier_find(libtbb-dev TBB::tbb TBB CONFIG)
  endif()
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  espalier_find(g++ Threads::Threads Threads)
  espalier_find(libhwy-dev hwy::hwy hwy CONFIG)
  espalier_find(zlib1g-dev ZLIB::ZLIB ZLIB)
endmacro()

# Header-only libraries, seen by .cpp files alone: nothing of them is left in the installed package.
macro(espalier_find_build_dependencies)
  espalier_find(nlohmann-json3-dev nlohmann_json::nlohmann_json nlohmann_json CONFIG)
  if(NOT TARGET espalier_random123)
    find_path(ESPALIER_RANDOM123_INCLUDE Random123/philox.h)
    mark_as_advanced(ESPALIER_RANDOM123_INCLUDE)
    if(ESPALIER_RANDOM123_INCLUDE)
      add_library(espalier_random123 INTERFACE IMPORTED)
      set_target_properties(espalier_random123 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${ESPALIER_RANDOM123_INCLUDE})
    else()
      list(APPEND espalier_missing librandom123-dev)
    endif()
  endif()
endmacro()

# Tests, benchmarks and examples.
macro(espalier_find_development_dependencies)
  if(ESPALIER_BUILD_TESTS)
    espalier_find(libgtest-dev GTest::gtest_main GTest)
    espalier_find(librapidcheck-dev rapidcheck rapidcheck CONFIG)
  endif()
  if(ESPALIER_BUILD_BENCHMARKS)
    espalier_find(libbenchmark-dev benchmark::benchmark_main benchmark CONFIG)
  endif()
  espalier_find(libcli11-dev CLI11::CLI11 CLI11 CONFIG)
endmacro()

# Stops the configuration if anything is missing, and says what to type.
function(espalier_require_found)
  if(espalier_missing)
    list(REMOVE_DUPLICATES espalier_missing)
    list(JOIN espalier_missing " " packages)
    message(FATAL_ERROR "Espalier needs libraries that were not found. On Debian:\n  sudo apt-get install ${packages}\n"
      "(./dev build does this by itself.)")
  endif()
endfunction()
