# CMake's toolchain file for static programs for Linux on arm64, with the compiler of g++-aarch64-linux-gnu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)

# CMake would find the shared libraries of OpenMP, which cannot be linked statically.
foreach(name gomp pthread)
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=lib${name}.a
    OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(OpenMP_${name}_LIBRARY ${file} CACHE FILEPATH "the static library")
endforeach()
