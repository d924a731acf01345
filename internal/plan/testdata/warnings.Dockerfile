# check=skip=JSONArgsRecommended
FROM debian:12 AS Context
ENV A=$TYPPO
run x \

  y
CMD echo
# check=skip=UndefinedVar
ENV B=$NOPE
FROM context
maintainer me
FROM debian:12 AS context
WORKDIR rel
CMD echo $HOME
