#!/usr/bin/env bash
# Makes what is published, in build/release: archives, packages and their checksums. make release calls it;
# docs/releasing.md says what for.
#
# Environment:
#   VERSION             of serve; make takes it from git and from cmd/serve/version.go
#   NFPM                the program that makes packages; none are made without it
#   RELEASE_ARCHES      architectures; this machine's must be among them, since its program writes the manual
#   RELEASE_CUDA=1      an archive for amd64 with NVIDIA GPUs, too, which takes an hour and more
#   CUDA_LICENSE        the license of the CUDA toolkit that is linked then
#   SOURCE_DATE_EPOCH   time of everything, in seconds; by default the last commit's
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'release: error: %s\n' "$*" >&2; exit 1; }
say() { printf 'release: %s\n' "$*" >&2; }

host=$(GOARCH='' go env GOHOSTARCH)
[ "$(GOOS='' go env GOHOSTOS)" = linux ] || die "releases are built on Linux; for other systems see docs/releasing.md"
version=${VERSION:?is set by make release}
arches=${RELEASE_ARCHES:-$([ "$host" = amd64 ] && echo amd64 arm64 || echo "$host")}
case " $arches " in *" $host "*) ;; *) die "RELEASE_ARCHES=\"$arches\" lacks $host, this machine's" ;; esac
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
root=$PWD
out=$root/build/release

# What is set here or there for other builds must not show in these.
export GOAMD64=v1 GOARM64=v8.0 LC_ALL=C TZ=UTC
unset CFLAGS CXXFLAGS CGO_CFLAGS CGO_CPPFLAGS CGO_CXXFLAGS CGO_LDFLAGS
umask 022

# program ARCH CUDA FILE builds serve.
program() {
	local arch=$1 cuda=$2 file=$3

	say "building serve $version for $arch$([ "$cuda" = 0 ] || echo ' with CUDA')"
	GOARCH=$arch CUDA=$cuda VULKAN=0 NATIVE=0 engine/llama/build.sh
	(
		export CGO_ENABLED=1 GOOS=linux GOARCH=$arch
		if [ "$arch" != "$host" ]; then export CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++; fi
		go build -buildmode=pie -trimpath -buildvcs=false -ldflags "-s -w -buildid= -bindnow -X main.version=$version" -o "$file" ./cmd/serve
	)
	go run ./release check -root "$root" "$file"
	go run ./release hardened "$file"
}

# tree NAME ARCH [FLAG...] lays out what goes below /usr/local, or /usr, around the program that is there. Flags are for
# the licenses.
tree() {
	local folder=$out/$1 arch=$2 doc=$out/$1/share/doc/serve self=$out/serve-$version-linux-$host/bin/serve
	shift 2

	mkdir -p "$doc" "$folder"/share/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d} \
		"$folder"/lib/{systemd/system,sysusers.d}
	"$self" man "$folder/share/man/man1"
	"$self" completion bash >"$folder/share/bash-completion/completions/serve"
	"$self" completion zsh >"$folder/share/zsh/site-functions/_serve"
	"$self" completion fish >"$folder/share/fish/vendor_completions.d/serve.fish"

	cp docs/operations/serve.service "$folder/lib/systemd/system/serve.service"
	cp release/package/sysusers.conf "$folder/lib/sysusers.d/serve.conf"
	cp README.md CHANGELOG.md LICENSE release/package/serve.env "$doc/"
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z docs | xargs -0 cp --parents -t "$doc" # and nothing that lies there by chance
	else
		cp -r docs "$doc/"
	fi
	go run ./release licenses -goarch "$arch" -program "$folder/bin/serve" "$@" >"$doc/THIRD-PARTY-LICENSES.txt"

	find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# archive NAME
archive() {
	go run ./release archive -epoch "$SOURCE_DATE_EPOCH" -out "$out/$1.tar.gz" "$out/$1"
}

# packages NAME ARCH
packages() {
	local kind
	[ -n "${NFPM:-}" ] || return 0
	for kind in deb rpm; do
		VERSION=$version ARCH=$2 TREE=build/release/$1 GLIBC=$glibc \
			"$NFPM" package --config release/nfpm.yaml --packager "$kind" --target "$out/" >/dev/null
	done
}

glibc=$(sed -n 's/^const Oldest = "\(.*\)"/\1/p' release/glibc/glibc.go)
rm -rf "$out"
mkdir -p "$out"

# This machine's first, whose program writes the manual of all.
for arch in $host ${arches//$host/}; do
	name=serve-$version-linux-$arch
	program "$arch" 0 "$out/$name/bin/serve"
	tree "$name" "$arch"
	archive "$name"
	packages "$name" "$arch"
done
if [ "${RELEASE_CUDA:-0}" = 1 ]; then
	[ -e "${CUDA_LICENSE:-}" ] || die "set CUDA_LICENSE to the file with the license of the CUDA toolkit (EULA.txt)"
	name=serve-$version-linux-amd64-cuda
	program amd64 1 "$out/$name/bin/serve"
	tree "$name" amd64 -text "NVIDIA CUDA=$CUDA_LICENSE"
	archive "$name"
fi

mapfile -t published < <(find "$out" -maxdepth 1 -type f | sort)
go run ./release sums "${published[@]}" >"$out/SHA256SUMS"
cat "$out/SHA256SUMS"
