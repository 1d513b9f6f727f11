# docker build -t serve . && docker run --rm --read-only --network=none -e SERVE_HOST=127.0.0.1 \
#   -v "$PWD/model.gguf:/model.gguf:ro" serve /model.gguf
# Base images are named by tag, not by digest: a digest is one that somebody has looked up in the registry, and there was
# no access to one where this was written. To pin them, put @sha256:... (docker buildx imagetools inspect) behind both.
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake ninja-build g++ git make npm strace curl openssl
WORKDIR /src
COPY engine/llama/build.sh engine/llama/amx-probe.sh engine/llama/amx_tile_config.h engine/llama/cuda.sh engine/llama/
# The library gets its own layer: it changes far less often than the rest.
RUN engine/llama/build.sh
COPY . .
# There is no git history here (.dockerignore); set the version with docker build --build-arg VERSION=$(make -s version).
ARG VERSION
ARG SOURCE_DATE_EPOCH=0
RUN make release NFPM= RELEASE_ARCHES="$(go env GOARCH)" ${VERSION:+VERSION="$VERSION"} && \
	mv build/release/serve-*/ /out

FROM debian:bookworm-slim
# The Hub's certificate is signed by one of these. Models are stored in a folder owned by the user, to mount a volume at.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* && \
	install -d -o 65532 -g 65532 /var/lib/serve
COPY --from=build /out/ /usr/local/
USER 65532:65532
EXPOSE 8080
# Inside a container, nobody can reach loopback. How the port is published decides who reaches the server, and that is not
# known here: whoever runs the image says who may use it, with keys or --allow-anonymous, and how it is encrypted, with TLS or
# --allow-plain-http (docs/operations/README.md). Without, it does not start, and says so.
ENV SERVE_HOST=0.0.0.0 SERVE_HOME=/var/lib/serve HF_HUB_CACHE=/var/lib/serve/hub
STOPSIGNAL SIGTERM
ENTRYPOINT ["serve"]
