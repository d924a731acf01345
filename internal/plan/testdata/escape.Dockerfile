# escape=`
FROM debian:12
WORKDIR C:\dir
RUN a `
  b
