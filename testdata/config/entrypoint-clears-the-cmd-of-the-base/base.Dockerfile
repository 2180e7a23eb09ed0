FROM scratch
CMD ["from", "base"]
ENTRYPOINT []
