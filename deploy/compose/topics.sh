#!/bin/sh
# The topics of the system; changes nothing that is there. Names and numbers are those of libs/task-events (topics.py).
set -eu
# One look before any is made: each call is a JVM of its own, and at every start but the first all are there.
there=$(/opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:9092 --list)
create() {
    if echo "$there" | grep -qxF "$1"; then
        return
    fi
    /opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:9092 --create --if-not-exists --replication-factor 1 \
        --topic "$1" --partitions "$2" ${3:+--config "$3"}
}
create tasks 6 & running=$!
create accounts 3 & running="$running $!"
create account-confirmations 3 & running="$running $!"
# A dead letter is its record and what daprd adds to it: up to 2 MiB.
create audit-worker.dead-letters 1 max.message.bytes=2097152 & running="$running $!"
create notifier.dead-letters 1 max.message.bytes=2097152 & running="$running $!"
for process in $running; do
    # By number: without one, `wait` forgets which of them failed.
    wait "$process"
done
