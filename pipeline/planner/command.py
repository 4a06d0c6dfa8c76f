"""``python -m pipeline plan``: what it asks for and prints."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from typing import Any

from pipeline import console
from pipeline.errors import InputError
from pipeline.planner import cases
from pipeline.planner.estimate import (
    STORAGE,
    WRITING,
    Case,
    Estimate,
    Rates,
    cost,
    estimate,
)
from pipeline.spec import FeatureSpec, variant_names

DEFAULTS = {"seconds": 4.0, "height": 720, "frame_rate": 30.0}
BITS_PER_PIXEL = 0.1


def run(arguments: argparse.Namespace) -> int:
    """Print how long and how large each case is, and what limits it."""
    cores = getattr(arguments, "cores", os.cpu_count() or 1)
    refuse_numbers(arguments, cores)
    rates, source = rates_of(arguments, cores)
    if hasattr(arguments, "write_gb_s"):
        rates = dataclasses.replace(rates, write_bytes=arguments.write_gb_s * 1e9)
    storage = arguments.storage_tb * 1e12 if hasattr(arguments, "storage_tb") else None
    spec = FeatureSpec(variants=variant_names(arguments.variants))
    clean = FeatureSpec(variants=())
    print(f"rates {source}: {rates_text(rates)}")
    print(f"{cores} cores, {arguments.variants} variants, a row of {spec.row_bytes:,} B")
    for case in cases_of(arguments):
        found = estimate(case, spec, rates, cores, storage)
        print("\n".join(describe(case, found, arguments)))
        if found.binds in (WRITING, STORAGE) and spec.variants:
            less = estimate(case, clean, rates, cores, storage)
            print(
                "  advice   clean rows (VARIANTS=0), augment in the loader: "
                f"{time_text(less.seconds)}, {console.size_text(less.cache_bytes)}, "
                f"bound by {less.binds}"
            )
    return 0


def rates_text(rates: Rates) -> str:
    """Write rates as people read them."""
    return (
        f"{1000 * rates.clip:.0f} ms a clip, {1000 * rates.video:.0f} ms more with video, "
        f"{1000 * rates.megapixel:.2f} ms a decoded megapixel, {1000 * rates.megabit:.1f} ms a "
        f"decoded megabit, {1000 * rates.variant:.0f} ms a variant, of a core; "
        f"{rates.write_bytes / 1e9:.2f} GB/s written"
    )


def refuse_numbers(arguments: argparse.Namespace, cores: int) -> None:
    """Raise for numbers that no corpus or machine has."""
    given = vars(arguments)
    smallest = {
        "clips": 1,
        "seconds": 0.01,
        "height": 0,
        "width": 1,
        "frame_rate": 0.01,
        "megabits": 0,
    }
    smallest |= {"write_gb_s": 1e-6, "storage_tb": 0, "price_core_hour": 0, "price_gb_month": 0}
    for name, least in smallest.items():
        value = given.get(name)
        if value is not None and not (least <= value and math.isfinite(value)):
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"expected {option} of at least {least:g}, got {value}; choose another"
            )
    if cores < 1 or not 0 <= arguments.variants <= 30:
        raise InputError(
            f"expected at least 1 core and 0 to 30 variants, got {cores} and "
            f"{arguments.variants}; choose others"
        )
    own = {"seconds", "height", "width", "frame_rate", "megabits"} & set(given)
    if own and "clips" not in given:
        raise InputError(
            f"expected --clips with --{min(own).replace('_', '-')}, got none; say how many clips"
        )
    if "clips" in given and "case" in given:
        raise InputError("expected --clips or --case, got both; leave one out")


def rates_of(arguments: argparse.Namespace, cores: int) -> tuple[Rates, str]:
    """Return the rates that a plan uses, and where they come from."""
    from pipeline.planner import measure

    if arguments.measure:
        here = min(cores, os.cpu_count() or 1)
        folder = arguments.rates.parent
        rates = measure.measure(
            folder, here, lambda what: print(f"measuring: {what}", file=sys.stderr)
        )
        measure.write_rates(arguments.rates, rates)
    elif not arguments.rates.exists():
        return cases.REFERENCE, "of the reference machine (--measure measures this one)"
    return measure.read_rates(arguments.rates), f"of {arguments.rates}"


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    """Return the corpora that are asked for."""
    if not hasattr(arguments, "clips"):
        named = getattr(arguments, "case", None)
        return [cases.CASES[named]] if named else list(cases.CASES.values())
    values: dict[str, Any] = {name: getattr(arguments, name, DEFAULTS[name]) for name in DEFAULTS}
    width = getattr(arguments, "width", round(values["height"] * 16 / 9))
    pixels = width * values["height"] * values["frame_rate"]
    return [
        Case(
            "your corpus",
            round(arguments.clips),
            values["seconds"],
            width,
            values["height"],
            values["frame_rate"],
            getattr(arguments, "megabits", pixels * BITS_PER_PIXEL / 1e6),
        )
    ]


def describe(case: Case, found: Estimate, arguments: argparse.Namespace) -> list[str]:
    """Write a plan as lines."""
    size = f"{case.width_px}x{case.height_px}" if case.height_px else "audio alone"
    lines = [
        f"{case.title}: {case.clips:,} clips of {case.seconds:.1f} s ({case.hours:,.1f} h), {size}",
        f"  time     {time_text(found.seconds)} ({found.core_seconds / 3600:,.1f} core hours, "
        f"{found.decode_share:.0%} decoding)",
        f"  size     {console.size_text(found.cache_bytes)} ({found.rows:,} rows)",
        f"  binds    {found.binds}: {found.needed_write_bytes / 1e9:.3g} GB/s to write keeps the "
        "cores busy",
    ]
    work, month = cost(found, arguments.price_core_hour, arguments.price_gb_month)
    if work or month:
        lines.append(f"  costs    {work:,.2f} for the work, {month:,.2f} a month for storage")
    return lines


def time_text(seconds: float) -> str:
    """Write a time as people read it."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"
