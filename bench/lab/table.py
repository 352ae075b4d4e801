"""The table as it is printed, and its rows for --json."""

import math
import statistics

NA = "n/a"


def p99(times):
    return sorted(times)[min(len(times) - 1, math.ceil(len(times) * 0.99) - 1)]


def ratios(peers, ours):
    return " / ".join("%.0f×" % (p / ours) if isinstance(p, float) and ours else NA for p in peers)


def rate(times):
    return 1 / statistics.median(times) if times else None


def text_of(value, unit):
    if value is None:
        return NA
    if isinstance(value, str):
        return value
    if unit == "ms":
        if value < 0.1:
            return "%.1f µs" % (value * 1e3)
        return "%.3f ms" % value if value < 1 else "%.1f ms" % value if value < 100 else "%.0f ms" % value
    if unit == "MB":
        return "%.1f MB" % value
    return ("%.0f %s" if value >= 100 else "%.2f %s") % (value, unit)


def number(value):
    return None if value is None or value == "–" else value


class Table:
    COLUMNS = (("what", 47), ("NEST Server 3.10", 16), ("3.0.0b9", 11), ("Myelin", 11), ("in-process", 11),
               ("ratio", 14), ("to reach", 17), ("ok?", 4))

    def __init__(self):
        self.rows, self.parent = [], ""

    def line(self, cells):
        parts = [cell.ljust(width) if i == 0 or i >= 6 else cell.rjust(width)
                 for i, (cell, (_, width)) in enumerate(zip(cells, self.COLUMNS))]
        print("  ".join(parts).rstrip(), flush=True)

    def head(self):
        self.line([name if name != "3.0.0b9" else "…3.0.0b9" for name, _ in self.COLUMNS])
        self.line(["-" * width for _, width in self.COLUMNS])

    def row(self, what, unit="", peers=("–", "–"), ours=None, inside="–", ratio="", goal="", ok=None):
        """One measured row. Numbers are in `unit`; None is n/a; ok None: no goal, or it can't be judged."""
        verdict = "" if not goal else NA if ok is None else "yes" if ok else "NO"
        self.line([what, *(text_of(p, unit) for p in peers), text_of(ours, unit), text_of(inside, unit), ratio, goal, verdict])
        if not what.startswith(" "):
            self.parent = what.split(",")[0]
        name = what if not what.startswith(" ") else "%s: %s" % (self.parent, what.strip())
        self.rows.append({"what": name, "unit": unit, "nest_server_3_10": number(peers[0]), "nest_server_3_0_0b9": number(peers[1]),
                          "myelin": number(ours), "in_process": number(inside), "ratio": ratio, "to_reach": goal, "ok": ok})

    def note(self, text):
        print("  # " + text, flush=True)
