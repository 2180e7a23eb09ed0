FROM scratch
ENV V=base
ONBUILD ARG X=1
ONBUILD LABEL x=$X v=$V
ONBUILD COPY Dockerfile /d/
