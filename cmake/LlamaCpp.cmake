# llama.cpp for the llama_cpp engine: one release, fetched from the npm registry by name, version and SHA-256.
#
#   CY_LLAMA=prebuilt  (default) headers from the release's source, libraries ready-built from the same release
#   CY_LLAMA=native    the source compiled on this machine for this machine; CY_LLAMA_CMAKE_ARGS adds settings
#                      (-DGGML_CUDA=ON, ...)
#   CY_LLAMA=system    installed libraries (find_package(llama)) of the same release
#
# Defines the target cy_llama (headers and libraries) and cy_llama_bundle(TARGET DIR), which puts the libraries
# into DIR, beside a plugin that finds them there ($ORIGIN). Packages and the unpacked source stay in
# CY_CACHE_DIR and are used again.

set(CY_LLAMA prebuilt CACHE STRING "Where llama.cpp's libraries come from: prebuilt, native or system")
set_property(CACHE CY_LLAMA PROPERTY STRINGS prebuilt native system)
set(CY_LLAMA_CMAKE_ARGS "" CACHE STRING "More CMake arguments of a native llama.cpp")
set(CY_NPM "" CACHE FILEPATH "npm; empty: the one in PATH")

if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(_cache $ENV{XDG_CACHE_HOME})
else()
  set(_cache $ENV{HOME}/.cache)
endif()
set(CY_CACHE_DIR ${_cache}/cy-llm/llama CACHE PATH "Downloaded packages of llama.cpp")

set(CY_LLAMA_VERSION 0.5.0)  # of llama.cpp, in the packages below
set(_npm_version 3.22.1)
set(_hash_source a0d9dd80eacd2ab1cfe71aee57ac8a806487fd70b3d2a38fbec637752d9e5c5f)
set(_hash_x64 0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0)
set(_hash_arm64 39c76b998e35ed2f236c01472fc79eda0fc558b1c8b535023c2d7ded8c327cc4)

# The package's tarball, verified; its path in `out`.
function(_cy_npm_package name hash out)
  string(REGEX REPLACE "^@" "" file ${name})
  string(REPLACE "/" "-" file ${file})
  set(path ${CY_CACHE_DIR}/${file}-${_npm_version}.tgz)
  if(EXISTS ${path})
    file(SHA256 ${path} actual)
  endif()
  if(NOT "${actual}" STREQUAL ${hash})
    set(npm ${CY_NPM})
    if(NOT npm)
      find_program(_npm npm NO_CACHE)
      set(npm ${_npm})
    endif()
    if(NOT npm)
      message(FATAL_ERROR "llama.cpp comes as the npm package ${name}@${_npm_version}, and there is no npm in PATH. "
        "Install Node.js with npm, name one by -DCY_NPM=/path/to/npm, or run ./cy-llm build, which gets one.")
    endif()
    message(STATUS "llama.cpp: fetching ${name}@${_npm_version}")
    string(RANDOM LENGTH 8 suffix)
    set(part ${CY_CACHE_DIR}/.part-${suffix})
    file(MAKE_DIRECTORY ${part})
    get_filename_component(bin ${npm} DIRECTORY)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E env "PATH=${bin}:$ENV{PATH}" ${npm} pack --silent --pack-destination ${part}
        ${name}@${_npm_version}
      WORKING_DIRECTORY ${part} RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE error)
    file(GLOB got ${part}/*.tgz)
    if(failed OR NOT got)
      file(REMOVE_RECURSE ${part})
      message(FATAL_ERROR "npm pack ${name}@${_npm_version} failed: ${error}")
    endif()
    file(SHA256 ${got} actual)
    if(NOT actual STREQUAL hash)
      file(REMOVE_RECURSE ${part})
      message(FATAL_ERROR "${name}@${_npm_version} has SHA-256 ${actual}, expected ${hash}: refused.")
    endif()
    file(RENAME ${got} ${path})
    file(REMOVE_RECURSE ${part})
  endif()
  set(${out} ${path} PARENT_SCOPE)
endfunction()

# Unpacks `tarball` once and returns the folder. Another build may do the same at the same time: the first that
# is done wins.
function(_cy_unpack tarball hash command out)
  string(SUBSTRING ${hash} 0 12 short)
  get_filename_component(name ${tarball} NAME_WLE)
  set(dir ${CY_CACHE_DIR}/${name}-${short})
  if(NOT EXISTS ${dir})
    string(RANDOM LENGTH 8 suffix)
    set(part ${CY_CACHE_DIR}/.part-${suffix})
    file(ARCHIVE_EXTRACT INPUT ${tarball} DESTINATION ${part})
    cmake_language(CALL ${command} ${part})
    file(RENAME ${part} ${dir} RESULT failed)
    file(REMOVE_RECURSE ${part})
    if(NOT EXISTS ${dir})
      message(FATAL_ERROR "${dir} could not be made: ${failed}")
    endif()
  endif()
  set(${out} ${dir} PARENT_SCOPE)
endfunction()

# The package holds a git bundle of the release; only what is compiled is checked out.
function(_cy_checkout dir)
  find_package(Git REQUIRED)
  foreach(args
      "clone;-q;--no-checkout;${dir}/package/llama/gitRelease.bundle;${dir}/llama.cpp"
      "-C;${dir}/llama.cpp;sparse-checkout;set;include;src;common;ggml;cmake;vendor;licenses;scripts"
      "-C;${dir}/llama.cpp;checkout;-q")
    execute_process(COMMAND ${GIT_EXECUTABLE} -c advice.detachedHead=false ${args} RESULT_VARIABLE failed
      ERROR_VARIABLE error)
    if(failed)
      file(REMOVE_RECURSE ${dir})
      message(FATAL_ERROR "llama.cpp's source could not be unpacked (git ${args}): ${error}")
    endif()
  endforeach()
  file(REMOVE_RECURSE ${dir}/package ${dir}/llama.cpp/.git)
endfunction()

function(_cy_keep dir)
endfunction()

file(MAKE_DIRECTORY ${CY_CACHE_DIR})
_cy_npm_package(node-llama-cpp ${_hash_source} _tarball)
_cy_unpack(${_tarball} ${_hash_source} _cy_checkout _source)
set(CY_LLAMA_SOURCE ${_source}/llama.cpp)

add_library(cy_llama INTERFACE)
target_include_directories(cy_llama SYSTEM INTERFACE ${CY_LLAMA_SOURCE}/include ${CY_LLAMA_SOURCE}/ggml/include
  ${CY_LLAMA_SOURCE}/common ${CY_LLAMA_SOURCE}/vendor)
target_compile_definitions(cy_llama INTERFACE CY_LLAMA_VERSION="${CY_LLAMA_VERSION}")

if(CY_LLAMA STREQUAL "prebuilt")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(_cpu x64)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(_cpu arm64)
  else()
    message(FATAL_ERROR "There is no ready-built llama.cpp for ${CMAKE_SYSTEM_PROCESSOR}: use -DCY_LLAMA=native.")
  endif()
  _cy_npm_package(@node-llama-cpp/linux-${_cpu} ${_hash_${_cpu}} _tarball)
  _cy_unpack(${_tarball} ${_hash_${_cpu}} _cy_keep _libs)
  file(GLOB CY_LLAMA_LIBRARIES ${_libs}/package/bins/linux-${_cpu}/lib*.so)
  list(FILTER CY_LLAMA_LIBRARIES EXCLUDE REGEX "libggml-(cpu|cuda|vulkan)")
  target_link_libraries(cy_llama INTERFACE ${CY_LLAMA_LIBRARIES})

  function(cy_llama_bundle target dir)
    file(GLOB libraries ${_libs}/package/bins/linux-${_cpu}/lib*.so)
    file(COPY ${libraries} DESTINATION ${dir})
  endfunction()

elseif(CY_LLAMA STREQUAL "native")
  include(ExternalProject)
  set(_prefix ${PROJECT_BINARY_DIR}/llama.cpp)
  set(CY_LLAMA_LIBRARIES)
  foreach(lib llama-common llama ggml ggml-base)
    list(APPEND CY_LLAMA_LIBRARIES ${_prefix}/bin/lib${lib}.so)
  endforeach()
  ExternalProject_Add(cy_llama_native
    SOURCE_DIR ${CY_LLAMA_SOURCE}
    BINARY_DIR ${_prefix}
    CMAKE_ARGS -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}
      -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON
      -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${_prefix}/bin -DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON
      -DGGML_NATIVE=ON -DGGML_OPENMP=OFF
      -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF
      -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF
      -DLLAMA_BUILD_UI=OFF ${CY_LLAMA_CMAKE_ARGS}
    BUILD_BYPRODUCTS ${CY_LLAMA_LIBRARIES}
    INSTALL_COMMAND ""
    USES_TERMINAL_BUILD ON)
  target_link_libraries(cy_llama INTERFACE ${CY_LLAMA_LIBRARIES})

  function(cy_llama_bundle target dir)
    add_dependencies(${target} cy_llama_native)
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND sh -c "cp -u ${_prefix}/bin/lib*.so '${dir}/'" VERBATIM)
  endfunction()

elseif(CY_LLAMA STREQUAL "system")
  find_package(llama ${CY_LLAMA_VERSION} REQUIRED)
  find_library(CY_LLAMA_COMMON llama-common REQUIRED)
  target_link_libraries(cy_llama INTERFACE llama ${CY_LLAMA_COMMON})

  function(cy_llama_bundle target dir)
  endfunction()

else()
  message(FATAL_ERROR "CY_LLAMA is '${CY_LLAMA}'; allowed are prebuilt, native and system.")
endif()
