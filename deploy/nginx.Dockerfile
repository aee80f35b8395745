# nginx, and a wget for its health check; deploy/images.py collects them into rootfs/.
FROM scratch
COPY rootfs/ /
USER 65532:65532
EXPOSE 8080
# lets open requests end
STOPSIGNAL SIGQUIT
CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]
LABEL org.opencontainers.image.title=nginx org.opencontainers.image.licenses=BSD-2-Clause
