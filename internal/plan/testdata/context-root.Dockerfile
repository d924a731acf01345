FROM scratch AS files
FROM files
COPY --from=files /a /b
RUN x
