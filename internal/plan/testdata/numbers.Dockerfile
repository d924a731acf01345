FROM debian:12 AS a
RUN 1
RUN 2
RUN 3
RUN 4
RUN 5
RUN 6
USER nobody
WORKDIR /w
RUN --network=none offline
RUN --network=default --security=sandbox online
WORKDIR /
FROM a
FROM docker.io/library/debian:12 AS same
RUN b
FROM a
COPY --from=same /x /y
