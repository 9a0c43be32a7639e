"""`make audit-dependencies`: known vulnerabilities of the versions in requirements.lock, by pip-audit.

Exit code 1 where there are any, 0 where there are none or where the advisories cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--no-deps",
               "--progress-spinner", "off", "--timeout", "20", "--format", "json"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _skip("they did not answer within five minutes")
    except (ValueError, KeyError):
        return _skip(" ".join(done.stderr.split())[-200:])
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:  # a mirror without PyPI's advisories says of every package that it is not found
        return _skip("of no pinned package is anything known there")
    found = [package for package in audited if package["vulns"]]
    for package in found:
        known = ", ".join(each["id"] for each in package["vulns"])
        print(f"{package['name']} {package['version']}: {known}")
    print(f"{len(found)} of {len(audited)} pinned packages have known vulnerabilities", end="")
    print(f"; {len(packages) - len(audited)} could not be audited" if len(packages) > len(audited) else "")
    return 1 if found else 0


def _skip(why: str) -> int:
    print(f"skipped: the advisories cannot be reached from here ({why})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
