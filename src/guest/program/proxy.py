"""The way out: which proxy a call of the guest goes through. One rule for all of them.

Where the variables come from, the later over the earlier: the system's (`DefaultEnvironment=` of
systemd), /etc/environment, the pool's `env`. What they mean is curl's rule: the lower-case name goes
before the upper-case one, `HTTP_PROXY` included; `no_proxy` has hosts, domains with or without a dot in
front, addresses, networks, and `*`. A proxy is spoken to in plain HTTP; one of another kind (`socks5://`,
`https://`) is the jobs' alone, and the guest's own calls go without.
"""

import ipaddress
import os
import urllib.parse
import urllib.request

# Where a proxy's address names no port: HTTP's own, as urllib and the runner application have it.
PORT = 80
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
    proxy = proxy if "://" in proxy else "http://" + proxy
    return {parts.scheme: proxy} if proxy.lower().startswith("http://") else {}


class Way(urllib.request.ProxyHandler):
    """urllib's way out by this rule: for each call anew, so that where a redirect leads to another
    scheme or host, that one's proxy is taken, or none."""

    def __init__(self, variables):
        super().__init__({})
        self._variables = variables

    def http_open(self, request):
        return self._by_rule(request)

    def https_open(self, request):
        return self._by_rule(request)

    def _by_rule(self, request):
        # A redirect brings what the last proxy was told; this one, or the host itself, is another.
        request.remove_header("Proxy-authorization")
        proxy = of(request.full_url, self._variables).get(request.type)
        return self.proxy_open(request, proxy, request.type) if proxy else None


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
