# SPDX-License-Identifier: Apache-2.0
# plugin(NAME): bpf/NAME/NAME.bpf.c, if there is one, -> skeleton, compile bpf/NAME/*.c, add NAME to the plugin table.
find_program(BPFTOOL bpftool REQUIRED PATHS /usr/sbin /sbin)
find_program(BPF_CLANG NAMES clang clang-19 clang-16 clang-14 REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip llvm-strip-19 llvm-strip-16 llvm-strip-14 REQUIRED)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
	set(BPF_ARCH arm64)
else()
	set(BPF_ARCH x86)
endif()
# clang -target bpf doesn't know the multiarch directory of <asm/types.h>.
set(BPF_FLAGS -g -O2 -Wall -Werror -target bpf -mcpu=v3 -D__TARGET_ARCH_${BPF_ARCH}
	-I${CMAKE_SOURCE_DIR} -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})

# bpf_object(NAME SOURCE): SOURCE.bpf.c -> <build>/bpf/NAME.skel.h
function(bpf_object name source)
	set(out ${CMAKE_BINARY_DIR}/bpf)
	file(MAKE_DIRECTORY ${out})
	# The skeleton comes by a file of its own: a failed bpftool must not leave a half-written header.
	add_custom_command(OUTPUT ${out}/${name}.skel.h VERBATIM
		DEPENDS ${source}
		DEPFILE ${out}/${name}.d
		COMMAND ${BPF_CLANG} ${BPF_FLAGS} -MD -MF ${out}/${name}.d -MT ${out}/${name}.skel.h
			-c ${source} -o ${out}/${name}.bpf.o
		COMMAND ${BPF_STRIP} -g ${out}/${name}.bpf.o
		COMMAND sh -c "'${BPFTOOL}' gen skeleton '${out}/${name}.bpf.o' name ${name}_bpf > '${out}/${name}.skel.h.new'"
		COMMAND ${CMAKE_COMMAND} -E rename ${out}/${name}.skel.h.new ${out}/${name}.skel.h
		COMMENT "BPF ${name}")
endfunction()

function(plugin name)
	set(dir ${CMAKE_SOURCE_DIR}/bpf/${name})
	if(NOT EXISTS ${dir}/${name}.c)
		message(WARNING "plugin ${name}: no ${dir}/${name}.c, skipping")
		return()
	endif()
	if(EXISTS ${dir}/${name}.bpf.c)
		bpf_object(${name} ${dir}/${name}.bpf.c)
		target_sources(bpf_plugins PRIVATE ${CMAKE_BINARY_DIR}/bpf/${name}.skel.h)
	endif()
	file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.c)
	list(FILTER sources EXCLUDE REGEX "\\.bpf\\.c$")
	target_sources(bpf_plugins PRIVATE ${sources})
	set_property(GLOBAL APPEND PROPERTY RINGSIDE_PLUGINS ${name})
endfunction()

function(plugin_table)
	get_property(names GLOBAL PROPERTY RINGSIDE_PLUGINS)
	set(externs "")
	set(rows "")
	foreach(n IN LISTS names)
		string(APPEND externs "extern const struct plugin plugin_${n};\n")
		string(APPEND rows "\t&plugin_${n},\n")
	endforeach()
	file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/bpf/plugins.c CONTENT
"/* Generated from bpf/CMakeLists.txt. */\n#include \"bpf/plugin.h\"\n\n@externs@\nconst struct plugin *const plugins[] = {\n@rows@\tNULL,\n};\n" @ONLY)
	target_sources(bpf_plugins PRIVATE ${CMAKE_BINARY_DIR}/bpf/plugins.c)
endfunction()
