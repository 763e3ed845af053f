# syntax=docker/dockerfile:1
# conet-host alone, in an image without a shell, as a user without rights. docs/operations.md says how it is run.
#
#     docker build -t conet-host .
#
# Both bases have the C library of Debian 12. To pin what is built to the byte, name them by digest:
#     --build-arg BUILD_IMAGE=docker.io/library/rust@sha256:… --build-arg BASE_IMAGE=gcr.io/distroless/cc-debian12@sha256:…
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p conet-host \
    && install -D -m 0755 target/release/conet-host /out/usr/local/bin/conet-host \
    && install -d -m 0755 /out/etc/conet /out/srv/conet \
    && install -d -m 0700 /out/var/cache/conet /out/run/conet

FROM ${BASE_IMAGE}
# `nonroot` of the base image.
COPY --from=build --chown=65532:65532 /out/var/cache/conet /var/cache/conet
COPY --from=build --chown=65532:65532 /out/run/conet /run/conet
COPY --from=build /out/etc/conet /etc/conet
COPY --from=build /out/srv/conet /srv/conet
COPY --from=build /out/usr/local/bin/conet-host /usr/local/bin/conet-host
USER 65532:65532
WORKDIR /srv/conet
ENV XDG_CACHE_HOME=/var/cache CONET_ADMIN=/run/conet/admin.sock
# Compiled code, so that a new container need not compile again. All else may be read-only.
VOLUME ["/var/cache/conet"]
EXPOSE 7000
STOPSIGNAL SIGTERM
# That it answers: whether it is ready is for who sends it connections to ask, at /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/conet-host", "tenants", "--json"]
ENTRYPOINT ["/usr/local/bin/conet-host"]
CMD ["serve", "/etc/conet/conet.toml"]
