# shellcheck shell=sh
# Run by the image at its first start: a role and a database for each service.
for module in task_api audit_worker notifier; do
    password=$(printenv "${module}_password")
    psql --set ON_ERROR_STOP=1 --dbname postgres --set password="$password" <<SQL
CREATE ROLE $module LOGIN PASSWORD :'password';
CREATE DATABASE $module OWNER $module;
REVOKE ALL ON DATABASE $module FROM PUBLIC;
SQL
done
