"""The way out: which proxy a call of the guest goes through. One rule for all of them.

Where the variables come from, the later over the earlier: the system's (`DefaultEnvironment=` of
systemd), /etc/environment, the pool's `env`. What they mean is curl's rule: the lower-case name goes
before the upper-case one, `HTTP_PROXY` included; `no_proxy` has hosts, domains with or without a dot in
front, addresses, networks, and `*`.
"""

import ipaddress
import os
import urllib.parse

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def _taken_over():
    """The variables that systemd started this process with, taken out of it: they are this module's to
    read and nobody else's, since urllib has its own mind about `no_proxy`."""
    spellings = [spelling for name in NAMES for spelling in (name, name.upper())]
    return {name: os.environ.pop(name) for name in spellings if name in os.environ}


SYSTEM = _taken_over()


def environment(*layers):
    """The proxy variables of several environments, by their lower-case names."""
    found = {}
    for layer in layers:
        for name in NAMES:
            # An empty one says that there is none, whatever an earlier layer says.
            for spelling in (name, name.upper()):
                if spelling in layer:
                    found[name] = layer[spelling].strip()
                    break
    return found


def of(url, variables):
    """The proxies for a call to `url`, as `urllib.request.ProxyHandler` takes them; empty for none."""
    parts = urllib.parse.urlsplit(url)
    proxy = variables.get(parts.scheme + "_proxy") or variables.get("all_proxy")
    if not proxy or bypassed(parts.hostname or "", parts.port, variables.get("no_proxy", "")):
        return {}
    return {parts.scheme: proxy if "://" in proxy else "http://" + proxy}


def bypassed(host, port, no_proxy):
    """Whether `no_proxy` names the host."""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in no_proxy.replace(",", " ").split():
        entry = entry.lower().rstrip(".")
        if entry == "*":
            return True
        name, colon, wanted = entry.rpartition(":")
        if colon and wanted.isdigit() and ":" not in name:
            if port is not None and int(wanted) != port:
                continue
            entry = name
        if address is None:
            entry = entry.lstrip("*").lstrip(".")
            if entry and (host == entry or host.endswith("." + entry)):
                return True
            continue
        try:
            if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
        except ValueError:
            pass
    return False
