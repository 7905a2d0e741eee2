ARG BASE=alpine:latest
FROM ${BASE}
COPY shared /opt/shared
COPY hello /opt/hello
RUN cat /opt/hello/*.txt /opt/shared/*.txt >/opt/text
CMD ["cat", "/opt/text"]
