# Stands in for the public `python` image: Debian as it is installed, and its Python under the names that image has.
FROM scratch
ADD root.tar /
RUN ln -s /usr/bin/python3 /usr/local/bin/python3 && ln -s /usr/bin/python3 /usr/local/bin/python
ENV LANG=C.UTF-8
CMD ["python3"]
