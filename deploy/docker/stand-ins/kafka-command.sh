#!/bin/sh
# One of Kafka's own commands, by the name it is called with.
set -eu
case $(basename "$0") in
    kafka-topics.sh) main=org.apache.kafka.tools.TopicCommand ;;
    kafka-configs.sh) main=kafka.admin.ConfigCommand ;;
    kafka-consumer-groups.sh) main=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
esac
# Unquoted on purpose: these are several arguments.
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_JVM_PERFORMANCE_OPTS:-} -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
    -cp '/opt/kafka/libs/*' "$main" "$@"
