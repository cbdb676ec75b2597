#!/bin/sh
# Writes an assembler source that carries the bytes of $1 as plane_shim_bytes to $2.
set -eu
cat >"$2" <<EOF
	.section .rodata
	.global plane_shim_bytes, plane_shim_bytes_end
plane_shim_bytes:
	.incbin "$(realpath "$1")"
plane_shim_bytes_end:
	.byte 0
	.section .note.GNU-stack,"",@progbits
EOF
