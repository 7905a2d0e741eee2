#!/bin/sh
# Builds the directory in which it is started, in a container of Docker or (DOCKER=podman) of rootless Podman, and
# loads the image there. With Docker's own defaults the mode is chroot, with Podman's userns-many.
set -eu
DOCKER=${DOCKER:-docker}
"$DOCKER" run --rm \
  --volume "$PWD":/workspace:ro \
  --volume lapstrake:/store \
  registry.example/lapstrake:0.1.0 \
  build --tag app --output type=docker,dest=- . |
"$DOCKER" load
