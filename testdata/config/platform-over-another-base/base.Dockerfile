FROM scratch
LABEL base=yes
