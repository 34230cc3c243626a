# Stands in for the public `astral/uv` image: the program alone.
FROM scratch
COPY uv /uv
ENTRYPOINT ["/uv"]
