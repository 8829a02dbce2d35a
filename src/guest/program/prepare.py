"""What the machine needs before its runner application can start. Each step says what it did.

A step that cannot be done raises `Refused` with words for the person who must act; what the guest
can do without (a group that is missing) is said and passed over.
"""

import glob
import grp
import hashlib
import http.client
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import proxy

PLACES = ("/home/*/actions-runner", "/opt/actions-runner", "/actions-runner")
DEFAULT_USER = "runner"
DOWNLOAD_TRIES = 5
CHUNK = 1 << 20


class Refused(Exception):
    """A step that cannot be done, in words."""


def lock_up(record):
    """Only root may read what cloud-init keeps of the user data: LXD's images put the seed there
    readable for all."""
    places = ("/var/lib/cloud/seed/*/*", "/var/lib/cloud/instances/*/user-data*",
              "/run/cloud-init/*sensitive*", "/etc/runner-fleet/*")
    for path in [path for place in places for path in glob.glob(place)]:
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                os.chmod(path, 0o600)
        except OSError as error:
            record.say("%s stays readable: %s" % (path, error))


def before(command, record):
    """What the pool has root do before anything else. A machine that is not prepared takes no job."""
    began = time.monotonic()
    run(["sh", "-c", command], "run the pool's `before` command")
    record.say("the pool's `before` command took %.1f s" % (time.monotonic() - began))


def find_application(wish):
    """The folder of the runner application that the image holds, or None."""
    places = [wish] if wish else [path for place in PLACES for path in sorted(glob.glob(place))]
    for path in places:
        if os.access(os.path.join(path, "bin", "Runner.Listener"), os.X_OK):
            return path
    return None


def make_user(name, groups, record):
    """The user that jobs run as, created if it is not there."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        run(["useradd", "--create-home", "--shell", "/bin/bash", name], "create the user " + name)
        user = pwd.getpwnam(name)
        record.say("created the user " + name)
    if user.pw_uid == 0:
        raise Refused("the user %s is root; jobs run as an unprivileged user only" % name)
    for group in groups:
        try:
            if name not in grp.getgrnam(group).gr_mem:
                run(["usermod", "--append", "--groups", group, name], "add %s to %s" % (name, group))
        except KeyError:
            record.say("there is no group %s in this image; %s goes without" % (group, name))
    return pwd.getpwnam(name)


def run(command, what):
    """Runs a command of the system."""
    try:
        # No pipe: whatever the command leaves in the background would hold it open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=subprocess.STDOUT, timeout=600, check=False)
            output.seek(max(0, output.seek(0, os.SEEK_END) - 2000))
            said = output.read(2000).decode("utf-8", "replace").strip()[-500:]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused("could not %s: %s" % (what, error)) from error
    if done.returncode:
        raise Refused("could not %s: %s ended with %d: %s" % (what, command[0], done.returncode, said))


def hand_over(app, user, record):
    """Makes the application's folder the user's, somewhere that the user can reach."""
    if not reachable(app, user):
        target = os.path.join(user.pw_dir, "actions-runner")
        if os.path.lexists(target):
            raise Refused("%s cannot reach %s, and %s is taken" % (user.pw_name, app, target))
        record.say("%s cannot reach %s; it moves to %s" % (user.pw_name, app, target))
        shutil.move(app, target)
        app = target
    give(app, user)
    # Jobs work in these; an image may have them on another disk.
    for name in ("_work", "_diag"):
        path = os.path.join(app, name)
        if os.path.islink(path) and os.path.isdir(path):
            give(os.path.realpath(path), user)
    return app


def give(folder, user):
    """Makes a folder the user's, and whatever is in it: a build of the image that ran a job as root
    leaves files in a folder that is the user's."""
    owner = "%d:%d" % (user.pw_uid, user.pw_gid)
    run(["find", folder, "-xdev", "!", "-uid", str(user.pw_uid), "-exec", "chown", "-h", owner, "{}", "+"],
        "give %s to %s" % (folder, user.pw_name))


def reachable(path, user):
    """Whether the user may pass through every folder above `path`."""
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    parent = os.path.dirname(os.path.realpath(path))
    while parent != "/":
        info = os.stat(parent)
        if info.st_uid == user.pw_uid:
            bit = stat.S_IXUSR
        elif info.st_gid in groups:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not info.st_mode & bit:
            return False
        parent = os.path.dirname(parent)
    return True


def owner(path):
    """The user that a folder belongs to; None for root, and for a number that no user has, as archives
    unpacked by root leave it."""
    try:
        info = os.stat(path)
        return pwd.getpwuid(info.st_uid).pw_name if info.st_uid else None
    except KeyError:
        return None


def download(url, sha256, user, environment, record):
    """The application from `url`, its SHA-256 checked before anything of it is unpacked."""
    folder = os.path.join(user.pw_dir, "actions-runner")
    archive = os.path.join(user.pw_dir, ".actions-runner.tar.gz")
    began = time.monotonic()
    try:
        fetch(url, archive, environment, record)
        found = digest(archive)
        if found.lower() != sha256.lower():
            raise Refused("%s has the SHA-256 %s, not %s; nothing of it was unpacked" % (url, found, sha256))
        os.mkdir(folder, 0o755)
        run(["tar", "--extract", "--gzip", "--no-same-owner", "--file", archive, "--directory", folder],
            "unpack " + archive)
        run(["chown", "--recursive", "--no-dereference", "%d:%d" % (user.pw_uid, user.pw_gid), folder],
            "give %s to %s" % (folder, user.pw_name))
    except OSError as error:
        raise Refused("could not install the runner application: %s" % error) from error
    finally:
        if os.path.exists(archive):
            os.unlink(archive)
    record.say("the runner application was downloaded in %.1f s" % (time.monotonic() - began))
    return folder


def fetch(url, path, environment, record):
    """Downloads to a file, going on where a broken connection left off; bounded."""
    opener = urllib.request.build_opener(proxy.Way(environment))
    for tries in range(1, DOWNLOAD_TRIES + 1):
        have = os.path.getsize(path) if os.path.exists(path) else 0
        request = urllib.request.Request(url, headers={"User-Agent": "runner-fleet-guest"})
        if have:
            request.add_header("Range", "bytes=%d-" % have)
        try:
            with opener.open(request, timeout=30) as answer:
                go_on = have and answer.status == 206
                with open(path, "ab" if go_on else "wb") as file:
                    shutil.copyfileobj(answer, file, CHUNK)
                expected = answer.headers.get("Content-Length")
            if expected is None or os.path.getsize(path) == int(expected) + (have if go_on else 0):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:
                # Nothing is left to send: all of it is there, and the digest judges it.
                return
            # A proxy says 403 and 407 too, while its rules or its log-in are still on their way.
            proxied = proxy.of(error.filename, environment)
            if error.code in (400, 401, 404, 410) or (error.code == 403 and not proxied):
                raise Refused("could not download %s: HTTP %d" % (url, error.code)) from error
            reason = "HTTP %d" % error.code
        except (OSError, ValueError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == 28:
                raise
            reason = str(error)
        record.say("download of %s, try %d of %d: %s" % (url, tries, DOWNLOAD_TRIES, reason))
        if tries < DOWNLOAD_TRIES:
            time.sleep(min(30, 2 ** tries))
    raise Refused("could not download %s in %d tries: %s" % (url, DOWNLOAD_TRIES, reason))


def digest(path):
    """The SHA-256 of a file, in hexadecimal."""
    sum_ = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            sum_.update(chunk)
    return sum_.hexdigest()
