"""Answers as text for people: aligned columns, local times. Nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any


def columns(rows: Sequence[Sequence[object]], *, right: Iterable[int] = ()) -> str:
    """Rows as aligned columns, two spaces between; those numbered in ``right`` are aligned to the right."""
    texts = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    to_right = frozenset(right)
    lines = []
    for row in texts:
        cells = [c.rjust(w) if i in to_right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def shown(value: object) -> str:
    """A value in one line without control characters; "-" for none."""
    text = "-" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def local(iso: str | None) -> str:
    """An ISO 8601 time as local time, to the second; "-" for none."""
    return "-" if iso is None else datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Seconds in the two largest units that matter: "2d 3h", "5m 20s"."""
    rest = int(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def status(answer: Mapping[str, Any]) -> str:
    """``relay status``."""
    head = ("UPSTREAM", "STATE", "CONNECTIONS", "IN FLIGHT", "WAITING", "DEFERRED", "SENT", "RATE", "LAST ERROR")
    rows: list[tuple[object, ...]] = [head]
    limits: list[tuple[object, ...]] = [("UPSTREAM", "LIMIT", "USED", "LEFT", "NEXT FREE")]
    for name, upstream in answer["upstreams"].items():
        keys = ("state", "connections", "in_flight", "waiting", "deferred", "sent_total", "rate", "last_error")
        cells = {**upstream, "rate": f"{upstream['rate']:.1f}/s"}
        rows.append((name, *(cells[key] for key in keys)))
        limits += [(name, x["limit"], x["used"], x["left"], local(x["resets_at"])) for x in upstream["limits"]]
    parts = [columns(rows, right=range(2, 8))]
    if len(limits) > 1:
        parts.append(columns(limits, right=(2, 3)))
    queue = ", ".join(f"{count} {state}" for state, count in answer["queue"].items())
    oldest = f"; the oldest arrived {span(answer['oldest_seconds'])} ago" if any(answer["queue"].values()) else ""
    parts.append(f"queue: {queue}{oldest}")
    return "\n\n".join(parts)


def message(record: Mapping[str, Any]) -> str:
    """A message of ``relay queue list``: a line of its own, and one for each recipient."""
    head = f"{record['id']}  {local(record['arrived'])}  {record['size']:>9}  {record['state']:<8}"
    lines = [f"{head}  from <{shown(record['sender'])}>"]
    for recipient in record["recipients"]:
        line = f"    {recipient['state']:<9} <{shown(recipient['address'])}>"
        if recipient["attempts"]:
            line += f"  attempts: {recipient['attempts']}"
        if recipient["next_attempt"] and recipient["state"] == "deferred":
            line += f"  next: {local(recipient['next_attempt'])}"
        if recipient["upstream"]:
            line += f"  upstream: {shown(recipient['upstream'])}"
        lines.append(line)
        if recipient["last_reply"]:
            lines.append(f"              {shown(recipient['last_reply'])}")
    return "\n".join(lines)


def story(record: Mapping[str, Any]) -> str:
    """A message of ``relay trace``: what it is, where its recipients stand, every attempt, what it waits for."""
    facts = [
        ("id", record["id"]),
        ("message-id", record["message_id"]),
        ("arrived", local(record["arrived"])),
        ("client", record["client"]),
        ("size", record["size"]),
        ("sender", f"<{record['sender']}>"),
        ("state", record["state"]),
    ]
    if record["repeated"]:
        often = "once" if record["repeated"] == 1 else f"{record['repeated']} times, last"
        facts.append(("came again", f"{often} {local(record['last_repeated'])}; not stored"))
    lines = [columns(facts), ""]
    head = ("RECIPIENT", "STATE", "ATTEMPTS", "NEXT ATTEMPT", "UPSTREAM")
    lines.append(
        columns(
            [
                head,
                *(
                    (f"<{r['address']}>", r["state"], r["attempts"], local(r["next_attempt"]), r["upstream"])
                    for r in record["recipients"]
                ),
            ]
        )
    )
    for attempt in record["attempts"]:
        lines += [
            "",
            f"{local(attempt['at'])}  <{shown(attempt['recipient'])}>  {attempt['status']}  {attempt['dsn']}",
            f"    relay: {shown(attempt['relay'])}  delays: {shown(attempt['delays'] or None)}",
            f"    {shown(attempt['detail'])}",
        ]
    if record["waits_for"]:
        lines += ["", f"waits for {shown(record['waits_for'])}"]
    return "\n".join(lines)
