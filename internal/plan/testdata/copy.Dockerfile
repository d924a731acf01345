FROM debian:12 AS src
FROM debian:12
ARG DIR=/opt D2=x
ARG OWNER=app
WORKDIR /work
COPY . .
COPY a b/../c /abs/
COPY ["json form", "dest dir/"]
COPY ./dir/ ..
COPY ../../escape /e/.
COPY --chown=${OWNER}:grp --chmod=755 *.sh $DIR/$D2/
ADD a.tar.gz /
COPY --from=Src / ./
