FROM scratch AS overrides
RUN --mount=type=cache,target=/x never planned
FROM missing AS base
RUN never planned
FROM golang:1.26 AS build
COPY --from=overrides /x /y
COPY --from=0 /x /z
COPY --from=assets . /assets
RUN go build
FROM alpine AS fromdir
RUN in-dir
FROM alpine AS onlycopied
ENV A=b
FROM base
COPY --from=build /a /b
COPY --from=fromdir /a /b
COPY --from=onlycopied /a /b
FROM overrides AS unused
