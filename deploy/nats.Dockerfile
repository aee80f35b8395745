# nats-server, and a wget for its health check; deploy/images.py collects them into rootfs/.
FROM scratch
COPY rootfs/ /
# a new volume mounted here takes its owner over
COPY --chown=65532:65532 data /data
USER 65532:65532
VOLUME /data
# lame duck: clients are sent to the other servers before this one goes
STOPSIGNAL SIGUSR2
CMD ["nats-server", "--config", "/etc/nats/nats.conf"]
LABEL org.opencontainers.image.title=nats-server org.opencontainers.image.licenses=Apache-2.0
