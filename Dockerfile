# The image of Mooring: one static program, and the programs that mount NFS.
#
#   docker build -t mooring --build-arg VERSION="$(git describe --tags --always)" .

ARG BASE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
# The compiler runs on the builder's architecture and makes code for the image's.
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/...

FROM $BASE
# nfs-common: mount.nfs, and rpc.statd for the locks of NFSv3 (with rpcbind).
# netbase: the names of protocols and services that these look up.
RUN apt-get update \
 && apt-get install -y --no-install-recommends mount nfs-common netbase \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE /usr/share/doc/mooring/LICENSE

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mooring" \
      org.opencontainers.image.description="A CSI driver for NFS" \
      org.opencontainers.image.source="https://github.com/mooring-csi/mooring" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# There is no USER: mount(2) wants CAP_SYS_ADMIN, and a program gets that in a container
# only as root.  This holds for the node, which mounts for pods, and for the controller,
# which mounts the shares and sets owners and modes on them.  Their manifests take away
# what they do not need: capabilities, privileges, a writable root file system.
ENTRYPOINT ["/usr/local/bin/mooring"]
