# The image of Mooring: one static program, the programs that mount NFS, and nothing else.
#
#   make image
#   docker build -t mooring --build-arg VERSION="$(git describe --tags --always)" .
#
# With --target server, that of the NFS server that the chart can run in the cluster.
#
# Nothing of the image's architecture runs while it is built: --platform linux/arm64 needs no
# emulation.  If these images are not available, any Debian 12 works, with Go in one of them.

ARG BASE=debian:bookworm-slim
ARG GOLANG=golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM $GOLANG AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/...

FROM --platform=$BUILDPLATFORM $BASE AS root
COPY deploy/image/root /usr/local/bin/root
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends cpio

FROM root AS server-root
ARG TARGETARCH=amd64
RUN root /root-of-image "$TARGETARCH" server

FROM scratch AS server
COPY --from=server-root /root-of-image/ /
COPY deploy/image/serve /usr/sbin/serve
COPY LICENSE /usr/share/doc/mooring/LICENSE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mooring-server" \
      org.opencontainers.image.description="The Linux kernel's NFS server, for a pod" \
      org.opencontainers.image.source="https://github.com/mooring-csi/mooring" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV PATH=/usr/sbin:/usr/bin
ENTRYPOINT ["/usr/sbin/serve"]
CMD ["/srv", "*"]

FROM root AS client-root
ARG TARGETARCH=amd64
RUN root /root-of-image "$TARGETARCH" client

FROM scratch
COPY --from=client-root /root-of-image/ /
COPY --from=build /out/ /usr/bin/
COPY LICENSE /usr/share/doc/mooring/LICENSE

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mooring" \
      org.opencontainers.image.description="A CSI driver for NFS" \
      org.opencontainers.image.source="https://github.com/mooring-csi/mooring" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

ENV PATH=/usr/sbin:/usr/bin
# There is no USER: mount(2) wants CAP_SYS_ADMIN, and a program gets that in a container
# only as root.  The manifests take away what is not needed: capabilities, privileges, a
# writable root file system.
ENTRYPOINT ["/usr/bin/mooring"]
