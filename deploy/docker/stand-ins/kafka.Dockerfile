# Stands in for the public `apache/kafka` image: the same jars on a Java runtime, and of that image's interface what its
# entrypoint here says.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN groupadd --gid 1000 appuser \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp appuser \
 && install --directory --owner=1000 --group=1000 /var/lib/kafka/data /opt/kafka/logs
COPY java /opt/java
COPY libs /opt/kafka/libs
COPY --chmod=755 kafka-entrypoint.py /etc/kafka/docker/run
COPY --chmod=755 kafka-command.sh /opt/kafka/bin/kafka-topics.sh
COPY --chmod=755 kafka-command.sh /opt/kafka/bin/kafka-configs.sh
COPY --chmod=755 kafka-command.sh /opt/kafka/bin/kafka-consumer-groups.sh
ENV PATH=/opt/java/bin:$PATH
VOLUME /var/lib/kafka/data
EXPOSE 9092
USER 1000:1000
ENTRYPOINT ["/etc/kafka/docker/run"]
