#!/bin/sh
# Of the public image's interface: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA,
# /docker-entrypoint-initdb.d/*.sh and *.sql at the first start, arguments for the server.
set -eu

[ "${1:-postgres}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres /var/lib/postgresql
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

PGUSER=${POSTGRES_USER:-postgres}
PGDATABASE=${POSTGRES_DB:-$PGUSER}
export PGUSER PGDATABASE
umask 077

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Made beside its place and renamed: a start that was killed leaves no half a database.
    fresh="$PGDATA.new"
    rm -rf "$fresh"
    mkdir -p "$fresh"
    printf '%s\n' "${POSTGRES_PASSWORD:?is not set: choose the password of $PGUSER}" > "$fresh.password"
    # Unquoted on purpose: these are several arguments.
    initdb -D "$fresh" --username="$PGUSER" --pwfile="$fresh.password" --auth-local=trust --auth-host=scram-sha-256 \
        --no-instructions ${POSTGRES_INITDB_ARGS:-}
    rm "$fresh.password"
    echo "host all all all scram-sha-256" >> "$fresh/pg_hba.conf"
    echo "listen_addresses = '*'" >> "$fresh/postgresql.conf"
    pg_ctl -D "$fresh" -w -o "-c listen_addresses=''" start
    [ "$PGDATABASE" = postgres ] || psql -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE \"$PGDATABASE\""
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) . "$script" ;;
            *.sql) psql -v ON_ERROR_STOP=1 -f "$script" ;;
        esac
    done
    pg_ctl -D "$fresh" -w -m fast stop
    rm -rf "$PGDATA"
    mv "$fresh" "$PGDATA"
fi

# A socket for the health check inside; the network for everybody else.
exec "$@"
