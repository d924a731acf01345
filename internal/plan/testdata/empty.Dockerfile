FROM scratch AS none
FROM none
COPY --from=none . /x
COPY --from=scratch . /y
WORKDIR /
