from debian:12 as Base
run one
FROM no-such-image AS unused
RUN --mount=type=cache,target=/x not supported, not needed
FROM BASE AS build
COPY --from=0 /a /b
FROM scratch
FROM build AS after
