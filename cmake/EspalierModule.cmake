# espalier_module(NAME [DEPENDS module...] [PRIVATE_LIBS target...])
#
# One target per folder.  Each module has an include root of its own, <build>/include/<module>, holding the one link
# espalier/<module> -> <source>/<module>.  A target sees the roots of the modules it names in DEPENDS and of theirs,
# so `#include "espalier/autograd/tape.h"` inside core does not compile.  (One shared root would let it.)
#
# Every .cpp of the folder is compiled.  Every .h is public, is installed, and joins espalier/espalier.h, but for those in
# kernels/ and detail/ and those named *-inl.h.  A folder without files yet makes no target.
include(GNUInstallDirs)

# Private to our own targets: what a user's code is compiled with is the user's business.
function(espalier_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
    -Wnon-virtual-dtor $<$<BOOL:${ESPALIER_WERROR}>:-Werror>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # False alarms of GCC 12's optimiser: inside std::string (its bug 105651), and on paths that a check has excluded.
    target_compile_options(${target} PRIVATE -Wno-restrict $<$<CONFIG:Release>:-Wno-array-bounds>)
  endif()
endfunction()

function(espalier_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DEPENDS;PRIVATE_LIBS")
  set(folder ${PROJECT_SOURCE_DIR}/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${folder} ${folder}/*.h)
  list(FILTER headers EXCLUDE REGEX "(^|/)(kernels|detail)/|-inl\\.h$")
  if(name STREQUAL "core")  # the one choice between two files: who runs the threads
    foreach(backend tbb jthread)
      if(NOT backend STREQUAL ESPALIER_THREADS_BACKEND)
        list(FILTER sources EXCLUDE REGEX "/core/parallel_${backend}\\.cpp$")
      endif()
    endforeach()
  endif()
  if(NOT sources AND NOT headers)
    return()
  endif()

  set(root ${PROJECT_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root}/espalier)
  file(CREATE_LINK ${folder} ${root}/espalier/${name} SYMBOLIC)
  set(depends ${arg_DEPENDS})
  list(TRANSFORM depends PREPEND espalier::)
  foreach(depend IN LISTS depends)
    if(NOT TARGET ${depend})
      list(REMOVE_ITEM depends ${depend})
    endif()
  endforeach()

  set(target espalier_${name})
  if(sources)
    set(scope PUBLIC)
    add_library(${target} ${sources})
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
      VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
      INSTALL_RPATH $ORIGIN)  # RUNPATH is not transitive: each library finds its neighbours
    espalier_warnings(${target})
    # No value changes: errno and the trap flags are not looked at, NaN and infinity are.  Never -ffast-math.
    # Nor does the compiler fuse a multiply with an add where it likes: the same loop would round differently in its tail.
    target_compile_options(${target} PRIVATE -fno-math-errno -fno-trapping-math -ffp-contract=off)
    target_include_directories(${target} PRIVATE ${root})
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE_LIBS})
  else()
    set(scope INTERFACE)
    add_library(${target} INTERFACE)
  endif()
  add_library(espalier::${name} ALIAS ${target})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_link_libraries(${target} ${scope} ${depends})

  set(public ${headers})
  list(TRANSFORM public PREPEND ${root}/espalier/${name}/)
  target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS ${root} FILES ${public})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ON)
  install(TARGETS ${target} EXPORT espalierTargets FILE_SET HEADERS)

  list(TRANSFORM headers PREPEND espalier/${name}/)
  set_property(GLOBAL APPEND PROPERTY ESPALIER_MODULES ${name})
  set_property(GLOBAL APPEND PROPERTY ESPALIER_HEADERS ${headers})
endfunction()

# espalier::espalier, and espalier/espalier.h written from the modules' header lists, so that it cannot drift.
function(espalier_umbrella)
  get_property(modules GLOBAL PROPERTY ESPALIER_MODULES)
  get_property(headers GLOBAL PROPERTY ESPALIER_HEADERS)
  set(text "// Everything Espalier offers. Written by the build from the public headers of all modules.\n#pragma once\n\n")
  foreach(header IN LISTS headers)
    string(APPEND text "#include \"${header}\"  // IWYU pragma: export\n")
  endforeach()
  set(root ${PROJECT_BINARY_DIR}/include/umbrella)
  file(CONFIGURE OUTPUT ${root}/espalier/espalier.h CONTENT "${text}" @ONLY)

  add_library(espalier_all INTERFACE)
  add_library(espalier::espalier ALIAS espalier_all)
  list(TRANSFORM modules PREPEND espalier::)
  target_link_libraries(espalier_all INTERFACE ${modules})
  target_sources(espalier_all INTERFACE FILE_SET HEADERS BASE_DIRS ${root} FILES ${root}/espalier/espalier.h)
  set_target_properties(espalier_all PROPERTIES EXPORT_NAME espalier VERIFY_INTERFACE_HEADER_SETS ON)
  install(TARGETS espalier_all EXPORT espalierTargets FILE_SET HEADERS)
  add_custom_target(espalier_libraries DEPENDS ${modules})  # what an installation needs, and no more
endfunction()

# The package: find_package(espalier CONFIG), and pkg-config espalier.
function(espalier_install)
  include(CMakePackageConfigHelpers)
  set(where ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)
  install(EXPORT espalierTargets NAMESPACE espalier:: DESTINATION ${where})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/espalierConfig.cmake.in
    ${PROJECT_BINARY_DIR}/espalierConfig.cmake INSTALL_DESTINATION ${where})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/espalierConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/espalierConfig.cmake ${PROJECT_BINARY_DIR}/espalierConfigVersion.cmake
    ${PROJECT_SOURCE_DIR}/cmake/EspalierDependencies.cmake DESTINATION ${where})

  get_property(modules GLOBAL PROPERTY ESPALIER_MODULES)
  list(REVERSE modules)  # users before what they use, as a linker of static libraries wants it
  set(ESPALIER_PC_LIBS)
  foreach(module IN LISTS modules)
    get_target_property(type espalier_${module} TYPE)
    if(NOT type STREQUAL "INTERFACE_LIBRARY")
      string(APPEND ESPALIER_PC_LIBS " -lespalier_${module}")
    endif()
  endforeach()
  if(NOT BUILD_SHARED_LIBS)
    get_target_property(openblas espalier_openblas IMPORTED_LOCATION)
    if(ESPALIER_THREADS_BACKEND STREQUAL "tbb")
      string(APPEND ESPALIER_PC_LIBS " -ltbb")
    endif()
    string(APPEND ESPALIER_PC_LIBS " ${openblas} -lhwy -lz -pthread")
  endif()
  set(pkgconfig ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/${pkgconfig}
    OUTPUT_VARIABLE ESPALIER_PC_PREFIX)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/espalier.pc.in ${PROJECT_BINARY_DIR}/espalier.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/espalier.pc DESTINATION ${pkgconfig})
endfunction()
