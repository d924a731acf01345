FROM debian:12
ENV NAME=world
RUN <<DONE
echo hello
echo $NAME
DONE
RUN <<-EOF
	#!/usr/bin/env python3
	print("x")
	EOF
RUN cat <<A > /a && cat <<B > /b
one
A
two
B
COPY <<one.txt <<"two.txt" /etc/
hello $NAME "quoted"
one.txt
raw $NAME
two.txt
COPY --chmod=600 --chown=1:2 <<x /secret file /dir/.
y
x
RUN --network=none true
