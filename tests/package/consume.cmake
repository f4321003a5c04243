# Installs Espalier as a user would, then configures, builds and runs examples/external against it.
#
#   cmake -DSOURCE=... -DWORK=... [-DBUILD=...] -DCOMPILER=... -DGENERATOR=... -DCONFIG=... [-DFLAGS=...] -DSHARED=ON|OFF -P consume.cmake
#
# BUILD is a finished build tree; without it Espalier is built in WORK first.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nfailed (${result}):\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(prefix ${WORK}/prefix)
file(REMOVE_RECURSE ${prefix} ${WORK}/consumer)
set(toolchain -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_BUILD_TYPE=${CONFIG} "-DCMAKE_CXX_FLAGS=${FLAGS}")

if(NOT BUILD)
  set(BUILD ${WORK}/build)
  run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD} ${toolchain} -DBUILD_SHARED_LIBS=${SHARED} -DESPALIER_BUILD_TESTS=OFF
    -DESPALIER_BUILD_BENCHMARKS=OFF -DESPALIER_BUILD_EXAMPLES=OFF)
  run(${CMAKE_COMMAND} --build ${BUILD} --parallel 2)
endif()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

# What is installed: headers under espalier/, no private ones, and a package that forces nothing on its users.
file(GLOB_RECURSE headers RELATIVE ${prefix}/include ${prefix}/include/*)
foreach(header IN LISTS headers)
  if(NOT header MATCHES "^espalier/([a-z]+/([a-z]+/)?)?[a-z0-9_]+\\.h$" OR header MATCHES "/(kernels|detail)/")
    message(SEND_ERROR "include/${header} should not have been installed")
  endif()
endforeach()
if(NOT EXISTS ${prefix}/include/espalier/espalier.h)
  message(SEND_ERROR "include/espalier/espalier.h was not installed")
endif()
file(GLOB_RECURSE packages ${prefix}/*.cmake ${prefix}/*.pc)
foreach(package IN LISTS packages)
  file(READ ${package} text)
  foreach(word INTERFACE_COMPILE_OPTIONS INTERFACE_COMPILE_DEFINITIONS INTERFACE_LINK_OPTIONS -march -ffast-math -fno- -Wall
      ${SOURCE}/ ${BUILD}/)
    string(FIND "${text}" "${word}" at)
    if(NOT at EQUAL -1)
      message(SEND_ERROR "${package} holds ${word}, which would reach the user's build")
    endif()
  endforeach()
endforeach()

run(${CMAKE_COMMAND} -S ${SOURCE}/examples/external -B ${WORK}/consumer ${toolchain} -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK}/consumer --verbose)
if(output MATCHES "-fno-math-errno|-fno-trapping-math|-Wconversion")
  message(FATAL_ERROR "a private flag reached the user's compiler:\n${output}")
endif()
run(${WORK}/consumer/consumer)
message(STATUS "${output}")

# A version that is not there is refused.
file(WRITE ${WORK}/other/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)\nproject(Other LANGUAGES CXX)
foreach(version 0.0 0.2 1.0)\n  find_package(espalier \${version} CONFIG QUIET)\n  if(espalier_FOUND)
    message(FATAL_ERROR \"accepted as \${version}\")\n  endif()\nendforeach()\n")
run(${CMAKE_COMMAND} -S ${WORK}/other -B ${WORK}/other/build ${toolchain} -DCMAKE_PREFIX_PATH=${prefix})

# The same through pkg-config, for projects without CMake.
find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
  file(GLOB_RECURSE pc ${prefix}/*/espalier.pc)
  cmake_path(GET pc PARENT_PATH where)
  set(ENV{PKG_CONFIG_PATH} ${where})
  run(${PKG_CONFIG} --cflags --libs espalier)
  string(STRIP "${output}" flags)
  separate_arguments(flags UNIX_COMMAND "${flags} ${FLAGS}")
  cmake_path(GET where PARENT_PATH libraries)
  run(${COMPILER} -std=c++20 ${SOURCE}/examples/external/main.cpp -o ${WORK}/consumer/by_pkg_config ${flags}
    -Wl,-rpath,${libraries})
  run(${WORK}/consumer/by_pkg_config)
endif()
