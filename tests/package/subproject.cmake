# Configures a project that takes Espalier in with add_subdirectory: its targets are there, its tests are not.
#
#   cmake -DSOURCE=... -DWORK=... -DCOMPILER=... -DGENERATOR=... -P subproject.cmake
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE ${WORK})
file(WRITE ${WORK}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)
project(Parent LANGUAGES CXX)
add_subdirectory(${SOURCE} espalier)
add_executable(consumer ${SOURCE}/examples/external/main.cpp)
target_link_libraries(consumer PRIVATE espalier::espalier)
foreach(target core_test espalier-bench espalier-golden)
  if(TARGET \${target})
    message(FATAL_ERROR \"\${target} is built in a parent project\")
  endif()
endforeach()
if(CMAKE_BUILD_TYPE OR CMAKE_CXX_FLAGS OR CMAKE_RUNTIME_OUTPUT_DIRECTORY)
  message(FATAL_ERROR \"a setting of the parent project was changed\")
endif()
")
execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER}
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result)
  message(FATAL_ERROR "${output}")
endif()
