# The image of the node, with the operator's CLI beside it:
#   make image
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ARG REVISION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${REVISION}" \
    -o /out/ ./cmd/envoy-control-plane ./cmd/ecpctl \
    && mkdir /out/data

# Nothing but two static binaries and the certificates of public authorities.
# They write to /data alone: the rest may be mounted read-only.
FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="envoy-control-plane" \
      org.opencontainers.image.description="A replicated control plane for fleets of Envoy proxies" \
      org.opencontainers.image.source="https://github.com/org/envoy-control-plane" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/envoy-control-plane /out/ecpctl /
COPY LICENSE /
COPY --from=build --chown=65532:65532 /out/data /data
# A number, so that Kubernetes can see that it is not root's.
USER 65532:65532
ENV DATA_DIR=/data PATH=/
VOLUME /data
# REST, metrics, xDS, Raft, gossip.
EXPOSE 8080 9090 18000 7000 7946/tcp 7946/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
    CMD ["/envoy-control-plane", "health"]
ENTRYPOINT ["/envoy-control-plane"]
CMD ["serve"]
