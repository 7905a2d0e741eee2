"""S17: applications as people write them."""

from differential.case import Archive, Case, File, Link

CASES = [
    Case("a build and a small image", """ARG VERSION=1.0
FROM shelf AS build
ARG VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN cat go.mod > /deps
COPY . .
RUN mkdir -p /out && sed "s/@V@/$VERSION/" main.txt > /out/app && chmod 755 /out/app
FROM shelf AS test
COPY --from=build /out/app /app
RUN /bin/false
FROM scratch
LABEL org.opencontainers.image.version=$VERSION
COPY --from=build --chown=65534:65534 /out/app /app
COPY --from=build /etc/passwd /etc/group /etc/
USER nobody
EXPOSE 8080
ENTRYPOINT ["/app"]
CMD ["--help"]
""", {"go.mod": "m\n", "go.sum": "s\n", "main.txt": File("#!/bin/sh\necho @V@\n", 0o755), "lib/x": "x", ".dockerignore": ".git\n", ".git/x": "1"}, args=["--build-arg", "VERSION=2.1"]),
    Case("a service with users", """FROM shelf
RUN echo 'app:x:900:900::/srv/app:/bin/sh' >> /etc/passwd && echo 'app:x:900:' >> /etc/group
ENV APP_HOME=/srv/app PATH=/srv/app/bin:$PATH
RUN mkdir -p $APP_HOME/bin && chown -R app:app $APP_HOME
USER app
WORKDIR $APP_HOME
COPY --chown=app:app conf/ conf/
COPY --chown=app bin/* bin/
RUN ls -lnR . | grep -v total | awk '{print $1,$3,$4,$NF}' > /tmp/listing && id >> /tmp/listing
VOLUME $APP_HOME/data
HEALTHCHECK --interval=10s CMD ["server", "--check"]
STOPSIGNAL SIGINT
CMD ["server"]
""", {"conf/a.conf": "a", "conf/d/b.conf": File("b", 0o600), "bin/server": File("#!/bin/sh\n", 0o755), "bin/alias": Link("server")}),
    Case("packages unpacked and tidied",
         "FROM shelf\nADD pkg.tar.gz /opt/\nRUN ln -s /opt/pkg/bin/tool /usr/bin/tool 2>/dev/null || { mkdir -p /usr/bin && ln -s /opt/pkg/bin/tool /usr/bin/tool; }\nRUN rm -rf /opt/pkg/doc && find /opt -type f | sort > /tmp/list\n",
         {"pkg.tar.gz": Archive([("pkg/bin/tool", "file", {"mode": 0o755, "content": "t"}), ("pkg/doc/readme", "file", {}), ("pkg/lib", "link", {"target": "bin"})], "gzip")}),
    Case("development and production", """FROM shelf AS base
WORKDIR /app
COPY package.json .
FROM base AS dev
ENV MODE=development
RUN echo dev > built
FROM base AS prod
ENV MODE=production
COPY . .
RUN echo $MODE > built && rm package.json
""", {"package.json": "{}", "index.js": "1"}, args=["--target", "prod", "--label", "who=ci"]),
    Case("a base of one's own and triggers",
         "FROM shelf AS platform\nONBUILD ARG NAME=none\nONBUILD COPY app /app/\nONBUILD RUN echo \"$NAME\" > /app/name\nENTRYPOINT [\"/app/run\"]\nFROM platform\nEXPOSE 1\n",
         {"app/run": File("x", 0o755)}, args=["--build-arg", "NAME=x y"]),
    Case("a multi-line script",
         "FROM shelf\nRUN set -eux; \\\n\t# the first\n\tfor i in 1 2 3; do \\\n\t\techo \"$i\" >> /n; \\\n\tdone; \\\n\t\\\n\tcase \"$(cat /n | wc -l)\" in \\\n\t\t3) echo three ;; \\\n\t\t*) exit 1 ;; \\\n\tesac > /r\n"),
]
