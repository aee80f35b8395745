# pagewire and the libraries it is linked to; deploy/images.py collects them into rootfs/.
FROM scratch
COPY rootfs/ /
USER 65532:65532
ENV PAGEWIRE_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=3s --timeout=5s --start-period=60s --retries=3 CMD ["pagewire", "healthcheck"]
ENTRYPOINT ["pagewire"]
CMD ["serve"]
LABEL org.opencontainers.image.title=pagewire org.opencontainers.image.licenses=Apache-2.0
