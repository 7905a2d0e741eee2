ARG BASE=alpine:latest
FROM ${BASE}
COPY shared /opt/shared
COPY bye /opt/bye
RUN cat /opt/bye/*.txt /opt/shared/*.txt >/opt/text
CMD ["cat", "/opt/text"]
