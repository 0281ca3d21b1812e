"""Inner updates per second of `simulate` on a GPU against the CPU of the same machine: V=4, T=6, G=16, K=4.

    python benchmarks/simulator_gpu.py --out simulator_gpu.json        # on a machine with a GPU
    python benchmarks/simulator_gpu.py --device cpu --replicates 64    # the same path without one

For R replicates, float64 and float32, GRPO and TIC-GRPO: updates per second of the tensor engine on the
device, of the compiled engine on the CPU with all its threads, their ratio, and how far the two end from each
other after a few steps. In float64 both take the same steps to rounding; in float32 a token may be drawn
otherwise where a cumulative probability and a random number agree to seven digits, so there only J is
compared. A size that does not fit into the memory of the device is reported as such. Needs torch, numba and
rich; no model, no data.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numba
import simulator
import torch
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.simulate import Trace, simulate

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def run(name: str, replicates: int, outer_steps: int, device: str, dtype: torch.dtype, engine: str) -> Trace:
    return simulate(
        simulator.MDP,
        simulator.THETA,
        ESTIMATORS[name],
        group_size=simulator.G,
        inner_steps=simulator.K,
        learning_rate=simulator.ETA,
        outer_steps=outer_steps,
        record_every=outer_steps,
        replicates=replicates,
        device=device,
        dtype=dtype,
        engine=engine,
    )


def updates_per_second(name: str, replicates: int, steps: int, **where: Any) -> float:
    """R steps K / seconds; what a call takes besides its steps is measured with one step and taken off."""
    run(name, replicates, 2, **where)
    times = []
    for count in (1, steps + 1):
        start = time.perf_counter()
        run(name, replicates, count, **where)  # ends with a copy to the CPU, so the device is done
        times.append(time.perf_counter() - start)
    return replicates * steps * simulator.K / max(times[1] - times[0], 1e-9)


def measured(name: str, replicates: int, dtype: str, device: str, steps: int) -> dict[str, Any]:
    """One row: both speeds and the distance of the results, or why there is none."""
    row: dict[str, Any] = {"estimator": name, "replicates": replicates, "dtype": dtype, "device": device}
    there = {"device": device, "dtype": DTYPES[dtype], "engine": "tensors"}
    here = {"device": "cpu", "dtype": torch.float64, "engine": "compiled"}
    try:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        row["updates_per_second"] = updates_per_second(name, replicates, steps, **there)
        if device == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated()
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        return {**row, "skipped": str(error).splitlines()[0]}
    row["cpu_updates_per_second"] = updates_per_second(name, replicates, steps, **here)
    row["factor"] = row["updates_per_second"] / row["cpu_updates_per_second"]
    compared = min(replicates, 256)
    a, b = (run(name, compared, 20, **where) for where in (there, here))
    row["largest_theta_gap"] = float((a.theta.double() - b.theta).abs().max())
    row["mean_return_gap"] = float((a.final_return.double() - b.final_return).mean().abs())
    return row


def hardware(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "cpu_threads": numba.get_num_threads(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--replicates", type=int, nargs="+", default=[64, 1024, 8192, 65536])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--estimators", nargs="+", default=["grpo", "tic_grpo"])
    parser.add_argument("--steps", type=int, default=20, help="outer steps that are timed")
    parser.add_argument("--out", type=Path, help="write rows, hardware and seconds as JSON")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that PyTorch can use; --device cpu runs the same path without one")
    console, began, rows = Console(), time.perf_counter(), []
    for name in given.estimators:
        for replicates in given.replicates:
            for dtype in given.dtypes:
                rows.append(measured(name, replicates, dtype, given.device, given.steps))
                console.print(rows[-1])
    table = Table("estimator", "R", "dtype", "updates/s", "CPU updates/s", "factor", "theta gap", "J gap")
    for row in rows:
        head = (row["estimator"], f"{row['replicates']:,}", row["dtype"])
        if "skipped" in row:
            table.add_row(*head, row["skipped"])
        else:
            speeds = (f"{row['updates_per_second']:,.0f}", f"{row['cpu_updates_per_second']:,.0f}")
            gaps = (f"{row['largest_theta_gap']:.1e}", f"{row['mean_return_gap']:.1e}")
            table.add_row(*head, *speeds, f"{row['factor']:.3g}", *gaps)
    console.print(table)
    about = {"hardware": hardware(given.device), "seconds": time.perf_counter() - began, "rows": rows}
    if given.out is not None:
        replace_files({given.out.resolve(): json.dumps(about, indent=1).encode()})


if __name__ == "__main__":
    main()
