#!/usr/bin/env bash
# Prints which functions of NVIDIA's driver and of cuBLAS a static library calls, a line of each as
# cuda_loader.cpp reads it: SYMBOL(library, function). Those of CUDA's runtime (cuda...) are linked.
#
#   engine/llama/cuda-symbols.sh LIBRARY [NM]
set -euo pipefail

symbols=$("${2:-nm}" --undefined-only --format=posix "$1" | LC_ALL=C sort -u | cut -d ' ' -f 1)
while read -r name; do
	case $name in
	cublas[XL]t*)
		printf 'cuda-symbols.sh: error: %s is of a library that nothing loads\n' "$name" >&2
		exit 1
		;;
	cublas*) printf 'SYMBOL(cublas, %s)\n' "$name" ;;
	cu[A-Z]*) printf 'SYMBOL(driver, %s)\n' "$name" ;;
	esac
done <<<"$symbols"
