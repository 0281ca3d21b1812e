"""Figures about noise: each function draws rows of a result and computes no claim of its own."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import HOLLOW, SPARSE, TEXT_WIDTH, looks_of, select, style

REWARDED = {
    "majority": "majority: theta drifts towards the reward",
    "all-ones": "all-ones: theta drifts away from it",
}


def variance_vs_T(rows: pd.DataFrame) -> Figure:
    """Variance of one response against T, a column for each world; drifts but the widest are faint."""
    worlds = sorted(set(rows.world), reverse=True)
    widest = rows.drift.max()
    looks = looks_of(("trajectory", "token"))
    lines = {
        "variance_trajectory": ("trajectory ratio: variance", looks["trajectory"]),
        "variance_token": ("token ratio: variance", looks["token"]),
        "squared_bias_token": ("token ratio: squared bias", looks["token"] | {"linestyle": SPARSE, **HOLLOW}),
    }
    data = rows.assign(squared_bias_token=rows.bias_token**2)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.2), layout="constrained")
        axes = figure.subplots(1, len(worlds), squeeze=False)[0]
        for world, ax in zip(worlds, axes, strict=True):
            for drift in sorted(rows.drift.unique()):
                part = select(data, world=world, drift=drift).sort_values("T")
                for column, (label, look) in lines.items():
                    full = drift == widest
                    shown = {
                        "alpha": 1.0 if full else 0.3,
                        "label": label if full and world == worlds[0] else None,
                    }
                    ax.plot(part["T"], part[column], **look, **shown)
            ax.set_yscale("log")
            ax.set_title(REWARDED[world])
            ax.set_xlabel("$T$: tokens of a response")
        axes[0].set_ylabel(r"noise of $\hat g$ from one response" "\n[(z / logit)$^2$]")
        figure.suptitle(
            "The trajectory ratio pays for no bias with variance that grows with $T$,\n"
            "unless the policy drifts away from the reward"
        )
        figure.legend(
            loc="outside lower center", ncols=3, title=f"drift x = {widest:g} (faint: smaller drifts)"
        )
    return figure


TIED = {
    "majority": "majority: $w'$ tied to the reward",
    "parity": "parity: $w'$ says nothing of the reward",
}


def clip_effect(rows: pd.DataFrame) -> Figure:
    """Noise kept (above) and gradient lost (below) against drift where A < 0, a column for each world."""
    rules = {
        "none": ("trajectory", "no clip"),
        "two_sided": ("trajectory_two_sided", r"two-sided: $A<0$ has a lower bound only"),
        "upper_only": ("tic_grpo_eq11", "upper bound for either sign (tic_grpo_eq11)"),
    }
    looks = looks_of(name for name, _ in rules.values())
    measures = {
        "kept": "noise kept\n" r"$E\Vert\hat g\Vert^2$ / no clip",
        "bias_share": "gradient lost\n" r"$\Vert\Delta E\hat g\Vert$ / $\sqrt{E\Vert\hat g\Vert^2}$",
    }
    data = select(rows, sign="A < 0")
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.2), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        for world, column in zip(TIED, axes.T, strict=True):
            for (measure, label), ax in zip(measures.items(), column, strict=True):
                for rule, (name, text) in rules.items():
                    part = select(data, world=world, rule=rule).sort_values("drift")
                    named = world == "majority" and measure == "kept"
                    ax.plot(part.drift, part[measure], **looks[name], label=text if named else None)
                if world == "majority":
                    ax.set_ylabel(label)
            column[0].set_title(TIED[world])
            column[1].set_xlabel("drift $x$ of the two logits, towards token 0")
        figure.suptitle(
            "Where $A<0$ a lower bound leaves the noise of large ratios;\n"
            "an upper bound removes it, and gradient with it"
        )
        figure.legend(loc="outside lower center", ncols=3)
    return figure
