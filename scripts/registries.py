"""The registry works of scripts/bench: kiln against `skopeo copy`, on loopback and through a slow link (scripts/link.py).

`push` sends four layers of 125 MB that do not compress to an empty registry. `pull` gets the Debian base and unpacks it: kiln
builds `FROM` it with one RUN in an empty store; skopeo copies it to an OCI layout, which alone is less work, and is also shown
followed by `umoci unpack`. `link` rows go through 200 Mbit/s with 50 ms there and back.
"""

import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time

LAYERS, LAYER_BYTES = 4, 125 * 10**6
RATE_MBIT, DELAY_MS = 200, 25


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """Debian's `docker-registry` with its data below `work`; `slow` is its port behind the link."""

    def __init__(self, work):
        self.work, self.port, self.slow = work, free_port(), free_port()
        self.data, self.process = work / "registry-data", None
        self.config = work / "registry.yml"
        self.config.write_text("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                               f"storage: {{filesystem: {{rootdirectory: {self.data}}}}}\nhttp: {{addr: '127.0.0.1:{self.port}'}}\n")
        link = [sys.executable, pathlib.Path(__file__).with_name("link.py"), str(self.slow), str(self.port),
                "--mbit", str(RATE_MBIT), "--delay-ms", str(DELAY_MS)]
        self.link = subprocess.Popen(link, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.link.stdout.readline()

    def start(self):
        with open(self.work / "registry.log", "ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("docker-registry does not start")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def empty(self):
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def close(self):
        self.stop()
        self.link.stdin.close()
        self.link.wait()


def missing():
    """The tools that the registry works need and that are not here."""
    return [tool for tool in ("docker-registry", "skopeo", "umoci") if not shutil.which(tool)]


def fill_layers(path):
    rng = random.Random(9)
    for n in range(LAYERS):
        with open(path / f"layer{n}", "wb") as out:
            for _ in range(LAYER_BYTES // 10**6):
                out.write(rng.randbytes(10**6))


def push(bench, kiln, registry, samples, record):
    """Both send the same layers, as they are stored."""
    copies = "".join(f"COPY layer{n} /\n" for n in range(LAYERS))
    context = bench.context("push", "FROM scratch\n" + copies, fill_layers)
    layout = bench.WORK / "layout-push"
    shutil.rmtree(layout, ignore_errors=True)
    for name in (f"127.0.0.1:{port}/bench" for port in (registry.port, registry.slow)):
        bench.measure([kiln.binary, "build", "-q", "-t", name, context], env=kiln.env)
    bench.measure([kiln.binary, "build", "-q", "-o", f"type=oci,tar=false,dest={layout}", context], env=kiln.env)
    for kind, port in (("loopback", registry.port), ("link", registry.slow)):
        name = f"127.0.0.1:{port}/bench"
        takers = {"kiln": lambda: bench.measure([kiln.binary, "push", "-q", name], env=kiln.env),
                  "skopeo copy": lambda: bench.measure(
                      ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{name}"])}
        in_turns("push", kind, takers, samples, registry.empty, record)


def pull(bench, kiln, registry, samples, record):
    """Both begin with nothing."""
    registry.empty()
    base = bench.FIXTURES / "debian/layout"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{base}:latest",
                    f"docker://127.0.0.1:{registry.port}/debian"], check=True)
    layout, bundle = bench.WORK / "layout-pull", bench.WORK / "bundle-pull"

    old = bench.WORK / "old"

    def clear():
        # Removed at the end: ext4 creates files slowly for minutes after thousands of others were removed.
        old.mkdir(exist_ok=True)
        for path in (layout, bundle, kiln.store):
            if path.exists():
                path.rename(old / f"{path.name}-{time.monotonic_ns()}")

    for kind, port in (("loopback", registry.port), ("link", registry.slow)):
        name = f"127.0.0.1:{port}/debian"
        context = bench.context(f"pull-{kind}", f"FROM {name}\nRUN true\n")
        copy = f"skopeo --insecure-policy copy -q --src-tls-verify=false docker://{name} oci:{layout}:latest"
        takers = {"kiln": lambda: bench.measure([kiln.binary, "build", "-q", context], env=kiln.env),
                  "kiln pull": lambda: bench.measure([kiln.binary, "pull", "-q", name], env=kiln.env),
                  "skopeo copy": lambda: bench.shell(copy),
                  "skopeo, umoci unpack": lambda: bench.shell(f"{copy}; umoci --log=error unpack --image {layout}:latest {bundle}")}
        in_turns("pull", kind, takers, samples, clear, record)
    clear()
    shutil.rmtree(old)


def in_turns(work, kind, takers, samples, before, record):
    taken = {who: [] for who in takers}
    for _ in range(samples):
        for who, run in takers.items():
            before()
            taken[who].append(run())
    for who, of in taken.items():
        record(work, kind, who, of, 1)


WORKS = {"push": push, "pull": pull}
