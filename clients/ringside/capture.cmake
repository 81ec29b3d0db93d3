# Runs PROGRAM with ARGS and writes what it prints to OUT; a failed run leaves no file.
execute_process(COMMAND ${PROGRAM} ${ARGS} OUTPUT_VARIABLE text RESULT_VARIABLE result)
if(NOT result EQUAL 0)
	message(FATAL_ERROR "${PROGRAM} ${ARGS} failed: ${result}")
endif()
file(WRITE ${OUT} "${text}")
