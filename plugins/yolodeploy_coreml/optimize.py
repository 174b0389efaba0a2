"""`palettize: {optimize: ...}`: the bits of every layer, chosen by what they cost under a budget.

What a layer costs at some number of bits is predicted from its rounding error, weighed by how
much each of its output channels shows in the model's output (see `calibrate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.errors import PlanRefused
from yolodeploy_coreml.allocate import Choice, Option, least_noise, least_size, noise_of, size_of
from yolodeploy_coreml.job import Form, Job
from yolodeploy_coreml.params import NOISE, Palettize
from yolodeploy_coreml.schemes import palettes

# No 1 and 2 bits: their errors are too large to add up, and what they save is spent elsewhere.
_CANDIDATES, _CANDIDATES_IOS18 = (4, 6, 8), (3, 4, 6, 8)
FLOAT = 0  # the bits of a layer that stays as it is


@dataclass(frozen=True)
class _Menu:
    """Every layer's forms by their bits, as options (one of them: left in floating point)."""

    options: Mapping[str, tuple[Option, ...]]
    forms: Mapping[str, Mapping[int, Form]]
    plain: int  # bytes of all these layers in floating point

    def chosen(self, choice: Choice) -> dict[str, Form]:
        return {n: self.forms[n][o.bits] for n, o in choice.items() if o.bits in self.forms[n]}


def optimize(job: Job, params: Palettize, given: Mapping[str, int], folder: Path) -> None:
    """Write the best package into `folder`; `given` are the bits of layers that are not free.

    Raises PlanRefused if the budget cannot be met, with the best that was reached.
    """
    menu = _menu(job, params, given)
    if params.optimize == "accuracy" and params.max_mb:
        choice, limit = _filled(job, menu, params.max_mb, folder), params.max_noise
    else:
        limit = params.max_noise or NOISE[params.optimize or "size"]
        choice = least_size(menu.options, limit)
        _write(job, menu, choice, folder)
    _require(_megabytes(folder), noise_of(choice), params.max_mb, limit)


def _menu(job: Job, params: Palettize, given: Mapping[str, int]) -> _Menu:
    ios18 = job.editor.is_ios18
    candidates = _CANDIDATES_IOS18 if ios18 else _CANDIDATES
    options, forms, total = {}, {}, 0
    for number, name in enumerate(job.free):
        bits = (given[name],) if name in given else candidates
        schemes = [palettes(b, "kmeans", params.group_size, ios18=ios18) for b in bits]
        found = dict(zip(bits, job.forms(name, schemes), strict=True))
        plain = job.current(name).stored()
        total += plain
        forms[name] = {b: form for b, form in found.items() if form.encoded.stored() < plain}
        sized = [Option(b, form.encoded.stored(), form.noise) for b, form in forms[name].items()]
        if name not in given or not sized:
            sized.append(Option(FLOAT, plain, 0.0))
        options[name] = tuple(sized)
        job.progress(number, len(job.free))
    return _Menu(options, forms, total)


def _filled(job: Job, menu: _Menu, max_mb: float, folder: Path) -> Choice:
    """The choice with the least noise whose package has at most `max_mb`, as far as one has."""
    size = round(max_mb * 1e6) - (job.size - menu.plain)  # less what is in the package besides
    while True:
        choice = least_noise(menu.options, size)
        _write(job, menu, choice, folder)
        over = round((_megabytes(folder) - max_mb) * 1e6)
        if over <= 0 or size_of(choice) > size:
            return choice
        size = size_of(choice) - over


def _write(job: Job, menu: _Menu, choice: Choice, folder: Path) -> None:
    forms = menu.chosen(choice)
    if not forms:
        least = min(o.noise for options in menu.options.values() for o in options if o.bits)
        raise PlanRefused(
            "the budget leaves every layer in floating point: the best that a single layer's palette "
            f"reached is noise {least:.3g}. Raise max_noise, lower max_mb, or remove the step."
        )
    bits = sorted({option.bits for option in choice.values()} - {FLOAT})
    job.write(forms, f"palettes of {', '.join(map(str, bits))} bits", folder)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _require(size: float, noise: float, max_mb: float | None, max_noise: float | None) -> None:
    reached = f"the best that was reached is {size:.2f} MB with noise {noise:.3g}"
    if max_mb is not None and size > max_mb:
        raise PlanRefused(
            f"`max_mb: {max_mb:g}` cannot be met: {reached}. Raise it, or raise max_noise, keep fewer "
            "layers in floating point, or write optimize: accuracy for the closest package of a size."
        )
    if max_noise is not None and noise > max_noise:
        raise PlanRefused(
            f"a noise of {max_noise:g} (`max_noise`) cannot be met: {reached}. Raise it, raise max_mb, or give "
            "fewer layers their bits by hand."
        )
