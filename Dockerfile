# docker build -t serve . && docker run --rm --read-only --network=none \
#   -v "$PWD/model.gguf:/model.gguf:ro" serve /model.gguf
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake ninja-build g++ git npm
WORKDIR /src
COPY engine/llama/build.sh engine/llama/amx-probe.sh engine/llama/amx_tile_config.h engine/llama/
# The library has a layer of its own: it changes far less often than the rest.
RUN engine/llama/build.sh
COPY . .
RUN make serve && mkdir /out && cp bin/serve LICENSE /out/

FROM debian:bookworm-slim
COPY --from=build /out/serve /usr/local/bin/serve
COPY --from=build /out/LICENSE /usr/share/doc/serve/LICENSE
USER 65532:65532
EXPOSE 8080
# Inside a container loopback reaches nobody.
ENV SERVE_HOST=0.0.0.0
STOPSIGNAL SIGTERM
ENTRYPOINT ["serve"]
