FROM scratch AS none
FROM bare AS config
ENV X=1
FROM config AS final
COPY --from=none * /
COPY --from=scratch * /
COPY --from=bare * /
