FROM bare
LABEL a=1 b=2
ADD app.tar.gz ../x/*.txt /opt
COPY . .
