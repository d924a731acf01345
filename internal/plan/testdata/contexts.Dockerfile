FROM debian:12 AS build
RUN make
FROM debian:12
COPY --from=build /out /in
COPY --from=assets . /assets
COPY --from=debian:12 /etc/os-release /os
RUN ls
