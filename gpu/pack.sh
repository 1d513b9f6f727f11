#!/usr/bin/env bash
# Packs what the kit for GPUs needs into build/gpu-kit.tar.xz: programs alone, which need neither a network nor a compiler
# where they run. What is lent takes little along, so more than 60 MiB is an error.
#
#   make gpu-kit CUDA=1 CUDA_ARCHITECTURES=90-real
#   there: tar -xJf gpu-kit.tar.xz && gpu-kit/gpu -bin gpu-kit -out RESULTS -for 8m
set -euo pipefail
cd "$(dirname "$0")/.."

most=$((60 << 20))
peers=build/llama/$(go env GOARCH)/peers/bin
kit=build/gpu-kit
rm -rf "$kit" "$kit.tar.xz"
mkdir -p "$kit"
for program in bin/serve "$peers/llama-server" "$peers/llama-batched-bench"; do
	cp "$program" "$kit/"
	strip "$kit/${program##*/}"
done
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$kit/" ./gpu ./bench

# The programs hold the same kernels: a window that spans all of them finds the copies.
tar -C build -cf - gpu-kit | xz -T1 --lzma2=preset=6,dict=512MiB >"$kit.tar.xz"
size=$(stat -c %s "$kit.tar.xz")
printf 'gpu-kit: %s, %d MiB\n' "$kit.tar.xz" $((size >> 20))
[ "$size" -le "$most" ] || { printf 'gpu-kit: error: more than %d MiB; fewer CUDA_ARCHITECTURES make it smaller\n' $((most >> 20)) >&2; exit 1; }
