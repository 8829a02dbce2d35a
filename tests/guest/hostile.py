#!/usr/bin/python3
"""Runs what user data says, as far as that needs no machine: reads it as cloud-init does, hands the
environment to the real program's code and that to a real shell. Standard input: user data, one a
line as a JSON string. Standard output: for each, what came out, one JSON object a line."""

import base64
import gzip
import json
import os
import subprocess
import sys
import tempfile
import types

import yaml

PROGRAM = "/usr/local/lib/runner-fleet/guest/"


def written(config):
    """The files that cloud-init would write."""
    files = {}
    for file in config["write_files"]:
        content = base64.b64decode(file["content"])
        if file["encoding"] == "gz+b64":
            content = gzip.decompress(content)
        files[file["path"]] = content
    return files


def main():
    loaded = None
    for line in sys.stdin:
        config = yaml.safe_load(json.loads(line))
        files = written(config)
        if loaded is None:
            loaded = tempfile.mkdtemp()
            for path, content in files.items():
                if path.startswith(PROGRAM):
                    with open(os.path.join(loaded, os.path.basename(path)), "wb") as file:
                        file.write(content)
            sys.path.insert(0, loaded)
        import listener

        data = json.loads(files["/etc/runner-fleet/guest.json"])
        with tempfile.TemporaryDirectory() as app:
            with open(os.path.join(app, ".env"), "w", encoding="utf-8") as file:
                file.write("FROM_IMAGE=kept\nACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/hook.sh\n")
            user = types.SimpleNamespace(pw_dir=app, pw_name="runner")
            env = listener.merged_environment(app, user, {"BASE": "base"}, data["env"])
            shell = subprocess.run(
                ["/bin/sh", "-c", "exec env -0"], env=env, stdout=subprocess.PIPE, check=True
            )
            seen = dict(
                item.split("=", 1) for item in shell.stdout.decode().split("\0") if "=" in item
            )
            with open(os.path.join(app, ".env"), encoding="utf-8") as file:
                left = file.read()
        print(json.dumps({
            "data": data, "env": seen, "dot_env": left, "hostname": config["hostname"],
            "runcmd": config["runcmd"], "keys": sorted(config), "files": sorted(files),
        }), flush=True)


main()
