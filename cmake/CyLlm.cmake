# What every target here shares: language level, warnings, sanitizers, linker, dependencies; and
# cy_module(), which makes one library and one test executable of one folder.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
add_compile_options(-fPIC)  # one setting for libraries, plugins and programs: precompiled headers are shared
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)

option(CY_OPTIMIZE "Release: -O2, little debug information" OFF)
option(CY_TESTS "Build the unit tests" ON)
set(CY_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize takes them")

if(CY_OPTIMIZE)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
  set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
endif()
if(CY_SANITIZE)
  add_compile_options(-fsanitize=${CY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)
  add_link_options(-fsanitize=${CY_SANITIZE})
  if(CY_SANITIZE MATCHES "address")
    add_compile_options(-fsanitize=fuzzer-no-link)  # coverage, which leads the fuzz programs
    add_link_options(-fsanitize=fuzzer-no-link)
  endif()
endif()

find_program(CY_MOLD mold)
if(CY_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
find_program(CY_CCACHE ccache)
if(CY_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers and ccache agree only with these settings.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CY_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CY_CCACHE})
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")
endif()

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Protobuf REQUIRED)  # module mode: Debian ships no CMake config for it
find_package(gRPC CONFIG REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json url)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(tomlplusplus CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(CURL REQUIRED)
if(CY_TESTS)
  find_package(GTest REQUIRED)
endif()

# Compile settings of our own code only.
add_library(cy_options INTERFACE)
target_compile_options(cy_options INTERFACE -Wall -Wextra -Wpedantic -Werror -Wthread-safety
  -Wno-missing-field-initializers)  # aggregates have defaults
target_include_directories(cy_options INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/engines)
target_compile_definitions(cy_options INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION
  SPDLOG_FMT_EXTERNAL)

# Of test programs only: nothing waits for them, so with sanitizers they are compiled in half the time, without
# optimising and without a fuzzer's coverage.
function(cy_test_options target)
  if(CY_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
    if(CY_SANITIZE MATCHES "address")
      target_compile_options(${target} PRIVATE -fno-sanitize=fuzzer-no-link)
    endif()
  endif()
endfunction()

# cy_module(NAME [PCH header...] [DEPS target...] [PUBLIC_DEPS target...] [TEST_DEPS target...])
# One folder: every *.cc beside the CMakeLists.txt, *_test.cc and *_bench.cc apart, becomes library
# cy_NAME; its *_test.cc become the test program test_NAME.
function(cy_module name)
  cmake_parse_arguments(ARG "" "" "PCH;DEPS;PUBLIC_DEPS;TEST_DEPS" ${ARGN})
  file(GLOB all CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
  set(tests ${all})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  add_library(cy_${name} STATIC ${sources})
  target_link_libraries(cy_${name} PUBLIC ${ARG_PUBLIC_DEPS} PRIVATE cy_options ${ARG_DEPS})
  target_include_directories(cy_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  if(ARG_PCH)
    target_precompile_headers(cy_${name} PRIVATE ${ARG_PCH})
  endif()
  if(CY_TESTS AND tests)
    add_executable(test_${name} ${tests})
    target_link_libraries(test_${name} PRIVATE cy_options cy_${name} ${ARG_DEPS} ${ARG_TEST_DEPS} GTest::gmock GTest::gtest_main)
    cy_test_options(test_${name})
    if(ARG_PCH AND NOT CY_SANITIZE)  # other options: another header
      target_precompile_headers(test_${name} REUSE_FROM cy_${name})
    endif()
    add_test(NAME ${name} COMMAND test_${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 120)
  endif()
endfunction()

# cy_engine(NAME [DEPS target...]): a plugin in <binary dir>/engines/NAME/ with its manifest beside it. Sees
# engines/sdk only. Its unit tests are linked with the same objects.
function(cy_engine name)
  cmake_parse_arguments(ARG "" "" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB all CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
  set(tests ${all})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(dir ${PROJECT_BINARY_DIR}/bin/engines/${name})

  add_library(engine_${name} OBJECT ${sources})
  target_link_libraries(engine_${name} PRIVATE cy_options ${ARG_DEPS} Threads::Threads)
  set_target_properties(engine_${name} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  add_library(cyllm_engine_${name} MODULE $<TARGET_OBJECTS:engine_${name}>)
  target_link_libraries(cyllm_engine_${name} PRIVATE ${ARG_DEPS} Threads::Threads)
  set_target_properties(cyllm_engine_${name} PROPERTIES LINKER_LANGUAGE CXX LIBRARY_OUTPUT_DIRECTORY ${dir})
  configure_file(${CMAKE_CURRENT_SOURCE_DIR}/manifest.json ${dir}/manifest.json COPYONLY)
  set_property(GLOBAL APPEND PROPERTY CY_ENGINES cyllm_engine_${name})
  if(CY_TESTS AND tests)
    add_executable(test_engine_${name} ${tests} $<TARGET_OBJECTS:engine_${name}>)
    target_link_libraries(test_engine_${name} PRIVATE cy_options ${ARG_DEPS} ${ARG_TEST_DEPS} Threads::Threads GTest::gmock GTest::gtest_main)
    cy_test_options(test_engine_${name})
    add_test(NAME engine_${name} COMMAND test_engine_${name})
    # A busy neighbour makes llama.cpp up to 7 times slower.
    set_tests_properties(engine_${name} PROPERTIES TIMEOUT 1200 RUN_SERIAL ON)
  endif()
endfunction()

# A test program that loads a plugin: knows where the plugins lie and is built after it.
function(cy_needs_engine test)
  if(TARGET ${test})
    target_compile_definitions(${test} PRIVATE CY_ENGINE_DIR="${PROJECT_BINARY_DIR}/bin/engines")
    foreach(engine ${ARGN})
      add_dependencies(${test} cyllm_engine_${engine})
    endforeach()
  endif()
endfunction()

# cy_fuzz(NAME FILE target...): a libFuzzer program fuzz_NAME of FILE, in trees with AddressSanitizer.
function(cy_fuzz name file)
  if(CY_SANITIZE MATCHES "address")
    add_executable(fuzz_${name} ${file})
    target_link_libraries(fuzz_${name} PRIVATE cy_options ${ARGN})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(fuzz_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  endif()
endfunction()
