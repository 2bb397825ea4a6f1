# An image of Portside, built from a checkout, and a registry on this machine:
#
#     docker build --tag portside:local .
#     docker run --rm --publish 127.0.0.1:5000:5000 --volume portside:/var/lib/portside \
#         portside:local serve --open
#
# A container listens on all its addresses, and Portside refuses to do so without access control. The
# port above is published on 127.0.0.1 only, hence --open. To use access control, add a user instead:
#
#     docker run --rm --interactive --tty --volume portside:/var/lib/portside \
#         portside:local user add alice --create
#     docker run --rm --publish 5000:5000 --volume portside:/var/lib/portside portside:local

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/portside
RUN /opt/portside/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.13-slim
# The user id is fixed, so that volumes and secrets can be made readable for it.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin portside \
    && install --directory --owner portside --group portside /var/lib/portside
COPY --from=build /opt/portside /opt/portside
ENV PATH=/opt/portside/bin:$PATH \
    PORTSIDE_LISTEN=0.0.0.0:5000 \
    PORTSIDE_DATA=/var/lib/portside
WORKDIR /var/lib/portside
USER 10001:10001
EXPOSE 5000
ENTRYPOINT ["portside"]
CMD ["serve"]
