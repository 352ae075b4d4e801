"""The in-process side of bench/run: runs what it is told in one plain Python, without a server or a sandbox.

Reads one JSON text a line: a script. Answers one line: the JSON of the script's `result`, or {"error": …}.
Globals stay from one script to the next.
"""

import json
import os
import sys
import traceback

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the engine says of itself
space = {"__name__": "__main__"}
for line in sys.stdin:
    space["result"] = None
    try:
        exec(compile(json.loads(line), "<bench>", "exec"), space)
        answers.write(json.dumps(space["result"]) + "\n")
    except Exception:
        answers.write(json.dumps({"error": traceback.format_exc()}) + "\n")
