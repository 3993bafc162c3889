# cyllm_add_engine(NAME MANIFEST file SOURCES file... [LIBRARIES target...])
#
# The plugin cyllm_engine_NAME in ${CMAKE_BINARY_DIR}/engines/NAME/, its manifest beside it, as `--engine-dir
# ${CMAKE_BINARY_DIR}/engines` wants them. Only what is marked visible is exported, and libraries beside the plugin
# are found. `cmake --install` puts it into PREFIX/lib/cy-llm/engines/NAME.
function(cyllm_add_engine name)
  cmake_parse_arguments(ARG "" "MANIFEST" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_SOURCES OR NOT ARG_MANIFEST)
    message(FATAL_ERROR "cyllm_add_engine(${name}): SOURCES and MANIFEST are needed")
  endif()
  set(target cyllm_engine_${name})
  set(dir ${CMAKE_BINARY_DIR}/engines/${name})
  get_filename_component(manifest ${ARG_MANIFEST} ABSOLUTE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${manifest})
  file(READ ${manifest} json)
  string(JSON library ERROR_VARIABLE wrong GET "${json}" library)
  if(wrong OR NOT library STREQUAL "lib${target}.so")
    message(FATAL_ERROR "${manifest}: 'library' must be \"lib${target}.so\" ${wrong}")
  endif()
  configure_file(${manifest} ${dir}/manifest.json COPYONLY)

  add_library(${target} MODULE ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE CyLlm::engine Threads::Threads ${ARG_LIBRARIES})
  set_target_properties(${target} PROPERTIES
    PREFIX lib SUFFIX .so LIBRARY_OUTPUT_DIRECTORY ${dir} POSITION_INDEPENDENT_CODE ON
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    INSTALL_RPATH "$ORIGIN" BUILD_RPATH_USE_ORIGIN ON)
  install(TARGETS ${target} DESTINATION lib/cy-llm/engines/${name})
  install(FILES ${manifest} DESTINATION lib/cy-llm/engines/${name} RENAME manifest.json)
endfunction()
