# Stands in for the public `daprio/daprd` image: the program built from tools/daprd, and certificates.
FROM scratch
COPY daprd /daprd
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
WORKDIR /
USER 65532:65532
