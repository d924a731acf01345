FROM nginx:1 AS one
MAINTAINER someone
ENV A=1 B="two words" C=it\'s
ENV LEGACY with spaces
LABEL k=v "quoted key"="quoted value"
EXPOSE 8000-8002 53/udp $A
VOLUME /data ["/json"]
VOLUME ["/a b", "/c"]
USER app:app
WORKDIR rel
WORKDIR sub
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --retries=3 CMD curl -f localhost
SHELL ["/bin/bash", "-ec"]
RUN make
CMD serve --port 80
FROM one
HEALTHCHECK NONE
ENTRYPOINT ["/other"]
