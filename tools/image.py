"""Carries a Dockerfile out without an engine: its steps, in a fresh Debian of its own.

    python -m tools.image serving build/images

Each stage starts from a minimal Debian (by debootstrap) or from the stage it names; COPY copies,
RUN runs in a chroot with nothing of this machine but its network and its certificates. It needs
root, Linux and a few minutes, and is a check of the steps, not a way to make images.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Not every program in there asks the system whom to trust: uv brings authorities of its own.
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "SSL_CERT_FILE": str(_CERTIFICATES),
}


@dataclass
class Stage:
    """One stage: what it starts from, and its instructions in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, its arguments filled in."""
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if instruction == "ARG" and not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif instruction == "FROM":
            rest = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], rest)
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or f"stage{len(stages)}"))
        else:
            stages[-1].steps.append((instruction, rest))
    return stages


def settings(stage: Stage) -> dict[str, object]:
    """What the image of a stage says of itself: user, entry point, environment and so on."""
    found: dict[str, object] = {"ENV": {}, "USER": "0", "WORKDIR": "/"}
    for instruction, rest in stage.steps:
        if instruction == "ENV":
            pairs = dict(item.partition("=")[::2] for item in shlex.split(rest))
            found["ENV"] = {**found["ENV"], **pairs}  # type: ignore[dict-item]
        elif instruction in ("ENTRYPOINT", "CMD"):
            found[instruction] = json.loads(rest)
        elif instruction == "HEALTHCHECK":
            found[instruction] = json.loads(rest[rest.index("CMD") + 3 :])
        elif instruction in ("USER", "WORKDIR"):
            found[instruction] = rest
    return found


def build(dockerfile: Path, folder: Path) -> Path:
    """Carry out every stage below `folder`; the root of the last one."""
    roots: dict[str, Path] = {}
    # Debian's own tool goes into it before it makes it.
    folder.mkdir(parents=True, exist_ok=True)
    for stage in read(dockerfile):
        root = folder / stage.name
        shutil.rmtree(root, ignore_errors=True)
        base = roots.get(stage.base) or _debian(stage.base, folder)
        subprocess.run(["cp", "-a", str(base), str(root)], check=True)
        roots[stage.name] = root
        environ, workdir = dict(_ENVIRONMENT), "/"
        for instruction, rest in stage.steps:
            print(f"[{stage.name}] {instruction} {rest[:100]}", flush=True)
            if instruction == "RUN":
                chroot(root, ["/bin/sh", "-c", rest], environ, workdir, check=True)
            elif instruction == "COPY":
                _copy(rest, root, workdir, roots)
            elif instruction == "WORKDIR":
                workdir = rest
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "ENV":
                environ |= dict(item.partition("=")[::2] for item in shlex.split(rest))
    return root


def chroot(
    root: Path,
    command: list[str],
    environ: dict[str, str],
    workdir: str = "/",
    user: str = "0:0",
    read_only: bool = False,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command in `root`, with /proc, /dev and a /tmp of its own, in a mount namespace."""
    script = [
        "set -e",
        f"mount --bind {root} {root}",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
    ]
    if read_only:
        # As the chart runs it: only /tmp and what it mounts can be written.
        script.append(f"mount -o remount,ro,bind {root}")
    script.append(
        # By its path: `environ` is the image's, whose PATH need not have it.
        f"exec {_CHROOT} --userspec={user} {root} /bin/sh -c "
        + shlex.quote(f"cd {workdir} && exec {shlex.join(command)}")
    )
    return subprocess.run(
        ["unshare", "--mount", "--fork", "--kill-child", "sh", "-c", "\n".join(script)],
        env=environ,
        check=check,
        text=True,
        capture_output=not check,
    )


def _debian(base: str, folder: Path) -> Path:
    """A minimal Debian of the release that a base such as debian:bookworm-20261103-slim names."""
    match = re.fullmatch(r"debian:(\w+)-\d{8}-slim", base)
    if match is None:
        raise SystemExit(f"{base} cannot be had without an engine; only debian:RELEASE-DATE-slim")
    root = folder / f"debian-{match[1]}"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        tool = ROOT / "build" / "tools" / "debian"
        subprocess.run(
            [str(tool / "usr/sbin/debootstrap"), "--variant=minbase", match[1], str(root)],
            env=os.environ | {"DEBOOTSTRAP_DIR": str(tool / "usr/share/debootstrap")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (root / "ready").touch()
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # Packages that ask for the machine's authorities find them; ca-certificates adds its own.
    # One a file: of more, Java's keystore would take the first.
    trusted = root / "usr/local/share/ca-certificates"
    shutil.rmtree(trusted, ignore_errors=True)
    trusted.mkdir(parents=True)
    for number, found in enumerate(_CERTIFICATE.findall(_CERTIFICATES.read_text("utf-8"))):
        (trusted / f"machine-{number}.crt").write_text(found + "\n", "utf-8")
    return root


def _copy(rest: str, root: Path, workdir: str, roots: dict[str, Path]) -> None:
    words = rest.split()
    source = ROOT
    if words[0].startswith("--from="):
        source = roots[words.pop(0).removeprefix("--from=")]
    *names, target = words
    place = root / (target if target.startswith("/") else f"{workdir}/{target}").lstrip("/")
    for name in names:
        found = source / name.lstrip("/")
        if found.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", f"{found}/.", str(place)], check=True)
        else:
            into = place / found.name if target.endswith("/") else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, into)


if __name__ == "__main__":
    print(build(ROOT / "images" / sys.argv[1] / "Dockerfile", Path(sys.argv[2]).absolute()))
