"""Names each given file with white space at the end of a line, or without exactly one newline at its end."""

import sys
from pathlib import Path

faults = []
for name in sys.argv[1:]:
    data = Path(name).read_bytes()
    faults += [f"{name}:{i}" for i, line in enumerate(data.split(b"\n"), 1) if line != line.rstrip()]
    if data and (not data.endswith(b"\n") or data.endswith(b"\n\n")):
        faults.append(f"{name}: not exactly one newline at the end")
print("\n".join(faults))
sys.exit(bool(faults))
