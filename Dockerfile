# syntax=docker/dockerfile:1
# The program alone in an image: static, no shell, no root. Build it with `docker build -t cupbearer:0.1.0 .`

# In full: podman and buildah look for no short names but those they are told of.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
# What the C parts of the dependencies are built with, and the authorities of the web.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# One static program of glibc: since its version 2.34 the look-up of names by files and DNS is in it, and nothing is loaded at
# run time. Relocations are packed into a tenth of the room. Naming the target keeps build scripts and macros, which must be able to
# load, from being built so.
ENV RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
# None by itself: the demo has no place in a pod. `otlp` brings traces.
ARG FEATURES=""
# Dependencies first, against an empty program: as long as Cargo.lock and the
# members of the workspace stay, this layer does.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && mkdir -p src benches && echo 'fn main() {}' | tee src/main.rs benches/paths.rs benches/renewals.rs && touch src/lib.rs \
 && cargo build --release --locked --no-default-features --features "$FEATURES" --target "$target" \
 && rm -r src "target/$target/release/deps/"*cupbearer* "target/$target/release/cupbearer"
COPY src src
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && cargo build --release --locked --no-default-features --features "$FEATURES" --target "$target" --bin cupbearer \
 && install -D "target/$target/release/cupbearer" /image/cupbearer \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 # Where config.toml is looked for, and where a store can be: the first is mounted, the second a volume of its own.
 && mkdir -p /image/etc/cupbearer && install -d -o 65532 -g 65532 -m 0700 /image/var/lib/cupbearer
# What is in the image, as a CycloneDX bill of materials: the packages of Cargo.lock that this build has, and Debian's two. And their licences, most
# of which ask to go where the program goes; packed, as they are a megabyte.
COPY LICENSE-APACHE LICENSE-MIT ./
COPY scripts/sbom scripts/licenses scripts/
RUN mkdir -p /image/usr/share/cupbearer && cd /image/usr/share/cupbearer \
 && /build/scripts/sbom --debian "libc6-dev=LGPL-2.1-or-later ca-certificates=MPL-2.0" --features "$FEATURES" > sbom.cdx.json \
 && /build/scripts/licenses < sbom.cdx.json > licenses.txt \
 && gzip -9n licenses.txt

FROM scratch
# Beside what scripts/image says of commit and time.
LABEL org.opencontainers.image.title="cupbearer" \
      org.opencontainers.image.description="A reverse-proxy sidecar that keeps OAuth 2.0 access tokens fresh and puts them on every request it forwards" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image/ /
# Nobody's on any node. As a number, so that `runAsNonRoot` can be checked.
USER 65532:65532
# `./config.toml` is the default file: mount yours at /etc/cupbearer. Flags have environment variables, too.
WORKDIR /etc/cupbearer
ENTRYPOINT ["/cupbearer"]
CMD ["run"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/cupbearer", "wait", "--timeout", "1s"]
