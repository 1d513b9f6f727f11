# cuda.sh is build.sh's part for NVIDIA GPUs, and is sourced by it: finding a toolkit, compiling ggml's CUDA backend,
# and listing what it calls of NVIDIA's libraries, which serve looks for when it runs (cuda_loader.cpp).

# The folder for what is fetched of PyPI.
cuda_venv=$root/build/cuda/venv

# find_toolkit sets toolkit, the folder of a CUDA toolkit, nvcc, cuda_release ("13.5"), architectures, and cuda_options,
# which are CMake's.
find_toolkit() {
	if [ -n "${CUDA_HOME:-}" ]; then
		nvcc=$CUDA_HOME/bin/nvcc
		[ -x "$nvcc" ] || die "CUDA_HOME: there is no $nvcc"
	elif ! nvcc=$(command -v nvcc); then
		nvcc=/usr/local/cuda/bin/nvcc
		[ -x "$nvcc" ] || fetch_toolkit
	fi
	toolkit=$(dirname "$(dirname "$nvcc")")

	cuda_release=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
	[ -n "$cuda_release" ] || die "$nvcc does not tell its version"
	architectures=${CUDA_ARCHITECTURES:-}
	[ -n "$architectures" ] || default_architectures

	# Without NCCL: the version that a machine has may be one that writes out of bounds.
	cuda_options=(-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF -DCMAKE_CUDA_COMPILER="$nvcc" -DCUDAToolkit_ROOT="$toolkit"
		-DCMAKE_CUDA_ARCHITECTURES="$architectures")
}

# default_architectures makes machine code for every kind of card that the toolkit and llama.cpp know since Turing,
# and PTX, which drivers compile for cards that come. FP4 on cards of 12.x needs code for that very kind (120a); so
# PTX is that of 10.0, whose code has none.
default_architectures() {
	local all='75-real;80-real;86-real;89-real'
	case $cuda_release in
	12.9 | 1[3-9].*) architectures="$all;90-real;100;120a-real;121a-real" ;;
	12.8) architectures="$all;90-real;100;120a-real" ;;
	11.8 | 12.*) architectures="$all;90" ;;
	*) die "CUDA $cuda_release in $toolkit is too old: 11.8 or later is needed" ;;
	esac
}

# fetch_toolkit takes NVIDIA's compiler and libraries from PyPI, by the hashes in cuda-requirements.txt.
fetch_toolkit() {
	local list=$here/cuda-requirements.txt folder
	if ! cmp -s "$list" "$cuda_venv/requirements.txt"; then
		need python3 ensurepip
		say "no nvcc in CUDA_HOME, in PATH or in /usr/local/cuda: fetching it from PyPI (600 MB)"
		rm -rf "$cuda_venv"
		mkdir -p "${cuda_venv%/*}"
		python3 -m venv "$cuda_venv"
		"$cuda_venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$list" ||
			die "pip could not fetch NVIDIA's compiler; install a CUDA toolkit and name its folder as CUDA_HOME"
	fi

	for folder in "$cuda_venv"/lib/python3*/site-packages/nvidia/cu*; do
		nvcc=$folder/bin/nvcc
	done
	[ -x "$nvcc" ] || die "what pip fetched has no $nvcc; remove $cuda_venv and try again"
	if ! cmp -s "$list" "$cuda_venv/requirements.txt"; then
		complete_toolkit "${nvcc%/bin/nvcc}"
		cp "$list" "$cuda_venv/requirements.txt"
	fi
}

# complete_toolkit adds to what pip fetched the names that linkers look for. The driver's library is part of no
# package; one that has the names of its functions and no more stands for it, as in NVIDIA's toolkits.
complete_toolkit() {
	local lib=$1/lib name
	for name in cudart cublas cublasLt; do
		ln -sf "$(basename "$lib/lib$name".so.*)" "$lib/lib$name.so"
	done

	mkdir -p "$lib/stubs"
	grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$1/include/cuda.h" | LC_ALL=C sort -u | sed 's/.*/.globl &\n&:/' |
		cc -shared -nostdlib -Wl,-soname,libcuda.so.1 -x assembler - -o "$lib/stubs/libcuda.so"
}

# build_cuda builds ggml's CUDA backend, in a folder of its own: it takes an hour of a processor for each
# architecture, and what else there is does not depend on it.
build_cuda() {
	[ -z "$prefix" ] || die "CUDA=1: nvcc does not cross-compile here; build on $arch"
	[ "$(uname -s)" = Linux ] || die "CUDA=1 is for Linux"
	find_toolkit
	need
	build cuda ggml-cuda -- -DGGML_CPU=OFF -DGGML_NATIVE=OFF -DLLAMA_BUILD_COMMON=OFF "${static[@]}" "${cuda_options[@]}"
	collect_cuda
}

# collect_cuda writes cuda.inc, the table that cuda_loader.cpp reads, and puts CUDA's runtime beside it, which is
# linked: the toolkit may be gone when serve is.
collect_cuda() {
	local folder=$work/cuda versions runtime file
	[ "$work/cuda.stamp" -nt "$folder/cuda.inc" ] || [ "$here/cuda.sh" -nt "$folder/cuda.inc" ] ||
		[ "$here/cuda-symbols.sh" -nt "$folder/cuda.inc" ] || return 0

	runtime=
	for file in "$toolkit"/{lib64,lib,targets/*/lib,lib/*-linux-gnu}/libcudart_static.a; do
		if [ -e "$file" ]; then runtime=$file; fi
	done
	[ -n "$runtime" ] || die "there is no libcudart_static.a in $toolkit"
	cp "$runtime" "$folder/libcudart_static.a"

	versions=$(printf '#include <cuda.h>\n#include <cublas_api.h>\nserve_versions CUDA_VERSION CUBLAS_VER_MAJOR\n' |
		"$nvcc" -E -x cu - | sed -n 's/^serve_versions //p')
	[[ $versions =~ ^[0-9]+\ [0-9]+$ ]] || die "the headers of $toolkit do not tell their versions"
	{
		printf '#ifndef CUDA_BUILD\n#define CUDA_BUILD %d\n#define CUBLAS_LIBRARY "libcublas.so.%d"\n#endif\n' $versions
		"$here/cuda-symbols.sh" "$folder/ggml/src/ggml-cuda/libggml-cuda.a"
	} >"$folder/cuda.inc.new"
	mv "$folder/cuda.inc.new" "$folder/cuda.inc"
}

# list_cuda prints for which kinds of cards a program has machine code (ELF) and PTX, and in how many parts.
list_cuda() {
	local tool list
	[ -e "$1" ] || die "there is no $1: build it first (make serve CUDA=1)"
	find_toolkit
	tool=$toolkit/bin/cuobjdump
	[ -x "$tool" ] || die "there is no cuobjdump in $toolkit"
	list=$("$tool" --list-elf --list-ptx "$1" | sed -nE 's/^(ELF|PTX) file.*\.(sm_[0-9]+[a-z]?)\.(cubin|ptx)$/\1 \2/p')
	[ -n "$list" ] || die "$1 has no code for NVIDIA GPUs"
	sort <<<"$list" | uniq -c
}
