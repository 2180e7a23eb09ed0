FROM scratch
CMD ["from", "base"]
