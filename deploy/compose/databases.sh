#!/bin/sh
# A role and a database for each service, which only that role may enter; changes nothing that is there, but passwords.
set -eu
for role in task_api audit_worker notifier; do
    # psql reads the password from the environment, so that no list of processes shows it.
    ROLE_PASSWORD_VARIABLE=$(echo "$role" | tr '[:lower:]' '[:upper:]')_DATABASE_PASSWORD
    psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --set=role="$role" --set=variable="$ROLE_PASSWORD_VARIABLE" <<'SQL'
\getenv password :variable
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'role', :'role')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'role') \gexec
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
    echo "database $role is there"
done
