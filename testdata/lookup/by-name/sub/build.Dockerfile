FROM scratch AS named
