"""Which directory a ``file:`` URL names."""

from urllib.parse import unquote

from kvflow.errors import InvalidArgument


def directory_of(url: str, prefix: str) -> str:
    """``file:rel``, ``file:/abs`` and ``file:///abs`` all name a directory; a prefix of one's own, one in it."""
    path = unquote(url.partition(":")[2])
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        path = "" if host else slash + rest
    if not path:
        raise InvalidArgument("this URL names no local directory: write file:rel, file:/abs or file:///abs")
    return path if prefix == "kvflow" else f"{path}/prefix-{prefix}"
