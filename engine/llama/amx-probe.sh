#!/usr/bin/env bash
# Tells whether a compiler keeps the configuration of AMX's tiles: exit code 0 if it does, 1 if it
# throws it away, 2 if that cannot be told.
#
#   engine/llama/amx-probe.sh MMQ_CPP COMPILER [FLAG...]
#
# GCC 12's _tile_loadconfig says that it reads 8 of its 64 bytes, so the stores of rows and columns
# before it are dropped, and the first tile instruction faults. So the very function is compiled as it
# stands in llama.cpp (MMQ_CPP is its ggml-cpu/amx/mmq.cpp), then with other rows, then with other
# columns. Where the compiler gives the same code for another configuration, it has dropped it.
set -euo pipefail

source=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

{
	printf '#include <cstdint>\n#include <immintrin.h>\n'
	sed -n '/^struct tile_config_t/,/^};/p; /^inline void ggml_tile_config_init/,/^}/p' "$source"
	printf 'void probe(void) { ggml_tile_config_init(); }\n'
} >"$folder/as-is.cpp"
sed 's/\(tc\.rows\[[0-9]*\] = \)[0-9]*/\13/g' "$folder/as-is.cpp" >"$folder/rows.cpp"
sed 's/\(tc\.colsb\[[0-9]*\] = \)[0-9]*/\14/g' "$folder/as-is.cpp" >"$folder/columns.cpp"
for changed in rows columns; do
	! cmp -s "$folder/as-is.cpp" "$folder/$changed.cpp" || { echo "amx-probe: no tile configuration in $source" >&2; exit 2; }
done

for code in as-is rows columns; do
	"$@" -std=c++17 -O3 -mamx-tile -S -o "$folder/$code.s" -x c++ "$folder/$code.cpp" || exit 2
	# Comments and directives that name the file differ anyway.
	sed -i '/^\t\.\(file\|ident\)/d; /^#/d' "$folder/$code.s"
done
for changed in rows columns; do
	! cmp -s "$folder/as-is.s" "$folder/$changed.s" || exit 1
done
