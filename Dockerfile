# The image of lapstrake, built by lapstrake: docs/image.md says how to use it and how to change it.
#
#   lapstrake build -t lapstrake .                                   one binary, nothing else
#   lapstrake build --target shell -t lapstrake:shell .              the same on a base with a shell
#
# Stages that can be replaced with --build-context NAME=DIRECTORY:
#
#   crates   what `cargo vendor DIRECTORY` writes: no crate is fetched then
#   binary   a directory with a finished `lapstrake`: nothing is compiled then

# A Rust toolchain of the version in rust-toolchain.toml, gcc, the C library's headers, CA certificates.
ARG RUST=docker.io/library/rust:1.95.0-slim-bookworm
# What `--target shell` stands on.
ARG SHELL_BASE=docker.io/library/debian:bookworm-slim

FROM scratch AS crates

FROM ${RUST} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
COPY tests tests
COPY seccomp seccomp
COPY runtime runtime
COPY src src
# Cargo goes by times to know what of these crates is out of date. A cache that outlives checkouts cannot rely on
# those, so they count as changed each time; the other crates, most of the work, are known by version.
RUN --mount=type=bind,from=crates,target=/crates \
    --mount=type=cache,id=lapstrake-cargo,target=/cargo \
    --mount=type=cache,id=lapstrake-target,target=/target,sharing=locked <<'EOF'
set -eu
export CARGO_HOME=/cargo CARGO_TARGET_DIR=/target
set -- build --release --locked --bin lapstrake
if [ -n "$(ls /crates)" ]; then
  set -- --offline --config 'source.crates-io.replace-with="crates"' --config 'source.crates.directory="/crates"' "$@"
fi
find src runtime seccomp -name '*.rs' -exec touch {} +
cargo "$@"
mkdir /out
cp "/target/$(rustc -vV | sed -n 's/^host: //p')/release/lapstrake" /out/lapstrake
EOF

FROM scratch AS binary
COPY --from=build /out/lapstrake /lapstrake

# What is in the image beside the binary. A place for files that anybody may write to, as a pod's user id is the
# cluster's choice.
FROM ${RUST} AS files
RUN mkdir -p /files/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/ && \
    mkdir -m 1777 /files/tmp /files/store /files/workspace
COPY LICENSE /files/usr/share/doc/lapstrake/

# For CI systems that run the lines of a job with the image's shell: GitLab, GitHub, Jenkins.
FROM ${SHELL_BASE} AS shell
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lapstrake" \
      org.opencontainers.image.description="Builds OCI images from Dockerfiles without a daemon and without root" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=files /files/ /
COPY --from=binary --chmod=755 /lapstrake /usr/local/bin/lapstrake
ENV LAPSTRAKE_ROOT=/store
VOLUME /store
WORKDIR /workspace
CMD ["sh"]

FROM scratch AS image
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lapstrake" \
      org.opencontainers.image.description="Builds OCI images from Dockerfiles without a daemon and without root" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=files /files/ /
COPY --from=binary --chmod=755 /lapstrake /usr/local/bin/lapstrake
# A container's own root is an overlay, on which no other can be kept: the store is on a volume. Engines make one if
# none is mounted here.
ENV PATH=/usr/local/bin LAPSTRAKE_ROOT=/store
VOLUME /store
WORKDIR /workspace
# Root, and nothing of it outside of the container: without user namespaces (most pods and CI containers) only root
# can change its root directory and the owners of files, and with them root has every id of the container. Any
# other user works, too, and has one id: `runAsUser: 1000`, `docker run --user 1000`.
USER 0
ENTRYPOINT ["/usr/local/bin/lapstrake"]
CMD ["--help"]
